"""Chats with the demo's provider, under a limiter and a breaker: real sockets, real time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bursar.client.breaker_errors import CircuitOpen
from bursar.client.fleet import Fleet
from bursar.client.worker_chat import ServerError
from bursar.client.worker_openai import Chat, Server, base_of, models_at
from bursar.client.worker_task import TaskRefused, WorkerTask
from bursar.demo.provider.app import Judge
from bursar.demo.provider.settings import Episode, Limits, Settings
from bursar.errors import CallerError
from tests.client.fakes import FakeBus, FakeLimiter
from tests.client.virtual import LoopClock


class World:
    def __init__(self, fleet: Fleet, there: FakeLimiter, judge: Judge, url: str) -> None:
        self.fleet, self.there, self.judge, self.url = fleet, there, judge, url
        self.told: list[tuple[float | None, str | None]] = []

    def task(self, payload: Any, deadline_ms: int | None = None) -> WorkerTask:
        notice = {"task": "ann.t", "token": "1.1.1", "task_class": "chat", "attempt": 1, "payload": payload}
        told = self.told
        return WorkerTask(
            {**notice, "deadline_in_ms": deadline_ms}, tell_soon=lambda said: told.append((said["part"], said["note"]))
        )

    @asynccontextmanager
    async def chat(self, *, stream: bool = True, key: str = "k", **options: Any) -> AsyncIterator[Chat]:
        server = Server(self.fleet, self.url, api_key=key, **options)
        yield Chat(server, ["m", "n"], stream=stream)
        await server.aclose()


@asynccontextmanager
async def world(slots: int = 1_000, **settings: Any) -> AsyncIterator[World]:
    limits = Limits(requests=100, input_tokens=10_000, output_tokens=10_000)
    quick = {"first_token_ms": 5.0, "per_token_ms": 0.5, "spread": 0.0}
    judge = Judge(Settings(keys={"k": limits}, **(quick | settings)))
    server = await judge.serve("127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus = FakeBus()
    there = FakeLimiter(bus, slots=slots)
    try:
        async with Fleet(None, bus=bus, clock=LoopClock()) as fleet:
            yield World(fleet, there, judge, f"http://127.0.0.1:{port}")
    finally:
        server.close()
        await server.wait_closed()


ASK = {"prompt": "tell me " * 50, "max_tokens": 40}


async def test_a_chat_is_streamed_under_its_budget_and_its_usage_told() -> None:
    """Each chunk is progress; what it used is settled and stands in the result."""
    async with world(mean_output=1_000) as w, w.chat(budget="openai/gpt", circuit="openai") as chat:
        result = await chat(w.task(ASK))
        assert result["usage"] == {"prompt_tokens": 100, "completion_tokens": 40, "total_tokens": 140}
        assert (result["text"], result["finish_reason"], result["model"]) == ("word" * 40, "length", "m")
        assert len(w.told) == 5
        parts = [part or 0.0 for part, _ in w.told]
        assert parts == sorted(parts)
        assert w.told[-1][1] == result["text"][-200:]
        await w.fleet.limiter.background.drain(2.0)
        assert [usage["output_tokens"] for _, usage in w.there.settled.values() if usage] == [40]
        (call,) = w.judge.quotas["k"].log
        assert call.job == "ann.t"


@pytest.mark.parametrize(("budget", "circuit"), [("", ""), ("", "local/vllm"), ("openai/gpt", "")])
async def test_limiter_and_breaker_may_be_left_out(budget: str, circuit: str) -> None:
    """A local server needs no budget; and one that does not stream is read as well."""
    async with world() as w, w.chat(stream=False, budget=budget, circuit=circuit) as chat:
        result = await chat(w.task({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "model": "n"}))
        assert result["model"] == "n"
        assert result["usage"]["prompt_tokens"] == 1
        assert w.told == []
        assert bool(w.there.heard) == bool(budget)


async def test_what_the_provider_refuses_is_told_with_its_words() -> None:
    """A wrong key or request is refused for good; what passes may be tried again."""
    async with world(episodes=(Episode("errors", 0.0, 3600.0),)) as w:
        async with w.chat(key="wrong") as chat:
            with pytest.raises(TaskRefused, match="status 401: Incorrect API key"):
                await chat(w.task(ASK))
        async with w.chat() as chat:
            with pytest.raises(TaskRefused, match=r"status 400: .*max_tokens"):
                await chat(w.task(ASK | {"max_tokens": -1}))
            with pytest.raises(ServerError, match="status 500: The server had an error"):
                await chat(w.task(ASK))
            w.url = "http://127.0.0.1:1"
        async with w.chat() as chat:
            with pytest.raises(ServerError, match="ConnectError"):
                await chat(w.task(ASK))


async def test_a_stream_that_breaks_off_is_a_failure() -> None:
    """Its half of an answer is no result."""
    async with world(per_token_ms=50.0, mean_output=100_000) as w, w.chat() as chat:
        running = asyncio.ensure_future(chat(w.task(ASK | {"max_tokens": 4000})))
        async with asyncio.timeout(20):
            while not w.told:  # noqa: ASYNC110 - told by a plain function
                await asyncio.sleep(0.01)
        w.judge.begin(Episode("outage", 0.0, 60.0))
        with pytest.raises(ServerError):
            await running


async def test_an_open_circuit_is_waited_for_and_then_a_failure() -> None:
    """The task keeps its slot, nothing is sent, and no retry is used up by it meanwhile."""
    async with world() as w, w.chat(circuit="local/vllm", wait=0.6) as chat:
        w.url = "http://127.0.0.1:1"
        async with w.chat(circuit="local/vllm") as dead:
            while w.fleet.breaker.peek("local/vllm"):
                with pytest.raises(ServerError, match="ConnectError"):
                    await dead(w.task(ASK))
        with pytest.raises(CircuitOpen):
            await chat(w.task(ASK))
        assert not w.judge.quotas["k"].log


async def test_a_chat_ends_with_its_deadline_and_with_its_cancellation() -> None:
    """Whoever waits for it is told, and the connection is closed."""
    async with world(per_token_ms=100.0, mean_output=100_000) as w, w.chat() as chat:
        with pytest.raises(TimeoutError):
            await chat(w.task(ASK, deadline_ms=200))
        running = asyncio.ensure_future(chat(w.task(ASK)))
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        async with asyncio.timeout(10):
            while any(connection.busy for connection in w.judge.connections):  # noqa: ASYNC110 - the judge's own
                await asyncio.sleep(0.01)


def test_addresses_may_end_in_v1_or_not() -> None:
    """A path of its own is left as it is."""
    for url in ("http://h:8000", "http://h:8000/", "http://h:8000/v1", "http://h:8000/v1/"):
        assert base_of(url) == "http://h:8000/v1"
    assert base_of("https://h/openai/v2/") == "https://h/openai/v2"
    for wrong in ("h:8000", "ftp://h", "", "http://", "http://h/v1?key=x"):
        with pytest.raises(CallerError, match="address"):
            base_of(wrong)


async def test_a_server_tells_its_models_or_why_not() -> None:
    """The judge has none to tell."""
    async with world() as w:
        with pytest.raises(ServerError, match="/v1/models"):
            await models_at(w.url)
        with pytest.raises(ServerError, match="ConnectError"):
            await models_at("http://127.0.0.1:1")
        with pytest.raises(CallerError, match="at least one model"):
            Chat(Server(w.fleet, w.url), [])
