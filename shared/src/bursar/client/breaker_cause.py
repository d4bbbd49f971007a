"""How did a call end? From an exception or a status to one of the outcomes that are reported.

No provider's library is imported: what an exception is, is told by its class, by a status that it carries (as those of
httpx2, openai and anthropic do), or by the exception that it was raised from. None means that the call says nothing
about the target: client errors, and what Bursar itself refused before anything was sent.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, NamedTuple

from bursar.client.headers import read
from bursar.contracts.breaker import Outcome
from bursar.errors import BursarError

OVERLOADED: Final = frozenset({503, 529})
SHUT_OUT: Final = frozenset({401, 402, 403})
TIMED_OUT: Final = frozenset({408, 504})
_DEPTH: Final = 5


class Cause(NamedTuple):
    """``outcome``: None when the call counts for nothing. ``retry_after``: seconds that the target has asked for."""

    outcome: Outcome | None
    retry_after: float | None = None


NOTHING: Final = Cause(None)
CANCELLED: Final = Cause("cancelled")
TIMEOUT: Final = Cause("timeout")
ERROR: Final = Cause("error")


def of_status(status: int, headers: Any = None) -> Cause:
    """By the status of an HTTP answer; ``headers``: a mapping, for the time that it asks for."""
    if status < 400:
        return Cause("ok")
    if status in OVERLOADED:
        return Cause("overload", _retry_after(status, headers))
    if status in TIMED_OUT:
        return TIMEOUT
    if status >= 500:
        return ERROR
    if status == 429:
        return Cause("rate_limited", _retry_after(status, headers))
    return Cause("auth") if status in SHUT_OUT else NOTHING


def _retry_after(status: int, headers: Any) -> float | None:
    if headers is None:
        return None
    try:
        pairs = [(str(name).lower(), str(value)) for name, value in headers.items()]
    except (AttributeError, TypeError, ValueError):
        return None
    return read(status, pairs).retry_after


def of_exception(error: BaseException | None) -> Cause:
    """By how a block of code ended. Whatever is not known counts as an error of the target, as with any breaker."""
    if error is None:
        return Cause("ok")
    for _ in range(_DEPTH):
        found = _known(error)
        if found is not None:
            return found
        cause = error.__cause__
        if cause is None:
            break
        error = cause
    return ERROR


def _known(error: BaseException) -> Cause | None:
    if isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception):
        return CANCELLED
    if isinstance(error, BursarError):
        return NOTHING
    status, headers = _status_of(error)
    if status is not None:
        return of_status(status, headers)
    names = [kind.__name__ for kind in type(error).__mro__]
    if "PoolTimeout" in names:
        return NOTHING  # it was never sent
    if isinstance(error, TimeoutError) or any(name.endswith(("Timeout", "TimeoutError", "TimeoutException"))
                                              for name in names):  # fmt: skip
        return TIMEOUT
    return ERROR if isinstance(error, OSError) else None


def _status_of(error: BaseException) -> tuple[int | None, Any]:
    """The status of the HTTP answer that an exception is about, and that answer's headers."""
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        status = getattr(response, "status_code", None)
    return (status if isinstance(status, int) else None), getattr(response, "headers", None)
