"""Other circuit breakers by themselves: ``python bench/peers/breakers.py REDIS-PORT``; prints one JSON object.

Run by the interpreter that has them, so it imports nothing of Bursar, and them by name. What is measured:

- ``*_call_*_us``: a protected call of a function that does nothing, closed. What it costs more than calling that
  function by itself is the breaker's.
- ``interlock_cb_trip_to_other_*_ms``: two instances on one Redis, as its documents have it (state polled each second).
  One trips; until a call of the other is refused, which tries every 2 ms.
- ``interlock_cb_stuck_*``: half-open, its one probe never ends (its process is gone); how long the other instance,
  which goes on trying, is still refused when this stops watching.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

pybreaker: Any = import_module("pybreaker")
redis: Any = import_module("redis")
interlock: Any = import_module("interlock")
interlock_redis: Any = import_module("interlock.integrations.redis")
purgatory: Any = import_module("purgatory")

CALLS = 100_000
REDIS_CALLS = 5_000
TRIPS = 8
WATCHED_S = 12.0


def nothing() -> None:
    """What is protected."""


def quantiles(took: list[int], idle: int, name: str) -> dict[str, float]:
    ordered = sorted(took)
    at = {"p50": ordered[len(ordered) // 2], "p99": ordered[int(0.99 * len(ordered))]}
    return {f"{name}_call_{q}_us": max(0, value - idle) / 1000 for q, value in at.items()}


def timed(call: Callable[[], Any], count: int) -> list[int]:
    clock, took = time.perf_counter_ns, []
    for _ in range(count):
        began = clock()
        call()
        took.append(clock() - began)
    return took


async def purgatory_calls(count: int) -> list[int]:
    clock, took = time.perf_counter_ns, []
    circuits = purgatory.AsyncCircuitBreakerFactory()
    await circuits.initialize()
    breaker = await circuits.get_breaker("x")
    for _ in range(count):
        began = clock()
        async with breaker:
            nothing()
        took.append(clock() - began)
    return took


def calls(client: Any) -> dict[str, float]:
    idle = sorted(timed(nothing, 20_000))[10_000]
    local = interlock.CircuitBreaker(name="local")
    shared = interlock.CircuitBreaker(name="shared", storage=interlock_redis.RedisStorage(client))
    memory = pybreaker.CircuitBreaker()
    stored = pybreaker.CircuitBreaker(
        state_storage=pybreaker.CircuitRedisStorage(pybreaker.STATE_CLOSED, client, namespace="x")
    )
    figures = quantiles(timed(lambda: local.call(nothing), CALLS), idle, "interlock_cb_local")
    figures |= quantiles(timed(lambda: shared.call(nothing), CALLS), idle, "interlock_cb_redis")
    figures |= quantiles(timed(lambda: memory.call(nothing), CALLS), idle, "pybreaker_memory")
    figures |= quantiles(timed(lambda: stored.call(nothing), REDIS_CALLS), idle, "pybreaker_redis")
    shared.close()
    return figures | quantiles(asyncio.run(purgatory_calls(CALLS)), idle, "purgatory_memory")


def fail(breaker: Any, times: int) -> None:
    def broken() -> None:
        raise ConnectionError

    for _ in range(times):
        with contextlib.suppress(ConnectionError, interlock.CircuitOpenError):
            breaker.call(broken)


def is_refused(breaker: Any) -> bool:
    try:
        breaker.call(nothing)
    except interlock.CircuitOpenError:
        return True
    return False


def trips(client: Any) -> dict[str, float]:
    took = []
    config = interlock.Config(minimum_number_of_calls=5, window_size=10)
    for number in range(TRIPS):
        one, other = (
            interlock.CircuitBreaker(name=f"t{number}", config=config, storage=interlock_redis.RedisStorage(client))
            for _ in "ab"
        )
        until = time.perf_counter() + 1.2 + 0.1 * number  # so that the polls fall anywhere
        while time.perf_counter() < until:
            is_refused(other)
            time.sleep(0.002)
        began = time.perf_counter()
        fail(one, 5)
        while not is_refused(other):
            time.sleep(0.002)
        took.append((time.perf_counter() - began) * 1000)
        one.close()
        other.close()
    took.sort()
    return {"interlock_cb_trip_to_other_p50_ms": took[len(took) // 2], "interlock_cb_trip_to_other_max_ms": took[-1]}


def stuck(client: Any) -> dict[str, float]:
    """``lease_probe`` is what an instance does before it calls; one that dies then never does more."""
    config = interlock.Config(
        minimum_number_of_calls=5, window_size=10, wait_duration_in_open=0.5, permitted_calls_in_half_open=1
    )
    storage = interlock_redis.RedisStorage(client, state_ttl=6.0, poll_interval=0.1)
    other = interlock.CircuitBreaker(name="stuck", config=config, storage=storage)
    fail(other, 5)
    time.sleep(0.7)
    storage.begin_half_open_if_elapsed(name="stuck", wait_duration=0.5, permitted=1, ttl=6.0)
    storage.lease_probe(name="stuck", ttl=6.0)
    began = time.perf_counter()
    refused = 0
    while time.perf_counter() - began < WATCHED_S and is_refused(other):
        refused += 1
        time.sleep(0.02)
    still = time.perf_counter() - began
    other.close()
    return {
        "interlock_cb_stuck_after_dead_prober_s": still,
        "interlock_cb_stuck_watched_s": WATCHED_S,
        "interlock_cb_stuck_refused": float(refused),
    }


def main() -> None:
    client = redis.Redis(port=int(sys.argv[1]))
    gc.collect()
    figures = calls(client) | trips(client) | stuck(client)
    sys.stdout.write(json.dumps(figures))


if __name__ == "__main__":
    main()
