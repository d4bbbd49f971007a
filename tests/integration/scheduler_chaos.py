"""A thousand workers in four processes, agents that submit, and everything that can go wrong, while it is written down;
then the journal is held against what they were told.

``python -m tests.integration.scheduler_chaos --seconds 300`` (`make history-scheduler`) for longer.

Faults, in a drawn order again and again: kill -9 of the scheduler's owner, of a process of workers, of nats-server;
SIGSTOP of the owner and of a process of workers; all connections of a process cut. Judged at the end:

* every task that was accepted has ended as ``done``, once, and its submitter has the result of the attempt whose end
  stands in the journal; of a submission without an answer there is one task at most;
* the journal, event by event: `tests.scheduler.history` (the table of lives, tokens that only grow, one acceptance for
  a name), and at every prefix accepted = there + ended;
* the state that it leads to: its parts agree, and it has what the events say.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import QueueFull, SchedulerUnavailable, TaskForgotten
from bursar.client.scheduler_handle import Handle
from bursar.contracts.scheduler import SERVICE
from bursar_scheduler import events
from bursar_scheduler.core import SchedulerDecider
from bursar_scheduler.lifecycle import LIVE
from bursar_scheduler.validate import validate
from tests.bus.proxy import Proxy
from tests.integration.support import ROOT, Instance, Rig, until
from tests.scheduler.history import accepted_ends, check_history

log = logging.getLogger(__name__)

PROCESSES: Final = 4
WORKERS: Final = 1_000
AGENTS: Final = 4
EACH: Final = 0.02
"""Seconds between two submissions of an agent."""

CALM: Final = 1.5
"""Seconds between two faults."""

ENV: Final = {"BURSAR_SNAPSHOT_MS": "86400000", "BURSAR_SNAPSHOT_EVENTS": "1000000000"}
"""The journal stays whole, so that all of it can be judged."""


class Crowd:
    """One process of workers, behind a proxy that can cut its connections."""

    def __init__(self, name: str, directory: Path, port: int) -> None:
        self.name = name
        self.proxy = Proxy(port)
        self._out = directory / f"{name}.out"
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.integration.scheduler_crowd", self.name, str(WORKERS // PROCESSES)]
        with self._out.open("wb") as out:
            env = {**os.environ, "BURSAR_URL": self.proxy.url}
            self.process = subprocess.Popen(command, env=env, stdout=out, stderr=out, cwd=ROOT)

    @property
    def is_there(self) -> bool:
        assert self.process.poll() is None, f"{self.name} has ended: {self._out.read_text()[-800:]}"
        return b"registered" in self._out.read_bytes()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Agent:
    """Submits one task after the other. ``accepted``: by their numbers; ``unknown``: ids without an answer."""

    def __init__(self, fleet: Fleet, rng: random.Random) -> None:
        self._fleet = fleet
        self._rng = rng
        self.accepted: dict[int, Handle] = {}
        self.unknown: set[str] = set()
        self.refused = 0
        self.is_over = False

    async def submit(self) -> None:
        number = 0
        while not self.is_over:
            number += 1
            fails = 1 if self._rng.random() < 0.05 else 0
            payload = {"n": number, "s": self._rng.uniform(0.0, 0.1), "fails": fails}
            try:
                handle = await self._fleet.scheduler.submit("step", payload, key=f"k{number}", backoff=0.1)
            except SchedulerUnavailable as error:
                self.unknown.add(str(error.facts["task"]))
            except QueueFull:
                self.refused += 1
            else:
                self.accepted[number] = handle
            await asyncio.sleep(EACH)

    async def fences(self, within: float) -> dict[str, str]:
        """The fence that each result shows, by task; all must come, and be the right ones."""
        told = {}
        for number, handle in self.accepted.items():
            try:
                result = await handle.result(within)
            except TaskForgotten:  # it was done long ago; the journal says how
                continue
            assert result["n"] == number, f"{handle.id} has the result of task {result['n']}"
            told[handle.id] = result["fence"]
        return told


class Chaos:
    """``async with Chaos(directory, seed) as chaos``: servers, scheduler, workers and agents run."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rig = Rig(
            directory, module="bursar_scheduler", service=SERVICE, decider=SchedulerDecider, inbox=True, env=ENV
        )
        self.directory = directory
        self.crowds: list[Crowd] = []
        self.agents: list[Agent] = []
        self.done = Counter[str]()
        self._fleets: list[Fleet] = []

    async def __aenter__(self) -> Self:
        await self.rig.__aenter__()
        try:
            await self._begin()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _begin(self) -> None:
        await self.rig.start("a", "b")
        port = urlsplit(self.rig.url).port or 0
        for number in range(PROCESSES):
            crowd = Crowd(f"c{number}", self.directory, port)
            await crowd.proxy.start()
            crowd.start()
            self.crowds.append(crowd)
        await until(lambda: all(crowd.is_there for crowd in self.crowds), 90, "all workers are registered")
        for number in range(AGENTS):
            fleet = Fleet(None, bus=await self.rig.bus(f"agent-{number}"))
            await fleet.__aenter__()
            self._fleets.append(fleet)
            self.agents.append(Agent(fleet, random.Random(self.rng.random())))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for crowd in self.crowds:
            crowd.kill()
            await crowd.proxy.stop()
        for fleet in self._fleets:
            await fleet.close(0.1)
        await self.rig.__aexit__(kind, error, trace)

    # ---- faults

    async def go(self, seconds: float) -> None:
        """Submit all the while, with one fault after the other; each of them at least once."""
        until_then = time.monotonic() + seconds
        submitting = [asyncio.ensure_future(agent.submit()) for agent in self.agents]
        faults: list[Callable[[], Awaitable[None]]] = [
            self._kill_owner, self._kill_workers, self._kill_server, self._pause_owner, self._pause_workers, self._cut,
        ]  # fmt: skip
        try:
            while not self.done or time.monotonic() < until_then:
                for fault in self.rng.sample(faults, len(faults)):
                    await asyncio.sleep(CALM)
                    at = time.monotonic()
                    await fault()
                    log.info("%s took %.1f s", fault.__name__, time.monotonic() - at)
                    self.done[fault.__name__] += 1
            await asyncio.sleep(CALM)
        finally:
            for agent in self.agents:
                agent.is_over = True
            await asyncio.gather(*submitting)

    async def _kill_owner(self) -> None:
        owner = await self._owner()
        owner.kill()
        await self._next_to(owner)
        self.rig.launch(owner.name)
        await owner.becomes("standby", 20)

    async def _owner(self) -> Instance:
        """Who owns; after a server's death there may be nobody for a moment."""
        both = [self.rig["a"], self.rig["b"]]
        await until(lambda: any(one.is_running and one.role == "owner" for one in both), 20, "somebody owns")
        return self.rig.owner()

    async def _next_to(self, owner: Instance) -> None:
        """The other one has taken over. (A server that was away may have made either of them stand by.)"""
        other = next(self.rig[name] for name in ("a", "b") if name != owner.name)
        await until(lambda: other.role == "owner", 20, f"{other.name} takes over from {owner.name}")

    async def _pause_owner(self) -> None:
        owner = await self._owner()
        owner.pause()
        await self._next_to(owner)
        owner.resume()
        await owner.becomes("standby", 20)

    async def _kill_workers(self) -> None:
        crowd = self.rng.choice(self.crowds)
        crowd.kill()
        crowd.start()
        await until(lambda: crowd.is_there, 60, f"{crowd.name} is registered again")

    async def _pause_workers(self) -> None:
        """For longer than they may be silent."""
        crowd = self.rng.choice(self.crowds)
        crowd.send(signal.SIGSTOP)
        await asyncio.sleep(5.0)
        crowd.send(signal.SIGCONT)

    async def _kill_server(self) -> None:
        self.rig.server.kill()
        await asyncio.sleep(self.rng.uniform(0.1, 1.5))
        await self.rig.server.start()

    async def _cut(self) -> None:
        self.rng.choice(self.crowds).proxy.cut()

    # ---- the judge

    async def judge(self, within: float = 60.0) -> dict[str, int]:
        """Raises AssertionError for what must not have happened; else figures of what has."""
        fences: dict[str, str] = {}
        for agent in self.agents:
            fences |= await agent.fences(within)
        accepted = {handle.id for agent in self.agents for handle in agent.accepted.values()}
        unknown = {task for agent in self.agents for task in agent.unknown}
        final, entries = await self.rig.walk()
        happened = [event for entry in entries for row in entry.decisions for event in row.events]
        _judge_events(happened, accepted, unknown, fences)
        states = check_history(happened)
        state = final.state
        there = {name for name, where in states.items() if where in LIVE}
        assert there == set(state.tasks), "the state has other tasks than the events tell"
        validate(state, state.at)
        return {
            "accepted": len(accepted), "without_answer": len(unknown), "events": len(happened),
            "attempts": state.counts["assigned"], "lost_attempts": state.counts["lost"], **self.done,
        }  # fmt: skip


