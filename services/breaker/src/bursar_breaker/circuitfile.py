"""Rules from a TOML file, in units that people write.

    [default]
    failure_rate = "50%"
    open_for = "5s"

    [targets."provider-a/eu"]
    open_for = "20s"
    probes = 3

Each table of a target starts from [default]. Times: ms, s, m, h; rates and shares: percentages with at most one
decimal. Every error names the file, the table and the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from bursar.contracts.breaker import Rule
from bursar_breaker.rules import fault_of

Reader = tuple[str, Callable[[Any], Any]]
"""The field that a key stands for, and what makes its value from what is written."""

_TIMES = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_NUMBER = r"([0-9][0-9_]*(?:\.[0-9]+)?)"


class BadRules(Exception):
    """The file of rules is wrong; the text says where and why."""


def duration(value: Any) -> int:
    """Milliseconds: "500ms", "20s", "1m", "2h"; or a whole number of ms."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(rf"{_NUMBER} ?(ms|s|m|h)", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a time such as "500ms", "20s" or "1m"')
    return _whole(Fraction(match[1].replace("_", "")) * _TIMES[match[2]], "whole milliseconds")


def permille(value: Any) -> int:
    """Thousandths of a percentage: "50%", "0.5%"."""
    match = re.fullmatch(rf"{_NUMBER} ?%", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a percentage such as "50%"')
    return _whole(Fraction(match[1].replace("_", "")) * 10, "a percentage with at most one decimal")


def count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number")  # noqa: TRY004 - all faults of a value are told the same way
    return value


def _whole(value: Fraction, what: str) -> int:
    if value != int(value):
        raise ValueError(f"must be {what}")
    return int(value)


_KEYS: dict[str, Reader] = {
    "window": ("window_ms", duration),
    "minimum_calls": ("minimum_calls", count),
    "failure_rate": ("failure_permille", permille),
    "slow_rate": ("slow_permille", permille),
    "consecutive": ("consecutive", count),
    "quorum": ("quorum", count),
    "quorum_share": ("quorum_permille", permille),
    "auth_failures": ("auth_failures", count),
    "open_for": ("open_ms", duration),
    "growth": ("growth_permille", permille),
    "max_open": ("max_open_ms", duration),
    "calm": ("calm_ms", duration),
    "max_retry_after": ("max_retry_after_ms", duration),
    "probes": ("probes", count),
    "probe_ttl": ("probe_ttl_ms", duration),
    "successes": ("successes", count),
}


def rules_of(document: Mapping[str, Any], origin: str) -> tuple[Rule, ...]:
    """The rules of a TOML document; ``origin`` (the file's name) is for errors. Raises `BadRules`."""
    unknown = sorted(document.keys() - {"default", "targets"})
    if unknown:
        raise BadRules(f"{origin}: unknown key {unknown[0]!r}; rules stand in [default] and [targets.NAME]")
    base = _fields(document.get("default", {}), f"{origin}: [default]")
    tables = document.get("targets", {})
    if not isinstance(tables, dict):
        raise BadRules(f"{origin}: targets must be tables [targets.NAME]")
    rules = [_rule(None, base, f"{origin}: [default]")]
    for target, table in tables.items():
        where = f"{origin}: [targets.{target}]"
        rules.append(_rule(target, base | _fields(table, where), where))
    return tuple(rules)


def _fields(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise BadRules(f"{where}: must be a table")
    fields = {}
    for key, value in table.items():
        if key not in _KEYS:
            raise BadRules(f"{where}: unknown key {key!r}; there are {', '.join(_KEYS)}")
        field, read = _KEYS[key]
        try:
            fields[field] = read(value)
        except ValueError as error:
            raise BadRules(f"{where}: {key} = {value!r} {error}") from None
    return fields


def _rule(target: str | None, fields: dict[str, Any], where: str) -> Rule:
    try:
        rule = Rule.model_validate({"target": target, **fields})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadRules(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    fault = fault_of([rule])
    if fault is not None:
        raise BadRules(f"{where}: {fault}")
    return rule
