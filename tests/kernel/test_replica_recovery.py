"""The journal has lost acknowledged entries: how an instance notices, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bursar.kernel.decider import Reject
from bursar.kernel.effects import Append, Inspect, Load, TakeSnapshot, WriteBase
from bursar.kernel.entry import BEAT, EPOCH, GENESIS, RECOVERY, decode, encode
from bursar.kernel.journal.memory import MemoryStore
from bursar.kernel.loader import load
from bursar.kernel.roles import Role
from tests.kernel.bench import Bench, owner, pay, standby
from tests.simulation.simulator import finish
from tests.simulation.toy import BankDecider


def with_payments(count: int = 3) -> Bench:
    alice = owner()
    for number in range(1, count + 1):
        alice.ask(pay(f"s-{number}", 10))
        alice.settle()
    return alice


def truncate(store: MemoryStore, left: int) -> None:
    for sequence in [sequence for sequence in store.entries if sequence > left]:
        del store.entries[sequence]
    store.last_sequence = left


def recreate(store: MemoryStore) -> None:
    truncate(store, 0)
    store.created += "+"


def replace_last(store: MemoryStore) -> None:
    last = store.last_sequence
    store.entries[last] = (0, encode(BEAT, (1, 1, 9), b"x" * 16, 0, GENESIS))


@pytest.mark.parametrize("loss", [lambda s: truncate(s, 2), lambda s: truncate(s, 0), recreate, replace_last])
def test_owner_recovers_with_all_that_it_knows(loss: Callable[[MemoryStore], None]) -> None:
    """A new incarnation, the full state as its base, numbers above all that were given out; then business goes on."""
    alice = with_payments()
    loss(alice.store)
    alice.ask(pay("s-4", 10), ticket="not yet")
    alice.replica.refused(alice.take(Append).token, 10071, alice.mono)
    left = alice.settle()
    assert alice.role() is Role.OWNER
    assert alice.replica.fence[0] == 2
    assert alice.replica.fence[2] > 4
    assert alice.replica.folded.state.accounts["ada"] in {30, 40}
    assert alice.replica.folded.state.frozen_until > 0
    assert any(isinstance(effect, TakeSnapshot) for effect in left)
    follower, damage = finish(load(alice.journal, BankDecider()))
    assert damage == ""
    assert follower.folded.dump() == alice.replica.folded.dump()


def test_loss_that_a_second_look_does_not_find_is_none() -> None:
    """An old leader of the stream answered the first: no new incarnation, no caution, the state is what is stored."""
    alice = with_payments(2)
    alice.ask(pay("s-3"))
    append = alice.take(Append)
    alice.replica.refused(append.token, 10164, alice.mono)
    inspect = alice.take(Inspect)
    behind = alice.store.inspect(0, inspect.sequence)
    alice.replica.inspected(inspect.token, behind._replace(at=None), alice.mono)
    assert alice.role() is Role.RECOVERING
    alice.wait(499)
    assert not alice.wants(Inspect)
    alice.settle()
    assert alice.role() is Role.STANDBY
    alice.wait(1_000).settle()
    assert alice.role() is Role.OWNER
    assert alice.replica.fence[0] == 1
    assert alice.replica.folded.state.accounts["ada"] == 20
    assert alice.replica.folded.state.frozen_until == 0


def test_unanswered_requests_learn_that_the_service_failed_closed() -> None:
    """Nothing that was decided on the lost journal is answered; who only waited is told to ask again."""
    alice = with_payments()
    alice.ask(pay("s-4", 10_000, op="wait", ms=50_000), ticket="in line")
    alice.ask(pay("s-5", 10), ticket="uncommitted")
    truncate(alice.store, 2)
    alice.append(alice.take(Append))
    inspect = alice.take(Inspect)
    alice.replica.inspected(inspect.token, alice.store.inspect(0, inspect.sequence), alice.mono)
    assert alice.role() is Role.RECOVERING
    (answer,) = alice.answers()
    assert answer.ticket == "in line"
    assert isinstance(answer.outcome, Reject)
    assert answer.outcome.code == "failed_closed"


def test_line_is_forgotten_by_a_recovery() -> None:
    """Who stood in line was sent away: the recovered state must not grant them anything that nobody hears of."""
    alice = with_payments(1)
    alice.ask(pay("s-2", 10_000, op="wait", ms=50_000))
    truncate(alice.store, 1)
    alice.replica.saw((1, 9, 9), alice.mono)
    alice.settle()
    assert alice.replica.fence[0] == 2
    assert not alice.replica.folded.state.waiting


@pytest.mark.parametrize("fence", [(1, 1, 50), (1, 7, 1), (3, 1, 1)])
def test_fence_that_stands_for_nothing_here_starts_a_recovery(fence: tuple[int, int, int]) -> None:
    """A caller has seen more than the journal has: the owner proves that it owns the shard, and recovers."""
    alice = with_payments(1)
    assert alice.replica.saw(fence, alice.mono)
    beat = alice.take(Append)
    assert decode(beat.payload).kind == BEAT
    alice.append(beat)
    assert alice.role() is Role.RECOVERING
    alice.settle()
    assert alice.replica.fence > fence


def test_suspicion_is_settled_by_an_append_that_was_sent_after_it() -> None:
    """An append that was on its way before proves nothing: another beat follows."""
    alice = with_payments(1)
    alice.ask(pay("s-2"))
    before = alice.take(Append)
    assert alice.replica.saw((1, 1, 50), alice.mono)
    assert not alice.wants(Append)
    alice.append(before)
    beat = alice.take(Append)
    assert decode(beat.payload).kind == BEAT
    alice.append(beat)
    assert alice.role() is Role.RECOVERING
    alice.settle()
    assert alice.replica.fence > (2, 1, 50)


def test_nothing_is_decided_on_a_state_that_may_have_lost_something() -> None:
    """From the moment a strange fence is seen until an append has told what it means, requests only queue."""
    alice = with_payments(1)
    alice.replica.saw((1, 1, 50), alice.mono)
    alice.ask(pay("s-2"), ticket="waits")
    beat = alice.take(Append)
    assert alice.replica.folded.number == 2
    assert not alice.replica.has_work
    alice.append(beat)
    (answer,) = alice.answers()
    assert answer.ticket == "waits"
    assert isinstance(answer.outcome, Reject)
    assert answer.outcome.code == "failed_closed"


def test_suspicion_is_dropped_when_the_fence_becomes_known() -> None:
    """A standby was only behind: it has caught up when it takes over, claims, and decides."""
    alice = with_payments(1)
    bob = standby(alice)
    bob.replica.saw((1, 1, 2), bob.mono)
    alice.ask(pay("s-2"))
    alice.settle()
    bob.follow()
    bob.wait(1_000).settle()
    assert bob.replica.fence == (1, 2, 2)
    bob.ask(pay("s-3"))
    bob.settle()
    assert bob.replica.fence == (1, 2, 3)


def test_standby_keeps_a_strange_fence_in_mind() -> None:
    """It may just be behind: while an owner lives, nothing happens; it recovers if it has to take over."""
    alice = with_payments(1)
    bob = standby(alice)
    assert bob.replica.saw((1, 1, 2), bob.mono)
    assert not bob.wants(Append)
    suspects = [bob.replica.suspect]
    alice.ask(pay("s-2"))
    alice.settle()
    bob.follow()
    suspects.append(bob.replica.suspect)
    assert suspects == [(1, 1, 2), None]
    assert not bob.replica.saw((1, 1, 2), bob.mono)


def test_floor_above_the_journal_makes_a_standby_recover_after_silence() -> None:
    """The small file remembers what the journal does not; a live owner is not disturbed."""
    alice = with_payments(1)
    bob = Bench("bob", alice.store)
    bob.replica.start(bob.mono)
    bob.load(bob.take(Load), floor=(1, 1, 77))
    assert bob.replica.suspect == (1, 1, 77)
    bob.replica.heartbeat((1, 1, 1), 2, bob.mono)
    bob.wait(999)
    assert bob.role() is Role.STANDBY
    bob.wait(1)
    assert bob.role() is Role.RECOVERING
    bob.wait(2_000).settle()
    assert bob.replica.fence[0] == 2
    assert bob.replica.fence[2] > 77


def test_standby_remembers_what_it_knew_before_it_loaded() -> None:
    """The journal was purged while it loaded again: an empty journal is not taken for a new one."""
    alice = with_payments(3)
    bob = standby(alice)
    truncate(alice.store, 0)
    bob.replica.tail(9, b"no entry", bob.mono)
    bob.settle()
    assert bob.role() is Role.STANDBY
    assert bob.replica.suspect == (1, 1, 3)


def test_damaged_standby_recovers_once_and_is_not_kept_busy_by_the_broken_entry() -> None:
    """The tail brings the broken entry again and again; that is no sign of life."""
    alice = with_payments(2)
    alice.store.append(0, -1, encode(EPOCH, (1, 2, 3), b"zombie--12345678", 0, b"another history!"))
    bob = standby(alice)
    assert bob.replica.suspect == (1, 1, 2)
    for _ in range(20):
        bob.replica.tail(4, alice.store.entries[4][1], bob.mono)
        bob.wait(100)
    assert bob.role() is Role.RECOVERING
    bob.wait(2_000).settle()
    assert bob.role() is Role.OWNER
    assert bob.replica.fence[0] == 2
    follower, damage = finish(load(alice.journal, BankDecider()))
    assert (damage, follower.folded.state.accounts) == ("", {"ada": 20})


def test_recovery_by_another_is_loaded() -> None:
    """Two instances notice the loss; the second finds the first one's recovery and follows it."""
    alice = with_payments(3)
    bob = standby(alice)
    truncate(alice.store, 2)
    bob.wait(1_000)
    bob.append(bob.take(Append))
    alice.ask(pay("s-4"))
    alice.settle()
    assert alice.replica.fence[0] == 2
    bob.settle()
    bob.wait(2_000).settle()
    assert bob.role() is Role.STANDBY
    assert bob.replica.folded.dump() == alice.replica.folded.dump()


