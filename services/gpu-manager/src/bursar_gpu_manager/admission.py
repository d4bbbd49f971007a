"""What a device has room for: plain integer arithmetic.

    sum over leases of max(grant, observed) + foreign + driver's own + reserve + ask  <=  total

A lease counts with what was granted, because its holder may load the rest at any moment, and with what is observed
where that is more. What processes of no lease use is *foreign*: used less what is observed of leases. The rule is the
only one of six in use elsewhere that neither grants too much nor refuses what fits while holders load bit by bit.
"Free as the driver says" forgets what was granted and is not loaded yet; "free less all leases" counts what is loaded
twice; "total less all grants" forgets the others on the card.

A process whose memory the driver cannot tell, or that nobody has named, is foreign: its lease then counts twice,
which refuses more and never grants too much. What was released but is still on the card turns foreign by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from bursar.kernel.bugs import seeded
from bursar_gpu_manager.device import Pid

NOTHING: Final[Mapping[Pid, int]] = {}


class Claim(NamedTuple):
    """A lease on one device: its bytes and who allocates them; ``before``: bytes of processes that are not its own
    whoever names them (`claiming`)."""

    lease: str
    granted: int
    processes: tuple[Pid, ...]
    before: Mapping[Pid, int] = NOTHING


def attribute(claims: Iterable[Claim], seen: Mapping[Pid, int]) -> tuple[dict[str, int], dict[Pid, int]]:
    """Bytes observed of each lease, and by process what is no lease's. A process with several leases fills them in
    their order; what it uses beyond all of them counts with the first, so that together they count max(sum of grants,
    observed)."""
    left = dict(seen)
    claims = [claim for claim in claims if any(pid in left for pid in claim.processes)]
    observed = dict.fromkeys((claim.lease for claim in claims), 0)
    for claim in claims:
        for pid in claim.processes:
            taken = min(_own(claim, pid, left), claim.granted - observed[claim.lease])
            observed[claim.lease] += taken
            left[pid] = left.get(pid, 0) - taken
    for claim in claims:
        for pid in claim.processes:
            beyond = _own(claim, pid, left)
            observed[claim.lease] += beyond
            left[pid] = left.get(pid, 0) - beyond
    return observed, left


def _own(claim: Claim, pid: Pid, left: Mapping[Pid, int]) -> int:
    return max(0, left.get(pid, 0) - claim.before.get(pid, 0))


def charge(claims: Iterable[Claim], observed: Mapping[str, int]) -> int:
    """Sum over leases of max(grant, observed)."""
    if seeded("gpu_observed_ignored"):
        return sum(claim.granted for claim in claims)
    return sum(max(claim.granted, observed.get(claim.lease, 0)) for claim in claims)


def foreign(used: int, observed: Mapping[str, int]) -> int:
    """Bytes in use that belong to no lease; never below 0, though the figures are not of one instant."""
    return max(0, used - sum(observed.values()))


def room(total: int, kept: int, charged: int, others: int, reserve: int) -> int:
    """Bytes that may be granted; negative when too much is in use. ``kept``: what the driver keeps for itself."""
    if seeded("gpu_reserve_ignored"):
        reserve = 0
    return total - kept - charged - others - reserve
