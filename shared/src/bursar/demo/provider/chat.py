"""One admitted call from its first token to its last, charged as it goes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .call import WORD, Call, pace_of
from .clock import Clock
from .http import Answer
from .quota import Quota
from .settings import Settings
from .shape import Shape


@dataclass(frozen=True, slots=True)
class Chat:
    """An admitted call: ``number`` is its line in the log of the quota, ``name`` its request id."""

    shape: Shape
    quota: Quota
    number: int
    call: Call
    name: str
    headers: list[tuple[str, str]]
    answer: Answer

    async def run(self, settings: Settings, clock: Clock) -> None:
        """Answer it. However it ends, the key's accounts are closed; only a whole answer counts as done."""
        done = False
        try:
            if self.call.stream:
                await self._stream(settings, clock)
            else:
                await self._whole(settings, clock)
            self.quota.statuses[200] += 1
            done = True
        finally:
            self.quota.end(self.number, done=done)

    async def _whole(self, settings: Settings, clock: Clock) -> None:
        pace = pace_of(self.call, settings)
        await asyncio.sleep(pace.first + pace.each * (self.call.output_tokens - 1))
        self.quota.produce(clock.ms(), self.number, self.call.output_tokens)
        self.answer.send(200, self.headers, self.shape.answer(self.call, self.name))

    async def _stream(self, settings: Settings, clock: Clock) -> None:
        pace = pace_of(self.call, settings)
        self.answer.start(self.headers)
        self.answer.event(self.shape.opening(self.call, self.name))
        await asyncio.sleep(pace.first)
        left = self.call.output_tokens
        while left:
            tokens = min(left, settings.chunk_tokens)
            self.quota.produce(clock.ms(), self.number, tokens)
            self.answer.event(self.shape.chunk(self.call, self.name, WORD * tokens))
            left -= tokens
            await asyncio.sleep(pace.each * tokens if left else 0)
        self.answer.event(self.shape.ending(self.call, self.name))
        self.answer.finish()
