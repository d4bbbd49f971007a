"""An agent as a process: calls as often as it is let, and says at its end when it called (ms of the machine's clock)::

    python -m tests.integration.lease_agent URL PRINCIPAL SECONDS

It says ``held`` as soon as it decides by itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from bursar.bus.connection import connect
from bursar.client.errors import LimiterUnavailable, PermitVoid
from bursar.client.fleet import Fleet
from bursar.client.permit import Permit

TOKENS = 10


async def main(url: str, principal: str, seconds: float) -> None:
    calls: list[tuple[int, int]] = []
    bus = await connect([url], principal=principal)
    async with Fleet(None, bus=bus) as fleet:
        until = time.monotonic() + seconds
        said = False

        async def work() -> None:
            nonlocal said
            while time.monotonic() < until:
                try:
                    async with fleet.limiter.reserve("hot", input_tokens=TOKENS, wait=5) as permit:
                        permit.sent()
                        calls.append((time.monotonic_ns() // 1_000_000, TOKENS))
                        if type(permit) is not Permit and not said:
                            said = True
                            _say("held")
                except (LimiterUnavailable, PermitVoid):
                    continue
                await asyncio.sleep(0.004)

        await asyncio.gather(*(work() for _ in range(4)))
    await bus.close()
    _say(json.dumps(calls))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
