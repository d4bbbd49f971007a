"""What agents see of a provider's own limits, told to the limiter, and what the limiter tells the whole fleet of it.

Three things go up, all for the budget that the call was made under:

- `Seen` (``bursar.obs.limiter.seen.<principal>``): limit, remaining and reset as the headers of an answer told them. A
  plain observation, lost with the owner: the next answer tells the same. From these the limiter learns a lower limit,
  and notices when somebody else uses the key.
- `RateLimited` (``bursar.req.limiter.rate-limited.<principal>``): the provider has answered 429. A request, repeated
  until it is durable.
- `Thaw` (``bursar.adm.limiter.thaw.<operator>``): an operator ends a freeze that was a mistake.

And down, signed, to everybody:

- `Frozen` (``bursar.evt.limiter.freeze.<token of the budget>``): nothing of these dimensions may be sent before
  ``remaining_ms`` have passed since its arrival, by nobody, whatever permits or leases are held. 0: the freeze is over.
- `ForeignUse` (``bursar.evt.limiter.foreign.<token of the budget>``): somebody outside the fleet uses the key.

**What one agent can do by lying or by mistake.** A freeze ends ``max_freeze_ms`` of the budget (120 s unless set) after
the report that caused it, at the latest. What one principal has frozen of one budget comes out of its allowance of
``max_freeze_ms``, which fills up at half the speed of time: alone it keeps no budget frozen for more than half of the
time. A limit is learned, and foreign use charged, by the median of what the reporters of late have said: a minority
changes nothing, and no learned limit is lower than a tenth of the configured one.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message, Name, Request, event_subject

SERVICE: Final = "limiter"
FREEZE: Final = "freeze"
"""The kind of the broadcasts of freezes."""
FOREIGN: Final = "foreign"
"""The kind of the broadcasts of foreign use."""

MAX_FREEZE_MS: Final = 120_000
"""How long a freeze lasts at most, counted from its last report, unless a budget says otherwise."""

Rate = Literal["requests", "input_tokens", "output_tokens", "total_tokens"]
"""The dimensions that providers tell of in headers."""

RATES: Final[tuple[Rate, ...]] = ("requests", "input_tokens", "output_tokens", "total_tokens")

Span = Annotated[int, Field(ge=0, le=86_400_000)]


class Headroom(Message):
    """One limit as the provider's headers told it; None: they did not. ``rounding``: so far off the remaining may be,
    because the provider rounds it."""

    dimension: Rate
    limit: Amount | None = None
    remaining: Amount | None = None
    reset_in_ms: Span | None = None
    rounding: Amount = 0


class Seen(Message):
    """What the headers of one answer told. ``window_ms``: of which they speak. ``age_ms``: since the call was sent, so
    that the provider counted no earlier."""

    budget: Name
    window_ms: Annotated[int, Field(ge=1, le=86_400_000)]
    age_ms: Span
    limits: Annotated[tuple[Headroom, ...], Field(min_length=1, max_length=8)]


class RateLimited(Request):
    """The provider has answered 429. ``dimensions``: those that it named or told to be used up; none: it did not say,
    and all calls of the budget stop. ``retry_after_ms``: how long it asks to wait; None: it did not say, and a second
    is waited, twice as long each time in a row."""

    budget: Name
    dimensions: Annotated[tuple[Rate, ...], Field(max_length=8)] = ()
    retry_after_ms: Span | None = None


class FreezeNoted(Message):
    """``remaining_ms``: for how long nothing is granted now. ``applied``: whether this report has made it later; it has
    not when it was frozen for longer already, or when the reporter's allowance is used up."""

    ok: Literal[True] = True
    budget: str
    dimensions: list[str]
    until_ms: int
    remaining_ms: Amount
    applied: bool
    fence: str


class Thaw(Request):
    """Administration: end the freezes of a budget now. ``note``: why, for the audit."""

    budget: Name
    note: Annotated[str, Field(max_length=200)] = ""


class Thawed(Message):
    """``dimensions``: those that were frozen."""

    ok: Literal[True] = True
    budget: str
    dimensions: list[str]
    fence: str


class Frozen(Message):
    """The broadcast. It is about the budget, all whose names stand below its own, and those named in ``below``.
    ``dimensions``: none named means all. ``remaining_ms``: from its arrival on; 0: over. ``reporter``: whose answer it
    was; empty when it is told once more, which happens every two seconds."""

    budget: Name
    below: list[str]
    dimensions: list[str]
    until_ms: int
    remaining_ms: Amount
    reporter: str
    fence: str


class ForeignUse(Message):
    """The broadcast: of one dimension, ``used`` in the last window by others than the fleet; the limiter leaves them
    that room."""

    budget: Name
    dimension: str
    used: Amount
    limit: Amount
    window_ms: Amount
    fence: str


class Adapting(Message):
    """How a budget adapts to what the provider tells.

    - ``max_freeze_ms``: the longest freeze, from its last report on.
    - ``learn``: use a limit that the headers tell when it is lower than the configured one (never a higher one).
    - ``foreign``: charge what others use of the key.
    - ``recover``: cut the pace to 0.7 after a 429, and let it come back by CUBIC.
    - ``steer``: move the pace so that 85 to 95 % of the limit are used while there is demand.
    - ``ramp_ms``: after a quiet window, take so long from a tenth of the pace to all of it (0: at once), for providers
      that limit acceleration.
    """

    max_freeze_ms: Annotated[int, Field(ge=100, le=3_600_000)] = MAX_FREEZE_MS
    learn: bool = True
    foreign: bool = True
    recover: bool = True
    steer: bool = True
    ramp_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0


def token_of(budget: str) -> str:
    """A budget's name as one token of a subject."""
    return budget.replace("/", ":")


def freeze_subject(budget: str = "*") -> str:
    """Where the freezes of a budget are broadcast; of all budgets, for subscribing."""
    return event_subject(SERVICE, FREEZE, token_of(budget))


def foreign_subject(budget: str = "*") -> str:
    """Where foreign use of a budget is broadcast; of all budgets, for subscribing."""
    return event_subject(SERVICE, FOREIGN, token_of(budget))
