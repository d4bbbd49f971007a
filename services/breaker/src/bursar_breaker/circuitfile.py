"""Rules and groups from a TOML file, in units that people write.

    [default]
    failure_rate = "50%"
    open_for = "5s"

    [targets."provider-a/eu"]
    open_for = "20s"
    probes = 3
    ramp = ["5%", "25%", "50%"]
    fallbacks = ["region:provider-a/us", "cached:1h", "degraded:Please ask again later."]

    [groups.eu]
    members = ["provider-a/eu", "provider-b/eu"]

Each table of a target starts from [default]. Times: ms, s, m, h; rates and shares: percentages with at most one
decimal. Every error names the file, the table and the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bursar.contracts.breaker import Group, Rule
from bursar_breaker.rules import fault_of

M = TypeVar("M", bound=BaseModel)
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


def shares(value: Any) -> tuple[int, ...]:
    """A list of percentages, in thousandths."""
    if not isinstance(value, list):
        raise ValueError('must be a list of percentages such as ["5%", "25%", "50%"]')  # noqa: TRY004 - as above
    return tuple(permille(item) for item in value)


def name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a name")  # noqa: TRY004 - as above
    return value


def chain(value: Any) -> tuple[dict[str, Any], ...]:
    """The links of a chain of fallbacks: "region:NAME", "model:NAME", "local:NAME", "cached", "cached:TIME" (not older
    than that), "degraded:TEXT"."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError('must be a list such as ["region:provider-a/us", "cached:1h", "degraded:Try later."]')
    return tuple(_link(item) for item in value)


def _link(text: str) -> dict[str, Any]:
    kind, _, rest = text.partition(":")
    if kind in {"region", "model", "local"}:
        return {"kind": kind, "to": rest}
    if kind == "cached":
        return {"kind": kind, "max_age_ms": duration(rest) if rest else None}
    if kind == "degraded":
        return {"kind": kind, "answer": rest}
    raise ValueError(f"has the unknown link {text!r}; there are region, model, local, cached, degraded")


_KEYS: dict[str, Reader] = {
    "window": ("window_ms", duration),
    "window_calls": ("window_calls", count),
    "minimum_calls": ("minimum_calls", count),
    "failure_rate": ("failure_permille", permille),
    "slow_rate": ("slow_permille", permille),
    "consecutive": ("consecutive", count),
    "quorum": ("quorum", count),
    "quorum_share": ("quorum_permille", permille),
    "quorum_traffic": ("quorum_traffic_permille", permille),
    "auth_failures": ("auth_failures", count),
    "open_for": ("open_ms", duration),
    "growth": ("growth_permille", permille),
    "max_open": ("max_open_ms", duration),
    "jitter": ("jitter_permille", permille),
    "calm": ("calm_ms", duration),
    "max_retry_after": ("max_retry_after_ms", duration),
    "probes": ("probes", count),
    "probe_ttl": ("probe_ttl_ms", duration),
    "successes": ("successes", count),
    "ramp": ("ramp", shares),
    "ramp_step": ("ramp_step_ms", duration),
    "budget": ("budget", name),
    "slow_after": ("guard.slow_ms", duration),
    "deadline": ("guard.deadline_ms", duration),
    "retry_share": ("guard.retry_permille", permille),
    "retries_per_minute": ("guard.retry_per_minute", count),
    "retry_window": ("guard.retry_ttl_ms", duration),
    "retry_timeout_cost": ("guard.retry_timeout_cost", count),
    "concurrency": ("guard.concurrency", count),
    "concurrency_initial": ("guard.concurrency_initial", count),
    "concurrency_least": ("guard.concurrency_least", count),
    "concurrency_tolerance": ("guard.concurrency_tolerance_permille", permille),
    "concurrency_queue": ("guard.concurrency_queue", count),
    "fallbacks": ("fallbacks", chain),
}


def rules_of(document: Mapping[str, Any], origin: str) -> tuple[tuple[Rule, ...], tuple[Group, ...]]:
    """The rules and groups of a TOML document; ``origin`` (the file's name) is for errors. Raises `BadRules`."""
    unknown = sorted(document.keys() - {"default", "targets", "groups"})
    if unknown:
        raise BadRules(f"{origin}: unknown key {unknown[0]!r}; rules stand in [default], [targets.NAME], [groups.NAME]")
    groups = tuple(_group(name, table, origin) for name, table in _tables(document, "groups", origin).items())
    base = _fields(document.get("default", {}), f"{origin}: [default]")
    rules = [_rule(None, base, f"{origin}: [default]")]
    for target, table in _tables(document, "targets", origin).items():
        where = f"{origin}: [targets.{target}]"
        rules.append(_rule(target, _without_budget(base) | _fields(table, where), where))
    fault = fault_of(rules, groups)
    if fault is not None:
        raise BadRules(f"{origin}: {fault}")
    return tuple(rules), groups


def _without_budget(fields: dict[str, Any]) -> dict[str, Any]:
    return {field: value for field, value in fields.items() if field != "budget"}


def _tables(document: Mapping[str, Any], key: str, origin: str) -> dict[str, Any]:
    tables = document.get(key, {})
    if not isinstance(tables, dict):
        raise BadRules(f"{origin}: {key} must be tables [{key}.NAME]")
    return tables


def _group(name: str, table: Any, origin: str) -> Group:
    where = f"{origin}: [groups.{name}]"
    if not isinstance(table, dict) or table.keys() != {"members"} or not isinstance(table["members"], list):
        raise BadRules(f"{where}: must have members = [NAME, ...] and nothing else")
    return _checked(Group, {"name": name, "members": tuple(table["members"])}, where)


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
    plain = {field: value for field, value in fields.items() if "." not in field}
    guard = {field.partition(".")[2]: value for field, value in fields.items() if "." in field}
    return _checked(Rule, {"target": target, **plain, "guard": guard}, where)


def _checked(model: type[M], fields: dict[str, Any], where: str) -> M:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadRules(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
