"""What the breaker can be told, beyond what every service can."""

from __future__ import annotations

import tomllib
from pathlib import Path

from bursar.contracts.breaker import Group, Rule
from bursar.kernel.settings import ServiceSettings
from bursar_breaker.circuitfile import BadRules, rules_of

EXAMPLE = Path(__file__).with_name("circuits.toml")
"""The rules that are used when no file is named."""


class BreakerSettings(ServiceSettings):
    """Environment variables begin with ``BURSAR_``."""

    circuits: Path = EXAMPLE
    """TOML file of rules, read at the start; its content is applied once, so that a restart does not undo a later
    ``configure`` by an operator. The default is the example that comes with the service."""


def read_rules(path: Path) -> tuple[tuple[Rule, ...], tuple[Group, ...]]:
    """The rules and groups of a file. Raises `BadRules`."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadRules(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadRules(f"{path}: {error}") from error
    return rules_of(document, str(path))
