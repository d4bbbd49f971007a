"""The reader of a durable inbox, with an inbox in memory and an owner that decides when the test says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from bursar.bus.codec import encode
from bursar.contracts.base import Message
from bursar.kernel import inbox_reader
from bursar.kernel.decider import Fence
from bursar.kernel.desk import Request
from bursar.kernel.inbox_reader import WAITING, InboxReader
from bursar.kernel.journal.inbox import MemoryInbox
from bursar.kernel.spec import Inbox


class Letter(Message):
    """What is posted."""

    k: int
    text: str = ""


class Shard:
    """An owner: what it is offered is decided at once, unless ``holds``."""

    def __init__(self) -> None:
        self.offered: list[Any] = []
        self.at = 0
        self.line = 0
        self.takes = True
        self.holds = False
        self.lag = 0

    def position(self) -> int:
        return self.at

    def fences(self) -> tuple[Fence, Fence]:
        return (1, 1, self.at), (1, 1, self.at - self.lag)

    def waiting(self) -> int:
        return self.line

    def offer(self, request: Request) -> bool:
        if self.takes:
            self.offered.append((request.command.principal, request.command.body))
            if not self.holds:
                self.at = request.command.body.sequence
        return self.takes


class Stage:
    """An inbox, an owner, a reader and a clock."""

    def __init__(self, strings: int = 4_096) -> None:
        self.inbox = MemoryInbox()
        self.shard = Shard()
        self.ms = 0
        rule = Inbox(Letter, lambda state: 0, strings)
        self.reader = InboxReader(self.inbox, rule, self.shard, lambda: self.ms, keep_ms=60_000)

    def post(self, *ks: int, principal: str = "a1") -> None:
        for k in ks:
            self.inbox.publish(principal, encode({"v": 1, "k": k}))

    @property
    def sequences(self) -> list[int]:
        return [body.sequence for _, body in self.shard.offered]


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not check():  # noqa: ASYNC110 - the state has no events
            await asyncio.sleep(0.001)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(inbox_reader, "PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(inbox_reader, "LOOK_SECONDS", 0.01)
    return Stage()


async def test_messages_come_in_order_from_the_states_position_on(stage: Stage) -> None:
    """What the state has decided is not handed out, and what comes later is, without a look now and then."""
    stage.post(*range(10))
    stage.shard.at = 4
    stage.reader.start()
    await until(lambda: stage.shard.at == 10)
    stage.post(10, principal="a2")
    await until(lambda: stage.shard.at == 11)
    stage.reader.stop()
    assert stage.sequences == list(range(5, 12))
    assert stage.shard.offered[-1] == ("a2", (11, Letter(k=10), ""))


async def test_unreadable_messages_are_handed_out_with_their_error(stage: Stage) -> None:
    """The position must pass them, so the decider learns of them; a principal that is none has no name."""
    stage.inbox.publish("a1", b"junk")
    stage.inbox.publish("a1", encode({"v": 1}))
    stage.inbox.publish("a1", encode({"v": 1, "k": 1, "text": "x" * 4_097}))
    stage.inbox.publish("NOBODY", encode({"v": 1, "k": 1}))
    stage.reader.start()
    await until(lambda: stage.shard.at == 4)
    stage.reader.stop()
    told = [(principal, body.message, body.error) for principal, body in stage.shard.offered]
    assert told == [("a1", None, "bad_encoding"), ("a1", None, "bad_request"), ("a1", None, "bad_shape"),
                    ("", None, "bad_principal")]  # fmt: skip


async def test_an_inbox_may_allow_longer_strings() -> None:
    """As a verb may."""
    stage = Stage(strings=8_192)
    stage.inbox.publish("a1", encode({"v": 1, "k": 1, "text": "x" * 8_192}))
    stage.reader.start()
    await until(lambda: stage.shard.at == 1)
    stage.reader.stop()
    assert stage.shard.offered[0][1].message is not None


async def test_reading_waits_while_the_line_is_long(stage: Stage) -> None:
    """Requests find room beside a full inbox."""
    stage.shard.line = WAITING
    stage.post(1, 2, 3)
    stage.reader.start()
    await asyncio.sleep(0.03)
    assert stage.shard.offered == []
    stage.shard.line = 0
    await until(lambda: stage.shard.at == 3)
    stage.reader.stop()


async def test_what_finds_no_owner_is_offered_again(stage: Stage) -> None:
    """A line that is full, a journal that is full: the message stays, and comes when there is room."""
    stage.shard.takes = False
    stage.post(1, 2, 3)
    stage.reader.start()
    await asyncio.sleep(0.02)
    stage.shard.takes = True
    await until(lambda: stage.shard.at == 3)
    stage.reader.stop()
    assert stage.sequences == [1, 2, 3]


async def test_what_was_taken_and_never_decided_is_offered_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A command in line may be thrown away; the position tells, and nothing is lost until a restart."""
    stage.shard.holds = True
    stage.post(1, 2)
    stage.reader.start()
    with caplog.at_level(logging.WARNING):
        await until(lambda: len(stage.shard.offered) == 2)
        stage.shard.holds = False
        await until(lambda: stage.shard.at == 2)
    stage.reader.stop()
    assert stage.sequences == [1, 2, 1, 2]
    assert "inbox_was_passed_over" in caplog.text


