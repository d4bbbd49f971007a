"""The border of the durable inbox, against the real server: nothing that an agent posts makes JetStream say anything
where it could do harm, and nobody can post, delete or crowd out for another."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import create_home, mint_agent
from bursar.bus.server import NatsServer, ServerOptions, provision
from bursar.bus.server.config import render
from bursar.bus.server.provision import INBOX_PER_PRINCIPAL
from bursar.contracts.base import checkpoint_stream, inbox_stream, log_stream
from bursar.kernel.journal.inbox import JetStreamInbox
from tests.bus.attacker import Attacker

pytestmark = pytest.mark.integration

INBOX, LOG, CHECKPOINTS = inbox_stream("scheduler"), log_stream("scheduler"), checkpoint_stream("scheduler")
OWN, OTHER = "bursar.inbox.scheduler.a1", "bursar.inbox.scheduler.a2"

REPLIES = (
    *("_R.a1.x", "_R.a2.x", "bursar.assign.a2", "bursar.evt.scheduler.state.x", OTHER, "bursar.inbox.limiter.a2"),
    *("bursar.log.scheduler.0", "bursar.ckpt.scheduler.0.manifest", "_R.svc-scheduler-log.x"),
    *(f"$JS.API.STREAM.PURGE.{LOG}", f"$JS.API.STREAM.DELETE.{LOG}", f"$JS.API.STREAM.PURGE.{INBOX}"),
    *(f"$JS.API.STREAM.DELETE.{INBOX}", "$JS.API.STREAM.CREATE.X", f"$JS.API.STREAM.MSG.DELETE.{INBOX}"),
)

BATCH = "_R.a1.x.b.1.fail.1.0.$FI"
"""As a part of a batch, which this stream does not take."""

HEADERS = (
    *("Nats-Rollup: all", "Nats-Rollup: sub", "Nats-Expected-Last-Sequence: 0", "Nats-Expected-Stream: X"),
    *("Nats-Expected-Last-Subject-Sequence: 7", "Nats-Msg-Id: x", "Nats-TTL: 1", "Nats-Incr: 1", "Status: 503"),
    *("Nats-Batch-Id: b\r\nNats-Batch-Sequence: 1\r\nNats-Batch-Commit: 1", "Nats-Schedule: @every 1s"),
    *("Nats-Trace-Dest: bursar.log.scheduler.0", 'Nats-Request-Info: {"acc":"X"}', "Nats-Marker-Reason: Purge"),
)


class Stage:
    """A home with a scheduler's streams and two agents on a real server, and eyes everywhere."""

    def __init__(self, server: NatsServer, log: NatsBus, a1: Attacker, a2: Attacker) -> None:
        self.server, self.log, self.a1, self.a2 = server, log, a1, a2
        self.spied: list[Any] = []

    async def state(self, stream: str) -> dict[str, Any]:
        answer = json.loads((await self.log.request(f"$JS.API.STREAM.INFO.{stream}", b"", 2)).data)
        return dict(answer["state"])

    async def settled(self) -> dict[str, int]:
        """Messages by subject when the server has worked through what was posted: another's has come out behind it.
        A server that is overwhelmed drops that one too, and it is posted again."""
        query = json.dumps({"last_by_subj": OTHER}).encode()
        async with asyncio.timeout(10):
            while True:
                assert not await self.a2.publish(OTHER, b"mark")
                answer = json.loads((await self.log.request(f"$JS.API.STREAM.MSG.GET.{INBOX}", query, 2)).data)
                if base64.b64decode(answer.get("message", {}).get("data", "")) == b"mark":
                    return await self.by_subject()
                await asyncio.sleep(0.02)

    async def by_subject(self) -> dict[str, int]:
        query = json.dumps({"subjects_filter": ">"}).encode()
        answer = json.loads((await self.log.request(f"$JS.API.STREAM.INFO.{INBOX}", query, 2)).data)
        return dict(answer["state"].get("subjects") or {})

    async def nothing_else_happened(self) -> None:
        """The journal and the checkpoints are as empty as they were."""
        for stream in (LOG, CHECKPOINTS):
            assert (await self.state(stream))["last_seq"] == 0
        for agent in (self.a1, self.a2):
            await agent.verdict()


async def _stage(directory: Path, options: dict[str, Any]) -> AsyncIterator[Stage]:
    home = create_home(directory, ["limiter", "scheduler"])
    for name in ("a1", "a2"):
        mint_agent(home, name)
    plain = ServerOptions(store=home.store_dir, run_dir=home.path / "run")
    jetstream = render(plain)["jetstream"] | options
    server = NatsServer(home, options=replace(plain, extra={"jetstream": jetstream}))
    async with server:
        maker = await connect(
            server.url, home.creds("svc-scheduler-provisioner"), principal="svc-scheduler-provisioner"
        )
        await provision(maker, "scheduler")
        await maker.close()
        log = await connect(server.url, home.creds("svc-scheduler-log"), principal="svc-scheduler-log")
        async with Attacker(server.url, home.creds("a1")) as a1, Attacker(server.url, home.creds("a2")) as a2:
            for agent, name in ((a1, "a1"), (a2, "a2")):
                for subject in (f"_R.{name}.>", f"bursar.assign.{name}", "bursar.evt.>"):
                    assert not await agent.subscribe(subject)
            yield Stage(server, log, a1, a2)
        await log.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async for made in _stage(tmp_path, {}):
        yield made


