"""A chat client without an SDK: one POST, and the retry rule of the official OpenAI SDK, as its source has it.

The SDK spends two to three milliseconds of CPU on a call, and a demonstration with two fleets has two cores. So most
agents make the same request with the same HTTP client by these few lines, and the others use the SDK itself; both arms
in the same shares.

The rule (openai 3.x, ``_base_client.py``): connection errors and time-outs, 408, 409, 429 and 5xx are retried unless
``x-should-retry: false`` says no; the pause is what ``Retry-After`` says if it is at most two minutes (above that there
is no retry), else 0.5 s doubling up to 8 s, less up to a quarter at random.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any, Final

import httpx2

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 8.0
LONGEST_RETRY_AFTER_S: Final = 120.0
_RETRIED: Final = frozenset({408, 409, 429})


class RefusedError(Exception):
    """The last answer was an error; ``status`` is its HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


async def chat(
    http: httpx2.AsyncClient, url: str, headers: dict[str, str], body: dict[str, Any], retries: int
) -> dict[str, Any]:
    """Make the request until it succeeds, cannot succeed, or ``retries`` are used up; the answer.

    Raises `RefusedError`, or the `httpx2.TransportError` of the last attempt.
    """
    content = json.dumps(body).encode()
    for attempt in range(retries + 1):
        try:
            answer = await http.post(url, content=content, headers=headers)
        except httpx2.TransportError:
            if attempt == retries:
                raise
            await asyncio.sleep(pause(attempt, None))
            continue
        if answer.status_code < 400:
            found: dict[str, Any] = answer.json()
            return found
        retry_after = seconds_in(answer.headers.get("retry-after"))
        if attempt == retries or not is_retried(answer.status_code, answer.headers.get("x-should-retry"), retry_after):
            raise RefusedError(answer.status_code)
        await asyncio.sleep(pause(attempt, retry_after))
    raise AssertionError("the last attempt returns or raises")


def is_retried(status: int, should_retry: str | None, retry_after: float | None) -> bool:
    """Whether the SDK would ask again."""
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER_S:
        return False
    if should_retry in ("true", "false"):
        return should_retry == "true"
    return status in _RETRIED or status >= 500


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds until the next attempt, after attempt 0, 1, ..."""
    if retry_after is not None and 0 < retry_after <= LONGEST_RETRY_AFTER_S:
        return retry_after
    return min(FIRST_PAUSE_S * float(2**attempt), LONGEST_PAUSE_S) * (1 - 0.25 * random.random())


def seconds_in(header: str | None) -> float | None:
    """The seconds of a ``Retry-After`` header; None when it is not a number."""
    try:
        return float(header) if header is not None else None
    except ValueError:
        return None
