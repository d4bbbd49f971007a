"""An agent that takes a probe permit and holds it: ``python -m bench.breaker_prober URL TRUST TARGET``.

Says ``ready``, then ``held`` when it has the permit; the benchmark kills it then.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from bench.breaker_agents import say
from bursar.bus.connection import connect
from bursar.client.breaker import Breaker
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.trust import verifier_of


async def main() -> None:
    url, trust, target = sys.argv[1:]
    bus = await connect(url, principal="prober")
    breaker = Breaker(bus, trust=lambda: verifier_of(Path(trust)))
    if not await breaker.ready(20):
        raise RuntimeError("the registry does not answer")
    say("ready")
    asyncio.get_running_loop().add_reader(sys.stdin, sys.exit)  # who has started it is gone
    while True:
        try:
            call = await breaker.ask_probe(target)
        except CircuitOpen:
            await asyncio.sleep(0.01)
            continue
        if call.is_probe:
            say("held")
            await asyncio.sleep(600)
        call.done()
        await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