def _judge_events(happened: list[Any], accepted: set[str], unknown: set[str], fences: dict[str, str]) -> None:
    """What the agents were told against the journal; and accepted = there + ended at every prefix."""
    ends = accepted_ends(happened)
    assert not accepted - ends.keys(), f"never ended: {sorted(accepted - ends.keys())[:5]}"
    assert max(ends.values()) == 1, "a task has two ends"
    states: dict[str, str] = {}
    tokens: dict[str, str] = {}
    counts = Counter[str]()
    for event in happened:
        kind = event[0]
        if kind == events.ACCEPTED:
            counts["accepted"] += 1
            states[event[2]] = "there"
        elif kind == events.ASSIGNED:
            tokens[event[2]] = event[4]
        elif kind == events.ENDED:
            counts["ended"] += 1
            assert states.pop(event[2], "") == "there", f"{event[2]} ended and was not there"
            assert event[3] == "done", f"{event[2]} is {event[3]}: {event[6:]}"
        assert counts["accepted"] == len(states) + counts["ended"], f"a task is lost at {event}"
    assert not (ends.keys() - accepted) - unknown, "a task that nobody has submitted"
    wrong = {task for task, fence in fences.items() if tokens[task] != fence}
    assert not wrong, f"results of other attempts than those whose ends were accepted: {sorted(wrong)[:5]}"


async def run(directory: Path, seconds: float, seed: int) -> dict[str, int]:
    """The whole of it; the figures of what has happened."""
    began = time.monotonic()
    async with Chaos(directory, seed) as chaos:
        log.info("%.1f s: %d workers are registered", time.monotonic() - began, WORKERS)
        await chaos.go(seconds)
        log.info("%.1f s: %s", time.monotonic() - began, dict(chaos.done))
        told = await chaos.judge()
        log.info("%.1f s: judged", time.monotonic() - began)
        return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=None, help="of the order of the faults; drawn if it is not given")
    chosen = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 30) if chosen.seed is None else chosen.seed
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdout.write(f"seed {seed}\n")
    with tempfile.TemporaryDirectory(prefix="bursar-chaos-") as directory:
        told = asyncio.run(run(Path(directory), chosen.seconds, seed))
    sys.stdout.write("".join(f"{name} {count}\n" for name, count in told.items()))


if __name__ == "__main__":
    main()
