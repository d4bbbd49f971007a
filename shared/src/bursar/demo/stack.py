"""What the fleet runs against: a whole installation by the code of ``bursar up`` (embedded NATS server, every service
with a standby) in a home of its own; the judge, and the probes of the hosts with simulated cards, in other processes.
And the hand that kills.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx2
import psutil

from bursar.bus.identity import load_home, mint_agent
from bursar.cli.up import UpOptions
from bursar.cli.up import run as run_up
from bursar.client.gpu_simulated import SimulatedCards
from bursar.demo.plan import GPU_CARDS, WORKER_TTL_MS, Plan

REPLICAS: Final = 2
START_TIMEOUT_S: Final = 40.0


class StackError(RuntimeError):
    """Something that the demo needs did not start or has ended; the text says what, and what it said last."""


@dataclass
class Stack:
    """``owners``: of each service the instance that decides now, as its own log says; ``log`` is everything that the
    services have written."""

    url: str = ""
    home: Path = Path()
    owners: dict[str, str] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, line: str) -> None:
        self.log.append(line)
        if line.strip().startswith("Bursar is up"):
            self.ready.set()
        _, bar, told = line.partition(" | ")
        if bar and told.startswith("{"):
            with contextlib.suppress(ValueError):
                self._event(json.loads(told))

    def _event(self, event: dict[str, Any]) -> None:
        if event.get("event") == "role_changed" and event.get("role") == "owner":
            instance = str(event["instance"])
            self.owners[instance.rpartition("-")[0]] = instance

    def credentials(self, *names: str, role: str = "agent") -> list[str]:
        """Fresh credentials for principals of these names."""
        home = load_home(self.home)
        return [str(mint_agent(home, name, role=role)) for name in names]

    def processes(self) -> dict[str, psutil.Process]:
        """The processes of the services, by instance."""
        found: dict[str, psutil.Process] = {}
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                instance = process.environ().get("BURSAR_INSTANCE")
                if instance:
                    found[instance] = process
        return found

    def kill_owner(self, service: str) -> str:
        """``kill -9`` the instance of a service that decides; its name."""
        owner = self.owners.get(service, "")
        process = self.processes().get(owner)
        if process is None:
            raise StackError(f"the owner of {service}, {owner!r}, is not running")
        os.kill(process.pid, signal.SIGKILL)
        return owner


@contextlib.asynccontextmanager
async def running_stack(plan: Plan, home: Path) -> AsyncIterator[Stack]:
    """Bring everything up in ``home``; taken down at the end. Raises `StackError`."""
    budgets, circuits = _write_settings(plan, home)
    stack, stop = Stack(home=home), asyncio.Event()
    options = UpOptions(home=home, port=0, replicas=REPLICAS, budgets=budgets, context="")
    os.environ |= {
        "BURSAR_CIRCUITS": str(circuits),
        "BURSAR_SCHEDULER_WORKER_TTL_MS": str(WORKER_TTL_MS),
        "BURSAR_METRICS_PORT": "0",
    }
    up = asyncio.create_task(run_up(options, stack.heard, stop))
    ready = asyncio.create_task(stack.ready.wait())
    try:
        await asyncio.wait((up, ready), timeout=START_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
        if not stack.ready.is_set():
            raise StackError("Bursar did not come up: " + _last(up, stack.log))
        stack.url = json.loads((home / "run" / "lock").read_bytes())["url"]
        yield stack
    finally:
        ready.cancel()
        stop.set()
        with contextlib.suppress(Exception):
            await up


def _write_settings(plan: Plan, home: Path) -> tuple[Path, Path]:
    home.mkdir(parents=True)
    budgets, circuits = home / "budgets.toml", home / "circuits.toml"
    budgets.write_text(plan.budgets_toml(), encoding="utf-8")
    circuits.write_text(plan.circuits_toml(), encoding="utf-8")
    return budgets, circuits


def _last(up: asyncio.Task[None], log: list[str]) -> str:
    if up.done() and not up.cancelled() and up.exception() is not None:
        return str(up.exception())
    return " / ".join(log[-5:]) or "it said nothing"


class Judge:
    """The provider's process, seen from outside."""

    def __init__(self, base: str, client: httpx2.AsyncClient) -> None:
        self.base, self._client = base, client

    async def page(self, name: str) -> dict[str, Any]:
        """``stats``, ``series`` or ``log``."""
        answer = await self._client.get(f"{self.base}/admin/{name}")
        answer.raise_for_status()
        page: dict[str, Any] = answer.json()
        return page

    async def episode(self, kind: str, seconds: float) -> None:
        """A bad time begins now: ``outage`` or ``overload``."""
        answer = await self._client.post(f"{self.base}/admin/episode", json={"kind": kind, "seconds": seconds})
        answer.raise_for_status()


