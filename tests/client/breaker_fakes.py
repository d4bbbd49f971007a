"""A registry in memory behind a small bus, which says what it is told to; its broadcasts are signed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]
from pydantic import BaseModel

from bursar.bus.signing import Signer, Verifier
from bursar.client.breaker import Breaker
from bursar.contracts import breaker as wire
from bursar.contracts.base import event_subject
from tests.client.fakes import FakeBus, Message
from tests.client.virtual import LoopClock

PULSE = event_subject("breaker", "pulse", "registry")
REQUESTS: dict[str, type[BaseModel]] = {
    "probe": wire.Probe, "probed": wire.Probed, "query": wire.Snapshot, "settings": wire.Settings,
}  # fmt: skip


class FakeRegistry:
    """``circuits``: what it knows, by target; ``heard``: requests by verb; ``reports``: deltas as they came; ``rules``
    and ``groups`` of this ``edition``; ``repeats``: how many of the latest changes a pulse says again."""

    def __init__(self, bus: FakeBus) -> None:
        self.bus = bus
        self.signer = Signer.generate()
        self.verifier = Verifier({"breaker": self.signer.public_key})
        self.incarnation = 1
        self.revision = 0
        self.circuits: dict[str, dict[str, Any]] = {}
        self.edition = 0
        self.rules: list[wire.ClientRule] = []
        self.groups: list[wire.Group] = []
        self.repeats = 0
        self.latest: list[dict[str, Any]] = []
        self.free = 1
        self.busy_for = 700
        self.is_deaf = False
        self.is_mute = False
        self.has_pulse = True
        self.heard: list[tuple[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        bus.server = self.hear

    def fence(self) -> str:
        return f"{self.incarnation}.1.{self.revision + 1}.{'0' * 16}"

    def change(
        self, target: str, state: str, remaining_ms: int | None = None, reason: str = "failure_rate", share: int = 0
    ) -> bytes:
        """The next change; broadcast unless it is mute. Returns the broadcast."""
        self.revision += 1
        row = {
            "target": target, "state": state, "revision": self.revision, "generation": self.revision,
            "reason": reason, "remaining_ms": remaining_ms, "share": share,
        }  # fmt: skip
        self.circuits[target] = row
        self.latest = [*self.latest, row][-wire.MAX_RECENT :]
        told = self.signer.sign(wire.state_subject(target), {"v": 1, **row, "fence": self.fence()})
        if not self.is_mute:
            self.say(target, told)
        return told

    def pulse(self) -> bytes:
        """What it says every second, and says now."""
        rows = self._rows()
        half_open = [row["target"] for row in rows if row["state"] == "half_open"]
        body = {
            "v": 1, "now_ms": round(asyncio.get_running_loop().time() * 1000), "revision": self.revision,
            "digest": wire.digest_of((r["target"], r["state"], r["revision"]) for r in rows),
            "free": half_open if self.free else [], "fence": self.fence(), "edition": self.edition,
            "recent": self.latest[len(self.latest) - min(self.repeats, len(self.latest)) :],
        }  # fmt: skip
        told = self.signer.sign(PULSE, body)
        self.say_pulse(told)
        return told

    def say_pulse(self, told: bytes) -> None:
        for sub in list(self.bus.subs):
            if sub.subject == PULSE:
                asyncio.get_running_loop().call_soon(sub.handler, Message(PULSE, "", told))

    async def keep_pulsing(self) -> None:
        while True:
            await asyncio.sleep(wire.PULSE_MS / 1000)
            if self.has_pulse and not self.is_deaf:
                self.pulse()

    def say(self, target: str, told: bytes) -> None:
        """Hand a broadcast to whoever listens."""
        for sub in list(self.bus.subs):
            if sub.subject == event_subject("breaker", "state", "*"):
                asyncio.get_running_loop().call_soon(sub.handler, Message(wire.state_subject(target), "", told))

    def hear(self, message: Message) -> None:
        _, kind, service, verb, principal = message.subject.split(".")
        assert (service, principal) == ("breaker", self.bus.principal)
        if kind == "obs":
            report = wire.Report.model_validate(msgpack.unpackb(message.data, use_list=False))
            self.reports += [delta.model_dump(exclude_defaults=True) for delta in report.deltas]
            return
        request = REQUESTS[verb].model_validate(msgpack.unpackb(message.data))
        self.heard.append((verb, request))
        if not self.is_deaf:
            body = getattr(self, f"_{verb}")(request)
            self.bus.answer(Message(message.reply, "", msgpack.packb({"v": 1, **body, "fence": self.fence()})))

    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in self.circuits.values() if row["state"] != "closed"]

    def _query(self, _: wire.Snapshot) -> dict[str, Any]:
        digest = wire.digest_of((r["target"], r["state"], r["revision"]) for r in self._rows())
        told = {"ok": True, "revision": self.revision, "digest": digest, "same": False, "circuits": self._rows()}
        return {**told, "edition": self.edition}

    def _settings(self, request: wire.Settings) -> dict[str, Any]:
        if request.edition == self.edition:
            return {"ok": True, "edition": self.edition, "same": True, "rules": [], "groups": []}
        rules, groups = [[row.model_dump(mode="json") for row in rows] for rows in (self.rules, self.groups)]
        return {"ok": True, "edition": self.edition, "same": False, "rules": rules, "groups": groups}

    def _probe(self, request: wire.Probe) -> dict[str, Any]:
        rows = [row for row in self._rows() if row["target"] in wire.path_of(request.target)]
        if not rows:
            return {"ok": False, "reason": "closed", "retry_in_ms": 0, "circuits": []}
        if not self.free:
            return {"ok": False, "reason": "busy", "retry_in_ms": self.busy_for, "circuits": rows}
        self.free -= 1
        return {"ok": True, "lease": f"1.1.{len(self.heard)}", "ttl_ms": 2_000, "circuits": rows}

    def _probed(self, request: wire.Probed) -> dict[str, Any]:
        self.free += 1
        return {"ok": True, "reason": "counted", "circuits": []}

    def results(self) -> list[str]:
        return [request.outcome for verb, request in self.heard if verb == "probed"]

    def count(self, verb: str) -> int:
        return sum(heard == verb for heard, _ in self.heard)


@asynccontextmanager
async def breaker_and_registry(
    *, trusted: bool = True, failures: int = 0
) -> AsyncIterator[tuple[Breaker, FakeRegistry, LoopClock]]:
    bus, clock = FakeBus(), LoopClock()
    there = FakeRegistry(bus)
    breaker = Breaker(bus, clock=clock, trust=lambda: there.verifier if trusted else None, failures=failures)
    breaker.start()
    assert await breaker.ready()
    pulsing = asyncio.ensure_future(there.keep_pulsing())
    try:
        yield breaker, there, clock
    finally:
        pulsing.cancel()
        await breaker.close()


async def moment(seconds: float = 0.01) -> None:
    """Let what is under way arrive; the loop's time is virtual."""
    await asyncio.sleep(seconds)


async def ruled(there: FakeRegistry, *rules: wire.ClientRule, groups: tuple[wire.Group, ...] = ()) -> None:
    """The registry has other rules, and its next pulse says so."""
    there.rules, there.groups, there.edition = list(rules), list(groups), there.edition + 1
    there.pulse()
    await moment(1.1)


def rule(target: str | None, fallbacks: list[wire.Fallback] | None = None, **guard: int) -> wire.ClientRule:
    guards = wire.Guard.model_validate(guard)
    return wire.ClientRule(target=target, probe_ttl_ms=2_000, guard=guards, fallbacks=fallbacks or [])
