"""What the limiter can be told, beyond what every service can."""

from __future__ import annotations

import tomllib
from pathlib import Path

from bursar.contracts.limiter import BudgetSpec
from bursar.kernel.settings import ServiceSettings
from bursar_limiter.budgets import BadBudgets, budgets_of

EXAMPLE = Path(__file__).with_name("budgets.toml")
"""The budgets that are used when no file is named."""


class LimiterSettings(ServiceSettings):
    """Environment variables begin with ``BURSAR_``."""

    budgets: Path = EXAMPLE
    """TOML file of budgets, read at the start; its content is applied once, so that a restart does not undo a later
    ``reload`` by an operator. The default is the example that comes with the service."""
    trust: Path | None = None
    """File with the public keys of the services (``trust.json``): whose broadcasts are believed. None: nobody's, so
    that paces do not follow the circuits of the breaker."""


def read_budgets(path: Path) -> tuple[BudgetSpec, ...]:
    """The budgets of a file. Raises `BadBudgets`."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadBudgets(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadBudgets(f"{path}: {error}") from error
    return budgets_of(document, text, str(path))
