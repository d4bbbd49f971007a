"""One principal asks for more than everybody else: the others are answered as before, it is told to wait."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.base import Msg
from bursar.bus.connection import NatsBus
from bursar.contracts.base import request_subject
from tests.integration.fleet import ask
from tests.integration.support import Rig, until

pytestmark = pytest.mark.integration

RATE = 200
FLOOD = 3_000


class Flood:
    """So many requests at once; ``answers``: the codes that came back, "" for an answer."""

    def __init__(self, bus: NatsBus, service: str) -> None:
        self._bus = bus
        self._subject = request_subject(service, "add", bus.principal)
        self.answers: Counter[str] = Counter()
        self.waits: list[int] = []
        self._sent = 0

    async def start(self) -> None:
        self._inbox = self._bus.new_inbox()
        await self._bus.subscribe(self._inbox, self._heard)

    def send(self, count: int) -> None:
        for _ in range(count):
            self._sent += 1
            self._bus.publish(self._subject, msgpack.packb({"id": f"flood-{self._sent}"}), self._inbox)

    def _heard(self, msg: Msg) -> None:
        error = msgpack.unpackb(msg.data).get("error", {})
        self.answers[error.get("code", "")] += 1
        if error:
            self.waits.append(error["facts"]["retry_after_ms"])


async def test_a_flood_by_one_principal_is_refused_and_the_others_are_answered(tmp_path: Path) -> None:
    """Of the flood what is within the rate is decided, about as much is refused with ``overloaded`` and when to ask
    again, and the rest is not answered; each request of another is. Who is alone again has all that there is."""
    async with Rig(tmp_path, env={"BURSAR_PRINCIPAL_RATE": str(RATE)}) as rig:
        await rig.start("a")
        flood = Flood(await rig.bus("flood"), rig.service)
        await flood.start()
        other = await rig.bus("other")
        assert (await ask(other, "add", {"id": "first"}))["ok"] is True
        began = time.monotonic()
        for number in range(20):
            flood.send(FLOOD // 20)
            assert (await ask(other, "add", {"id": f"o-{number}"}, within=5.0))["ok"] is True
        assert set(flood.answers) == {"", "overloaded"}
        heard = RATE * (time.monotonic() - began + 0.25)
        assert flood.answers[""] <= heard
        assert flood.answers["overloaded"] <= heard, "refusals are bounded, too"
        assert min(flood.waits) >= 1

        await asyncio.sleep(1.5)  # nobody else asks for longer than a second: the condition itself
        before = flood.answers[""]
        flood.send(5 * RATE)
        await until(lambda: flood.answers[""] == before + 5 * RATE, 10, "all are answered")
