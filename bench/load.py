"""Closed-loop load with plain nats-py: so many requests in flight, each answered before the next is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import msgpack  # type: ignore[import-untyped]
from nats.aio.client import Client

from bench.echo import SUBJECT as ECHO
from bench.figures import quantile
from bench.stack import BUDGET

PRINCIPAL = "bench"
TIMEOUT = 10.0


class Run(NamedTuple):
    """Answers per second, and the latency's p50 and p99 (ms)."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def closed_loop(in_flight: int, seconds: float, work: Callable[[], Awaitable[None]]) -> Run:
    """Have ``work`` (an awaitable per call) done by so many at once."""
    latencies: list[float] = []
    until = time.perf_counter() + seconds

    async def worker() -> None:
        while (began := time.perf_counter()) < until:
            await work()
            latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    elapsed = time.perf_counter() - began
    return Run(len(latencies) / elapsed, quantile(latencies, 0.5) * 1000, quantile(latencies, 0.99) * 1000)


class Decisions:
    """Alternately reserves and settles; each is one durable decision and one ``nc.request``."""

    def __init__(self, client: Client, session: str) -> None:
        self._client = client
        self._session = session
        self._next = 0
        self._open: list[str] = []

    async def one(self) -> None:
        self._next += 1
        request: dict[str, object] = {"id": f"{self._session}-{self._next}"}
        if self._open:
            verb = "settle"
            usage = {"input_tokens": 900, "output_tokens": 40}
            request.update(reservation=self._open.pop(), usage=usage)
        else:
            verb = "reserve"
            request.update(budget=BUDGET, amounts={"input_tokens": 1000, "output_tokens": 100})
        answer = await self._client.request(f"bursar.req.limiter.{verb}.{PRINCIPAL}", msgpack.packb(request), TIMEOUT)
        reply = msgpack.unpackb(answer.data)
        if not reply.get("ok"):
            raise RuntimeError(f"not decided: {reply}")
        if verb == "reserve":
            self._open.append(reply["reservation"])


async def echo_once(client: Client, payload: bytes) -> None:
    await client.request(ECHO, payload, TIMEOUT)
