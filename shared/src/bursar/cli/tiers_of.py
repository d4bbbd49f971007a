"""Example budgets: the limits of a provider's usage tiers, as its documents said on a day, written as budgets to edit.

The figures are data, ``tiers/<provider>.toml`` beside this file, each with the day on which they were read and where.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Final

FOLDER: Final = "tiers"


def providers() -> list[str]:
    """The providers that there are examples for."""
    folder = files("bursar.cli").joinpath(FOLDER)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


@cache
def tiers_of(provider: str) -> dict[str, Any]:
    """The data of one provider; see its file. Raises `LookupError` when there is none."""
    if provider not in providers():
        raise LookupError(f"no example for {provider!r}; there are {', '.join(providers())}")
    return tomllib.loads(files("bursar.cli").joinpath(FOLDER, f"{provider}.toml").read_text(encoding="utf-8"))


def example(provider: str, tier: str) -> str:
    """The budgets of a tier as TOML, with where the figures come from. Raises `LookupError`."""
    data = tiers_of(provider)
    if tier not in data["tiers"]:
        raise LookupError(f"{provider} has no tier {tier!r} here; there are {', '.join(data['tiers'])}")
    head = [
        f"# {provider}, {tier}: as published on {data['read']}. Check against your console: {data['console']}",
        *(f"# {source}" for source in data["sources"]),
        f'# Agents: fleet.http_client("{provider}/{{pool}}", charge_model="{data["charge_model"]}")',
    ]
    tables = [
        _table(f"{provider}/{pool}", limits, data["output_charge"]) for pool, limits in data["tiers"][tier].items()
    ]
    return "\n".join([*head, *tables, ""])


def _table(name: str, limits: dict[str, Any], charge: str) -> str:
    lines = [f'\n[budgets."{name}"]']
    for dimension, limit in limits.items():
        produced = f', charge = "{charge}"' if dimension == "output_tokens" and charge != "admission" else ""
        value = limit if isinstance(limit, int) else f'"{limit}"'
        lines.append(f'limits.{dimension} = {{ limit = {value}, window = "1m"{produced} }}')
    return "\n".join(lines)
