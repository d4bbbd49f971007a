"""Closed-loop load with plain nats-py: so many requests in flight, each answered before the next is sent."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgpack  # type: ignore[import-untyped]
from nats.aio.client import Client

from bench.echo import SUBJECT as ECHO
from bench.figures import median, quantile, say
from bench.stack import BUDGET
from bursar.contracts.base import request_subject

PRINCIPAL = "bench"
TIMEOUT = 10.0
WARMING_SECONDS = 0.15


class Run(NamedTuple):
    """Answers per second, and the latency's p50 and p99 (ms)."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def closed_loop(in_flight: int, seconds: float, work: Callable[[], Awaitable[None]]) -> Run:
    """Have ``work`` (an awaitable per call) done by so many at once.

    All of them start in one moment, which no fleet does: what is sent in the first `WARMING_SECONDS` loads, too, and
    is not counted.
    """
    latencies: list[float] = []
    counted = time.perf_counter() + WARMING_SECONDS
    until = counted + seconds

    async def worker() -> None:
        while (began := time.perf_counter()) < until:
            await work()
            if began >= counted:
                latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    elapsed = time.perf_counter() - counted
    return Run(len(latencies) / elapsed, quantile(latencies, 0.5) * 1000, quantile(latencies, 0.99) * 1000)


def _text(value: bytes) -> bytes:
    """A string of at most 31 bytes in msgpack."""
    return bytes((0xA0 | len(value),)) + value


_ID = _text(b"id")
_RESERVATION = _text(b"reservation")
_OK = _text(b"ok") + b"\xc3"
_SETTLE = request_subject("limiter", "settle", PRINCIPAL)
_RESERVE = request_subject("limiter", "reserve", PRINCIPAL)
AMOUNTS = {"input_tokens": 1000, "output_tokens": 100}
USAGE = {"input_tokens": 900, "output_tokens": 40}


class Decisions:
    """Alternately reserves and settles; each is one durable decision and one ``nc.request``.

    Like the echo's, its payloads are packed beforehand but for the ids, and of an answer only that is read which the
    next request needs: what is measured is the service, not a client's codec.
    """

    def __init__(
        self, client: Client, session: str, budget: str = BUDGET, amounts: Mapping[str, int] | None = None
    ) -> None:
        self._client = client
        self._session = session.encode()
        self._reserve: bytes = msgpack.packb({"budget": budget, "amounts": dict(amounts or AMOUNTS)})[1:]
        self._settle: bytes = msgpack.packb({"usage": USAGE})[1:]
        self._next = 0
        self._open: list[bytes] = []

    async def one(self) -> None:
        self._next += 1
        request_id = _ID + _text(b"%s-%d" % (self._session, self._next))
        is_settlement = bool(self._open)
        if is_settlement:
            payload = b"".join((b"\x83", request_id, _RESERVATION, _text(self._open.pop()), self._settle))
        else:
            payload = b"".join((b"\x83", request_id, self._reserve))
        answer = await self._client.request(_SETTLE if is_settlement else _RESERVE, payload, TIMEOUT)
        data = answer.data
        if _OK not in data:
            raise RuntimeError(f"not decided: {data!r} {answer.headers}")
        if not is_settlement:
            at = data.index(_RESERVATION) + len(_RESERVATION)
            self._open.append(data[at + 1 : at + 1 + (data[at] & 0x1F)])


async def echo_once(client: Client, payload: bytes) -> None:
    await client.request(ECHO, payload, TIMEOUT)


ECHOED: bytes = msgpack.packb({"id": "s-1", "budget": "bench", "amounts": {"input_tokens": 1, "output_tokens": 1}})


def quiet_collector() -> None:
    """The collector's settings of the services, for the process that makes the load: its pauses are not theirs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 1_000_000, 1_000_000)


async def in_turn(
    client: Client, level: int, rounds: int, seconds: float, decisions: Callable[[str], Decisions]
) -> dict[str, Any]:
    """Echo and durable in turn, so many rounds of so many seconds each with ``level`` in flight; medians and ratios.
    ``decisions`` makes a session of a name."""
    pairs: list[tuple[Run, Run]] = []
    for number in range(rounds):
        echo = await closed_loop(level, seconds, lambda: echo_once(client, ECHOED))
        durable = await closed_loop(level, seconds, decisions(f"l{level}r{number}").one)
        pairs.append((echo, durable))
        say(f"{level} in flight: echo {echo.per_second:.0f}/s, durable {durable.per_second:.0f}/s")
    return {
        f"durable_over_echo_{level}": median([d.per_second / e.per_second for e, d in pairs]),
        f"durable_per_s_{level}": median([d.per_second for _, d in pairs]),
        f"echo_per_s_{level}": median([e.per_second for e, _ in pairs]),
        f"reserve_p50_ms_{level}": median([d.p50_ms for _, d in pairs]),
        f"reserve_p99_ms_{level}": median([d.p99_ms for _, d in pairs]),
        f"echo_p99_ms_{level}": median([e.p99_ms for e, _ in pairs]),
        f"p99_over_echo_{level}": median([d.p99_ms / e.p99_ms for e, d in pairs]),
    }
