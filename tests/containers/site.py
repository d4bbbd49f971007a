"""deploy/compose.yaml as containers of a test, started by testcontainers in the order and within the limits it states.

Only what must differ does: names of volumes, networks and ports are the test's own, and nothing starts again by itself
(a container that a test killed stays dead until the test starts it).
"""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch
from uuid import uuid4

import yaml
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from bursar.bus.identity import load_home, mint_agent

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
SERVICES = ("breaker", "gpu-manager", "limiter", "monitor", "scheduler")
NODES = ("nats-1", "nats-2", "nats-3")
ROLES = {"rack-1": "node", "hand-1": "worker"}
"""Principals of the tests beside those of the bundle."""
_AS_STATED = ("read_only", "cap_drop", "cap_add", "security_opt", "pids_limit", "user", "mem_limit")


def until(check: Callable[[], bool], within: float, what: Callable[[], str]) -> float:
    """Wait until ``check`` is true; returns the seconds it took. An `AssertionError` says what did not happen."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < within, f"not within {within:g} s: {what()}"
        time.sleep(0.2)
    return time.monotonic() - began


class Box:
    """One container of the site."""

    def __init__(self, name: str, container: DockerContainer) -> None:
        self.name = name
        self._container = container

    @property
    def raw(self) -> Any:
        """The container in Docker's own library, as it is now."""
        wrapped = self._container.get_wrapped_container()
        wrapped.reload()
        return wrapped

    @property
    def status(self) -> str:
        return str(self.raw.status)

    @property
    def health(self) -> str:
        """What Docker's HEALTHCHECK says: starting, healthy or unhealthy."""
        return str(self.raw.attrs["State"]["Health"]["Status"])

    @property
    def logs(self) -> str:
        return str(self.raw.logs(tail=25).decode(errors="replace"))

    def run(self, *command: str) -> tuple[int, str]:
        """Run a command inside; its status and what it wrote."""
        code, output = self.raw.exec_run(list(command))
        return int(code), output.decode(errors="replace")

    def facts(self) -> dict[str, Any]:
        """What a service's health port tells now; empty when the process does not answer."""
        program = (
            "import urllib.request as u, urllib.error as e\n"
            "try: print(u.urlopen('http://127.0.0.1:8080/readyz', timeout=3).read().decode())\n"
            "except e.HTTPError as error: print(error.read().decode())"
        )
        code, output = self.run("python3", "-c", program)
        return dict(json.loads(output)) if code == 0 else {}

    def is_ready(self) -> bool:
        return self.status == "running" and bool(self.facts().get("ready"))

    def becomes_healthy(self, within: float = 60.0) -> None:
        """Fails at once when its process has ended."""

        def check() -> bool:
            assert self.status != "exited", f"{self.name} has ended: {self.logs}"
            return self.health == "healthy"

        until(check, within, lambda: f"{self.name} is {self.health}: {self.logs}")

    def becomes_ready(self, within: float = 30.0) -> None:
        until(self.is_ready, within, lambda: f"{self.name} is {self.facts()}: {self.logs}")

    def start(self) -> None:
        self.raw.start()

    def kill(self) -> None:
        """SIGKILL, as a machine that ends."""
        self.raw.kill()
        self.raw.wait()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.raw.stop(timeout=20)
        return int(self.raw.wait()["StatusCode"])

    def copy(self, directory: str, to: Path) -> None:
        """A directory of the container, with its name, below ``to``."""
        stream, _ = self.raw.get_archive(directory)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            archive.extractall(to, filter="data")


