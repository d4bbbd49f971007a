"""The limiter on the wire: reserve an estimate, call the provider, settle the real usage.

Times named ``*_ms`` that end in ``_at`` are milliseconds of the limiter's own clock, which never goes back and has
nothing to do with the wall clock; times that end in ``_in_ms`` are spans from the moment of the answer.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import REQUEST_ID, Amount, Fence, Message, Name, Query, Request
from bursar.contracts.limiter_observed import Adapting

SERVICE = "limiter"

Dimension = Literal[
    "requests", "input_tokens", "output_tokens", "concurrent", "usd_micros", "total_tokens", "network_bytes"
]
DIMENSIONS: tuple[Dimension, ...] = (
    "requests",
    "input_tokens",
    "output_tokens",
    "concurrent",
    "usd_micros",
    "total_tokens",
    "network_bytes",
)

Priority = Literal["reactive", "standard", "proactive"]
PRIORITIES: tuple[Priority, ...] = ("reactive", "standard", "proactive")

ReservationId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]


Part = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", max_length=63)]
"""One part of a name: what stands between two slashes."""

Objects = Annotated[tuple[Name, ...], Field(max_length=4)]


class Amounts(Message):
    """How much of each dimension: counts, tokens, calls in flight, millionths of a dollar, bytes on the network.
    ``total_tokens`` 0: the sum of input and output."""

    requests: Amount = 1
    input_tokens: Amount = 0
    output_tokens: Amount = 0
    concurrent: Amount = 1
    usd_micros: Amount = 0
    total_tokens: Amount = 0
    network_bytes: Amount = 0


class Usage(Message):
    """What a call really used, as the provider reported it. ``total_tokens`` 0: the sum of input and output."""

    requests: Amount = 1
    input_tokens: Amount = 0
    output_tokens: Amount = 0
    usd_micros: Amount = 0
    total_tokens: Amount = 0
    network_bytes: Amount = 0


class Reserve(Request):
    """Ask for a permit for one provider call; answered by `Granted` or `Refused`.

    ``wait_ms``: how long to stand in line instead of being refused at once (0 = do not wait).
    ``ttl_ms``: after so long without a settlement the reservation counts as used in full. ``run``: the run of the
    agent, for budgets that give each run its own. ``also``: other objects to take from in the same decision (a purse,
    a host, a destination). ``priority``: who goes first of those who wait.
    """

    budget: Name
    amounts: Amounts
    run: Part | None = None
    also: Objects = ()
    priority: Priority = "standard"
    wait_ms: Annotated[int, Field(ge=0, le=600_000)] = 0
    ttl_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 120_000


class Granted(Message):
    """The permit. Send the call before ``send_by_at_ms``; later it is void: cancel it instead."""

    ok: Literal[True] = True
    reservation: ReservationId
    granted_at_ms: int
    send_by_at_ms: int
    expires_at_ms: int
    fence: str


class Refused(Message):
    """Not now, or never: ``retry_at_ms`` is None when no waiting helps. ``object``: what stands in the way, ``depth``
    steps up from the budget that the request takes from (0: that itself); ``level``: how much of its ``limit`` counts
    as used. ``ahead``: how many others stand in line; ``ahead_amount``: what is certain to go first."""

    ok: Literal[False] = False
    reason: Literal["over_limit", "wait_too_long", "never_fits", "recovering", "queue_full", "withdrawn"]
    budget: str
    object: str | None = None
    depth: int | None = None
    dimension: str | None
    window_ms: int | None = None
    limit: int | None
    level: int | None
    ahead: int
    ahead_amount: int = 0
    now_ms: int
    retry_at_ms: int | None
    retry_in_ms: int | None
    text: str
    fence: str


class Settle(Request):
    """End a reservation: with the usage, or ``cancelled`` when the call was never sent (everything is refunded)."""

    reservation: ReservationId
    outcome: Literal["used", "cancelled"] = "used"
    usage: Usage | None = None


class Settled(Message):
    """How it ended; ``refunded`` and ``overage`` per dimension, against what was reserved."""

    ok: Literal[True] = True
    reservation: ReservationId
    outcome: Literal["used", "cancelled", "timed_out"]
    refunded: dict[str, int]
    overage: dict[str, int]
    fence: str


class Redeclare(Request):
    """After the limiter lost data: a holder states a reservation it still has, with the fence that came with the grant:
    another is refused with ``bad_fence``."""

    budget: Name
    reservation: ReservationId
    fence: Fence
    amounts: Amounts
    run: Part | None = None
    also: Objects = ()
    granted_at_ms: int
    ttl_ms: Annotated[int, Field(ge=100, le=3_600_000)]


class Redeclared(Message):
    """The reservation counts again, or needs not (``adopted`` false)."""

    ok: Literal[True] = True
    reservation: ReservationId
    adopted: bool
    fence: str


class Withdraw(Request):
    """Take back a `Reserve` whose answer nobody waits for any more; ``request`` is its id."""

    budget: Name
    request: Annotated[str, Field(pattern=REQUEST_ID, max_length=56)]


class Withdrawn(Message):
    """What has become of the request. ``withdrawn``: it has left the line, and is not let in again. ``cancelled``: it
    had been granted and was ended without use. ``over``: that reservation has ended. ``unknown``: it does not stand in
    line (any more); if it was decided before, asking once more with its own id tells how, and if not, it is refused."""

    ok: Literal[True] = True
    request: str
    outcome: Literal["withdrawn", "cancelled", "over", "unknown"]
    fence: str


class Status(Query):
    """Headroom of one budget, or of all. ``path``: of one, and of everything that a request for it would take from:
    the asking agent's own (and the ``run``'s), those above it, and linked objects (``also`` those named here)."""

    budget: Name | None = None
    path: bool = False
    run: Part | None = None
    also: Objects = ()


class DimensionStatus(Message):
    """One limited dimension of a budget, in its own unit. ``configured``: the limit as configured, above a learned one.
    ``frozen_in_ms``: how long the provider has it stopped. ``pace_permille``: of the configured pace.
    ``foreign_used``: what others than the fleet have used in the last window, as far as it was noticed.
    ``available``: how much fits now in one go, ``pace_per_s``: how much more each second (0: not paced)."""

    limit: int
    window_ms: int
    used: int
    in_flight: int
    headroom: int
    debt: int
    available: int = 0
    pace_per_s: int = 0
    configured: int = 0
    frozen_in_ms: int = 0
    pace_permille: int = 1_000
    foreign_used: int = 0


class BudgetStatus(Message):
    """One budget: its limited dimensions, and its counters."""

    name: str
    parent: str | None = None
    weight: int = 100
    below: int = 0
    dimensions: dict[str, DimensionStatus]
    reservations: int
    waiting: int
    granted: int
    refused: int


class StatusReply(Message):
    """The budgets that were asked for."""

    ok: Literal[True] = True
    now_ms: int
    recovering: bool
    budgets: list[BudgetStatus]
    fence: str


class Clock(Query):
    """Ask for the limiter's time, to learn the offset of one's own clock (needed to void permits in time)."""


class ClockReply(Message):
    """The time of the answer."""

    ok: Literal[True] = True
    now_ms: int
    fence: str


class LimitSpec(Message):
    """One limit. ``window_ms`` 0: a level (what is in flight), or an amount that is spent once (in a purse, and for
    money). ``in_flight``: said of another dimension than calls that is limited in flight.

    ``charge``: "admission" when the provider charges as the call arrives, "production" when output is charged as it
    is produced (what is in flight then stays charged until it is settled). ``bucket``: the capacity of the provider's
    own token bucket (refilled at limit/window) where that is smaller than the limit. ``paced``: spread the use over
    the window; without it the whole limit may go at once.
    """

    limit: Annotated[int, Field(ge=1, le=2**53 - 1)]
    window_ms: Annotated[int, Field(ge=0, le=31_536_000_000)]
    charge: Literal["admission", "production"] = "admission"
    bucket: Annotated[int, Field(ge=1, le=2**53 - 1)] | None = None
    paced: bool = True
    in_flight: bool = False


Limits = LimitSpec | Annotated[tuple[LimitSpec, ...], Field(min_length=1, max_length=8)]
"""The limits of one dimension: one, or several with different windows."""


def windows_of(limits: Limits) -> tuple[LimitSpec, ...]:
    return (limits,) if isinstance(limits, LimitSpec) else limits


class ChildSpec(Message):
    """What each agent, or each run, of a budget gets of its own: made when it first asks, dropped when idle."""

    limits: dict[Dimension, Limits] = Field(default_factory=dict)
    weight: Annotated[int, Field(ge=1, le=10_000)] = 100


class BudgetSpec(Message):
    """One budget. ``utilisation_permille``: the pace, in thousandths of the limit; ``burst_permille``: how much of
    the limit may be used in one go; ``jitter_ms``: J, the longest time from the permit to the provider's charge;
    ``send_within_ms``: how long a permit is good for (it lies within J); ``max_ttl_ms``: the longest time to live of
    a reservation (a longer one is cut to it), which is also how long unknown calls are feared after a loss of data;
    ``max_waiting``: how many may stand in line. ``parent``: whose limits count too, and so on upwards. ``also``: other
    objects that count too. ``kind`` "purse": every limit is an amount that is spent once. ``weight``: its share of
    what its parent has, beside the other children that want something. ``highest``: the best priority that a
    request in it may have. ``each_agent``, ``each_run``: what each of these gets of its own below this budget.
    ``adapt``: what it makes of what the provider tells. ``lease_ms``: how long leases last, 0 for none.
    ``when_unreachable``: what agents do that cannot reach the limiter: nothing, calls without permits that are charged
    later, or what they hold of ``islands`` slices, together ``island_permille`` of the limits, set aside for that."""

    name: Name
    limits: dict[Dimension, Limits] = Field(default_factory=dict)
    parent: Name | None = None
    also: Objects = ()
    kind: Literal["rate", "purse"] = "rate"
    weight: Annotated[int, Field(ge=1, le=10_000)] = 100
    highest: Priority = "reactive"
    each_agent: ChildSpec | None = None
    each_run: ChildSpec | None = None
    utilisation_permille: Annotated[int, Field(ge=1, le=1000)] = 920
    burst_permille: Annotated[int, Field(ge=1, le=1000)] = 50
    jitter_ms: Annotated[int, Field(ge=0, le=600_000)] = 500
    send_within_ms: Annotated[int, Field(ge=1, le=600_000)] = 300
    max_ttl_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 600_000
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 10_000
    lease_ms: Annotated[int, Field(ge=0, le=5_000)] = 1_000
    when_unreachable: Literal["closed", "open", "island"] = "closed"
    islands: Annotated[int, Field(ge=1, le=1_000)] = 4
    island_permille: Annotated[int, Field(ge=1, le=1_000)] = 100
    adapt: Adapting = Adapting()


class Reload(Request):
    """Administration: replace the set of budgets; what is charged and reserved stays so."""

    budgets: Annotated[tuple[BudgetSpec, ...], Field(max_length=256)]


class Reloaded(Message):
    """What the new set of budgets changed, by name."""

    ok: Literal[True] = True
    added: list[str]
    changed: list[str]
    removed: list[str]
    fence: str
