"""Budgets from a TOML file, in units that people write.

    [budgets."acme/large"]
    jitter = "500ms"
    limits.requests      = { limit = "4k",   window = "1m" }
    limits.input_tokens  = { limit = "400k", window = "1m" }
    limits.output_tokens = { limit = "80k",  window = "1m", charge = "production" }
    limits.concurrent    = 64
    limits.usd           = { limit = "$25", window = "1d", paced = false }

    [budgets."acme/purse"]
    kind = "purse"                          # spent once: what is gone is gone
    limits.usd = "$500"

    [budgets.acme]
    limits.requests = [ { limit = 200, window = "1s" }, { limit = "4k", window = "1m" } ]

    [budgets."acme/large"]
    parent = "acme"                         # its limits count, too, and those above it
    also = ["acme/purse"]                   # and so do those of other objects
    weight = 300                            # of what acme has, beside its other children
    each_agent.limits.concurrent = 8        # every agent has so much of its own below it
    each_run.limits.total_tokens = { limit = "1M", window = "1h", paced = false }
    lease = "1s"                            # how long holders in demand may decide by themselves; 0: never
    when_unreachable = "island"             # without the limiter: "closed" (nothing), "open" (charged later), or
    islands = 4                             # one of so many slices for each agent that is cut off,
    island_share = "10%"                    # which together are so much of the limits, set aside for that
    adapt = { max_freeze = "2m", ramp = "30s" }    # see `bursar.contracts.limiter_observed.Adapting`

Times: ms, s, m, h, d. Counts: k, M, G (thousands). Money: dollars with at most six decimals, with or without "$". A
bare number as a limit stands for one without a window: calls in flight, or money that is spent once. Every error names
the file, the table and the key, and the line where the parser knows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from pydantic import ValidationError

from bursar.contracts.limiter import BudgetSpec
from bursar_limiter.tree import fault_of, fault_of_tree

Reader = tuple[str, Callable[[Any], Any]]
"""The field that a key stands for, and what makes its value from what is written."""

_TIMES = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_COUNTS = {"": 1, "k": 1000, "M": 10**6, "G": 10**9}
_NUMBER = r"([0-9][0-9_]*(?:\.[0-9]+)?)"


class BadBudgets(Exception):
    """The file of budgets is wrong; the text says where and why."""


def duration(value: Any) -> int:
    """Milliseconds: "500ms", "20s", "1m", "24h", "30d"; or a whole number of ms."""
    return _scaled(value, rf"{_NUMBER} ?(ms|s|m|h|d)", _TIMES, 'a time such as "500ms", "20s" or "1m"')


def count(value: Any) -> int:
    """A count: 250, "10k", "1.5M"."""
    return _scaled(value, rf"{_NUMBER} ?([kMG]?)", _COUNTS, 'a count such as 250, "10k" or "1.5M"')


def money(value: Any) -> int:
    """Millionths of a dollar: "$5", "0.25", 5."""
    match = re.fullmatch(rf"\$? ?{_NUMBER}", str(value)) if isinstance(value, str | int) else None
    if match is None or isinstance(value, bool):
        raise ValueError('must be dollars such as "$5" or "0.25"')
    return _whole(Fraction(match[1].replace("_", "")) * 10**6, 'dollars with at most six decimals, such as "$0.25"')


def permille(value: Any) -> int:
    """Thousandths of a percentage: "92%", "5.5%"."""
    match = re.fullmatch(rf"{_NUMBER} ?%", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a percentage such as "92%"')
    return _whole(Fraction(match[1]) * 10, 'a percentage with at most one decimal, such as "92.5%"')


def _as_is(value: Any) -> Any:
    return value


def names(value: Any) -> tuple[Any, ...]:
    """Names of other budgets: a list."""
    if not isinstance(value, list):
        raise ValueError('must be a list of names such as ["purse"]')  # noqa: TRY004 - the value was read from a file
    return tuple(value)


def _scaled(value: Any, pattern: str, units: Mapping[str, int], what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be {what}")
    return _whole(Fraction(match[1].replace("_", "")) * units[match[2]], f"{what}, and come out whole")


def _whole(value: Fraction, what: str) -> int:
    if value != int(value):
        raise ValueError(f"must be {what}")
    return int(value)


_BUDGET_KEYS: dict[str, Reader] = {
    "utilisation": ("utilisation_permille", permille),
    "burst": ("burst_permille", permille),
    "jitter": ("jitter_ms", duration),
    "send_within": ("send_within_ms", duration),
    "max_ttl": ("max_ttl_ms", duration),
    "max_waiting": ("max_waiting", count),
    "parent": ("parent", _as_is),
    "also": ("also", names),
    "kind": ("kind", _as_is),
    "weight": ("weight", _as_is),
    "highest_priority": ("highest", _as_is),
    "lease": ("lease_ms", duration),
    "when_unreachable": ("when_unreachable", _as_is),
    "islands": ("islands", _as_is),
    "island_share": ("island_permille", permille),
}
_LIMIT_KEYS: dict[str, Reader] = {
    "limit": ("limit", count),
    "window": ("window_ms", duration),
    "charge": ("charge", _as_is),
    "bucket": ("bucket", count),
    "paced": ("paced", _as_is),
    "in_flight": ("in_flight", _as_is),
}
_DIMENSIONS = {
    "requests": "requests",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "concurrent": "concurrent",
    "usd": "usd_micros",
    "total_tokens": "total_tokens",
    "network_bytes": "network_bytes",
}
_EACH = ("each_agent", "each_run")
_ADAPT_KEYS: dict[str, Reader] = {
    "max_freeze": ("max_freeze_ms", duration),
    "learn": ("learn", _as_is),
    "foreign": ("foreign", _as_is),
    "recover": ("recover", _as_is),
    "steer": ("steer", _as_is),
    "ramp": ("ramp_ms", duration),
}


def budgets_of(document: Mapping[str, Any], text: str, origin: str) -> tuple[BudgetSpec, ...]:
    """The budgets of a TOML document; its text and ``origin`` (the file's name) are for errors. Raises `BadBudgets`."""
    unknown = sorted(document.keys() - {"budgets"})
    if unknown:
        raise BadBudgets(f"{origin}: unknown key {unknown[0]!r}; budgets stand in tables [budgets.NAME]")
    tables = document.get("budgets", {})
    if not isinstance(tables, dict) or not tables:
        raise BadBudgets(f"{origin}: no budgets; write tables [budgets.NAME]")
    where = {name: f"{origin}{_line_of(text, name)}: [budgets.{name}]" for name in tables}
    budgets = tuple(_budget(name, table, where[name]) for name, table in tables.items())
    fault = fault_of_tree({spec.name: spec for spec in budgets})
    if fault is not None:
        raise BadBudgets(f"{where[fault[0]]}: {fault[1]}")
    return budgets


def _line_of(text: str, name: str) -> str:
    """The line of a budget's table, where it can be found."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(rf"\s*\[\s*budgets\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*[.\]]", line):
            return f", line {number}"
    return ""


def _budget(name: str, table: Any, where: str) -> BudgetSpec:
    if not isinstance(table, dict):
        raise BadBudgets(f"{where}: must be a table")
    rest = {key: value for key, value in table.items() if key not in ("limits", "adapt", *_EACH)}
    fields = _fields(rest, _BUDGET_KEYS, where)
    fields["limits"] = _limits(table, where)
    for each in _EACH:
        if each in table:
            fields[each] = _child(table[each], f"{where} {each}")
    if "adapt" in table:
        fields["adapt"] = _adapt(table["adapt"], f"{where} adapt")
    try:
        spec = BudgetSpec.model_validate({"name": name, **fields})
    except ValidationError as error:
        raise BadBudgets(f"{where}: {_first_fault(error)}") from None
    fault = fault_of(spec) or _lateness(spec)
    if fault is not None:
        raise BadBudgets(f"{where}: {fault}")
    return spec


def _adapt(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise BadBudgets(f"{where}: must be a table")
    return _fields(table, _ADAPT_KEYS, where)


def _child(table: Any, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise BadBudgets(f"{where}: must be a table")
    rest = {key: value for key, value in table.items() if key != "limits"}
    return {**_fields(rest, {"weight": ("weight", _as_is)}, where), "limits": _limits(table, where)}


def _limits(table: dict[str, Any], where: str) -> dict[str, Any]:
    limits = table.get("limits", {})
    if not isinstance(limits, dict):
        raise BadBudgets(f"{where}: limits must be a table")
    read = {}
    for key, value in limits.items():
        place = f"{where} limits.{key}"
        if key not in _DIMENSIONS:
            raise BadBudgets(f"{place}: unknown; there are {', '.join(_DIMENSIONS)}")
        several = (
            tuple(_limit(key, one, place) for one in value) if isinstance(value, list) else _limit(key, value, place)
        )
        read[_DIMENSIONS[key]] = several
    return read


def _limit(key: str, value: Any, where: str) -> dict[str, Any]:
    keys = {**_LIMIT_KEYS, "limit": ("limit", money), "bucket": ("bucket", money)} if key == "usd" else _LIMIT_KEYS
    table = value if isinstance(value, dict) else {"limit": value}
    if "limit" not in table:
        raise BadBudgets(f"{where}: has no limit")
    return {"window_ms": 0, **_fields(table, keys, where)}


def _fields(table: Mapping[str, Any], keys: Mapping[str, Reader], where: str) -> dict[str, Any]:
    fields = {}
    for key, value in table.items():
        if key not in keys:
            raise BadBudgets(f"{where}: unknown key {key!r}; there are {', '.join(keys)}")
        field, read = keys[key]
        try:
            fields[field] = read(value)
        except ValueError as error:
            raise BadBudgets(f"{where}: {key} = {value!r} {error}") from None
    return fields


def _first_fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = [str(part) for part in first["loc"] if part != "LimitSpec" and "tuple" not in str(part)]
    return f"{'.'.join(place)}: {first['msg']}"


def _lateness(spec: BudgetSpec) -> str | None:
    if spec.send_within_ms > spec.jitter_ms:
        return f"send_within ({spec.send_within_ms} ms) must lie within jitter ({spec.jitter_ms} ms)"
    return None
