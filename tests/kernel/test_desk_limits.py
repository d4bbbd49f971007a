"""What bounds a batch, a decision, and a fault of the decider."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bursar.contracts.base import Request as Body
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Reject
from bursar.kernel.desk import MAX_BATCH_BYTES, MAX_DECISION_BYTES, MAX_IN_A_ROW, Request, digest_of
from bursar.kernel.effects import Answer, Append
from bursar.kernel.fold import Folded, Follower
from bursar.kernel.replica import Replica
from tests.kernel import bench

SERVER_MESSAGE = 1_048_576


class Write(Body):
    """Journal so many bytes; -1: an answer that cannot be packed, -2: an exception."""

    size: int


class Blobs:
    """A decider that journals as many bytes as it is told."""

    name = "blobs"
    version = 1

    def initial(self) -> list[int]:
        return []

    def decide(self, state: list[int], command: Command, now: int, fence: Fence) -> Outcome:
        size = command.body.size
        if size == -2:
            raise KeyError("a fault")
        if size == -1:
            return Accept([("blob", b"")], {"ok": 2**70})
        return Accept([("blob", bytes(size))], {"ok": True})

    def evolve(self, state: list[int], event: Event) -> None:
        state.append(len(event[1]))

    def due(self, state: list[int], now: int) -> None:
        return None

    def wake_at(self, state: list[int]) -> None:
        return None

    def recover(self, state: list[int], now: int) -> list[Event]:
        return []

    def dump(self, state: list[int]) -> Any:
        return list(state)

    def load(self, value: Any) -> list[int]:
        return list(value)

    def describe(self, event: Event) -> str:
        return "blob"


def owner() -> Replica:
    """A replica that owns an empty journal; its appends are left in ``effects``."""
    replica = Replica(Blobs(), b"instance")
    replica.start(0)
    replica.loaded(1, Follower(Folded(replica.decider)), 0)
    appended(replica, 1)
    return replica


def appended(replica: Replica, sequence: int, mono: int = 0) -> bytes:
    """Let the one append in flight land; returns its payload."""
    effects, replica.effects = replica.effects, []
    (append,) = (effect for effect in effects if isinstance(effect, Append))
    replica.appended(append.token, sequence, mono)
    return append.payload


def ask(replica: Replica, number: int, size: int) -> None:
    body = Write(id=f"s-{number}", size=size)
    assert replica.offer(Request(number, Command("a", body.id, body), digest_of(body), 0))


def test_a_batch_fits_into_one_message_however_much_has_queued() -> None:
    """What queues while the journal is slow is appended in several batches, each below the server's limit."""
    replica = owner()
    for number in range(40):
        ask(replica, number, 100_000)
    replica.pump(1)
    sizes = []
    sequence = 1
    while any(isinstance(effect, Append) for effect in replica.effects):
        sequence += 1
        sizes.append(len(appended(replica, sequence, 1)))
        replica.pump(1)

    assert len(replica.folded.state) == 40
    assert max(sizes) <= MAX_BATCH_BYTES + 101_000
    assert MAX_BATCH_BYTES + MAX_DECISION_BYTES + 1_000 < SERVER_MESSAGE


def test_one_pump_decides_a_bounded_number_and_says_that_there_is_more() -> None:
    """Otherwise the heartbeats, and the lease that is measured from before, would wait for all of them."""
    replica = owner()
    for number in range(MAX_IN_A_ROW + 5):
        ask(replica, number, 0)
    replica.pump(1)

    assert len(replica.queue) == 5
    assert replica.has_work


def test_queue_that_never_gets_short_does_not_keep_back_what_is_due() -> None:
    """However many requests come, time goes on: a hold runs out in the next turn."""
    alice = bench.owner()
    alice.ask(bench.pay("s-1", 10))
    alice.ask(bench.pay("s-2", 10, op="hold", ms=5))
    alice.settle()
    for number in range(3, 1_000):
        alice.replica.offer(bench.request(bench.pay(f"s-{number}")))
    alice.mono += 100
    alice.replica.pump(alice.mono)
    assert len(alice.replica.queue) > MAX_IN_A_ROW
    assert alice.replica.folded.state.ran_out == 1


@pytest.mark.parametrize(("size", "code"), [(MAX_DECISION_BYTES + 1, "too_large"), (-1, "internal"), (-2, "internal")])
def test_a_request_that_cannot_be_decided_costs_itself_only(
    size: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is answered with an error, changes nothing, and those around it are decided."""
    replica = owner()
    with caplog.at_level(logging.CRITICAL):
        for number, bytes_ in enumerate((1, size, 2)):
            ask(replica, number, bytes_)
        replica.pump(1)
    effects = list(replica.effects)
    appended(replica, 2, 1)
    answers = {effect.ticket: effect.outcome for effect in replica.effects if isinstance(effect, Answer)}

    assert not any(isinstance(effect, Answer) for effect in effects)
    assert isinstance(answers[1], Reject)
    assert answers[1].code == code
    assert answers[0] == answers[2] == {"ok": True}
    assert replica.folded.state == [1, 2]
    assert replica.folded.number == 3
