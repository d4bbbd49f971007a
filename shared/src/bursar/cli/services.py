"""Which services are installed, and how each is started.

A service announces itself by an entry point of the group ``bursar.services`` (``limiter = "bursar_limiter..."``);
a package ``bursar_<name>`` that is merely importable, as in a development tree, counts too. Its process is
``python -m bursar_<name>``, and its settings come from the environment.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from bursar.bus.identity import Home
from bursar.bus.permissions import AUDIT_PROVISIONER
from bursar.cli.supervise import ChildSpec

GROUP = "bursar.services"
_PREFIX = "bursar_"


class RulesFile(NamedTuple):
    """Where a service finds its rules: the environment variable that names the file, and its name in the home."""

    variable: str
    name: str


RULES: Final = {
    "limiter": RulesFile("BURSAR_BUDGETS", "budgets.toml"),
    "breaker": RulesFile("BURSAR_CIRCUITS", "circuits.toml"),
    "monitor": RulesFile("BURSAR_RULES", "rules.toml"),
}


@dataclass(frozen=True, slots=True)
class Installed:
    """A service by its name on the wire and the package that runs it."""

    name: str
    package: str


RIGHTS_VARIABLE: Final = "BURSAR_RIGHTS"
RIGHTS_FILE: Final = "rights.toml"
"""Who may use what, for all services: the environment variable that names the file, and its name in the home."""


def discover() -> list[Installed]:
    """All installed services, by name."""
    found = {point.name: point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=GROUP)}
    for module in pkgutil.iter_modules():
        if module.ispkg and module.name.startswith(_PREFIX):
            found.setdefault(module.name.removeprefix(_PREFIX).replace("_", "-"), module.name)
    return [Installed(name, package) for name, package in sorted(found.items()) if _can_run(package)]


def child(
    service: Installed, number: int, home: Home, url: str, creds_dir: Path, files: Mapping[str, Path]
) -> ChildSpec:
    """How to run instance ``number`` (from 1) of a service. ``files``: its rules, by service."""
    instance = f"{service.name}-{number}"
    env = {
        "BURSAR_URL": url,
        "BURSAR_HOME": str(home.path),
        "BURSAR_CREDS": str(creds_dir / f"svc-{service.name}.creds"),
        "BURSAR_LOG_CREDS": str(creds_dir / f"svc-{service.name}-log.creds"),
        "BURSAR_KEYS_DIR": str(home.service_dir(service.name)),
        "BURSAR_TRUST": str(home.trust_file),
        "BURSAR_AUDIT": str((creds_dir / f"{AUDIT_PROVISIONER.name}.creds").exists()).lower(),
        "BURSAR_DATA_DIR": str(home.service_dir(service.name) / instance),
        "BURSAR_INSTANCE": instance,
        "PYTHONUNBUFFERED": "1",
    }
    if service.name in files:
        env[RULES[service.name].variable] = str(files[service.name])
    if RIGHTS_VARIABLE not in os.environ and (home.path / RIGHTS_FILE).exists():
        env[RIGHTS_VARIABLE] = str(home.path / RIGHTS_FILE)
    command = (sys.executable, "-m", "bursar.cli.child", str(os.getpid()), service.package)
    return ChildSpec(instance, command, env)


def rules_files(home: Path, chosen: Mapping[str, Path | None]) -> dict[str, Path]:
    """The files of rules, by service: the chosen one, else the one that the environment names, else that in the home.
    A service without one uses the example that comes with it."""
    named = {service: chosen.get(service) or os.environ.get(rules.variable) for service, rules in RULES.items()}
    found = {service: Path(given or home / RULES[service].name) for service, given in named.items()}
    return {service: path.absolute() for service, path in found.items() if named[service] or path.exists()}


def _can_run(package: str) -> bool:
    try:
        return find_spec(f"{package}.__main__") is not None
    except ImportError:
        return False
