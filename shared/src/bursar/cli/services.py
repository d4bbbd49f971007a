"""Which services are installed, and how each is started.

A service announces itself by an entry point of the group ``bursar.services`` (``limiter = "bursar_limiter..."``);
a package ``bursar_<name>`` that is merely importable, as in a development tree, counts too. Its process is
``python -m bursar_<name>``, and its settings come from the environment.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from bursar.bus.identity import Home
from bursar.cli.supervise import ChildSpec

GROUP = "bursar.services"
_PREFIX = "bursar_"


@dataclass(frozen=True, slots=True)
class Installed:
    """A service by its name on the wire and the package that runs it."""

    name: str
    package: str


def discover() -> list[Installed]:
    """All installed services, by name."""
    found = {point.name: point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=GROUP)}
    for module in pkgutil.iter_modules():
        if module.ispkg and module.name.startswith(_PREFIX):
            found.setdefault(module.name.removeprefix(_PREFIX).replace("_", "-"), module.name)
    return [Installed(name, package) for name, package in sorted(found.items()) if _can_run(package)]


def child(service: Installed, number: int, home: Home, url: str, creds_dir: Path, budgets: Path | None) -> ChildSpec:
    """How to run instance ``number`` (from 1) of a service."""
    instance = f"{service.name}-{number}"
    env = {
        "BURSAR_URL": url,
        "BURSAR_HOME": str(home.path),
        "BURSAR_CREDS": str(creds_dir / f"svc-{service.name}.creds"),
        "BURSAR_LOG_CREDS": str(creds_dir / f"svc-{service.name}-log.creds"),
        "BURSAR_KEYS_DIR": str(home.service_dir(service.name)),
        "BURSAR_DATA_DIR": str(home.service_dir(service.name) / instance),
        "BURSAR_INSTANCE": instance,
        "PYTHONUNBUFFERED": "1",
    }
    if service.name == "limiter" and budgets is not None:
        env["BURSAR_BUDGETS"] = str(budgets)
    command = (sys.executable, "-m", "bursar.cli.child", str(os.getpid()), service.package)
    return ChildSpec(instance, command, env)


def _can_run(package: str) -> bool:
    try:
        return find_spec(f"{package}.__main__") is not None
    except ImportError:
        return False
