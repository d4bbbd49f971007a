"""The owner: what it appends, when it answers, and what it makes of refusals and silence."""

from __future__ import annotations

import pytest

from bursar.kernel.decider import Refuse, Reject
from bursar.kernel.desk import Request
from bursar.kernel.effects import Answer, Append, Drop, Heartbeat, Inspect, Load, TakeSnapshot
from bursar.kernel.entry import BATCH, BEAT, EPOCH, decode
from bursar.kernel.journal.memory import MemoryStore
from bursar.kernel.roles import Options, Role
from tests.kernel.bench import owner, pay, request, standby


def test_empty_journal_is_claimed_at_once() -> None:
    """Nobody can own a journal that has no entry: no need to wait for silence."""
    alice = owner()
    assert alice.role() is Role.OWNER
    assert alice.replica.fence == (1, 1, 0)
    assert [decode(payload).kind for _, payload in alice.store.after(0, 0)] == [EPOCH]


def test_nothing_is_answered_before_its_entry_is_acknowledged() -> None:
    """The answer leaves with the acknowledgement, carrying the decision's fence."""
    alice = owner()
    alice.ask(pay("s-1", 5))
    append = alice.take(Append)
    assert not alice.wants(Answer)
    alice.append(append)
    (answer,) = alice.answers()
    assert (answer.ticket, answer.fence) == ("s-1", (1, 1, 1))
    assert isinstance(answer.outcome, dict)
    assert answer.outcome["balance"] == 5


def test_one_append_is_in_flight_and_the_next_batch_is_decided_meanwhile() -> None:
    """Whatever queues during an append becomes the next entry."""
    alice = owner()
    alice.ask(pay("s-1"))
    first = alice.take(Append)
    alice.ask(pay("s-2"))
    alice.ask(pay("s-3"))
    assert not alice.wants(Append)
    alice.append(first)
    second = alice.take(Append)
    assert [row.request_id for row in decode(second.payload).decisions] == ["s-2", "s-3"]
    assert second.expected == first.expected + 1


def test_unknown_outcome_is_settled_by_the_same_append_again() -> None:
    """The repeated append names the same sequence and the same bytes, after a wait that doubles."""
    alice = owner()
    alice.ask(pay("s-1"))
    first = alice.take(Append)
    alice.replica.unknown(first.token, alice.mono)
    alice.wait(49)
    assert not alice.wants(Append)
    alice.wait(1)
    assert alice.take(Append) == first
    alice.replica.unknown(first.token, alice.mono)
    alice.wait(99)
    assert not alice.wants(Append)
    alice.wait(1)
    assert alice.take(Append) == first


@pytest.mark.parametrize("code", [10071, 10164])
def test_refusal_after_a_lost_acknowledgement_finds_the_own_entry(code: int) -> None:
    """Both codes mean conflict; the entry behind the head is the own one: it had landed, once."""
    alice = owner(MemoryStore(conflict_code=code))
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    alice.store.append(0, append.expected, append.payload)  # the acknowledgement is lost
    alice.replica.unknown(append.token, alice.mono)
    alice.wait(50)
    left = alice.settle()
    assert [answer.ticket for answer in left if isinstance(answer, Answer)] == ["s-1"]
    assert alice.role() is Role.OWNER
    assert len(alice.store.entries) == 2


def test_refusal_with_nothing_behind_the_head_is_tried_again() -> None:
    """A refusal names no cause; when nothing stands in the way the append is repeated."""
    alice = owner()
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    alice.replica.refused(append.token, 10071, alice.mono)
    alice.settle()
    alice.wait(50)
    assert alice.take(Append) == append


def test_error_that_is_no_conflict_is_an_unknown_outcome() -> None:
    """A full stream or a server without leader: the same again, later."""
    alice = owner()
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    alice.replica.refused(append.token, 10077, alice.mono)
    assert not alice.wants(Inspect)
    alice.wait(50)
    assert alice.take(Append) == append


def test_superseded_owner_drops_its_batch_and_loads() -> None:
    """What was decided but not committed gets no answer; what was only queued is sent away."""
    alice = owner()
    bob = standby(alice)
    bob.wait(1_000).settle()
    assert bob.replica.fence == (1, 2, 0)
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    alice.replica.offer(request_of("s-2"))
    alice.append(append)
    inspect = alice.take(Inspect)
    alice.replica.inspected(inspect.token, alice.store.inspect(0, inspect.sequence), alice.mono)
    effects = alice.replica.effects
    assert Drop(["s-1"]) in effects
    (answer,) = alice.answers()
    assert answer.ticket == "s-2"
    assert isinstance(answer.outcome, Reject)
    assert answer.outcome.code == "not_ready"
    assert alice.wants(Load)
    alice.settle()
    assert alice.role() is Role.STANDBY
    assert alice.replica.fence == (1, 2, 0)


def request_of(request_id: str) -> Request:
    return request(pay(request_id))


def test_refusals_leave_at_once_within_the_lease_and_prove_ownership_after_it() -> None:
    """Nobody can have taken over within the lease; later a beat must land first."""
    alice = owner()
    alice.ask(pay("", op="ask"), ticket="early")
    assert [answer.ticket for answer in alice.answers()] == ["early"]
    alice.mono += 700
    alice.ask(pay("", op="ask"), ticket="late")
    assert not alice.answers()
    beat = alice.take(Append)
    assert decode(beat.payload).kind == BEAT
    alice.append(beat)
    (answer,) = alice.answers()
    assert isinstance(answer.outcome, Refuse)


