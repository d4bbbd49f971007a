"""The distributions agree with each other and with what is installed."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICES = sorted(ROOT.glob("services/*/pyproject.toml"))
APART = ("bench-peers", "supply-chain")
LOCKS = sorted(path for path in ROOT.glob("requirements/*.txt") if not path.name.startswith(APART))
"""Not those of what the benchmarks compare with and of what looks at locks: they have environments of their own."""


def project(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    return table


def name(requirement: str) -> str:
    """The bare name of a requirement: ``nats-py[nkeys]>=2.16`` is nats-py."""
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]


FLEET = project(ROOT / "pyproject.toml")
SHARED = project(ROOT / "shared/pyproject.toml")


def test_every_distribution_has_the_same_version() -> None:
    """One version: root, shared, every service, what a service asks for, the changelog, and what is installed."""
    expected = FLEET["version"]
    assert SHARED["version"] == expected
    for path in SERVICES:
        service = project(path)
        assert service["version"] == expected
        [shared] = [requirement for requirement in service["dependencies"] if name(requirement) == "bursar"]
        assert shared.endswith(f"=={expected}")
    assert version("bursar-fleet") == expected
    assert f"## [{expected}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_fleet_installs_what_its_parts_need() -> None:
    """`pip install .` brings everything: the union of the dependencies of the parts, extras included."""
    parts = set(SHARED["dependencies"])
    parts.update(*SHARED["optional-dependencies"].values(), *(project(path)["dependencies"] for path in SERVICES))
    parts.update(*(extra for path in SERVICES for extra in project(path).get("optional-dependencies", {}).values()))
    assert set(FLEET["dependencies"]) == {requirement for requirement in parts if name(requirement) != "bursar"}


def test_importing_bursar_needs_little() -> None:
    """An agent's installation is NATS, msgpack, pydantic and the keys of its credentials, nothing more."""
    assert {name(requirement) for requirement in SHARED["dependencies"]} == {"nats-py", "msgpack", "pydantic", "pynacl"}


def test_the_fleet_registers_the_same_commands_and_services() -> None:
    """Installed as one or in parts, the same scripts and entry points are there."""
    parts = [SHARED, *map(project, SERVICES)]
    scripts = {key: value for part in parts for key, value in part["scripts"].items()}
    services = {
        key: value for part in parts for key, value in part.get("entry-points", {}).get("bursar.services", {}).items()
    }
    assert FLEET["scripts"] == scripts
    assert FLEET["entry-points"]["bursar.services"] == services
    assert set(services) == {path.parent.name for path in SERVICES}


@pytest.mark.parametrize("service", [path.parent.name for path in SERVICES])
def test_every_service_loads_by_its_entry_point(service: str) -> None:
    """The command line finds services by their entry points, never by import."""
    [found] = entry_points(group="bursar.services", name=service)
    assert found.load().name == service


@pytest.mark.parametrize("script", sorted(FLEET["scripts"]))
def test_every_command_loads(script: str) -> None:
    """Each console script names a function that exists."""
    [found] = entry_points(group="console_scripts", name=script)
    assert callable(found.load())


def test_importing_bursar_loads_no_kernel_and_no_extras() -> None:
    """`import bursar` works with the core dependencies alone and stays small."""
    unwanted = "{'bursar.kernel', 'typer', 'rich', 'httpx2', 'openai', 'anthropic', 'matplotlib', 'pydantic_settings'}"
    program = f"import sys, bursar, bursar.client; print(*sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_locks_are_hashed_and_name_no_place(lock: Path) -> None:
    """Every pinned package has hashes, and a lock carries no index address and no path of the machine it came from."""
    text = lock.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"(^|\s)/", text)
    pins = re.split(r"\n(?=[a-z])", text)
    assert all(re.match(r"[a-z0-9.-]+==\S+", pin) and "--hash=sha256:" in pin for pin in pins)


def test_the_locks_agree() -> None:
    """A package has one version in all locks, so that what is tested is what runs."""
    pins = {
        lock.name: set(re.findall(r"^(\S+==\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)) for lock in LOCKS
    }
    images = {"build.txt", "cli.txt", "nats-server.txt", "shared.txt"}
    assert pins.keys() == {"dev.txt", "runtime.txt", *images, *(f"{path.parent.name}.txt" for path in SERVICES)}
    assert all(pinned <= pins["dev.txt"] for pinned in pins.values())
