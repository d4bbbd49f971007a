"""A worker that takes what its tasks take: ``python -m tests.integration.saga_worker [die]``, with BURSAR_URL and
BURSAR_CREDS. With ``die`` its process ends (as by kill -9) when the circuit and the GPU are taken and the permit is
asked for."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import bursar
from bursar.client import worker_saga
from bursar.client.worker_task import WorkerTask


async def main(dies: bool) -> None:
    worker_saga.GPU_TTL = 1.0  # type: ignore[misc]
    async with bursar.connect() as fleet:
        worker = bursar.Worker(fleet, slots=4, grace=1.0)

        @worker.task("all")
        async def use(task: WorkerTask) -> dict[str, Any]:
            held = task.held
            assert held is not None
            assert held.gpu is not None
            assert held.permit is not None
            assert held.circuit is not None
            held.gpu.check()
            held.permit.used(requests=1)
            await asyncio.sleep(task.payload)
            return {"memory": held.gpu.memory, "permit": held.permit.state, "target": held.circuit.target}

        if dies:
            fleet.limiter.reserve = lambda *_args, **_more: os._exit(9)  # type: ignore[method-assign]
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await worker.run()


if __name__ == "__main__":
    asyncio.run(main("die" in sys.argv))
