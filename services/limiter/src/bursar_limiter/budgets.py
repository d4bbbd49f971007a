"""Budgets from a TOML file, in the units that people write.

    [[budget]]
    name = "openai/gpt"
    jitter = "500ms"            # J: the longest time from the permit to the provider's charge
    send_within = "300ms"       # how long a permit is good for
    utilisation = 0.94          # the pace, as a part of the limit
    burst = 0.05                # how much of the limit may go at once

    [budget.limits]
    requests      = { limit = 500, per = "1m" }
    input_tokens  = { limit = "200k", per = "1m" }
    output_tokens = { limit = "40k", per = "1m", charge = "production" }
    concurrent    = { limit = 64 }
    usd_micros    = { limit = "$50" }        # spent once
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bursar.contracts.limiter import BudgetSpec

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FACTORS = {"": 1, "k": 1000, "M": 1_000_000, "G": 1_000_000_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_COUNT = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([kMG]?)")
_MONEY = re.compile(r"\$(\d[\d_]*(?:\.\d+)?)\s*([kMG]?)")


class BadBudgets(ValueError):
    """The file cannot be used; the text names the file and the place in it."""


def read_budgets(path: Path | None) -> tuple[BudgetSpec, ...]:
    """The budgets of a file (None: the example that comes with the limiter). Raises `BadBudgets`."""
    where = str(path) if path is not None else "the example budgets"
    try:
        text = (path if path is not None else files("bursar_limiter") / "budgets.toml").read_text(encoding="utf-8")
        return parse_budgets(tomllib.loads(text), where)
    except OSError as error:
        raise BadBudgets(f"{where}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadBudgets(f"{where}: not TOML: {error}") from error


def parse_budgets(document: dict[str, Any], where: str) -> tuple[BudgetSpec, ...]:
    """The budgets of a TOML document. Raises `BadBudgets`."""
    rows = document.get("budget")
    if set(document) != {"budget"} or not isinstance(rows, list):
        raise BadBudgets(f"{where}: wants [[budget]] tables and nothing else at the top")
    specs = tuple(_budget(row, f"{where}, budget {number}") for number, row in enumerate(rows, 1))
    names = [spec.name for spec in specs]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise BadBudgets(f"{where}: two budgets are named {double[0]!r}")
    return specs


def _budget(row: dict[str, Any], where: str) -> BudgetSpec:
    where = f"{where} ({row.get('name', 'without a name')})"
    known = {"name", "jitter", "send_within", "utilisation", "burst", "max_ttl", "max_waiting", "limits"}
    if unknown := sorted(set(row) - known):
        raise BadBudgets(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}")
    fields: dict[str, Any] = {"name": row.get("name")}
    for key, name in (("jitter", "jitter_ms"), ("send_within", "send_within_ms"), ("max_ttl", "max_ttl_ms")):
        if key in row:
            fields[name] = duration_ms(row[key], f"{where}, {key}")
    for key, name in (("utilisation", "utilisation_permille"), ("burst", "burst_permille")):
        if key in row:
            fields[name] = _permille(row[key], f"{where}, {key}")
    if "max_waiting" in row:
        fields["max_waiting"] = row["max_waiting"]
    limits = row.get("limits")
    if not isinstance(limits, dict) or not limits:
        raise BadBudgets(f"{where}: wants a table [budget.limits]")
    fields["limits"] = {name: _limit(limit, f"{where}, limits.{name}") for name, limit in limits.items()}
    return _model(fields, where)


def _limit(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict) or "limit" not in row:
        raise BadBudgets(f'{where}: wants {{ limit = ..., per = "1m" }}')
    if unknown := sorted(set(row) - {"limit", "per", "charge", "bucket", "paced"}):
        raise BadBudgets(f"{where}: unknown key {unknown[0]!r}")
    fields: dict[str, Any] = {"limit": count(row["limit"], where), "window_ms": 0}
    if "per" in row:
        fields["window_ms"] = duration_ms(row["per"], where)
    if "bucket" in row:
        fields["bucket"] = count(row["bucket"], where)
    return fields | {key: row[key] for key in ("charge", "paced") if key in row}


def _model(fields: dict[str, Any], where: str) -> BudgetSpec:
    try:
        return BudgetSpec.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadBudgets(f"{where}: {place}: {first['msg']}") from None


def duration_ms(value: Any, where: str) -> int:
    """Milliseconds from "500ms", "60s", "1m", "2h" or "1d"."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise BadBudgets(f'{where}: {value!r} is no duration; write "500ms", "60s", "1m", "2h" or "1d"')
    return round(float(found[1]) * _UNITS_MS[found[2]])


def count(value: Any, where: str) -> int:
    """An integer from 500, "200k", "1.5M", or millionths of a dollar from "$50"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        if found := _COUNT.fullmatch(value):
            return round(float(found[1].replace("_", "")) * _FACTORS[found[2]])
        if found := _MONEY.fullmatch(value):
            return round(float(found[1].replace("_", "")) * _FACTORS[found[2]] * 1_000_000)
    raise BadBudgets(f'{where}: {value!r} is no amount; write 500, "200k", "1.5M" or "$50"')


def _permille(value: Any, where: str) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
        return max(1, round(value * 1000))
    raise BadBudgets(f"{where}: {value!r} is no part; write a number above 0, at most 1")
