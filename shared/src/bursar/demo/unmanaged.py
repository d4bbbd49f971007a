"""The fleet without Bursar: every agent calls the provider when it likes and retries as the SDK does, and takes the
card that has the most free memory by the latest look at all cards, as fleets without a manager do.

When the retries are used up, the request is lost: nobody repeats it. A card that is full is tried again, too, with the
same pauses.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import openai

from bursar.client.gpu_simulated import SimulatedCards, SimulatedProcess
from bursar.demo.chatting import CALL_ERRORS, LIMITS, TLS, Caller, in_a_word
from bursar.demo.plain import pause
from bursar.demo.plan import Job
from bursar.errors import ServiceError

LOOK_S: Final = 0.5
"""Age of the look at the cards that an agent goes by."""


class Unmanaged:
    """How one process gets its jobs done."""

    def __init__(self, caller: Caller, cards: SimulatedCards, address: str, retries: int) -> None:
        self._caller, self._cards, self._address, self._retries = caller, cards, address, retries
        self._looked_at = float("-inf")
        self._look = asyncio.Lock()
        self._seen: dict[tuple[str, str], int] = {}
        self.out_of_memory = 0

    async def do_job(self, number: int, job: Job, agent: int) -> str:
        try:
            if job.local:
                await self._compute(job)
            else:
                await self._caller.call(number, job, agent)
        except ServiceError as error:
            return error.code
        except CALL_ERRORS as error:
            return in_a_word(error)
        return "done"

    async def _compute(self, job: Job) -> None:
        for attempt in range(self._retries + 1):
            host, uuid = await self._emptiest()
            try:
                async with SimulatedProcess.on(self._address, host) as process:
                    await process.allocate(uuid, job.gpu_bytes)
                    await asyncio.sleep(job.gpu_seconds)
                    return
            except ServiceError as error:
                self.out_of_memory += error.code == "out_of_memory"
                if attempt == self._retries:
                    raise
            await asyncio.sleep(pause(attempt, None))

    async def _emptiest(self) -> tuple[str, str]:
        async with self._look:
            if time.monotonic() - self._looked_at > LOOK_S:
                self._seen = {
                    (host, uuid): card["total"] - card["used"]
                    for host, judged in (await self._cards.judge()).items()
                    for uuid, card in judged["devices"].items()
                    if not card["lost"]
                }
                self._looked_at = time.monotonic()
        return max(self._seen, key=lambda place: self._seen[place])


@contextlib.asynccontextmanager
async def unmanaged(config: dict[str, Any]) -> AsyncIterator[Unmanaged]:
    """Made from a crew's configuration."""
    http = openai.DefaultAsyncHttpxClient(verify=TLS, limits=LIMITS)
    caller = Caller(http, config["base_url"], config["api_key"], config["retries"])
    cards = await SimulatedCards.connect(config["cards"])
    try:
        yield Unmanaged(caller, cards, config["cards"], config["retries"])
    finally:
        await caller.close()
        await cards.close()
