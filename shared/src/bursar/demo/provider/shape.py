"""What the judge needs to know of one provider's API: how calls come in and how everything goes out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from .call import BadCallError, Call
from .http import Request
from .quota import Quota, Rejected
from .settings import Settings


class Shape(Protocol):
    overloaded: int
    """Status of an overloaded provider."""

    def read(self, request: Request, body: dict[str, Any], settings: Settings) -> Call:
        """The call, or BadCallError."""

    def limits(self, quota: Quota, now: int) -> list[tuple[str, str]]:
        """The rate-limit headers."""

    def answer(self, call: Call, name: str) -> bytes:
        """A whole answer."""

    def opening(self, call: Call, name: str) -> bytes:
        """The events before the first token."""

    def chunk(self, call: Call, name: str, text: str) -> bytes:
        """The event for some tokens."""

    def ending(self, call: Call, name: str) -> bytes:
        """The events after the last token."""

    def error(self, status: int, text: str) -> bytes:
        """The body of an error."""


def packed(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def api_key(request: Request) -> str:
    """The key that came along, as a bearer token or in ``x-api-key`` (SDKs of both APIs use either); else empty."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key", "")


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a request.

    Raises:
        BadCallError: it is something else.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadCallError(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise BadCallError("the body must be a JSON object")
    return value


def rejection_text(rejected: Rejected) -> str:
    names = " and ".join(name.replace("_", " ") for name in rejected.dimensions)
    if rejected.retry_ms is None:
        return f"Request too large: it can never fit into your limit of {names}."
    return f"Rate limit reached for {names}. Please try again in {rejected.retry_ms / 1000:.3f}s."


def remaining(quota: Quota, dimension: str, now: int) -> tuple[int, int, int] | None:
    """Limit, what is left, and milliseconds until all of it is back; None when there is no such limit."""
    window = quota.windows.get(dimension)
    if window is None:
        return None
    return window.limit, max(0, window.limit - window.used(now)), window.reset_ms(now)


def duration(ms: int) -> str:
    """As OpenAI writes it: ``120ms``, ``1.5s``, ``6m0s``."""
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def moment(ms: int) -> str:
    """As Anthropic writes it: the time of day (UTC) at which that many milliseconds will have passed, rounded up."""
    when = datetime.now(UTC) + timedelta(milliseconds=ms + 999)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
