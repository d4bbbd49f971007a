"""A worker: it takes tasks from the scheduler and runs a function for each.

bursar up                                       # one terminal
bursar agent add summariser --role worker       # once: writes .bursar/creds/summariser.creds
python examples/worker.py                       # as many as you like, each with credentials of its own; Ctrl-C ends it

Tasks come from `examples/submit.py`, or from an agent in any language.
"""

import asyncio
from typing import Any

import bursar


async def main() -> None:
    async with bursar.connect(name="summariser") as fleet:
        worker = bursar.Worker(fleet, slots=4)

        @worker.task("summarise")
        async def summarise(task: bursar.WorkerTask) -> dict[str, Any]:
            words = task.payload["text"].split()
            await task.progress(0.5, f"{len(words)} words")
            return {"words": len(words), "summary": " ".join(words[:5])}

        print("ready", flush=True)
        await worker.run()  # until Ctrl-C; what runs then may finish


asyncio.run(main())
