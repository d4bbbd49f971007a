"""A real registry with rules that a test can wait for, agents on real connections, and an operator."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError
from bursar.bus.signing import Signer
from bursar.client.breaker import Breaker
from bursar.client.fleet import Fleet
from bursar.contracts.base import admin_subject, request_subject
from bursar.contracts.breaker import CircuitStatus, StatusReply
from bursar_breaker.core import BreakerDecider
from bursar_breaker.state import State, validate
from tests.breaker.history import check_history
from tests.integration.support import Rig, until

RULES = """
[default]
window = "5s"
minimum_calls = 6
consecutive = 0
open_for = "30s"
jitter = "0%"
ramp_step = "100ms"
max_open = "60s"
probe_ttl = "1s"
successes = 1

[targets.quick]
open_for = "300ms"
"""


def breaker_rig(directory: Path) -> Rig:
    circuits = directory / "circuits.toml"
    circuits.write_text(RULES)
    return Rig(
        directory,
        module="bursar_breaker",
        service="breaker",
        decider=BreakerDecider,
        env={"BURSAR_CIRCUITS": str(circuits)},
    )


def trust_of(rig: Rig) -> Path:
    """What an installation's home has: the public key of the registry."""
    path = rig.directory / "trust.json"
    path.write_text(json.dumps({"breaker": Signer.load(rig.keys_dir / "signing.nk").public_key}))
    return path


@asynccontextmanager
async def agents(rig: Rig, count: int) -> AsyncIterator[list[Breaker]]:
    """So many agents, each with a connection of its own, that have heard of the registry."""
    async with AsyncExitStack() as stack:
        fleets = [Fleet(None, bus=await rig.bus(f"agent-{n}"), trust=trust_of(rig)) for n in range(count)]
        breakers = [(await stack.enter_async_context(fleet)).breaker for fleet in fleets]
        for breaker in breakers:
            assert await breaker.ready(10)
        yield breakers


async def fail(breakers: list[Breaker], target: str, times: int = 4) -> None:
    """These agents see it fail."""
    for breaker in breakers:
        for _ in range(times):
            breaker.record(target, "error")


async def all_know(breakers: list[Breaker], target: str, state: str, within: float = 5.0) -> None:
    def check() -> bool:
        return all(breaker.circuits().get(target, "closed") == state for breaker in breakers)

    await until(check, within, f"{target} is {state}; {[breaker.circuits() for breaker in breakers]}")


async def order(rig: Rig, verb: str, target: str, number: int) -> dict[str, Any]:
    """What an operator sends, again (with the same id) until it is answered: while an owner is paused it may be the
    only one that hears it."""
    bus = await rig.bus("ops")
    payload = msgpack.packb({"id": f"o-{number}", "target": target, "note": "test"})
    deadline = time.monotonic() + 10
    while True:
        try:
            answer = await bus.request(admin_subject("breaker", verb, "ops"), payload, 0.5)
        except BusError:
            assert time.monotonic() < deadline, f"{verb} {target} is not answered"
            continue
        told = dict(msgpack.unpackb(answer.data))
        if "error" not in told:
            return told
        assert told["error"]["code"] == "not_ready", told


async def shown(rig: Rig, target: str, check: Callable[[CircuitStatus], bool]) -> CircuitStatus:
    """What the registry's status says of a target, as soon as it passes the check."""
    bus, payload = await rig.bus("viewer"), msgpack.packb({"target": target})
    deadline = time.monotonic() + 5
    while True:
        answer = await bus.request(request_subject("breaker", "status", "viewer"), payload, 5.0)
        rows = StatusReply.model_validate(msgpack.unpackb(answer.data)).circuits
        for row in rows:
            if row.target == target and check(row):
                return row
        assert time.monotonic() < deadline, rows


async def check_journal(rig: Rig) -> State:
    """The whole journal keeps the table and its revisions; its last state agrees with itself, and is returned."""
    final, entries = await rig.walk()
    check_history([event for entry in entries for row in entry.decisions for event in row.events])
    validate(final.state, final.time)
    state: State = final.state
    return state
