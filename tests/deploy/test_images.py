"""The Dockerfiles and compose.yaml, as text: what can be known without an engine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.deploy_flood import RATE_OF_IMAGES
from bursar.bus.permissions import SERVICES

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy/docker"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
RUNNING = {name: stated for name, stated in COMPOSE["services"].items() if stated["restart"] != "no"}


def dockerfile(name: str) -> str:
    return (DOCKER / f"{name}.Dockerfile").read_text(encoding="utf-8")


def test_the_services_dockerfiles_differ_in_the_name_alone() -> None:
    """So that what is mended in one is mended in all, and their first layers are the same."""
    assert {path.stem for path in DOCKER.glob("*.Dockerfile")} == {*SERVICES, "cli", "nats"}
    assert len({dockerfile(service).replace(service, "SERVICE") for service in SERVICES}) == 1


@pytest.mark.parametrize("name", [*SERVICES, "cli", "nats"])
def test_an_image_is_made_in_stages_from_pinned_packages_and_runs_as_nobody(name: str) -> None:
    """Hashes for all that is fetched, no root, nothing fetched in the last stage."""
    text = dockerfile(name)
    stages = text.split("\nFROM ")
    assert len(stages) == 3
    fetched = [line for line in text.replace("\\\n", " ").splitlines() if "pip" in line and "install" in line]
    assert fetched
    for command in re.split(r"&&|\n", text.replace("\\\n", " ")):
        if re.search(r"pip\S* .*\b(install|wheel)\b", command):
            assert "--require-hashes" in command or "--no-index" in command, command
    assert "USER 10001:10001" in stages[-1]
    assert not re.search(r"\b(pip|apt-get|curl)\b", re.sub(r"#.*", "", stages[-1]))
    if name != "cli":
        assert "HEALTHCHECK" in stages[-1]
        assert "STOPSIGNAL SIGTERM" in stages[-1]


def test_a_flood_is_measured_with_the_rate_that_the_images_have() -> None:
    """What a principal may ask of a busy service."""
    for service in SERVICES:
        assert f"BURSAR_PRINCIPAL_RATE={RATE_OF_IMAGES}\n" in dockerfile(service)


def test_three_servers_and_two_instances_of_each_service_run() -> None:
    """Nothing more but what makes the site and what checks it."""
    names = {"nats-1", "nats-2", "nats-3", *(f"{service}-{number}" for service in SERVICES for number in (1, 2))}
    assert RUNNING.keys() == names
    assert COMPOSE["services"].keys() - names == {"setup", "streams", "check"}
    assert "--replicas 3" in COMPOSE["services"]["streams"]["command"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_container_has_more_rights_than_it_needs(name: str) -> None:
    """A root file system that is read-only, no capabilities, no new privileges, bounds."""
    stated = COMPOSE["services"][name]
    assert stated["read_only"] is True
    assert stated["cap_drop"] == ["ALL"]
    assert stated["security_opt"] == ["no-new-privileges:true"]
    assert stated["pids_limit"] <= 128
    assert name == "setup" or ("cap_add" not in stated and "user" not in stated)
    assert name not in RUNNING or "mem_limit" in stated


@pytest.mark.parametrize("name", RUNNING)
def test_a_container_sees_its_own_secrets_alone_and_cannot_change_them(name: str) -> None:
    """The home with the keys that sign everything is mounted nowhere but where it is made."""
    mounts = dict(volume.split(":", 1) for volume in RUNNING[name]["volumes"])
    owner = name if name.startswith("nats-") else name.rsplit("-", 1)[0]
    assert mounts[owner] == "/etc/bursar:ro"
    assert mounts.keys() - {owner} == {f"{owner}-store" if name.startswith("nats-") else f"{owner}-data"}


def test_the_keys_that_sign_everything_are_mounted_nowhere_but_where_they_are_made() -> None:
    """The home is `setup`'s alone."""
    mounted = {name for name, one in COMPOSE["services"].items() if "home" in [v.split(":")[0] for v in one["volumes"]]}
    assert mounted == {"setup"}


@pytest.mark.parametrize("name", [name for name, stated in COMPOSE["services"].items() if "ports" in stated])
def test_ports_are_open_on_the_loopback_alone(name: str) -> None:
    """Who wants them elsewhere says so."""
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"][name]["ports"])
