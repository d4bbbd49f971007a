"""The durable inbox with real processes: what was posted while nobody listened is decided, once and in order."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.base import BusError
from bursar.bus.codec import decode_value, encode
from bursar.bus.connection import NatsBus
from bursar.contracts.base import inbox_stream
from bursar.kernel.journal.inbox import JetStreamInbox
from tests.integration.inbox_service import SERVICE, Postbox
from tests.integration.support import Rig, until

pytestmark = pytest.mark.integration

MODULE = "tests.integration.inbox_service"


def _rig(directory: Path, replicas: int = 1) -> Rig:
    return Rig(directory, replicas=replicas, module=MODULE, service=SERVICE, decider=Postbox, inbox=True)


async def _count(bus: NatsBus) -> dict[str, Any]:
    """What the owner says; empty while there is none."""
    try:
        answer = await bus.request(f"bursar.req.{SERVICE}.count.{bus.principal}", encode({"v": 1}), 0.5)
    except BusError:
        return {}
    return decode_value(answer.data)[0]


async def _counts(bus: NatsBus, wanted: int, within: float = 10.0) -> dict[str, Any]:
    deadline = time.monotonic() + within
    while (told := await _count(bus)).get("n", -1) < wanted:
        assert time.monotonic() < deadline, f"{wanted} letters not taken within {within:g} s: {told}"
    return told


async def test_letters_posted_while_the_service_is_down_are_taken_once_and_in_order(tmp_path: Path) -> None:
    """Through kills -9 at several moments after the owner began to read; order is that of each principal."""
    async with _rig(tmp_path) as rig:
        agents = [await rig.bus(f"a{number}") for number in range(5)]
        for k in range(500):
            agent = agents[k % 5]
            agent.publish(f"bursar.inbox.{SERVICE}.{agent.principal}", encode({"v": 1, "k": k}))
        for agent in agents:
            await agent.flush()
        for moment in (0.0, 0.02):
            rig.launch("a")
            await rig["a"].becomes("owner")
            await asyncio.sleep(moment)
            rig["a"].kill()
        await rig.start("a")
        await _counts(agents[0], 500)
        folded, _ = await rig.walk()
        letters = folded.state.letters
    assert [sequence for sequence, _, _ in letters] == list(range(1, 501))
    for number in range(5):
        assert [k for _, principal, k in letters if principal == f"a{number}"] == list(range(number, 500, 5))


async def test_a_letter_is_taken_within_fifty_milliseconds(tmp_path: Path) -> None:
    """The owner is woken by the server; it does not look now and then. (The median of some, on a shared machine.)"""
    async with _rig(tmp_path) as rig:
        await rig.start("a")
        agent = await rig.bus("a1")
        agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": 0}))
        await _counts(agent, 1)
        waited = []
        for k in range(1, 12):
            began = time.monotonic()
            agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": k}))
            while (await _count(agent)).get("n") != k + 1:
                assert time.monotonic() - began < 5
            waited.append(time.monotonic() - began)
    assert sorted(waited)[len(waited) // 2] < 0.05


async def test_a_standby_takes_over_the_inbox_where_the_owner_stopped(tmp_path: Path) -> None:
    """The position is in the journal: nothing is read twice into the state and nothing is left out."""
    async with _rig(tmp_path) as rig:
        await rig.start("a", "b")
        agent = await rig.bus("a1")
        for k in range(300):
            agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": k}))
        await agent.flush()
        await _counts(agent, 50)
        owner = rig.owner()
        owner.kill()
        for k in range(300, 400):
            agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": k}))
        await _counts(agent, 400)
        folded, _ = await rig.walk()
    assert [k for _, _, k in folded.state.letters] == list(range(400))


async def test_reading_goes_on_after_the_server_was_restarted(tmp_path: Path) -> None:
    """Consumers in memory are gone with the server; the reader makes another one at the state's position."""
    async with _rig(tmp_path) as rig:
        await rig.start("a")
        agent = await rig.bus("a1")
        agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": 0}))
        await _counts(agent, 1)
        rig.server.kill()
        await rig.server.start()
        await until(lambda: agent.is_connected, 10, "the agent is connected again")
        agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": 1}))
        assert (await _counts(agent, 2, 20.0))["n"] == 2


async def test_what_cannot_be_read_moves_the_position_and_stops_nobody(tmp_path: Path) -> None:
    """Junk, headers that look like a server's words, and a message that is too long for the contract."""
    async with _rig(tmp_path) as rig:
        agent = await rig.bus("a1")
        subject = f"bursar.inbox.{SERVICE}.a1"
        agent.publish(subject, b"\xc1junk")
        agent.publish(subject, b"", headers={"Status": "408", "Description": "Request Timeout"})
        agent.publish(subject, encode({"v": 1, "k": 1}), headers={"Status": "999", "Description": "Consumer Deleted"})
        agent.publish(subject, encode({"v": 1, "k": 2, "text": "x" * 5_000}))
        agent.publish(subject, encode({"v": 1, "k": 3}), reply="bursar.log.postbox.0")
        await agent.flush()
        await rig.start("a")
        await _counts(agent, 5)
        folded, _ = await rig.walk()
    assert [what for _, _, what in folded.state.letters] == ["bad_encoding", "bad_encoding", 1, "bad_shape", 3]


async def test_an_inbox_that_went_back_is_noticed_and_takes_new_letters(tmp_path: Path) -> None:
    """Its stream was deleted: new messages must not be taken for old ones because of their small numbers."""
    async with _rig(tmp_path) as rig:
        await rig.start("a")
        agent = await rig.bus("a1")
        for k in range(20):
            agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": k}))
        await _counts(agent, 20)
        assert await rig["a"].terminate() == 0
        await (await rig.bus("operator")).request(f"$JS.API.STREAM.DELETE.{inbox_stream(SERVICE)}", b"", 2)
        await rig.provision()
        await rig.start("a")
        await until(lambda: bool(rig["a"].events("inbox_went_back")), 5, "the loss is logged")
        inbox = JetStreamInbox(agent, SERVICE)
        while (await inbox.extent()).last != 20:
            assert rig["a"].is_running
        agent.publish(f"bursar.inbox.{SERVICE}.a1", encode({"v": 1, "k": 99}))
        await _counts(agent, 21)
        assert not rig["a"].events("inbox_has_a_gap")
