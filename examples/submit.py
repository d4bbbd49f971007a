"""An agent that gives work to others: it submits tasks and awaits their results.

bursar up                                # one terminal
bursar agent add writer                  # once: writes .bursar/creds/writer.creds
python examples/worker.py                # another terminal, with credentials of its own
python examples/submit.py
"""

import asyncio

import bursar

TEXT = "Hundreds of agent processes share things that run out: rate limits, money, GPU memory, worker slots."


async def main() -> None:
    async with bursar.connect(name="writer") as fleet:
        handle = await fleet.scheduler.submit("summarise", {"text": TEXT}, retries=3)
        print(f"{handle.id}: {await handle.result(timeout=30)}")
        # Without waiting for anybody: kept for the scheduler even while that is down.
        posted = await fleet.scheduler.post("summarise", {"text": TEXT})
        print(f"posted {posted}")


asyncio.run(main())
