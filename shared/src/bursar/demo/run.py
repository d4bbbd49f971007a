"""One run: start everything, let both arms replay the same arrivals at the same time, break things, write down what
happened. What it means is worked out afterwards, in `bursar.demo.measure` and `bursar.demo.control`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bursar.client.gpu_simulated import SimulatedCards
from bursar.demo.footprint import Footprint, footprint, with_memory
from bursar.demo.notes import read_notes, under_way
from bursar.demo.plan import (
    GPU_HOSTS,
    GPU_WORKERS,
    MANAGED_KEY,
    PLAIN_HOSTS,
    REMOTE_WORKERS,
    UNMANAGED_KEY,
    Kill,
    Plan,
)
from bursar.demo.stack import CrewProcess, Judge, Stack, StackError, running_cards, running_judge, running_stack

PROBE_RATE: Final = 10.0
READY_TIMEOUT_S: Final = 40.0
IDLE_S: Final = 2.0
"""Seconds before the start in which nobody asks for anything: what the services use then is their idle use."""
LEAD_S: Final = 0.4
"""Seconds between the word and the first arrival, so that every process has heard it."""
AFTER_S: Final = 0.5
"""Seconds that the probe goes on after the last request."""
WORK_WITHIN: Final = 5.0
"""Seconds for which the worker that is to be killed is given the time to have something to do."""
ARMS: Final = ("managed", "unmanaged")


@dataclass
class Progress:
    """How far the run is, for whoever watches. ``arms``: per crew and process, what was told last."""

    elapsed: float = 0.0
    jobs: int = 0
    arrived: int = 0
    arms: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    judged: dict[str, Any] = field(default_factory=dict)

    def ended(self, arm: str) -> dict[str, int]:
        """How the requests of an arm that have ended did so."""
        total: dict[str, int] = {}
        for told in self.arms.get(arm, {}).values():
            for how, count in told.get("ended", {}).items():
                total[how] = total.get(how, 0) + count
        return total

    def open(self, arm: str) -> int:
        return sum(told.get("open", 0) for told in self.arms.get(arm, {}).values())


class Watcher:
    """Hears of the run while it goes on; this one keeps quiet."""

    def event(self, text: str) -> None:
        """Something happened."""

    def progress(self, progress: Progress) -> None:
        """A second has passed."""


@dataclass
class Recording:
    """Everything that was written down. ``begin_ms``: the start of the arrivals by the judge's clock. ``bad_times``:
    kind, from, to; ``kills``, ``worker_killed_at``, ``card_lost_at``: seconds after the start. ``arms`` and ``probe``:
    what each process found; ``notes``: what each worker noted, by ``crew-process``; ``victim``: the worker that was
    killed. ``cards``: what the hosts' simulated drivers counted."""

    plan: Plan
    begin: float
    begin_ms: int
    elapsed: float
    bad_times: list[tuple[str, float, float]]
    kills: list[Kill]
    worker_killed_at: float
    victim: str
    card_lost_at: float
    stats: dict[str, Any]
    log: dict[str, Any]
    arms: dict[str, list[dict[str, Any]]]
    probe: dict[str, Any]
    notes: dict[str, list[dict[str, Any]]]
    cards: dict[str, dict[str, Any]]
    footprint: dict[str, Footprint]
    events: list[tuple[float, str]]
    services_log: list[str]


async def run(plan: Plan, folder: Path, watcher: Watcher) -> Recording:
    """Run the plan; ``folder`` (empty) holds its files. SIGTERM cancels it, and all that was started is ended.

    Raises `StackError`.
    """
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    watcher.event("starting the provider, NATS, five services with a standby each, workers, and two fleets")
    async with (
        running_judge(plan) as judge,
        running_stack(plan, folder / "home") as stack,
        running_cards(stack, GPU_HOSTS, folder / "cards.sock") as cards,
        running_cards(stack, PLAIN_HOSTS, folder / "plain.sock") as plain,
    ):
        return await _Run(plan, folder, watcher, judge, stack, cards, plain).go()