def test_lease_counts_from_the_sending_of_the_append() -> None:
    """An acknowledgement that took longer than the lease gives none."""
    alice = owner()
    alice.mono += 800
    alice.ask(pay("", op="ask"), ticket="query")
    beat = alice.take(Append)
    alice.mono += 700
    alice.append(beat)
    assert not alice.answers()
    alice.append(alice.take(Append))
    assert [answer.ticket for answer in alice.answers()] == ["query"]


def test_retry_is_answered_from_the_table_with_the_first_fence() -> None:
    """The same id and content get the same answer; other content is refused."""
    alice = owner()
    alice.ask(pay("s-1", 5))
    alice.settle()
    alice.ask(pay("s-1", 5), ticket="again")
    alice.ask(pay("s-1", 6), ticket="other")
    again, other = alice.answers()
    assert (again.ticket, again.fence) == ("again", (1, 1, 1))
    assert isinstance(again.outcome, bytes)
    assert isinstance(other.outcome, Reject)
    assert other.outcome.code == "id_reused"


def test_late_copy_of_an_acknowledged_request_is_turned_away() -> None:
    """Once the caller has said that the answer arrived, a copy that was still on its way is not decided again."""
    alice = owner()
    for number in (1, 2, 3):
        alice.ask(pay(f"s-{number}", 5, acked=number - 1))
        alice.settle()
    alice.ask(pay("s-2", 5), ticket="late")
    (answer,) = alice.answers()
    assert isinstance(answer.outcome, Reject)
    assert answer.outcome.code == "already_acked"
    assert alice.replica.folded.state.accounts == {"ada": 15}


def test_full_queue_takes_no_more() -> None:
    """Back pressure: the caller is told at once."""
    alice = owner(options=Options(max_queue=1))
    assert alice.replica.offer(request_of("s-1"))
    assert not alice.replica.offer(request_of("s-2"))


def test_owner_beats_in_the_journal_and_on_the_wire() -> None:
    """Heartbeats every 200 ms; an entry at least every 10 s, which carries the time on."""
    alice = owner()
    alice.wait(200)
    assert alice.take(Heartbeat).fence == (1, 1, 0)
    alice.wait(199)
    assert not alice.wants(Heartbeat)
    alice.wait(10_000)
    beat = decode(alice.take(Append).payload)
    assert (beat.kind, beat.time) == (BEAT, 10_399)


def test_snapshot_is_taken_only_of_a_committed_state() -> None:
    """While an append is in flight nothing new is decided; when it has landed the state is exactly the journal's."""
    alice = owner(options=Options(snapshot_ms=500))
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    alice.wait(500)
    alice.ask(pay("s-2"))
    assert not alice.wants(TakeSnapshot)
    alice.append(append)
    snapshot = alice.take(TakeSnapshot)
    assert (snapshot.sequence, snapshot.hash) == alice.replica.head[:2]
    assert snapshot.folded.number == 2
    alice.wait(600)
    assert decode(alice.take(Append).payload).kind == BATCH
    assert not alice.wants(TakeSnapshot)  # one at a time
    alice.replica.snapshot_done()


def test_answers_of_tokens_that_are_over_are_ignored() -> None:
    """Late outcomes of an attempt that has ended change nothing."""
    alice = owner()
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    alice.append(append)
    before = alice.replica.folded.dump()
    alice.replica.appended(append.token, 99, alice.mono)
    alice.replica.refused(append.token, 10071, alice.mono)
    alice.replica.unknown(append.token, alice.mono)
    alice.replica.inspected(append.token, alice.store.inspect(0, 1), alice.mono)
    alice.replica.base_written(append.token, None, alice.mono)
    alice.replica.load_failed(append.token, alice.mono)
    assert alice.replica.folded.dump() == before
    assert alice.replica.head.sequence == 2


def test_reconnection_ends_the_wait() -> None:
    """What waits to be repeated is repeated at the next tick."""
    alice = owner()
    alice.ask(pay("s-1"))
    append = alice.take(Append)
    for _ in range(3):
        alice.replica.unknown(append.token, alice.mono)
    alice.replica.reconnected(alice.mono)
    alice.wait(0)
    assert alice.take(Append) == append


def test_who_stands_in_line_at_the_end_is_granted_nothing_unheard_of() -> None:
    """A resigning owner sends away those in line; what is decided for them meanwhile is remembered for their retry."""
    alice = owner()
    alice.ask(pay("s-1", 5, op="wait", ms=60_000), ticket="in line")
    alice.replica.send_away_parked()
    (answer,) = alice.answers()
    assert (answer.ticket, answer.outcome.code) == ("in line", "not_ready")  # type: ignore[union-attr]
    alice.ask(pay("s-2", 9))
    alice.settle()
    assert alice.replica.folded.answers.find("agent", "s-1") is not None
    assert alice.replica.is_idle


def test_owner_wakes_when_the_decider_has_something_due() -> None:
    """The reading of the monotonic clock at which a hold runs out; a standby never wakes."""
    alice = owner()
    alice.ask(pay("s-1", 5))
    alice.ask(pay("s-2", 5, op="hold", ms=300))
    alice.settle()
    assert alice.replica.wake_at(alice.mono) == alice.mono + 300
    bob = standby(alice)
    assert bob.replica.wake_at(bob.mono) is None
    alice.mono += 300
    alice.replica.pump(alice.mono)
    alice.settle()
    assert alice.replica.folded.state.ran_out == 1
