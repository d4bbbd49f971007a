"""Load the benchmark's journal in this fresh process and print what it took. Usage: python -m bench.cold_start URL"""

from __future__ import annotations

import asyncio
import json
import sys

from bench.journal_load import measure_cold_start
from bursar.bus.connection import connect
from bursar.kernel.process import tame_garbage_collection


async def main(url: str) -> None:
    bus = await connect(url, principal="bench-cold")
    tame_garbage_collection()
    loaded = await measure_cold_start(bus)
    print(json.dumps({"seconds": loaded.seconds, "per_second": loaded.replay_per_second, "events": loaded.events}))
    await bus.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
