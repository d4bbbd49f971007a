"""``bursar up --autoscale``: local worker processes, as many as the monitor says that there should be.

The monitor decides the number of a pool and tells when it changes; that is only a reason to look at its picture at
once, which is looked at every few seconds anyway. So a broadcast that is lost or forged changes nothing. Workers of the
pool that run elsewhere count: this machine fills what is missing, up to ``most``.

A worker that is too many is drained, not killed: it takes nothing new and finishes what it has, or hands it back when
its grace is over. Those without work go first. A worker that ends by itself is started again (`supervise`). Of each
start it is measured how long it took from the order to the first moment in which the worker took tasks, and the monitor
is told (`Took`, which its objective `spawn` is about). What is not known changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from bursar.bus.base import Bus, BusError
from bursar.bus.codec import decode_reply, encode
from bursar.bus.identity import Home, HomeError, mint_agent
from bursar.cli.probes import host_name
from bursar.cli.supervise import Backoff, Child, ChildSpec
from bursar.client.took import SPAWN_TOLD
from bursar.contracts.base import event_subject, observation_subject, request_subject
from bursar.contracts.monitor import SERVICE, Took
from bursar.contracts.monitor_picture import ScaleRow, Section, Status, StatusReply, WorkerRow
from bursar.contracts.monitor_scaling import SCALE_KIND
from bursar.errors import BursarError

LOOK_S: Final = 5.0
ASK_S: Final = 2.0
GRACE_S: Final = 40.0
"""A worker's own grace is 30 s; then it hands back what it still has."""
KEPT: Final = 1_024
"""Spawn times that are remembered."""
POOL: Final = "workers"
"""The pool of the monitor's own rules."""


class Wanted(NamedTuple):
    """Which pool follows, and the worker that its processes run: ``module:name``. ``most``: processes here."""

    pool: str
    worker: str
    most: int


def wanted_of(text: str, most: int | None = None) -> Wanted:
    """``[POOL=]MODULE:WORKER``. Raises ValueError."""
    pool, _, worker = text.rpartition("=")
    pool = pool or POOL
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", pool) or not re.fullmatch(r"[\w.]+:[\w.]+", worker):
        raise ValueError("--autoscale takes a worker, as in my_module:worker or pool=my_module:worker")
    return Wanted(pool, worker, most or max(8, 4 * (os.cpu_count() or 1)))


class Seen(NamedTuple):
    """The pool as the monitor has it: how many there should be, and its workers."""

    desired: int
    workers: Mapping[str, WorkerRow]


class Step(NamedTuple):
    """What to do: workers to start and to drain, by name; ``missing``: beyond what this machine may run."""

    start: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    missing: int = 0


def step_of(seen: Seen, mine: Iterable[str], draining: Iterable[str], names: Iterable[str], most: int) -> Step:
    """``mine``: workers that run here and stay; ``draining``: those that end; ``names``: what workers may be called
    here, in order."""
    here, ending = list(mine), set(draining)
    others = sum(name not in ending and name not in here and row.state == "up" for name, row in seen.workers.items())
    full = max(0, seen.desired - others)
    count = min(full, most)
    if len(here) > count:
        idle = {name: 0 if name not in seen.workers else seen.workers[name].running or 0 for name in here}
        last = sorted(here, key=lambda name: (idle[name], -here.index(name)))
        return Step((), tuple(last[: len(here) - count]), full - count)
    free = [name for name in names if name not in here and name not in ending]
    return Step(tuple(free[: count - len(here)]), (), full - count)


