"""The agents of one process: each has its requests made when they are due, and notes what became of them.

A request is begun when it is due, while the agent's other requests are still open, up to `PARALLEL` of them. Both arms
run this code; what differs is the function that gets one request done.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from bursar.demo.plan import Job

PARALLEL = 3
"""Requests that one agent has open at once."""

DoJob = Callable[[int, Job, int], Awaitable[str]]
"""Number of the job, the job, number of the agent: how it ended, ``done`` or an error in a word."""


class Outcome(NamedTuple):
    """What became of one job: its number, seconds from due to answered (or given up), and ``done`` or the error."""

    job: int
    seconds: float
    ended_at: float
    how: str


class Shift:
    """The work of process ``process`` of ``processes``, which share ``agents`` agents."""

    def __init__(self, jobs: Sequence[Job], agents: int, processes: int, process: int, do_job: DoJob) -> None:
        self._jobs, self._agents, self._do_job = jobs, agents, do_job
        self._mine = range(process, agents, processes)
        self._begin = 0.0
        self.outcomes: list[Outcome] = []
        self.hows: Counter[str] = Counter()
        self.open = 0

    async def work(self, begin: float) -> None:
        """Do all jobs of these agents; ends when each is done or lost. ``begin``: by `time.monotonic`."""
        self._begin = begin
        async with asyncio.TaskGroup() as tasks:
            for agent in self._mine:
                tasks.create_task(self._agent(agent, tasks))

    async def _agent(self, agent: int, tasks: asyncio.TaskGroup) -> None:
        hands = asyncio.Semaphore(PARALLEL)
        for number in range(agent, len(self._jobs), self._agents):
            wait = self._begin + self._jobs[number].at - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            await hands.acquire()
            self.open += 1
            tasks.create_task(self._job(number, agent)).add_done_callback(lambda _: hands.release())

    async def _job(self, number: int, agent: int) -> None:
        job = self._jobs[number]
        how = await self._do_job(number, job, agent)
        now = time.monotonic() - self._begin
        self.open -= 1
        self.hows[how] += 1
        self.outcomes.append(Outcome(number, now - job.at, now, how))
