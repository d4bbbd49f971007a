"""The journal's stream reaches its limit: the service fails closed, says why, and goes on by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.connection import NatsBus
from bursar.contracts.base import request_subject
from tests.integration import history
from tests.integration.fleet import fleet_of
from tests.integration.support import Rig, until

pytestmark = pytest.mark.integration


async def test_full_journal_fails_closed_and_goes_on_when_its_limit_is_raised(tmp_path: Path) -> None:
    """Before the first snapshot nothing can be purged: every request is answered within a moment with a typed error,
    PING and STATS show it, the owner stays owner, and after the limit was raised every request has its one answer."""
    async with Rig(tmp_path) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig, clients=10) as fleet:
            await rig.limit_journal(await rig.limit_journal(-1) + 20_000)
            await until(lambda: fleet.errors["journal_full"] > 30, 20, f"it is full; {fleet.errors}")
            await rig.limit_journal(1)  # a small entry might have fitted until now
            client = await rig.bus("client")
            for verb in ("add", "get"):
                error = await _error(client, rig, verb)
                assert (error["code"], error["status"]) == ("journal_full", "503")
            await fleet.refusals(100)
            assert await _journal_of(client, rig) == "full"
            answered = fleet.answered
            await fleet.refusals(100)
            assert fleet.answered == answered
            assert rig["a"].roles[-1] == "owner"
            assert rig["b"].roles[-1] == "standby"

            await rig.limit_journal(-1)
            await fleet.answers(100)
            assert await _journal_of(client, rig) == "ok"
        final, _ = await rig.walk()
        history.check(fleet.done, final.state)
        assert rig["a"].events("journal_full")
        assert rig["a"].events("journal_has_room")


async def test_full_journal_makes_room_by_itself_once_there_is_a_snapshot(tmp_path: Path) -> None:
    """Three snapshots of a journal do not fit into its limit: it is purged below the newest, again and again."""
    async with Rig(tmp_path, env={"BURSAR_SNAPSHOT_MS": "700"}) as rig:
        await rig.start("a", "b")
        async with fleet_of(rig, clients=10) as fleet:
            await until(lambda: bool(rig["a"].events("snapshot_stored")), 10, "a snapshot")
            await rig.limit_journal(30_000)
            await until(lambda: bool(rig["a"].events("journal_purged_in_need")), 20, f"it is purged; {fleet.errors}")
            await fleet.answers(300)
        history.check(fleet.done, (await rig.replay()).state)
        rig["a"].kill()
        await rig["b"].becomes("owner")
        assert "recovering" not in rig["b"].roles


async def _error(bus: NatsBus, rig: Rig, verb: str) -> dict[str, Any]:
    body = {"id": "x-1"} if verb == "add" else {}
    reply = await bus.request(request_subject(rig.service, verb, bus.principal), msgpack.packb(body), 1.0)
    return {**msgpack.unpackb(reply.data)["error"], "status": (reply.headers or {})["Nats-Service-Error-Code"]}


async def _journal_of(bus: NatsBus, rig: Rig) -> str:
    """What the owner says of its journal; standbys know nothing of it and say ok."""
    found = []
    for verb in ("PING", "STATS"):
        for name in ("a", "b"):
            about = json.loads((await bus.request(f"$SRV.{verb}.{rig.service}.{name}", b"", 2.0)).data)
            found.append(about["metadata"]["journal"])
    assert found[0] == found[2]
    assert found[1] == found[3] == "ok"
    return str(found[0])
