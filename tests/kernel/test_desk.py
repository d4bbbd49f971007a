"""The desk: what is decided, what leaves with the batch, and who waits in line."""

from __future__ import annotations

from typing import Any

from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Outcome, Reject
from bursar.kernel.desk import Desk, digest_of
from bursar.kernel.effects import Announce, Answer, Append, Drop
from bursar.kernel.fold import Folded
from bursar.kernel.journal.memory import MemoryStore
from bursar.kernel.replica import Replica
from tests.kernel.bench import Bench, owner, pay, request
from tests.simulation.toy import Bank, BankDecider


class Loud(BankDecider):
    """Tells everybody of each decision."""

    def decide(self, state: Bank, command: Command, now: int, fence: Fence) -> Outcome:
        outcome = super().decide(state, command, now, fence)
        if isinstance(outcome, Accept):
            return outcome._replace(broadcasts=[Broadcast("told", "all", {"n": fence[2]})])
        return outcome


def outcomes(desk: Desk) -> list[tuple[Any, Any]]:
    batch = desk.take()
    return [] if batch is None else [(answer.ticket, answer.outcome) for answer in batch.answers]


def test_digest_is_of_the_content_only() -> None:
    """Id, watermark and fence do not make another request; every other field does."""
    body = pay("s-1", 5)
    assert digest_of(body) == digest_of(pay("s-2", 5, acked=1))
    assert digest_of(body) != digest_of(pay("s-1", 6))
    assert len(digest_of(body)) == 8


def test_retry_within_the_batch_gets_the_same_answer() -> None:
    """The first is not committed yet; both answers leave with the batch."""
    desk = Desk(Folded(BankDecider()))
    for ticket in ("first", "again"):
        desk.decide(request(pay("s-1", 5), ticket), 10)
    (first, reply), (again, packed) = outcomes(desk)
    assert (first, again) == ("first", "again")
    assert reply["balance"] == 5
    assert isinstance(packed, bytes)
    assert desk.folded.state.accounts == {"ada": 5}


def test_who_stands_in_line_is_answered_once_under_the_newest_ticket() -> None:
    """A retry takes the place of the one before, which is dropped; other content under the same id is refused."""
    desk = Desk(Folded(BankDecider()))
    body = pay("s-1", 5, op="wait", ms=1_000)
    desk.decide(request(body, "first"), 10)
    desk.decide(request(body, "second"), 20)
    desk.decide(request(pay("s-1", 6, op="wait", ms=1_000), "other"), 20)
    assert desk.replaced == ["first"]
    desk.decide(request(pay("s-2", 9), "payer"), 30)
    assert desk.decide_due(30)
    assert not desk.decide_due(30)
    answers = outcomes(desk)
    assert [ticket for ticket, _ in answers] == ["other", "payer", "second"]
    refused = answers[0][1]
    assert isinstance(refused, Reject)
    assert refused.code == "id_reused"
    assert not desk.parked


def test_retry_that_is_settled_at_once_drops_the_one_in_line() -> None:
    """The money is there before `due` has been asked: the retry gets the answer, the first ticket none."""
    desk = Desk(Folded(BankDecider()))
    body = pay("s-1", 5, op="wait", ms=1_000)
    desk.decide(request(body, "first"), 10)
    desk.decide(request(pay("s-2", 9), "payer"), 20)
    desk.decide(request(body, "second"), 20)
    assert [ticket for ticket, _ in outcomes(desk)] == ["payer", "second"]
    assert desk.replaced == ["first"]


def test_dropped_tickets_leave_as_an_effect() -> None:
    """So that the endpoint forgets them."""
    alice = owner()
    body = pay("s-1", 5, op="wait", ms=1_000)
    alice.ask(body, "first")
    alice.ask(body, "second")
    assert alice.take(Drop) == Drop(["first"])


def test_refusals_and_rejections_are_not_remembered() -> None:
    """A retry is decided afresh, and may then be granted."""
    desk = Desk(Folded(BankDecider()))
    desk.decide(request(pay("s-1", 5, op="take"), "poor"), 10)
    desk.decide(request(pay("s-9", 5, op="burn"), "wrong"), 10)
    desk.decide(request(pay("s-2", 9), "payer"), 20)
    desk.decide(request(pay("s-1", 5, op="take"), "rich"), 30)
    (_, poor), (_, wrong), _, (_, rich) = outcomes(desk)
    assert poor.reply["ok"] is False
    assert wrong.code == "unknown_op"
    assert rich["ok"] is True
    assert desk.folded.number == 3


def test_broadcasts_leave_after_the_commit() -> None:
    """Nobody hears of what is not in the journal."""
    alice = Bench("alice", MemoryStore())
    alice.replica = Replica(Loud(), b"alice...")
    alice.start()
    alice.ask(pay("s-1", 5))
    append = alice.take(Append)
    assert not alice.wants(Announce)
    alice.append(append)
    assert alice.wants(Answer)
    announced = alice.take(Announce)
    assert [broadcast.body for broadcast in announced.broadcasts] == [{"n": 1}]
    assert announced.fence == (1, 1, 1)
