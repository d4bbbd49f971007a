"""Secrets that got into a log line by mistake are taken out of it, before it leaves the process.

By the name of a field (``token``, ``apiKey``, ``authorization``), whatever its value; by the name that stands before a
value in any text, as headers, JSON, query strings and variables have it; and by how a secret looks: keys of providers,
bearer tokens, JWTs, seeds of NATS, private keys, passwords in addresses. What a field counts (``input_tokens``) is no
secret. Long values are cut, and nesting has an end, so that a line stays a line.
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

_NAMES: Final = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|jwt|seed|nkey|bearer|signature|creds?|credentials?|cookie"
    r"|auth(?:orization)?(?:[_-]?header)?|api[_-]?key|(?:access|private|signing|encryption|secret)[_-]?key(?:[_-]?id)?"
)
_NAME: Final = re.compile(rf"(?:^|[_.-])(?:{_NAMES})$", re.IGNORECASE)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_SAID: Final = re.compile(
    rf"""
      # a header with its scheme, up to the end of the line or of a quoted text
      ((?:authorization|cookie)["']?\s*[:=]\s*["']?
        (?:(?:bearer|basic|digest|apikey|token|negotiate|hawk|aws4-hmac-sha256)\s+)?) [^\s"'][^\r\n"']*
      # a name and its value: in JSON, as an argument, in a query string, as a variable
    | ((?<![a-z0-9]) (?:{_NAMES}|sig|key(?==)) ["']? (?:\s*[:=]\s*|\s+(?=["'])) )
        (?: "[^"\r\n]*" | '[^'\r\n]*' | [^\s"'&,;{{}}()\[\]]{{4,}} )
    | ((?<![a-z0-9]) (?:bearer|basic) [\s:]+) (?=(?-i:[a-z]*[A-Z0-9+/=._~-])) [a-z0-9._~+/=-]{{8,}}
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What names a secret, of which the name stays."""

_SEEN: Final = re.compile(
    r"""
      (?<![A-Za-z0-9])
      (?: (?:sk|pk|rk|gsk|xai|ghp|gho|ghs|ghu|ghr|github_pat|glpat|hf|npm|pypi|shpat|sntrys|r8|pplx|nvapi|tvly
          |xox[abeprs]|xapp)[-_][A-Za-z0-9_-]{12,}
        | AKIA[0-9A-Z]{12,} | ASIA[0-9A-Z]{12,} | AIza[0-9A-Za-z_-]{20,} | ya29\.[0-9A-Za-z_-]{12,}
        | dckr_pat_[A-Za-z0-9_-]{10,} | SG\.[0-9A-Za-z_-]{12,}\.[0-9A-Za-z_-]{12,} )          # keys of providers
    | (?<![A-Za-z0-9_-]) eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?     # JWT
    | (?<![A-Z2-7]) S[ACNOPUX][A-Z2-7]{40,} (?![a-z0-9])                                  # seeds of NATS
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----.*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | (?<=://)[^/\s@]+(?=@)                                                              # user:password@, token@
    """,
    re.VERBOSE | re.DOTALL,
)


def text(value: str) -> str:
    """A text without what looks like a secret, cut to `LONGEST`."""
    found = _SAID.sub(_named, _SEEN.sub(GONE, value[: 4 * LONGEST]))
    return found if len(found) <= LONGEST else f"{found[:LONGEST]}…"


def _named(found: re.Match[str]) -> str:
    return f"{found[1] or found[2] or found[3]}{GONE}"


def fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a log line, without secrets."""
    return {text(str(name)): _value(str(name), value, 0) for name, value in values.items()}


def deep(values: Mapping[str, Any]) -> dict[str, Any]:
    """As `fields`, however wide and deep: for records that are kept whole."""
    return {str(name): _deep(str(name), value) for name, value in values.items()}


def _deep(name: str, value: Any) -> Any:
    if isinstance(value, Mapping) and not _NAME.search(name):
        return deep(value)
    if isinstance(value, list | tuple | set | frozenset) and not _NAME.search(name):
        return [_deep("", one) for one in value]
    return f"[{len(value)} bytes]" if isinstance(value, bytes) else _value(name, value, 0)


def _value(name: str, value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if _NAME.search(_HUMP.sub("_", name)):
        return GONE
    if isinstance(value, str):
        return text(value)
    if depth >= DEEPEST:
        return GONE
    if isinstance(value, Mapping):
        return {text(str(key)): _value(str(key), one, depth + 1) for key, one in list(value.items())[:WIDEST]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_value("", one, depth + 1) for one in list(value)[:WIDEST]]
    return text(str(value))