class _Run:
    def __init__(
        self,
        plan: Plan,
        folder: Path,
        watcher: Watcher,
        judge: Judge,
        stack: Stack,
        cards: SimulatedCards,
        plain: SimulatedCards,
    ) -> None:
        self._plan, self._folder, self._watcher = plan, folder, watcher
        self._judge, self._stack, self._cards, self._plain = judge, stack, cards, plain
        self._progress = Progress(jobs=len(plan.jobs))
        self._ready: dict[tuple[str, int], int] = {}
        self._begin = 0.0
        self._bad_times: list[tuple[str, float, float]] = []
        self._kills: list[Kill] = []
        self._worker_killed_at = self._card_lost_at = 0.0
        self._events: list[tuple[float, str]] = []
        self._footprint: dict[str, Footprint] = {}
        self._victim = ("local", len(GPU_HOSTS) * GPU_WORKERS - 1)
        crews = ("managed", "unmanaged", "remote", "local", "probe")
        self.crews = {name: CrewProcess(folder, name, self._heard) for name in crews}

    async def go(self) -> Recording:
        try:
            await self._start_crews()
            self._footprint = await footprint(self._stack, IDLE_S)
            begin_ms = await self._give_the_word()
            faults = [asyncio.create_task(fault) for fault in self._faults()]
            watch = asyncio.create_task(self._watch())
            try:
                await self._until_done()
                for fault in faults:
                    await fault
            finally:
                for task in (watch, *faults):
                    task.cancel()
                await asyncio.gather(watch, *faults, return_exceptions=True)
            elapsed = time.monotonic() - self._begin
            await asyncio.sleep(AFTER_S)
            self._footprint = with_memory(self._footprint, self._stack)
        except asyncio.CancelledError:
            for crew in self.crews.values():
                crew.kill()  # nobody is going to read what they found
            raise
        finally:
            statuses = await asyncio.gather(*(crew.stop() for crew in self.crews.values()))
        if any(statuses):
            raise StackError("a process of the fleet ended with an error: see above")
        return await self._recording(begin_ms, elapsed)

    # -- start

    async def _start_crews(self) -> None:
        plan = self._plan
        hosts = [host for host in GPU_HOSTS for _ in range(GPU_WORKERS)]
        provider = {"base_url": f"{self._judge.base}/v1"}
        both = {"agents": plan.agents, "processes": plan.processes, "jobs": plan.jobs}
        configs: dict[str, tuple[int, dict[str, Any]]] = {
            "unmanaged": (
                plan.processes,
                {**both, **provider, "api_key": UNMANAGED_KEY, "retries": plan.retries,
                 "cards": str(self._folder / "plain.sock")},
            ),
            "managed": (plan.processes, {**both, **self._nats("fleet", plan.processes)}),
            "remote": (
                REMOTE_WORKERS,
                {**provider, "api_key": MANAGED_KEY, **self._nats("remote", REMOTE_WORKERS, "worker")},
            ),
            "local": (
                len(hosts),
                {"hosts": hosts, "cards": str(self._folder / "cards.sock"), "may_be_killed": True,
                 **self._nats("local", len(hosts), "worker")},
            ),
            "probe": (1, {"rate": PROBE_RATE, "hosts": list(GPU_HOSTS), **self._nats("probe", 1)}),
        }  # fmt: skip
        for name, (processes, config) in configs.items():
            await self.crews[name].start(name, processes, config)
        wanted = sum(processes for processes, _ in configs.values())
        until = time.monotonic() + READY_TIMEOUT_S
        while len(self._ready) < wanted:
            if time.monotonic() > until:
                missing = {name: n - sum(crew == name for crew, _ in self._ready) for name, (n, _) in configs.items()}
                raise StackError(f"not all processes of the fleet are ready; missing: {missing}")
            await asyncio.sleep(0.05)

    def _nats(self, name: str, processes: int, role: str = "agent") -> dict[str, Any]:
        names = [f"{name}-{number}" for number in range(processes)]
        return {"nats": self._stack.url, "creds": self._stack.credentials(*names, role=role)}

    def _heard(self, line: dict[str, Any]) -> None:
        if line.get("ready"):
            self._ready[line["crew"], line["process"]] = line["pid"]
        else:
            self._progress.arms.setdefault(line["crew"], {})[line["process"]] = line

    async def _give_the_word(self) -> int:
        """Begin; returns the moment of the start by the judge's clock."""
        before = time.monotonic()
        page = await self._judge.page("stats")
        middle = (before + time.monotonic()) / 2
        self._begin = time.monotonic() + LEAD_S
        draft = self._folder / "go.draft"
        draft.write_text(repr(self._begin), encoding="ascii")
        draft.rename(self._folder / "go")
        self._event(f"{self._plan.agents} agents in {self._plan.processes} processes begin, twice: "
                    "under Bursar and unmanaged")  # fmt: skip
        return int(page["now_ms"]) + round((self._begin - middle) * 1000)

    # -- while it runs

    def _event(self, text: str) -> None:
        self._events.append((time.monotonic() - self._begin, text))
        self._watcher.event(text)

    def _faults(self) -> list[Coroutine[Any, Any, None]]:
        plan = self._plan
        return [
            self._bad_time("outage", plan.outage_at, plan.outage_s, "down"),
            self._bad_time("overload", plan.overload_at, plan.overload_s, "overloaded"),
            *(self._kill(kill) for kill in plan.kills),
            self._kill_worker(),
            self._lose_card(),
        ]

    async def _sleep_until(self, at: float) -> float:
        """Returns the seconds after the start."""
        await asyncio.sleep(max(0.0, self._begin + at - time.monotonic()))
        return time.monotonic() - self._begin

    async def _bad_time(self, kind: str, at: float, seconds: float, words: str) -> None:
        at = await self._sleep_until(at)
        await self._judge.episode(kind, seconds)
        self._bad_times.append((kind, at, at + seconds))
        self._event(f"the provider is {words} for {seconds:.1f} s")
        await asyncio.sleep(seconds)
        self._event("the provider is back")

    async def _kill(self, kill: Kill) -> None:
        await self._sleep_until(kill.at)
        victim = self._stack.kill_owner(kill.service)
        self._kills.append(Kill(time.monotonic() - self._begin, kill.service))
        self._event(f"kill -9 of the {kill.service} ({victim})")

    async def _kill_worker(self) -> None:
        """While it works on something, if it does so soon: what others take over then is what shows."""
        await self._sleep_until(self._plan.worker_kill_at)
        notes = self._folder / f"{'-'.join(map(str, self._victim))}.log"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WORK_WITHIN):
                while not under_way(read_notes(notes)):  # noqa: ASYNC110 - a file of another process
                    await asyncio.sleep(0.02)
        os.kill(self._ready[self._victim], signal.SIGKILL)
        self._worker_killed_at = time.monotonic() - self._begin
        self._event(f"kill -9 of a worker ({'-'.join(map(str, self._victim))})")

    async def _lose_card(self) -> None:
        """The card with the most memory in use falls off the bus."""
        await self._sleep_until(self._plan.card_lost_at)
        host = GPU_HOSTS[0]
        devices = (await self._cards.judge())[host]["devices"]
        uuid = max(devices, key=lambda name: devices[name]["used"])
        await self._cards.lose(host, uuid)
        self._card_lost_at = time.monotonic() - self._begin
        self._event(f"a GPU is lost ({uuid} of {host})")

    async def _watch(self) -> None:
        """Ask the judge and tell the watcher, once a second."""
        while True:
            with contextlib.suppress(Exception):
                self._progress.judged = await self._judge.page("stats")
            elapsed = time.monotonic() - self._begin
            self._progress.elapsed = elapsed
            self._progress.arrived = sum(job.at <= elapsed for job in self._plan.jobs)
            self._watcher.progress(self._progress)
            await asyncio.sleep(1.0)

    async def _until_done(self) -> None:
        """Both crews have done everything, or the time is over."""
        both = [asyncio.create_task(self.crews[name].wait()) for name in ARMS]
        left = self._begin + self._plan.give_up_at - time.monotonic()
        done, late = await asyncio.wait(both, timeout=left)
        if late:
            self._event("time is over: what is still open is lost")
        for task in late:
            task.cancel()
        del done

    # -- afterwards

    async def _recording(self, begin_ms: int, elapsed: float) -> Recording:
        plan, victim = self._plan, "-".join(map(str, self._victim))
        log, stats = await self._judge.page("log"), await self._judge.page("stats")
        remote = {f"remote-{number}" for number in range(REMOTE_WORKERS)}
        local = {f"local-{number}" for number in range(len(GPU_HOSTS) * GPU_WORKERS)}
        return Recording(
            plan=plan,
            begin=self._begin,
            begin_ms=begin_ms,
            elapsed=elapsed,
            bad_times=sorted(self._bad_times, key=lambda bad: bad[1]),
            kills=sorted(self._kills),
            worker_killed_at=self._worker_killed_at,
            victim=victim,
            card_lost_at=self._card_lost_at,
            stats=stats,
            log=log,
            arms={name: self.crews[name].found(plan.processes) for name in ARMS},
            probe=self.crews["probe"].found(1)[0],
            notes={name: read_notes(self._folder / f"{name}.log") for name in sorted(remote | local)},
            cards={"managed": await self._cards.judge(), "unmanaged": await self._plain.judge()},
            footprint=self._footprint,
            events=self._events,
            services_log=self._stack.log,
        )
