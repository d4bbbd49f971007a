"""Rules from a TOML file, in units that people write.

    [rules.cpu-high]
    signal = "cpu_permille"
    at_least = "85%"        # a time ("5s"), a percentage, or a count: as the signal's name ends
    clear_below = "80%"
    hold = "60s"
    clear = "15s"
    severity = "warning"
    subjects = "gpu-host-*"

Every error names the file, the table and the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from bursar.contracts.monitor import Rule

_TIMES = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_FIELDS: dict[str, str] = {"hold": "hold_ms", "clear": "clear_ms"}
_KEYS = ("signal", "at_least", "clear_below", "hold", "clear", "severity", "subjects")


class BadRules(Exception):
    """The file of rules is wrong; the text says where and why."""


def duration(value: Any) -> int:
    """Milliseconds: "500ms", "20s", "1m"; or a whole number of ms."""
    return _scaled(value, r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h)", 'a time such as "500ms", "20s" or "1m"')


def percentage(value: Any) -> int:
    """Thousandths: "85%", "92.5%"."""
    return _scaled(value, r"([0-9]+(?:\.[0-9]+)?) ?(%)", 'a percentage such as "85%"')


def count(value: Any) -> int:
    return _scaled(value, r"([0-9]+)()", "a whole number")


def _scaled(value: Any, pattern: str, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be {what}")
    exact = Fraction(match[1]) * {**_TIMES, "%": 10, "": 1}[str(match[2])]
    if exact != int(exact):
        raise ValueError(f"must be {what}, and come out whole")
    return int(exact)


def limit_of(signal: str, value: Any) -> int:
    """A limit in the unit of its signal."""
    if signal.endswith("_ms"):
        return duration(value)
    return percentage(value) if signal.endswith("_permille") else count(value)


def rules_of(document: Mapping[str, Any], origin: str) -> tuple[Rule, ...]:
    """The rules of a TOML document; ``origin`` (the file's name) is for errors. Raises `BadRules`."""
    unknown = sorted(document.keys() - {"rules"})
    tables = document.get("rules", {})
    if unknown:
        raise BadRules(f"{origin}: unknown key {unknown[0]!r}; rules stand in tables [rules.NAME]")
    if not isinstance(tables, dict):
        raise BadRules(f"{origin}: rules stand in tables [rules.NAME]")
    return tuple(_rule(name, table, f"{origin}: [rules.{name}]") for name, table in tables.items())


def _rule(name: str, table: Any, where: str) -> Rule:
    if not isinstance(table, dict):
        raise BadRules(f"{where}: must be a table")
    unknown = [key for key in table if key not in _KEYS]
    if unknown:
        raise BadRules(f"{where}: unknown key {unknown[0]!r}; there are {', '.join(_KEYS)}")
    fields: dict[str, Any] = {"name": name}
    for key, value in table.items():
        try:
            fields[_FIELDS.get(key) or key] = _value(table, key, value)
        except ValueError as error:
            raise BadRules(f"{where}: {key} = {value!r} {error}") from None
    try:
        rule = Rule.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadRules(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if rule.clears_below > rule.at_least:
        raise BadRules(f"{where}: clear_below is above at_least")
    return rule


def _value(table: Mapping[str, Any], key: str, value: Any) -> Any:
    if key in {"at_least", "clear_below"}:
        return limit_of(str(table.get("signal", "")), value)
    return duration(value) if key in {"hold", "clear"} else value