async def test_a_break_is_got_over(stage: Stage) -> None:
    """A lost server: the reader begins again at the position."""
    stage.post(1, 2)
    stage.reader.start()
    await until(lambda: stage.shard.at == 2)
    stage.inbox.fail()
    await asyncio.sleep(0.01)
    stage.inbox.fail(broken=False)
    stage.post(3)
    await until(lambda: stage.shard.at == 3)
    stage.reader.stop()
    assert stage.sequences == [1, 2, 3]


async def test_who_has_stopped_offers_nothing(stage: Stage) -> None:
    """A standby must not read: it would throw away what it cannot decide."""
    stage.reader.start()
    await asyncio.sleep(0)
    stage.reader.stop()
    stage.post(1)
    await asyncio.sleep(0.01)
    assert stage.shard.offered == []
    assert not stage.reader.is_reading


async def test_purging_keeps_what_was_decided_lately_or_is_not_committed(stage: Stage) -> None:
    """For a journal that loses its newest entries: the messages that these had decided are still there."""
    stage.post(*range(1, 11))
    stage.shard.at = 4
    await stage.reader.tidy()
    stage.ms = 59_999
    stage.shard.at = 10
    await stage.reader.tidy()
    assert min(stage.inbox.mail) == 1
    stage.ms = 60_000
    await stage.reader.tidy()
    assert min(stage.inbox.mail) == 5
    stage.ms, stage.shard.lag = 200_000, 1
    await stage.reader.tidy()
    assert min(stage.inbox.mail) == 5
    stage.shard.lag = 0
    await stage.reader.tidy()
    assert stage.inbox.mail == {}
    assert await stage.inbox.extent() == (11, 10)


async def test_messages_that_went_undecided_are_an_error_in_the_log(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A journal that was set back further than the inbox remembers: nothing can bring them back, and nobody is told
    otherwise."""
    stage.post(1, 2, 3)
    await stage.inbox.purge(2)
    with caplog.at_level(logging.ERROR):
        stage.reader.start()
        await until(lambda: stage.shard.at == 3)
    stage.reader.stop()
    assert stage.sequences == [3]
    assert "inbox_has_a_gap" in caplog.text


async def test_an_inbox_younger_than_the_state_is_moved_past_it(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Its stream was deleted or is an old copy: new messages must not look like decided ones."""
    stage.shard.at = 100
    with caplog.at_level(logging.ERROR):
        stage.reader.start()
        await until(lambda: stage.inbox.last == 100)
    stage.post(1)
    await until(lambda: stage.shard.at == 101)
    stage.reader.stop()
    assert "inbox_went_back" in caplog.text


def test_a_full_part_of_an_inbox_takes_nothing_from_the_others() -> None:
    """The twin drops what the server drops: the newest of who has filled its part."""
    inbox = MemoryInbox(per_principal=2)
    assert [inbox.publish("a1", b"x") for _ in range(3)] == [True, True, False]
    assert inbox.publish("a2", b"x")