@contextlib.asynccontextmanager
async def running_judge(plan: Plan) -> AsyncIterator[Judge]:
    """Start the provider; ended with SIGTERM. Raises `StackError`."""
    process = await _start("bursar.demo.provider", "--config", json.dumps(plan.provider_settings()))
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)
        if not line:
            raise StackError(f"the provider ended at once, with status {await process.wait()}")
        async with httpx2.AsyncClient(timeout=10.0) as client:
            yield Judge(f"http://127.0.0.1:{json.loads(line)['port']}", client)
    finally:
        await end(process)


@contextlib.asynccontextmanager
async def running_cards(stack: Stack, hosts: Sequence[str], socket: Path) -> AsyncIterator[SimulatedCards]:
    """The probe of some hosts with simulated cards, whose port is at ``socket``; a connection to it."""
    creds = stack.credentials(*hosts, role="node")
    arguments = [part for path in creds for part in ("--creds", path)]
    process = await _start(
        "bursar_gpu_manager.node",
        "--url",
        stack.url,
        "--simulate",
        GPU_CARDS,
        "--interval",
        "0.2",
        "--control",
        str(socket),
        *arguments,
    )
    try:
        until = time.monotonic() + START_TIMEOUT_S
        while not socket.exists():  # noqa: ASYNC240 - a look, now and then
            if process.returncode is not None or time.monotonic() > until:
                raise StackError("the probe of the simulated cards did not start")
            await asyncio.sleep(0.02)
        cards = await SimulatedCards.connect(str(socket))
        yield cards
        await cards.close()
    finally:
        await end(process)


async def _start(module: str, *arguments: str) -> asyncio.subprocess.Process:
    """Run a module as a process of its own: Ctrl-C does not reach it, and it ends when this process dies."""
    command = (sys.executable, "-m", "bursar.cli.child", str(os.getpid()), module, *arguments)
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, start_new_session=True)


async def end(process: asyncio.subprocess.Process, grace_s: float = 8.0) -> int:
    """SIGTERM, wait, SIGKILL; the exit status. Who is cancelled waits no longer, and leaves no process behind."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), grace_s)
    except TimeoutError:
        process.kill()
        return await process.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise


Heard = Callable[[dict[str, Any]], None]


class CrewProcess:
    """A crew's process, started from its file in the work folder; ``heard`` gets each line that it writes."""

    def __init__(self, folder: Path, name: str, heard: Heard) -> None:
        self.name, self._folder, self._heard = name, folder, heard
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None

    async def start(self, work: str, processes: int, config: dict[str, Any]) -> None:
        body = {"work": work, "processes": processes, "config": config}
        (self._folder / f"{self.name}.json").write_text(json.dumps(body), encoding="utf-8")
        self._process = await _start("bursar.demo.crew", str(self._folder), self.name)
        self._listener = asyncio.create_task(self._listen(self._process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self._heard(json.loads(line))

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def kill(self) -> None:
        """End it at once, and with it the processes that it has forked."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def stop(self) -> int:
        status = await end(self._process) if self._process is not None else 0
        if self._listener is not None:
            await self._listener
        return status

    def found(self, processes: int) -> list[dict[str, Any]]:
        """What each process found. Raises `StackError` when one has written nothing."""
        files = [self._folder / f"{self.name}-{process}.json" for process in range(processes)]
        missing = [file.name for file in files if not file.exists()]
        if missing:
            raise StackError(f"no result from {', '.join(missing)}: see the errors above")
        return [json.loads(file.read_text(encoding="utf-8")) for file in files]
