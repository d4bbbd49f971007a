"""A task that takes several workers: each runs the function with its rank, and the task ends when all have."""

from __future__ import annotations

import asyncio

from bursar.bus.memory import MemoryNetwork
from bursar.client.fleet import Fleet
from bursar.client.worker import Worker
from bursar.client.worker_task import WorkerTask
from tests.client.fake_scheduler import FakeScheduler
from tests.client.virtual import LoopClock, run


def test_every_member_runs_its_part_and_the_first_gives_the_result() -> None:
    """The first one returns before the others; a failure of one stops them all, and they begin again."""
    ran: list[tuple[str, int, int]] = []

    async def main() -> None:
        network, clock = MemoryNetwork(), LoopClock()
        there = FakeScheduler(network, clock.now)
        await there.start()
        async with Fleet(None, bus=network.connect("ann"), clock=clock) as agent:
            fleets = [Fleet(None, bus=network.connect(f"w{number}"), clock=clock) for number in (1, 2, 3)]
            crew = []
            for fleet in fleets:
                worker = Worker(fleet, kind="gpu")

                @worker.task("train")
                async def train(task: WorkerTask, me: str = fleet.principal) -> str:
                    ran.append((me, task.rank, task.attempt))
                    assert task.members[task.rank] == me
                    if task.attempt == 1 and task.rank == 1:
                        await asyncio.sleep(0.5)
                        raise RuntimeError("a card fell off the bus")
                    await asyncio.sleep(1.0 + task.rank)
                    return f"rank {task.rank} of {len(task.members)}"

                crew.append(asyncio.ensure_future(worker.run(signals=False)))
                fleet_worker = worker
                await asyncio.sleep(0.1)
                assert fleet_worker.is_registered
            handle = await agent.scheduler.submit("train", needs={"gang": 3}, backoff=0.1)
            assert await handle.result(20) == "rank 0 of 3"
            await asyncio.sleep(0.1)
            assert all(not worker.attempts for worker in there.state.workers.values())
            for work in crew:
                work.cancel()
            await asyncio.gather(*crew, return_exceptions=True)
            for fleet in fleets:
                await fleet.close()
        await there.stop()

    run(main())
    assert sorted(rank for _, rank, attempt in ran if attempt == 1) == [0, 1, 2]
    assert sorted(rank for _, rank, attempt in ran if attempt == 2) == [0, 1, 2]
