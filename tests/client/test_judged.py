"""The official SDKs over a real socket, against the judge, with a small limiter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import openai
import pytest

from bursar.client.fleet import Fleet
from bursar.demo.provider.app import Judge
from bursar.demo.provider.settings import Episode, Limits, Settings
from tests.client.fakes import FakeBus, FakeLimiter, without_bytes
from tests.client.virtual import LoopClock

MESSAGES: Any = [{"role": "user", "content": "tell me " * 50}]
"""400 characters: 100 tokens for the judge, 104 in our guess."""
LENGTH = {"X-Demo-Output-Tokens": "20"}
USED = ("used", {"requests": 1, "input_tokens": 100, "output_tokens": 20, "usd_micros": 0})


class World:
    def __init__(self, fleet: Fleet, there: FakeLimiter, clock: LoopClock, judge: Judge, url: str) -> None:
        self.fleet, self.there, self.clock, self.judge, self.url = fleet, there, clock, judge, url

    def openai(self, **options: Any) -> openai.AsyncOpenAI:
        http = self.fleet.http_client("openai/gpt", **options)
        return openai.AsyncOpenAI(api_key="k", base_url=f"{self.url}/v1", http_client=http)

    def anthropic(self, **options: Any) -> anthropic.AsyncAnthropic:
        http = self.fleet.http_client("anthropic/claude", **options)
        return anthropic.AsyncAnthropic(api_key="k", base_url=self.url, http_client=http)

    async def settled(self) -> list[tuple[str, dict[str, int] | None]]:
        await self.fleet.limiter.background.drain(2.0)
        return without_bytes(self.there.settled.values())


@asynccontextmanager
async def world(slots: int = 1_000, **settings: Any) -> AsyncIterator[World]:
    limits = Limits(requests=100, input_tokens=10_000, output_tokens=10_000)
    quick = {"first_token_ms": 5.0, "per_token_ms": 0.5, "spread": 0.0}
    judge = Judge(Settings(keys={"k": limits}, **(quick | settings)))
    server = await judge.serve("127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus, clock = FakeBus(), LoopClock()
    there = FakeLimiter(bus, slots=slots)
    try:
        async with Fleet(None, bus=bus, clock=clock) as fleet:
            yield World(fleet, there, clock, judge, f"http://127.0.0.1:{port}")
    finally:
        server.close()
        await server.wait_closed()


async def test_openai_is_reserved_and_settled() -> None:
    """One argument to the official SDK."""
    async with world() as w, w.openai() as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=50, extra_headers=LENGTH)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 20
        assert await w.settled() == [USED]
        observed = w.fleet.limiter.observed["openai/gpt"].requests
        assert observed is not None
        assert (observed.limit, observed.remaining) == (100, 99)


async def test_openai_streams_are_settled_with_the_usage_of_the_last_chunk() -> None:
    """With include_usage; the permit covers the stream until it ends."""
    async with world() as w, w.openai() as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=50, stream=True, stream_options={"include_usage": True},
            extra_headers=LENGTH,
        )  # fmt: skip
        chunks = 0
        async for _ in stream:
            chunks += 1
            assert len(w.there.open) + len(w.there.settled) == 1
        assert chunks > 3
        assert await w.settled() == [USED]


async def test_openai_streams_without_usage_count_in_full() -> None:
    """The provider does not say: what was reserved counts."""
    async with world() as w, w.openai() as client:
        stream = await client.chat.completions.create(
            model="m", messages=MESSAGES, max_tokens=50, stream=True, extra_headers=LENGTH
        )
        async for _ in stream:
            pass
        full = {"requests": 1, "input_tokens": 104, "output_tokens": 50, "usd_micros": 0}
        assert await w.settled() == [("used", full)]


async def test_anthropic_is_reserved_and_settled() -> None:
    """One argument to the official SDK."""
    async with world() as w, w.anthropic() as client:
        answer = await client.messages.create(model="m", messages=MESSAGES, max_tokens=50, extra_headers=LENGTH)
        assert answer.usage.output_tokens == 20
        assert await w.settled() == [USED]
        assert w.fleet.limiter.observed["anthropic/claude"].input_tokens is not None


async def test_anthropic_streams_are_settled_with_their_usage() -> None:
    """Input from message_start, output from message_delta."""
    async with world() as w, w.anthropic() as client:
        async with client.messages.stream(model="m", messages=MESSAGES, max_tokens=50, extra_headers=LENGTH) as stream:
            text = "".join([part async for part in stream.text_stream])
        assert len(text) == 80
        assert await w.settled() == [USED]


async def test_a_refusal_reaches_the_sdk_as_a_rate_limit_error_at_once() -> None:
    """The SDK does not retry what wait= has decided."""
    async with world(slots=0) as w, w.openai(wait=0) as one, w.anthropic(wait=0) as other:
        with pytest.raises(openai.RateLimitError, match="no room"):
            await one.chat.completions.create(model="m", messages=MESSAGES)
        with pytest.raises(anthropic.RateLimitError, match="no room"):
            await other.messages.create(model="m", messages=MESSAGES, max_tokens=5)
        assert len(w.there.heard) == 2
        assert not w.judge.quotas["k"].log


async def test_each_retry_of_the_sdk_has_a_permit_of_its_own() -> None:
    """An overloaded provider: every attempt is reserved and settled by itself."""
    async with world(episodes=(Episode("overload", 0.0, 1.0),)) as w, w.openai() as client:
        await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=50, extra_headers=LENGTH)
        settled = await w.settled()
        assert settled[-1] == USED
        assert len(settled) > 1
        assert {usage["input_tokens"] for _, usage in settled[:-1] if usage} == {0}


async def test_what_was_never_sent_is_given_back() -> None:
    """Nobody listens there: the connection fails before the first byte."""
    async with world() as w:
        w.url = "http://127.0.0.1:1"
        async with w.openai() as client:
            with pytest.raises(openai.APIConnectionError):
                await client.with_options(max_retries=0).chat.completions.create(model="m", messages=MESSAGES)
        assert await w.settled() == [("cancelled", None)]


async def test_a_permit_is_checked_when_the_connection_is_ready() -> None:
    """Connecting took longer than the send deadline: the permit goes back, another is used, nothing was sent twice."""
    async with world() as w, w.fleet.http_client("openai/gpt") as client:
        jumps = iter([400.0])

        async def slow(name: str, _: Any) -> None:
            if name == "connection.connect_tcp.complete":
                w.clock.ahead += next(jumps, 0.0)

        answer = await client.post(
            f"{w.url}/v1/chat/completions", json={"model": "m", "messages": MESSAGES, "max_tokens": 50},
            headers={"authorization": "Bearer k", **LENGTH}, extensions={"trace": slow},
        )  # fmt: skip
        assert answer.status_code == 200
        assert sorted(outcome for outcome, _ in await w.settled()) == ["cancelled", "used"]
        assert len(w.judge.quotas["k"].log) == 1


async def test_a_hundred_calls_at_once_all_settle() -> None:
    """Nothing is lost when the fleet closes with settlements under way."""
    async with world() as w:
        w.there.send_within = 20_000  # a hundred connections are made at once, on a machine that may be busy
        async with w.openai() as client:

            async def ask() -> None:
                await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=50, extra_headers=LENGTH)

            begun = time.perf_counter()
            await asyncio.gather(*(ask() for _ in range(100)))
            assert time.perf_counter() - begun < 30
        await w.fleet.close()
        outcomes = [outcome for outcome, _ in w.there.settled.values()]
        assert outcomes == ["used"] * 100
        assert len(w.judge.quotas["k"].log) == 100
        assert not w.there.open