@pytest.fixture
async def slow_stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A server whose streams take no more than ten messages at a time, so that it is overwhelmed at once."""
    async for made in _stage(tmp_path, {"max_buffered_msgs": 10}):
        yield made


async def test_an_agents_message_lands_in_the_journal_account_in_its_own_name(stage: Stage) -> None:
    """Published in the account where agents meet, where there is no JetStream; the name is proven by the subject."""
    assert not await stage.a1.publish(OWN, b"hello")
    assert await stage.a1.publish(OTHER, b"forged")
    await stage.settled()
    reader = JetStreamInbox(stage.log, "scheduler").read(0)
    first, second = await anext(reader), await anext(reader)
    await reader.aclose()
    assert (first.principal, first.payload) == ("a1", b"hello")
    assert (second.principal, second.payload) == ("a2", b"mark")


async def test_a_post_is_never_acknowledged_wherever_its_answer_is_wanted(stage: Stage) -> None:
    """No PubAck anywhere: not to the agent, not to another, not into the journal, not as a request to JetStream."""
    for reply in REPLIES:
        assert not await stage.a1.publish(OWN, b"x", reply=reply)
    assert not await stage.a1.publish(OWN, b"x", reply=BATCH)
    assert not await stage.a1.publish(OWN, b"x", reply="_R.a1.x.$FI")
    assert (await stage.settled())[OWN] - len(REPLIES) in (0, 1, 2)
    await stage.nothing_else_happened()
    assert stage.a1.heard == stage.a2.heard == []


async def test_headers_for_jetstream_change_nothing_of_others(stage: Stage) -> None:
    """Such a message lands or is dropped; nothing is rolled up, deleted or answered."""
    assert not await stage.a2.publish(OTHER, b"before")
    for headers in HEADERS:
        await stage.a1.publish(OWN, b"x", reply="_R.a1.x", headers=headers)
        await stage.a1.publish(OWN, b"x", headers=headers)
    assert set(await stage.settled()) <= {OWN, OTHER}
    state = await stage.state(INBOX)
    assert state["messages"] == state["last_seq"], "nothing was deleted"
    await stage.nothing_else_happened()
    assert stage.a1.heard == stage.a2.heard == []


async def test_a_message_id_of_one_does_not_swallow_the_post_of_another(stage: Stage) -> None:
    """Bursar's agents give no ids, so that there is nothing that another could use up before them."""
    for _ in range(3):
        await stage.a1.publish(OWN, b"x", headers="Nats-Msg-Id: 1")
    assert not await stage.a2.publish(OTHER, b"y")
    assert (await stage.settled()).keys() == {OWN, OTHER}


async def test_a_message_beyond_an_agents_limit_ends_only_its_own_connection(stage: Stage) -> None:
    """64 KB is the role's limit; the stream's own limit stands behind it."""
    assert "closed" in await stage.a1.publish(OWN, b"x" * 70_000)
    stage.a1.heard.clear()
    assert (await stage.state(INBOX))["messages"] == 0


async def test_a_flood_of_one_fills_only_its_own_part(stage: Stage) -> None:
    """Its newest are dropped; what others have posted stays, and what they post lands."""
    assert not await stage.a2.publish(OTHER, b"before")
    for _ in range(3):
        stage.a1._write(f"PUB {OWN} 1\r\nx\r\n".encode() * INBOX_PER_PRINCIPAL)
        assert await stage.a1.verdict() == []
    counts = await stage.settled()
    assert counts[OWN] == INBOX_PER_PRINCIPAL
    assert counts[OTHER] >= 2


@pytest.mark.parametrize(
    "reply", [reply for reply in REPLIES if not reply.startswith(("_R.a", "bursar.assign", "bursar.evt"))]
)
async def test_a_server_that_is_overwhelmed_answers_nowhere_where_it_does_harm(slow_stage: Stage, reply: str) -> None:
    """Then it answers "429" even for a stream that acknowledges nothing, and to whatever subject was named: not into
    the journal, not to JetStream, and not into the inbox as somebody else."""
    stage = slow_stage
    assert not await stage.a2.publish(OTHER, b"before")
    stage.a1._write(f"PUB {OWN} {reply} 1\r\nx\r\n".encode() * 2_000)
    await stage.a1.verdict()
    stage.a1._write(f"PUB {OWN} _R.a1.x 1\r\nx\r\n".encode() * 2_000)
    await stage.a1.verdict()
    while not stage.a1.heard:
        await stage.a1.verdict()
    assert b"429" in stage.a1.heard[0].payload, "the server was overwhelmed"
    await stage.settled()
    await stage.nothing_else_happened()
    reader = JetStreamInbox(stage.log, "scheduler").read(0)
    mine = [mail.payload async for mail in _so_far(reader) if mail.principal == "a2"]
    assert set(mine) == {b"before", b"mark"}


async def _so_far(reader: Any) -> AsyncIterator[Any]:
    """What there is, up to the last mark."""
    async for mail in reader:
        yield mail
        if mail.payload == b"mark":
            await reader.aclose()
            return
