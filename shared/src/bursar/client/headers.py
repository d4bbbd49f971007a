"""What a provider's answer says about its rate limits, as one typed object.

OpenAI: ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``, resets as spans ("6m0s", "20ms"). Anthropic:
``anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}``, resets as moments
(RFC 3339), which the answer's own ``date`` header turns into spans, so that the local wall clock plays no part. Both:
``retry-after`` in seconds or as a date, ``retry-after-ms``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

DIMENSIONS: Final = ("requests", "tokens", "input-tokens", "output-tokens")
_NAMES: Final = ("x-ratelimit-", "anthropic-ratelimit-", "retry-after", "date")
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|d)")
_UNIT: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Observed(NamedTuple):
    """One limit as the provider sees it; ``reset_in``: seconds until it is full again. None: not told."""

    limit: int | None
    remaining: int | None
    reset_in: float | None


class RateLimitHeaders(NamedTuple):
    """``tokens`` is a limit on input and output together. ``retry_after`` in seconds."""

    status: int
    requests: Observed | None
    tokens: Observed | None
    input_tokens: Observed | None
    output_tokens: Observed | None
    retry_after: float | None

    @property
    def is_empty(self) -> bool:
        return all(value is None for value in self[1:])


def read(status: int, pairs: Iterable[tuple[str, str]]) -> RateLimitHeaders:
    """Total: what is missing or malformed is None. ``pairs``: names in lower case, and values."""
    headers = {name: value for name, value in pairs if name.startswith(_NAMES)}
    if not headers or (len(headers) == 1 and "date" in headers):
        return RateLimitHeaders(status, None, None, None, None, None)
    date = _moment(headers.get("date"))
    requests, tokens, inputs, outputs = (_observed(headers, name, date) for name in DIMENSIONS)
    return RateLimitHeaders(status, requests, tokens, inputs, outputs, _retry_after(headers, date))


def _observed(headers: Mapping[str, str], name: str, date: datetime | None) -> Observed | None:
    for form in (f"x-ratelimit-{{}}-{name}", f"anthropic-ratelimit-{name}-{{}}"):
        limit, remaining, reset = (headers.get(form.format(part)) for part in ("limit", "remaining", "reset"))
        if limit is not None or remaining is not None or reset is not None:
            return Observed(_number(limit), _number(remaining), _reset(reset, date))
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None


def _reset(text: str | None, date: datetime | None) -> float | None:
    if text is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    spans = _SPAN.findall(text)
    if spans and "".join(n + u for n, u in spans) == text and len(text) < 40:
        return sum(float(n) * _UNIT[u] for n, u in spans)
    return _until(_moment(text), date)


def _retry_after(headers: Mapping[str, str], date: datetime | None) -> float | None:
    ms = headers.get("retry-after-ms")
    if ms is not None and re.fullmatch(r"\d{1,12}(\.\d{1,9})?", ms):
        return float(ms) / 1000.0
    after = headers.get("retry-after")
    if after is not None and re.fullmatch(r"\d{1,9}(\.\d{1,9})?", after):
        return float(after)
    return _until(_moment(after), date)


def _until(moment: datetime | None, date: datetime | None) -> float | None:
    return max(0.0, (moment - date).total_seconds()) if moment and date else None


def _moment(text: str | None) -> datetime | None:
    """A moment in RFC 3339 or as HTTP dates are written."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