class Autoscaler:
    """One pool on this machine. ``spawned``: ms from the order to a worker that takes tasks, of the last starts."""

    def __init__(
        self, bus: Bus, wanted: Wanted, creds: Callable[[str], Path], url: str, echo: Callable[[str], None]
    ) -> None:
        self._bus = bus
        self._wanted = wanted
        self._creds = creds
        self._url = url
        self._echo = echo
        self._children: dict[str, Child] = {}
        self._draining: dict[str, asyncio.Task[None]] = {}
        self._ordered: dict[str, float] = {}
        self._look_now = asyncio.Event()
        self._missing = 0
        self._silent = False
        self.spawned: deque[int] = deque(maxlen=KEPT)

    @property
    def running(self) -> tuple[str, ...]:
        """Workers that run here and are to stay."""
        return tuple(name for name in self._children if name not in self._draining)

    async def follow(self) -> None:
        """Until cancelled; then `stop`."""
        subject = event_subject(SERVICE, SCALE_KIND, self._wanted.pool)
        listening = False
        while True:
            if not listening:
                with contextlib.suppress(BusError):  # tried again at the next look
                    await self._bus.subscribe(subject, lambda _: self._look_now.set())
                    listening = True
            self._look_now.clear()
            await self._look()
            try:
                await asyncio.wait_for(self._look_now.wait(), LOOK_S)
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Drain all at once, and wait for it."""
        for name in self.running:
            self._drain(name)
        await asyncio.gather(*self._draining.values())

    async def _look(self) -> None:
        try:
            seen = await self._see()
        except BursarError:
            seen = None
        if seen is None:
            if not self._silent:
                self._echo(f"pool {self._wanted.pool}: the monitor does not say how many workers there should be (yet)")
            self._silent = True
            return
        self._silent = False
        names = (self._name(number) for number in range(1, self._wanted.most + len(self._draining) + 1))
        step = step_of(seen, self.running, self._draining, names, self._wanted.most)
        if step.missing != self._missing:
            self._missing = step.missing
            most = f"{self._wanted.most} run here at most (--autoscale-most)"
            self._echo(f"pool {self._wanted.pool}: {step.missing} of {seen.desired} workers are missing; {most}")
        if step.start or step.drain:
            self._echo(
                f"pool {self._wanted.pool} should have {seen.desired} workers: "
                f"{len(step.start)} started, {len(step.drain)} drained here"
            )
        for name in step.start:
            self._start(name)
        for name in step.drain:
            self._drain(name)

    async def _see(self) -> Seen | None:
        pools: list[ScaleRow] = (await self._ask("scaling")).scaling
        row = next((row for row in pools if row.pool == self._wanted.pool), None)
        if row is None or row.desired is None:
            return None
        workers: list[WorkerRow] = (await self._ask("workers")).workers
        return Seen(row.desired, {worker.worker: worker for worker in workers if is_of(row.workers, worker.worker)})

    async def _ask(self, section: Section) -> StatusReply:
        subject = request_subject(SERVICE, "status", self._bus.principal)
        msg = await self._bus.request(subject, encode(Status(only=section).model_dump()), ASK_S)
        return decode_reply(StatusReply, msg.data, msg.headers)

    # ---- processes

    def _name(self, number: int) -> str:
        pool = re.sub(r"[^a-z0-9-]+", "-", self._wanted.pool.lower()).strip("-")
        return f"{host_name()[:30].rstrip('-')}-{pool[:24]}-{number}"

    def _start(self, name: str) -> None:
        try:
            creds = self._creds(name)
        except (HomeError, ValueError) as error:
            self._echo(f"{name} cannot be started: {error}")
            return
        run = ("worker", "run", self._wanted.worker, "--creds", str(creds), "--nats", self._url)
        command = (sys.executable, "-m", "bursar.cli.child", str(os.getpid()), "bursar.cli.main", *run)
        self._ordered[name] = time.monotonic()
        spec = ChildSpec(name, command, {"PYTHONUNBUFFERED": "1", SPAWN_TOLD: "1"})
        child = self._children[name] = Child(spec, self._hear, Backoff())
        child.start()

    def _hear(self, line: str) -> None:
        """The first line of a worker says that it takes tasks."""
        self._echo(line)
        name, _, said = line.partition(" | ")
        if name in self._ordered and said.startswith(f"{name} takes "):
            took = round((time.monotonic() - self._ordered.pop(name)) * 1_000)
            self.spawned.append(took)
            self._echo(f"{name} took {took / 1_000:.2f} s from the order to its readiness")
            self._tell(took)

    def _tell(self, took: int) -> None:
        try:
            subject = observation_subject(SERVICE, "took", self._bus.principal)
            self._bus.publish(subject, encode(Took(what="spawn", ms=(took,)).model_dump()))
        except BusError:
            return

    def _drain(self, name: str) -> None:
        self._ordered.pop(name, None)
        self._draining[name] = asyncio.create_task(self._end(name), name=f"drain-{name}")

    async def _end(self, name: str) -> None:
        in_time = await self._children[name].stop(GRACE_S)
        self._echo(f"{name} {'has ended' if in_time else f'did not end in {GRACE_S:g} s and was killed'}")
        del self._children[name], self._draining[name]


def is_of(pattern: str, name: str) -> bool:
    """Whether a pool's pattern covers a worker."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def creds_of(home: Home, creds_dir: Path | None) -> Callable[[str], Path]:
    """Where a worker's credentials are: minted in the home when it is new; of a server that is not ours, the file that
    must be in ``creds_dir``. What is returned raises `HomeError`."""

    def find(name: str) -> Path:
        if creds_dir is not None:
            path = creds_dir / f"{name}.creds"
            if not path.exists():
                raise HomeError(f"{creds_dir} has no {path.name} (bursar agent add {name} --role worker)")
            return path
        if not home.creds(name).exists():
            return mint_agent(home, name, role="worker")
        if home.role_of(name) != "worker":
            raise HomeError(f"{name} is no worker in this home")
        return home.creds(name)

    return find
