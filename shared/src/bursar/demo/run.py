"""One run: start everything, let both arms replay the same arrivals at the same time, break things, write down what
happened. What it means is worked out afterwards, in `bursar.demo.figures`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bursar.demo.plan import MANAGED_KEY, UNMANAGED_KEY, Plan
from bursar.demo.stack import CrewProcess, Judge, Stack, StackError, running_judge, running_stack

PROBE_RATE: Final = 20.0
READY_TIMEOUT_S: Final = 40.0
LEAD_S: Final = 0.4
"""Seconds between the word and the first arrival, so that every process has heard it."""
AFTER_S: Final = 0.5
"""Seconds that the probe goes on after the last request."""


@dataclass
class Progress:
    """How far the run is, for whoever watches. ``arms``: per arm and process, what was told last."""

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
    """Everything that was written down. ``begin_ms``: the start of the arrivals by the judge's clock. ``outages`` and
    ``kills``: seconds after the start. ``arms`` and ``probes``: what each process found."""

    plan: Plan
    begin: float
    begin_ms: int
    elapsed: float
    outages: list[tuple[float, float]]
    kills: list[float]
    stats: dict[str, Any]
    log: dict[str, Any]
    arms: dict[str, list[dict[str, Any]]]
    probe: dict[str, Any]
    events: list[tuple[float, str]]
    services_log: list[str]


async def run(plan: Plan, folder: Path, watcher: Watcher) -> Recording:
    """Run the plan; ``folder`` (empty) holds its files. SIGTERM cancels it, and all that was started is ended.

    Raises `StackError`.
    """
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    watcher.event("starting the provider, NATS, the limiter with a standby, and the fleet")
    async with running_judge(plan) as judge, running_stack(plan, folder / "home") as stack:
        return await _Run(plan, folder, watcher, judge, stack).go()


class _Run:
    def __init__(self, plan: Plan, folder: Path, watcher: Watcher, judge: Judge, stack: Stack) -> None:
        self._plan, self._folder, self._watcher = plan, folder, watcher
        self._judge, self._stack = judge, stack
        self._progress = Progress(jobs=len(plan.jobs))
        self._ready = 0
        self._begin = 0.0
        self._outages: list[tuple[float, float]] = []
        self._kills: list[float] = []
        self._events: list[tuple[float, str]] = []
        self.crews = {name: CrewProcess(folder, name, self._heard) for name in ("managed", "unmanaged", "probe")}

    async def go(self) -> Recording:
        try:
            await self._start_crews()
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
        finally:
            statuses = await asyncio.gather(*(crew.stop() for crew in self.crews.values()))
        if any(statuses):
            raise StackError("a process of the fleet ended with an error: see above")
        return await self._recording(begin_ms, elapsed)

    # -- start

    async def _start_crews(self) -> None:
        plan = self._plan
        both = {"agents": plan.agents, "processes": plan.processes, "retries": plan.retries, "jobs": plan.jobs,
                "base_url": f"{self._judge.base}/v1"}  # fmt: skip
        names = [f"fleet-{number}" for number in range(plan.processes)]
        nats = {"nats": self._stack.url, "creds": self._stack.credentials(*names)}
        probe = {"nats": self._stack.url, "creds": self._stack.credentials("probe"), "rate": PROBE_RATE}
        unmanaged = {**both, "arm": "unmanaged", "api_key": UNMANAGED_KEY}
        managed = {**both, **nats, "arm": "managed", "api_key": MANAGED_KEY}
        await self.crews["unmanaged"].start("agents", plan.processes, unmanaged)
        await self.crews["managed"].start("agents", plan.processes, managed)
        await self.crews["probe"].start("probe", 1, probe)
        wanted = 2 * plan.processes + 1
        until = time.monotonic() + READY_TIMEOUT_S
        while self._ready < wanted:
            if time.monotonic() > until:
                raise StackError(f"only {self._ready} of {wanted} processes of the fleet are ready")
            await asyncio.sleep(0.05)

    def _heard(self, line: dict[str, Any]) -> None:
        if line.get("ready"):
            self._ready += 1
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

    def _faults(self) -> list[Any]:
        return [self._outage(), *(self._kill(at) for at in self._plan.kills_at)]

    async def _sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, self._begin + at - time.monotonic()))

    async def _outage(self) -> None:
        await self._sleep_until(self._plan.outage_at)
        seconds = self._plan.outage_s
        at = time.monotonic() - self._begin
        await self._judge.outage(seconds)
        self._outages.append((at, at + seconds))
        self._event(f"the provider is down for {seconds:g} s")
        await asyncio.sleep(seconds)
        self._event("the provider is back")

    async def _kill(self, at: float) -> None:
        await self._sleep_until(at)
        victim = self._stack.kill_owner()
        self._kills.append(time.monotonic() - self._begin)
        self._event(f"kill -9 of the limiter ({victim})")

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
        both = [asyncio.create_task(self.crews[name].wait()) for name in ("managed", "unmanaged")]
        left = self._begin + self._plan.give_up_at - time.monotonic()
        done, late = await asyncio.wait(both, timeout=left)
        if late:
            self._event("time is over: what is still open is lost")
        for task in late:
            task.cancel()
        del done

    # -- afterwards

    async def _recording(self, begin_ms: int, elapsed: float) -> Recording:
        plan = self._plan
        log, stats = await self._judge.page("log"), await self._judge.page("stats")
        return Recording(
            plan=plan,
            begin=self._begin,
            begin_ms=begin_ms,
            elapsed=elapsed,
            outages=self._outages,
            kills=sorted(self._kills),
            stats=stats,
            log=log,
            arms={name: self.crews[name].found(plan.processes) for name in ("managed", "unmanaged")},
            probe=self.crews["probe"].found(1)[0],
            events=self._events,
            services_log=self._stack.log,
        )