def test_recovery_whose_base_is_gone_is_recovered_from() -> None:
    """What a load could not mend it will not mend the next time either: no endless loading."""
    alice = with_payments(2)
    truncate(alice.store, 1)
    alice.ask(pay("s-3"))
    alice.settle()
    assert alice.replica.fence[0] == 2
    alice.store.chunks.clear()
    bob = standby(alice)
    for _ in range(4):
        bob.wait(3_000).settle()
    assert bob.role() is Role.OWNER
    assert bob.replica.fence[0] == 3


def test_last_entry_that_cannot_be_read_does_not_stop_a_recovery() -> None:
    """A flipped bit in the last entry is damage like any other."""
    alice = with_payments(2)
    alice.store.entries[3] = (0, b"\xc1 no entry")
    alice.ask(pay("s-3"))
    alice.replica.refused(alice.take(Append).token, 10071, alice.mono)
    alice.settle()
    assert alice.replica.fence[0] == 2


def test_recovery_is_repeated_until_it_lands() -> None:
    """Every step of it may fail: looking around, storing the base, the entry; nothing is counted twice."""
    alice = with_payments(2)
    truncate(alice.store, 2)
    alice.ask(pay("s-3"))
    alice.append(alice.take(Append))
    inspect = alice.take(Inspect)
    alice.replica.inspected(inspect.token, alice.store.inspect(0, inspect.sequence), alice.mono)
    alice.wait(500)
    lost = alice.take(Inspect)
    alice.replica.unknown(lost.token, alice.mono)
    alice.wait(50)
    again = alice.take(Inspect)
    alice.replica.inspected(again.token, alice.store.inspect(0, again.sequence), alice.mono)
    base = alice.take(WriteBase)
    alice.replica.inspected(again.token, alice.store.inspect(0, again.sequence), alice.mono)  # a repeated answer
    assert not alice.wants(WriteBase)
    alice.replica.unknown(base.token, alice.mono)
    alice.wait(200)
    alice.write_base(base.token, alice.take(WriteBase).data)
    entry = alice.take(Append)
    alice.store.append(0, entry.expected, entry.payload)  # lands, but the acknowledgement is lost
    alice.replica.unknown(entry.token, alice.mono)
    alice.wait(1_000)
    alice.settle()
    assert alice.replica.fence[0] == 2
    assert decode(next(alice.store.after(0, 2))[1]).kind == RECOVERY
    assert sum(decode(payload).kind == RECOVERY for _, payload in alice.store.after(0, 0)) == 1


