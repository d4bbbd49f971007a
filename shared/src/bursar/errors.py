"""Every error that Bursar raises: a stable code, a sentence, the facts, who is to blame, and what to do.

The codes are part of the wire: a service puts code and text into the NATS service error headers and the whole error
into the body, and the client raises the same error again. `CODES` is the one table of their meaning. Texts and facts
never hold a payload or the printed form of a Python object.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Blame = Literal["caller", "service", "network"]
Fact = str | int | float | bool | None

MAX_TEXT = 300
"""Longest text of an error in characters; longer ones are cut, so that no input can make a log line grow."""


class Meaning(NamedTuple):
    """What a code stands for. ``status`` is the number in the header ``Nats-Service-Error-Code`` (as in HTTP)."""

    status: int
    blame: Blame
    advice: str


_FIX = "Correct the request; sending the same again fails again."
_RETRY = "Send the same request again, with the same id, after a short pause."

CODES: dict[str, Meaning] = {
    "too_large": Meaning(413, "caller", "Send less in one message."),
    "bad_encoding": Meaning(400, "caller", "Send one msgpack map, or one JSON object in UTF-8."),
    "bad_shape": Meaning(400, "caller", "Stay within the limits of depth, length and key count; no key twice."),
    "bad_request": Meaning(400, "caller", _FIX),
    "bad_amount": Meaning(400, "caller", "Amounts are whole numbers from 0 to 2^53 - 1."),
    "unknown_verb": Meaning(404, "caller", "Look at the service's endpoints: nats micro info."),
    "unknown": Meaning(404, "caller", "It does not exist (any more): look at the service's status."),
    "forbidden": Meaning(403, "caller", "Use what you have a right to, or ask an operator for the right."),
    "permission_denied": Meaning(403, "caller", "Use credentials that are allowed to do this."),
    "id_reused": Meaning(409, "caller", "Use a fresh id for a request with other content."),
    "already_acked": Meaning(409, "caller", "The answer had arrived; use a fresh id for another request."),
    "unknown_budget": Meaning(404, "caller", "Use a budget that exists: ask for the limiter's status."),
    "bad_budget": Meaning(400, "caller", _FIX),
    "bad_rule": Meaning(400, "caller", _FIX),
    "unknown_group": Meaning(404, "caller", "Use a group that exists: ask for the breaker's settings."),
    "not_forced": Meaning(409, "caller", "Nothing has to be done: no order of an operator holds there."),
    "unknown_reservation": Meaning(404, "caller", "It never existed or was forgotten: settle sooner after the call."),
    "already_settled": Meaning(409, "caller", "A reservation ends once; nothing has to be done."),
    "not_yours": Meaning(403, "caller", "Only who reserved may settle."),
    "too_many_agents": Meaning(429, "caller", "The budget has no room for another agent or run."),
    "too_many_objects": Meaning(400, "caller", "The request would take from too many objects at once."),
    "no_agents": Meaning(409, "caller", "The budget gives agents no budgets of their own."),
    "not_on_path": Meaning(409, "caller", "The request does not take from this budget."),
    "usage_shrank": Meaning(409, "caller", "More usage was reported before."),
    "not_plausible": Meaning(409, "caller", "The declared reservation contradicts what the limiter knows."),
    "old_report": Meaning(409, "caller", "Each report of a lease has a higher number than the one before."),
    "not_open": Meaning(403, "caller", "The budget does not allow calls without a permit."),
    "unknown_task": Meaning(404, "caller", "It was never accepted, was lost with data, or ended long ago."),
    "stale_attempt": Meaning(409, "caller", "This attempt counts no more: stop it and release it."),
    "already_ended": Meaning(409, "caller", "A task ends once; nothing has to be done."),
    "not_started": Meaning(409, "caller", "Start the attempt before you end it."),
    "unknown_blob": Meaning(404, "caller", "Store all of its parts first; without a task it is kept for five minutes."),
    "bad_blob": Meaning(400, "caller", "A blob is named by the SHA-256 of its content, and keeps its size."),
    "not_registered": Meaning(409, "caller", "Register this session of the worker first."),
    "unknown_lease": Meaning(404, "caller", "It never existed, ended long ago, or was lost with data: lease again."),
    "lease_ended": Meaning(409, "caller", "Stop using what it was for, and lease again."),
    "unknown_device": Meaning(404, "caller", "Use a device that the manager's status names."),
    "unknown_copy": Meaning(404, "caller", "These weights are not there (any more): ask for them again."),
    "too_many_uses": Meaning(409, "caller", "Leave these weights wherever they are used no more, then use them again."),
    "unknown_host": Meaning(404, "caller", "Use a host that the manager's status names."),
    "unknown_model": Meaning(404, "caller", "Send the model's configuration (config.json) with the request."),
    "unsupported_model": Meaning(422, "caller", "Ask for a number of bytes: this family of models is not known."),
    "bad_config": Meaning(400, "caller", _FIX),
    "unknown_format": Meaning(400, "caller", "Use one of the formats that the error names."),
    "lease_too_small": Meaning(409, "caller", "Lease more, or ask for fewer or shorter sequences."),
    "bad_fence": Meaning(409, "caller", "The token is not current: ask the service again."),
    "conflict": Meaning(409, "caller", "Read the present state and decide again."),
    "too_many": Meaning(429, "caller", "Send more slowly."),
    "overloaded": Meaning(429, "caller", "Others are waiting, too: send more slowly."),
    "not_ready": Meaning(503, "service", _RETRY),
    "failed_closed": Meaning(503, "service", "The service refuses to grant until an operator or time makes it safe."),
    "bad_seal": Meaning(400, "caller", "It was changed, or stands where it was not meant to be: have it sealed again."),
    "sealed_for_others": Meaning(403, "caller", "Open it as one of its recipients, with the credentials of that time."),
    "audit_unavailable": Meaning(503, "service", "Nothing was done, as it could not be recorded. " + _RETRY),
    "audit_corrupt": Meaning(500, "service", "See `bursar audit verify`: the log or its anchors were changed."),
    "journal_full": Meaning(503, "service", "Nothing is decided until its journal has room; then " + _RETRY.lower()),
    "internal": Meaning(500, "service", _RETRY),
    "bad_reply": Meaning(500, "service", "The service's answer cannot be understood: compare the versions."),
    "not_connected": Meaning(503, "network", "Nothing was sent: send it again when connected."),
    "request_timeout": Meaning(504, "network", "The outcome is unknown: " + _RETRY[0].lower() + _RETRY[1:]),
    "no_responders": Meaning(503, "network", "Nobody listens there right now: " + _RETRY[0].lower() + _RETRY[1:]),
    "connect_failed": Meaning(503, "network", "Check the URL, the credentials and that the server runs."),
    "bad_signature": Meaning(403, "service", "Do not act on the message; compare the trusted keys."),
}


class BursarError(Exception):
    """An error with a stable ``code``, a ``text`` for people, and ``facts`` (plain values) for programs."""

    def __init__(self, code: str, text: str, /, **facts: Fact) -> None:
        text = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.facts: dict[str, Any] = facts

    @property
    def meaning(self) -> Meaning:
        return CODES.get(self.code) or _by_class(self)

    @property
    def status(self) -> int:
        """The number for the header ``Nats-Service-Error-Code``, as in HTTP."""
        return self.meaning.status

    @property
    def blame(self) -> Blame:
        """Who has to change something."""
        return self.meaning.blame

    @property
    def advice(self) -> str:
        """What to do about it, in one sentence."""
        return self.meaning.advice

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.code, self.text, self.facts))


class CallerError(BursarError):
    """The request is wrong; the same request will be refused again."""


class ServiceError(BursarError):
    """The service could not answer properly; the request may be right."""


class NetworkError(BursarError):
    """The network failed between the two; subclasses in `bursar.bus.base` say what that means for a request."""


def _by_class(error: BursarError) -> Meaning:
    if isinstance(error, CallerError):
        return Meaning(400, "caller", _FIX)
    return Meaning(500, "service", _RETRY)


def _rebuild(kind: type[BursarError], code: str, text: str, facts: dict[str, Any]) -> BursarError:
    error = kind.__new__(kind)
    BursarError.__init__(error, code, text, **facts)
    return error


def make_error(code: str, text: str, facts: dict[str, Any] | None = None, status: int | None = None) -> BursarError:
    """The error for a code from the wire: `CallerError` or `ServiceError`, also for codes unknown to this version."""
    known = CODES.get(code)
    number = known.status if known is not None else status if status is not None else 500
    kind = CallerError if 400 <= number < 500 else ServiceError
    error = kind(code, text)
    error.facts = dict(facts or {})
    return error
