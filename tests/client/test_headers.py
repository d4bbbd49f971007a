"""Rate-limit headers as one typed object."""

from __future__ import annotations

import pytest

from bursar.client.headers import Observed, RateLimitHeaders
from bursar.client.headers import read as read_pairs


def read(status: int, headers: dict[str, str]) -> RateLimitHeaders:
    return read_pairs(status, headers.items())


def test_openai_headers() -> None:
    """Spans as "6m0s"; tokens are input and output together."""
    told = read(200, {
        "x-ratelimit-limit-requests": "500", "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms", "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29000", "x-ratelimit-reset-tokens": "6m1.5s",
    })  # fmt: skip
    assert told.requests == Observed(500, 499, 0.12)
    assert told.tokens == Observed(30_000, 29_000, 361.5)
    assert told.input_tokens is None
    assert not told.is_empty


def test_anthropic_headers_count_from_the_date_of_the_answer() -> None:
    """Moments become spans without the local wall clock."""
    told = read(429, {
        "date": "Fri, 21 Nov 2025 12:00:00 GMT", "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "2025-11-21T12:00:30Z",
        "anthropic-ratelimit-output-tokens-remaining": "0", "retry-after": "17",
    })  # fmt: skip
    assert told.input_tokens == Observed(40_000, 39_000, 30.0)
    assert told.output_tokens == Observed(None, 0, None)
    assert told.retry_after == 17.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Fri, 21 Nov 2025 12:00:09 GMT", "date": "Fri, 21 Nov 2025 12:00:00 GMT"}, 9.0),
        ({"retry-after": "Fri, 21 Nov 2025 11:00:00 GMT", "date": "Fri, 21 Nov 2025 12:00:00 GMT"}, 0.0),
        ({"retry-after": "Fri, 21 Nov 2025 12:00:09 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "9" * 500}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """In seconds, in milliseconds or as a date; nonsense is None."""
    assert read(429, headers).retry_after == seconds


def test_malformed_headers_are_none() -> None:
    """Total: a provider's nonsense does not break a call."""
    told = read(200, {
        "x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "6x", "date": "yesterday",
        "anthropic-ratelimit-input-tokens-reset": "9999-99-99T00:00:00Z",
    })  # fmt: skip
    assert told.requests == Observed(None, None, None)
    assert told.input_tokens == Observed(None, None, None)
    assert read(200, {}).is_empty
