"""What a probe lets happen on its host: who may load, whose processes must end. Plain rules, no IO and no clock.

The manager is the ledger; the probe learns from it which leases there are on its cards (`hear`), and every answer has a
fence that grows with every decision. From then on

- nothing older counts: an answer, or an order, that is older than what is known comes from an owner that is not it any
  more, or was late, and is refused;
- a process that wants to load shows lease and fence (`enter`). It may if the lease is known and not ending, the fence
  is that lease's, and it is one of the processes that the holder has named to the manager. A lease that was given
  before the newest answer and is not in it has ended: its fence is stale;
- a process that was named for a lease which has ended, and which still has memory on a card, must end after a while
  (`overdue`), or at once when the manager orders it (`order`). It never must while another lease that is held names it,
  and never is anybody else's: pid and start together say which process is meant. One that had memory on the card before
  the lease was granted may be a stranger's whom somebody has named: it is spared unless it has shown the lease here.

Where a host has more leases than one answer holds, none ends by not being told of; nor is it let in.

Whatever the answers say, what the cards say goes to the manager as it is: the gate hides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from bursar.contracts.gpu import HoldingsReply, Kill, Process
from bursar.kernel.bugs import seeded

Pid = tuple[int, int]
Numbers = tuple[int, int, int]

REMEMBERED: Final = 1_024
"""Ended leases whose processes are still looked for."""

WORDS: Final = {
    "bad_fence": "The fence is not that of the lease.",
    "stale_fence": "The lease has ended: somebody else may hold its memory.",
    "not_known": "The manager has not told of this lease yet.",
    "ending": "The lease is ending: free its memory.",
    "not_named": "The holder has not named this process to the manager.",
}


class Known(NamedTuple):
    """A lease of this host. ``spared``: those that were there before it."""

    processes: frozenset[Pid]
    ending: bool
    spared: frozenset[Pid] = frozenset()


class Counts(NamedTuple):
    """Since the probe started. ``stale``: answers and orders that were too old."""

    admitted: int = 0
    refused: int = 0
    stale: int = 0
    ended: int = 0


def numbers_of(fence: str) -> Numbers:
    """Of a fence or a lease: incarnation, epoch, number."""
    first, second, third = fence.split(".")[:3]
    return (int(first), int(second), int(third))


def pids_of(processes: Iterable[Process]) -> frozenset[Pid]:
    return frozenset((process.pid, process.started) for process in processes)


class Gate:
    """``grace_ms``: how long a process may outlive its lease. Time is what the caller says has passed (`tick`)."""

    def __init__(self, grace_ms: int = 5_000) -> None:
        self.grace_ms = grace_ms
        self.fence: Numbers = (0, 0, 0)
        self.leases: dict[str, Known] = {}
        self.complete = True
        self._unsure: dict[str, Known] = {}
        self._entered: dict[str, set[Pid]] = {}
        self.counts = Counts()
        self._ordered: Numbers = (0, 0, 0)
        self._ended: dict[str, tuple[int, frozenset[Pid]]] = {}
        self._now = 0

    def tick(self, ms: int) -> None:
        self._now += ms

    # ---- what the manager says

    def hear(self, told: HoldingsReply) -> bool:
        """Whether the answer counts."""
        numbers = numbers_of(told.fence)
        if numbers < self.fence:
            self._count(stale=1)
            return False
        self.fence = numbers
        before, self.complete = self._unsure | self.leases, told.complete
        self.leases = {one.lease: Known(pids_of(one.processes), one.ending, pids_of(one.spared)) for one in told.leases}
        missing = {lease: known for lease, known in before.items() if lease not in self.leases}
        self._unsure = {} if told.complete else dict(islice(missing.items(), REMEMBERED))
        for lease, known in missing.items():
            if told.complete:
                self._has_ended(lease, known.processes - self._spared(lease, known.spared))
                self._entered.pop(lease, None)
        return True

    def order(self, told: Kill) -> list[Pid]:
        """The processes to end: none if the order is old, or a lease that is held names them."""
        numbers = numbers_of(told.fence)
        if (numbers[:2] < self.fence[:2] or numbers <= self._ordered) and not seeded("gpu_probe_obeys_stale_orders"):
            self._count(stale=1)
            return []
        self._ordered = numbers
        meant = pids_of(told.processes) - self._spared(told.lease, pids_of(told.spared))
        return sorted(meant - self._protected(told.lease))

    # ---- what processes want

    def enter(self, lease: str, fence: str, process: Pid) -> str:
        """ "" when the process may load; otherwise why not, one of `WORDS`."""
        why = self._why_not(lease, fence, process)
        if not why:
            self._entered.setdefault(lease, set()).add(process)
        self._count(refused=bool(why), admitted=not why)
        return why

    def _why_not(self, lease: str, fence: str, process: Pid) -> str:
        try:
            numbers = numbers_of(lease)
        except ValueError:
            return "bad_fence"
        if fence.rpartition(".")[0] != lease:
            return "bad_fence"
        known = self.leases.get(lease)
        if known is None:
            return "stale_fence" if numbers <= self.fence and self.complete else "not_known"
        if known.ending:
            return "ending"
        return "" if process in known.processes else "not_named"

    # ---- who must end

    def overdue(self, seen: Iterable[Pid]) -> list[Pid]:
        """Processes that are seen on a card and whose lease ended longer ago than the grace."""
        protected, seen = self._protected(), frozenset(seen)
        late = [pids for at, pids in self._ended.values() if self._now >= at + self.grace_ms]
        return sorted({pid for pids in late for pid in pids & seen} - protected)

    def note_ended(self, count: int) -> None:
        self._count(ended=count)

    def _spared(self, lease: str, spared: frozenset[Pid]) -> frozenset[Pid]:
        return spared - self._entered.get(lease, set())

    def _has_ended(self, lease: str, processes: frozenset[Pid]) -> None:
        if processes:
            self._ended[lease] = (self._now, processes)
            while len(self._ended) > REMEMBERED:
                del self._ended[next(iter(self._ended))]

    def _protected(self, but: str = "") -> frozenset[Pid]:
        """Named by a lease that is held."""
        known_or_may_be = (self._unsure | self.leases).items()
        held = (known.processes for lease, known in known_or_may_be if lease != but and not known.ending)
        return frozenset(pid for processes in held for pid in processes)

    def _count(self, admitted: int = 0, refused: int = 0, stale: int = 0, ended: int = 0) -> None:
        now = self.counts
        self.counts = Counts(now.admitted + admitted, now.refused + refused, now.stale + stale, now.ended + ended)
