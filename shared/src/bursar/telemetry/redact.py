"""Secrets that got into a log line by mistake are taken out of it, before it leaves the process.

By the name of a field (``token``, ``api_key``, ``authorization``), whatever its value; and by how a secret looks in any
text: keys of providers, bearer tokens, JWTs, seeds of NATS, private keys, passwords in addresses. What a field counts
(``input_tokens``) is no secret. Long values are cut, and nesting has an end, so that a line stays a line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

GONE: Final = "[redacted]"
LONGEST: Final = 2_000
"""Characters of one value."""
DEEPEST: Final = 4
WIDEST: Final = 64
"""Levels of a nested value, and entries of each."""

_NAME: Final = re.compile(
    r"(^|[_.-])(pass(word|wd|phrase)?|secret|token|auth(orization)?|api[_-]?key|access[_-]?key|private[_-]?key|creds?"
    r"|credentials?|cookie|seed|jwt|signature)$",
    re.IGNORECASE,
)
_TEXT: Final = re.compile(
    r"""
      \b(?:sk|pk|rk|gsk|xai|ghp|gho|ghs|glpat|hf|xox[abp])[-_][A-Za-z0-9_-]{12,}   # keys of providers
    | \bAKIA[0-9A-Z]{12,} | \bAIza[0-9A-Za-z_-]{20,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?               # JWT
    | \bS[ACNOPUX][A-Z2-7]{40,}\b                                                  # seeds of NATS
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | (?<=://)[^/\s:@]+:[^/\s@]+(?=@)                                              # user:password@
    | (?i:(?<=bearer\ )|(?<=basic\ ))[A-Za-z0-9._~+/=-]{8,}
    | (?i:(?<=token=)|(?<=api_key=)|(?<=apikey=)|(?<=password=)|(?<=secret=)|(?<=key=))[^\s&"']{6,}
    """,
    re.VERBOSE | re.DOTALL,
)


def text(value: str) -> str:
    """A text without what looks like a secret, cut to `LONGEST`."""
    found = _TEXT.sub(GONE, value[: 4 * LONGEST])
    return found if len(found) <= LONGEST else f"{found[:LONGEST]}…"


def fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a log line, without secrets."""
    return {str(name): _value(str(name), value, 0) for name, value in values.items()}


def deep(values: Mapping[str, Any]) -> dict[str, Any]:
    """As `fields`, however wide and deep: for records that are kept whole."""
    return {str(name): _deep(str(name), value) for name, value in values.items()}


def _deep(name: str, value: Any) -> Any:
    if isinstance(value, Mapping) and not _NAME.search(name):
        return deep(value)
    if isinstance(value, list | tuple | set | frozenset) and not _NAME.search(name):
        return [_deep("", one) for one in value]
    return _value(name, value, 0)


def _value(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _NAME.search(name):
        return GONE
    if isinstance(value, str):
        return text(value)
    if depth >= DEEPEST:
        return GONE
    if isinstance(value, Mapping):
        return {str(key): _value(str(key), one, depth + 1) for key, one in list(value.items())[:WIDEST]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value("", one, depth + 1) for one in list(value)[:WIDEST]]
    return text(str(value))
