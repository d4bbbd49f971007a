"""Until when all of this must be done: a deadline that everything below inherits, in tasks and over HTTP.

::

    with deadline(20):                      # seconds, for all that follows, however deep
        ...
        async with fleet.breaker.call("provider-a") as call:      # cut off after what is left of them
            ...

An inner deadline can only be earlier than an outer one. Tasks that are started inside inherit it (it is a context
variable); other processes are told in a header how much is left, a span and never a moment of anybody's clock, and go
on with `from_headers`. What is past its deadline is not begun: it would be work that nobody waits for any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from bursar.client.time import Clock, SystemClock
from bursar.errors import CallerError

HEADER: Final = "bursar-timeout-ms"
MAX_MS: Final = 86_400_000
_SYSTEM: Final = SystemClock()
_until: ContextVar[float] = ContextVar("bursar_deadline", default=math.inf)


class DeadlineExceeded(CallerError, TimeoutError):
    """The time that was given for all of this is over; nothing was sent."""

    def __init__(self, late_ms: float = 0.0) -> None:
        text = f"the deadline passed {max(0, int(late_ms))} ms ago"
        super().__init__("deadline_exceeded", text, late_ms=max(0, int(late_ms)))
        self.late_ms = late_ms

    @property
    def advice(self) -> str:
        return "Do not begin it: nobody waits for the result any more."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.late_ms,))


@contextmanager
def deadline(seconds: float, clock: Clock = _SYSTEM) -> Iterator[float]:
    """Everything inside must be done within so many seconds, or sooner if that was said before. Yields the seconds
    that hold. It only says so: calls under the breaker and ``http_client`` keep to it."""
    if math.isnan(seconds):
        raise CallerError("bad_request", "a deadline is a number of seconds")
    now = clock.now()
    until = min(_until.get(), now + seconds * 1000.0)
    token = _until.set(until)
    try:
        yield (until - now) / 1000.0
    finally:
        _until.reset(token)


def until() -> float:
    """When the deadline is, in ms of the clock; inf: there is none."""
    return _until.get()


def remaining(clock: Clock = _SYSTEM) -> float | None:
    """Seconds that are left (negative: it is past), or None when there is no deadline."""
    at = _until.get()
    return None if at == math.inf else (at - clock.now()) / 1000.0


def check(clock: Clock = _SYSTEM) -> float | None:
    """As `remaining`; raises `DeadlineExceeded` when nothing is left."""
    left = remaining(clock)
    if left is not None and left <= 0.0:
        raise DeadlineExceeded(-left * 1000.0)
    return left


def headers(clock: Clock = _SYSTEM) -> dict[str, str]:
    """What to send along, for the other side to go on with; empty when there is no deadline."""
    left = remaining(clock)
    return {} if left is None else {HEADER: str(max(0, min(MAX_MS, int(left * 1000.0))))}


def from_headers(told: Mapping[str, str]) -> float | None:
    """The seconds that a caller has left us, by the headers of its request; None when it does not say, or not in
    digits."""
    text = told.get(HEADER)
    if text is None:
        text = next((value for name, value in told.items() if name.lower() == HEADER), None)
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= 8):
        return None
    return min(MAX_MS, int(text)) / 1000.0
