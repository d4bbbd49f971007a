"""What can go wrong for an agent. All derive from `bursar.errors.BursarError`: ``code``, ``text``, ``facts``,
``advice``.

::

    BursarError
      CallerError
        NoCredentials       connect() found nothing to prove who this agent is
        PermitVoid          the send deadline passed: reserve again
        PermitEnded         the permit was settled or cancelled before
        UnknownBudget       the limiter has no budget of that name; ``facts["known"]`` lists some
        Conflict            a request id was used twice (two processes share a session?)
      ServiceError
        Refused             not now: ``retry_in`` says when
          NeverFits         not ever: ask for less, or raise the limit
        LimiterUnavailable  no answer within the caller's patience; nothing may be sent
        BadReply            an answer that this version does not understand
"""

from __future__ import annotations

from typing import Any, Final

from bursar.errors import BursarError, CallerError, ServiceError, make_error


class NoCredentials(CallerError):
    """Nothing says who this agent is, or what says so cannot be read."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("no_credentials", text, **facts)

    @property
    def advice(self) -> str:
        return "Run `bursar agent add NAME` and set BURSAR_CREDS to the file that it writes."


class PermitVoid(CallerError):
    """The permit's send deadline has passed; sending now could exceed the limit."""

    def __init__(self, budget: str, late_ms: float) -> None:
        text = f"the permit for {budget} was void {max(0, int(late_ms))} ms ago"
        super().__init__("permit_void", text, budget=budget, late_ms=int(late_ms))

    @property
    def advice(self) -> str:
        return "Do not send the call: cancel this permit and reserve again."


class BudgetFrozen(PermitVoid):
    """The provider has asked for a pause: for ``left_ms`` milliseconds nobody may send calls of this budget."""

    left_ms: float

    def __init__(self, budget: str, left_ms: float) -> None:
        CallerError.__init__(
            self, "permit_void", f"{budget} is frozen for {left_ms:.0f} ms", budget=budget, left_ms=int(left_ms)
        )
        self.left_ms = left_ms


class PermitEnded(CallerError):
    """The permit has been settled or cancelled; it covers nothing any more."""

    def __init__(self, budget: str) -> None:
        super().__init__("permit_ended", f"the permit for {budget} has ended", budget=budget)

    @property
    def advice(self) -> str:
        return "Reserve a new permit for each call."


class Conflict(CallerError):
    """The service has answered another request under this id."""


class UnknownBudget(CallerError):
    """The limiter has no budget of that name."""

    @property
    def advice(self) -> str:
        known = ", ".join(map(str, self.facts.get("known", ()))) or "none"
        return f"Use one that exists ({known}), or have an operator add it."


_TOLD: Final = ("reason", "budget", "dimension", "limit", "level", "ahead")
_PLACE: Final = ("object", "depth", "window_ms", "ahead_amount", "retry_at_ms")


class Refused(ServiceError):
    """The limiter says no. Nothing was reserved; the call must not be sent.

    ``reason``: over_limit, wait_too_long, recovering, queue_full or never_fits. ``retry_in``: seconds until it may
    fit (None: waiting does not help), ``retry_at_ms``: the same as a time of the limiter's clock. ``object``: which
    budget is in the way, ``depth`` steps up from the one that the request takes from; ``dimension``, ``window_ms``,
    ``limit``, ``level``: what is short there, its limit, how much of it is taken. ``ahead``: how many stand in line
    before this request, ``ahead_amount``: what is certain to go first.
    """

    reason: str
    budget: str
    object: str | None
    depth: int | None
    dimension: str | None
    window_ms: int | None
    limit: int | None
    level: int | None
    ahead: int
    ahead_amount: int
    retry_in: float | None
    retry_at_ms: int | None

    def __init__(self, told: dict[str, Any]) -> None:
        retry_in_ms = told["retry_in_ms"]
        facts = {name: told[name] for name in _TOLD} | {name: told.get(name) for name in _PLACE}
        super().__init__("refused", str(told["text"]), **facts, retry_in_ms=retry_in_ms)
        for name, value in facts.items():
            setattr(self, name, value)
        self.retry_in = None if retry_in_ms is None else retry_in_ms / 1000.0

    @property
    def advice(self) -> str:
        if self.retry_in is None:
            return "Waiting does not help: ask for less at once, or have an operator raise the limit."
        return f"Reserve again in {self.retry_in:.3f} s, or pass wait= to stand in line instead."

    def __reduce__(self) -> tuple[Any, ...]:
        told = {name: getattr(self, name) for name in (*_TOLD, *_PLACE)}
        return (type(self), (told | {"text": self.text, "retry_in_ms": self.facts["retry_in_ms"]},))


class NeverFits(Refused):
    """The request is larger than the limit itself: no waiting helps."""


class LimiterUnavailable(ServiceError):
    """No answer within the caller's patience. Nothing may be sent: without a permit a limit could be exceeded."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("limiter_unavailable", text, **facts)

    @property
    def advice(self) -> str:
        return "Try again later; `bursar up` starts a limiter, `nats micro ls` shows whether one runs."


class BadReply(ServiceError):
    """The service's answer cannot be understood."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("bad_reply", text, **facts)


def refusal(told: dict[str, Any]) -> Refused:
    """The exception for a `bursar.contracts.limiter.Refused` message."""
    return NeverFits(told) if told["reason"] == "never_fits" else Refused(told)


def from_wire(error: Any) -> BursarError:
    """The exception for the body of an error reply."""
    try:
        code, text, facts = str(error["code"])[:64], str(error["text"]), error["facts"]
    except (TypeError, LookupError):
        return BadReply("an error without code and text")
    told = _OF_CODE[code](code, text) if code in _OF_CODE else make_error(code, text)
    told.facts = facts if isinstance(facts, dict) else {}
    return told


_OF_CODE: dict[str, type[CallerError]] = {
    "id_reused": Conflict,
    "conflict": Conflict,
    "unknown_budget": UnknownBudget,
    "unknown_reservation": CallerError,
    "already_settled": CallerError,
    "not_yours": CallerError,
    "not_plausible": CallerError,
}