def test_unread_entries_are_read_before_a_recovery() -> None:
    """A standby that is only behind must not replace what it has not read."""
    alice = with_payments(1)
    bob = Bench("bob", alice.store)
    bob.replica.start(bob.mono)
    bob.load(bob.take(Load), floor=(1, 1, 2))
    alice.ask(pay("s-2", 10))
    alice.settle()
    bob.wait(1_000)
    assert bob.role() is Role.RECOVERING
    bob.wait(2_000).settle()
    assert bob.role() is Role.STANDBY
    assert bob.replica.fence == (1, 1, 2)
    assert bob.replica.suspect is None


def test_a_recovery_that_mends_nothing_is_tried_once() -> None:
    """One that came too late (its writer slept, and the new stream had as many entries) leaves the journal broken for
    all. Whoever reads it must not load again and again, but fall silent and recover."""
    alice = with_payments()
    row = encode(RECOVERY, (1, 1, 9), b"x" * 16, 0, b"y" * 16)
    for _ in range(2):  # two of them, so that one must not make the other look new
        finish(alice.journal.append(alice.store.last_sequence, row))
    bob = standby(alice)
    loads = 0
    for _ in range(60):
        for sequence, payload in alice.store.after(0, bob.replica.head.sequence):
            bob.replica.tail(sequence, payload, bob.mono)
            loads += bob.wants(Load)
            bob.settle()
        bob.wait(50)
        bob.settle()
    assert loads <= 2
    assert bob.role() is Role.OWNER
    assert finish(load(bob.journal, BankDecider())).damage == ""
