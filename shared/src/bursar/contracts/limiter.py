"""The limiter on the wire: reserve an estimate, call the provider, settle the real usage.

Times named ``*_ms`` that end in ``_at`` are milliseconds of the limiter's own clock, which never goes back and has
nothing to do with the wall clock; times that end in ``_in_ms`` are spans from the moment of the answer.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import REQUEST_ID, Amount, Fence, Message, Name, Query, Request

SERVICE = "limiter"

Dimension = Literal["requests", "input_tokens", "output_tokens", "concurrent", "usd_micros"]
DIMENSIONS: tuple[Dimension, ...] = ("requests", "input_tokens", "output_tokens", "concurrent", "usd_micros")

ReservationId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]


class Amounts(Message):
    """How much of each dimension: counts, tokens, calls in flight, millionths of a dollar."""

    requests: Amount = 1
    input_tokens: Amount = 0
    output_tokens: Amount = 0
    concurrent: Amount = 1
    usd_micros: Amount = 0


class Usage(Message):
    """What a call really used, as the provider reported it."""

    requests: Amount = 1
    input_tokens: Amount = 0
    output_tokens: Amount = 0
    usd_micros: Amount = 0


class Reserve(Request):
    """Ask for a permit for one provider call; answered by `Granted` or `Refused`.

    ``wait_ms``: how long to stand in line instead of being refused at once (0 = do not wait).
    ``ttl_ms``: after so long without a settlement the reservation counts as used in full.
    """

    budget: Name
    amounts: Amounts
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
    """Not now, or never: ``retry_at_ms`` is None when no waiting helps. ``ahead``: how many others stand in line."""

    ok: Literal[False] = False
    reason: Literal["over_limit", "wait_too_long", "never_fits", "recovering", "queue_full", "withdrawn"]
    budget: str
    dimension: str | None
    limit: int | None
    level: int | None
    ahead: int
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
    """Headroom of one budget, or of all."""

    budget: Name | None = None


class DimensionStatus(Message):
    """One limited dimension of a budget, in its own unit."""

    limit: int
    window_ms: int
    used: int
    in_flight: int
    headroom: int
    debt: int


class BudgetStatus(Message):
    """One budget: its limited dimensions, and its counters."""

    name: str
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
    """One limit. ``window_ms`` 0: a level (calls in flight), or for money an amount that is spent once.

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


class BudgetSpec(Message):
    """One budget. ``utilisation_permille``: the pace, in thousandths of the limit; ``burst_permille``: how much of
    the limit may be used in one go; ``jitter_ms``: J, the longest time from the permit to the provider's charge;
    ``send_within_ms``: how long a permit is good for (it lies within J); ``max_ttl_ms``: the longest time to live of
    a reservation (a longer one is cut to it), which is also how long unknown calls are feared after a loss of data;
    ``max_waiting``: how many may stand in line."""

    name: Name
    limits: dict[Dimension, LimitSpec]
    utilisation_permille: Annotated[int, Field(ge=1, le=1000)] = 920
    burst_permille: Annotated[int, Field(ge=1, le=1000)] = 50
    jitter_ms: Annotated[int, Field(ge=0, le=600_000)] = 500
    send_within_ms: Annotated[int, Field(ge=1, le=600_000)] = 300
    max_ttl_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 600_000
    max_waiting: Annotated[int, Field(ge=0, le=100_000)] = 10_000


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
