"""The fleet under Bursar, the agents' side: every job is a task for the scheduler, and its result is awaited.

A job has a name of its own, so that asking again after a silence means the same task. The agents note every end that
they are told of: a task with two accepted ends would be told twice, with different fences.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import bursar
from bursar.client.scheduler_errors import SchedulerUnavailable
from bursar.demo.plan import Job

RETRIES: Final = 40
BACKOFF_S: Final = 0.3
QUEUE_WAIT_S: Final = 120.0


class Managed:
    """How one process gets its jobs done. ``submits``: (sent, seconds until it was durable) of each submission;
    ``ends``: by task, the fences of the ends that were told."""

    def __init__(self, fleet: bursar.Fleet) -> None:
        self._fleet = fleet
        self.submits: list[tuple[float, float]] = []
        self.unavailable = 0
        self.ends: dict[str, list[str]] = {}

    async def do_job(self, number: int, job: Job, agent: int) -> str:
        handle = await self._submit(number, job, agent)
        try:
            await handle.result()
        except bursar.BursarError as error:
            return type(error).__name__
        return "done"

    async def _submit(self, number: int, job: Job, agent: int) -> Any:
        sent = time.monotonic()
        task_class, kind = ("local", "gpu") if job.local else ("chat", "remote")
        payload = {"job": number, "agent": agent, **job._asdict()}
        while True:
            try:
                handle = await self._fleet.scheduler.submit(
                    task_class, payload, retries=RETRIES, backoff=BACKOFF_S, needs={"kind": kind},
                    key=f"job-{number}", wait=QUEUE_WAIT_S,
                )  # fmt: skip
            except SchedulerUnavailable:
                self.unavailable += 1
                await asyncio.sleep(BACKOFF_S)
            else:
                self.submits.append((sent, time.monotonic() - sent))
                return handle

    def told(self, notice: dict[str, Any]) -> None:
        """The end of a task; the same end may be told more than once."""
        fences = self.ends.setdefault(notice["task"], [])
        if notice["fence"] not in fences:
            fences.append(notice["fence"])


@contextlib.asynccontextmanager
async def managed(config: dict[str, Any], process: int) -> AsyncIterator[Managed]:
    """Made from a crew's configuration."""
    async with bursar.connect(config["nats"], creds=config["creds"][process]) as fleet:
        made = Managed(fleet)
        await fleet.scheduler.open()
        fleet.scheduler.notices.listen("ended", made.told)
        yield made
