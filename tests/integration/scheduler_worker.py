"""A worker as a process: ``python -m tests.integration.scheduler_worker NAME SLOTS``, connected to BURSAR_URL.

Classes: ``nap`` sleeps for ``payload["s"]`` seconds and returns who did it and with which fence; ``together`` runs
for a minute if a member with the name in ``payload["until_without"]`` does, too, and returns its rank and all
members; ``echo`` returns its payload; ``flaky`` fails on its first attempts. Prints a line when it has registered,
and one for each start.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from bursar.bus.connection import connect
from bursar.client.fleet import Fleet
from bursar.client.worker import Worker
from bursar.client.worker_task import TaskRefused, WorkerTask


def equip(worker: Worker, say: Any = None) -> Worker:
    """The functions of a worker of the tests."""

    def tell(task: WorkerTask) -> None:
        if say is not None:
            say(f"started {task.id} {task.attempt}")

    @worker.task("nap")
    async def nap(task: WorkerTask) -> dict[str, Any]:
        tell(task)
        await asyncio.sleep(task.payload["s"])
        return {"who": worker.principal, "fence": task.fence, "n": task.payload.get("n")}

    @worker.task("together")
    async def together(task: WorkerTask) -> list[Any]:
        tell(task)
        await asyncio.sleep(60.0 if task.payload["until_without"] in task.members else 0.1)
        return [task.rank, list(task.members), task.attempt]

    @worker.task("echo")
    async def echo(task: WorkerTask) -> Any:
        await task.progress(0.5, "half")
        return task.payload

    @worker.task("flaky")
    def flaky(task: WorkerTask) -> int:
        if task.payload == "refuse":
            raise TaskRefused("in vain")
        if task.attempt <= task.payload:
            raise ValueError(f"attempt {task.attempt}")
        return task.attempt

    return worker


async def main(name: str, slots: int) -> None:
    bus = await connect([os.environ["BURSAR_URL"]], principal=name)
    try:
        async with Fleet(None, bus=bus) as fleet:
            await equip(Worker(fleet, slots=slots, grace=5.0), _say).run()
    finally:
        await bus.close()
    _say("ended")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