class Site:
    """Everything that compose.yaml starts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.boxes: dict[str, Box] = {}
        self.ports = dict(zip(NODES, _free_ports(len(NODES)), strict=True))
        self._prefix = f"bursar-test-{uuid4().hex[:8]}"
        self._network = Network()
        self._started: list[DockerContainer] = []

    def __enter__(self) -> Self:
        self._network.create()
        try:
            for name in COMPOSE["services"]:
                if not COMPOSE["services"][name].get("profiles"):
                    self._start(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove every container, volume and the network."""
        client = self._started[0].get_docker_client().client if self._started else None
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_remove, self._started))
        if client is not None:
            for volume in client.volumes.list(filters={"name": self._prefix}):
                volume.remove(force=True)
        self._network.remove()
        for container in self._started:
            container.get_docker_client().client.close()
        self._started.clear()

    def __getitem__(self, name: str) -> Box:
        return self.boxes[name]

    @property
    def url(self) -> str:
        return ",".join(f"tls://localhost:{port}" for port in self.ports.values())

    def credentials(self, principal: str) -> Path:
        """Who asks: the installation's home, which the container `setup` has made, has or mints them."""
        home = load_home(self.directory / "home")
        if not home.creds(principal).exists():
            mint_agent(home, principal, role=ROLES[principal])
        return home.creds(principal)

    def of_service(self, service: str) -> list[Box]:
        return [self[f"{service}-{number}"] for number in (1, 2)]

    def owner_of(self, service: str, within: float = 20.0) -> Box:
        """The instance that decides."""
        found: list[Box] = []

        def is_one() -> bool:
            running = [box for box in self.of_service(service) if box.status == "running"]
            found[:] = [box for box in running if box.facts().get("role") == "owner"]
            return len(found) == 1

        until(is_one, within, lambda: f"one owner of {service}, not {[box.name for box in found]}")
        return found[0]

    def becomes_healthy(self) -> None:
        for service in SERVICES:
            for box in self.of_service(service):
                box.becomes_healthy()

    def cut_off(self, box: Box) -> None:
        """Take a container's network away; its connections end without a word."""
        self._network._unwrap_network.disconnect(box.raw.id)

    def join(self, box: Box) -> None:
        self._network.connect(box.raw.id, [box.name])

    def _start(self, name: str) -> None:
        """One container, when what it waits for has come, as Compose does."""
        if name in self.boxes:
            return
        stated = COMPOSE["services"][name]
        needs = stated.get("depends_on", {})
        for needed in needs:
            self._start(needed)
        for needed, how in needs.items():
            self._await(self[needed], how["condition"])
        container = self._container(name, stated)
        self._started.append(container)
        self.boxes[name] = Box(name, container.start())

    def run(self, name: str, within: float = 90.0) -> tuple[int, str]:
        """Run one that does its work and ends; its status and last words."""
        container = self._container(name, COMPOSE["services"][name])
        self._started.append(container)
        box = Box(name, container.start())
        status = box.raw.wait(timeout=within)["StatusCode"]
        return int(status), box.logs

    def _await(self, box: Box, condition: str) -> None:
        if condition == "service_healthy":
            box.becomes_healthy()
            return
        assert condition == "service_completed_successfully"
        status = box.raw.wait(timeout=90)["StatusCode"]
        assert status == 0, f"{box.name} ended with status {status}: {box.logs}"

    def _container(self, name: str, stated: dict[str, Any]) -> DockerContainer:
        container = DockerContainer(stated["image"], command=stated.get("command"))
        container.with_network(self._network).with_network_aliases(name)
        container.env.update({key: str(value) for key, value in stated.get("environment", {}).items()})
        for volume in stated.get("volumes", []):
            source, target, mode = (*volume.split(":"), "rw")[:3]
            container.with_volume_mapping(f"{self._prefix}-{source}", target, mode)
        for mount in stated["tmpfs"]:
            target, _, options = mount.partition(":")
            container.tmpfs[target] = options
        if name in self.ports:
            container.with_bind_ports(4222, self.ports[name])
        return container.with_kwargs(**{key: stated[key] for key in _AS_STATED if key in stated})


def _remove(container: DockerContainer) -> None:
    container.get_wrapped_container().remove(force=True, v=True)


@contextmanager
def running_site(directory: Path) -> Iterator[Site]:
    """Everything of compose.yaml, healthy; ``directory`` has what its users need, and the environment says where."""
    with Site(directory) as site:
        site["setup"].copy("/bundle/demo", directory)
        site["setup"].copy("/var/lib/bursar/home", directory)
        told = {f"BURSAR_TLS_{kind.upper()}": str(directory / "demo" / f"{kind}.pem") for kind in ("ca", "cert", "key")}
        with patch.dict(os.environ, told | {"BURSAR_TRUST": str(directory / "demo/trust.json")}):
            site.becomes_healthy()
            yield site


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
