"""Loading, following, and taking over."""

from __future__ import annotations

from bursar.kernel.effects import Append, Heartbeat, Inspect, Load, RoleChanged
from bursar.kernel.entry import BEAT, EPOCH, decode
from bursar.kernel.journal.memory import MemoryStore
from bursar.kernel.roles import TRANSITIONS, Role
from tests.kernel.bench import Bench, owner, pay, request, standby


def test_standby_follows_the_journal_and_takes_no_requests() -> None:
    """Its state is the owner's, entry by entry."""
    alice = owner()
    bob = standby(alice)
    alice.ask(pay("s-1", 5))
    alice.settle()
    bob.follow()
    assert bob.replica.folded.dump() == alice.replica.folded.dump()
    assert bob.replica.committed == (1, 1, 1)
    assert not bob.replica.offer(request(pay("s-2")))
    bob.replica.pump(bob.mono)
    assert not bob.wants(Append)


def test_standby_claims_after_a_second_of_silence() -> None:
    """Neither sooner, nor while anything is heard: an entry or a heartbeat."""
    alice = owner()
    bob = standby(alice)
    bob.wait(999)
    assert bob.role() is Role.STANDBY
    alice.ask(pay("s-1"))
    alice.settle()
    bob.follow()
    bob.wait(999)
    bob.replica.heartbeat((1, 1, 1), 2, bob.mono)
    bob.wait(999)
    assert bob.role() is Role.STANDBY
    bob.wait(1)
    assert bob.role() is Role.CLAIMING
    claim = decode(bob.take(Append).payload)
    assert (claim.kind, claim.epoch, claim.number, claim.time) == (EPOCH, 2, 2, 0)


def test_time_continues_at_the_last_journaled_value() -> None:
    """Time that nobody saw passing has not passed: leases end later, never earlier."""
    alice = owner()
    alice.mono += 5_000
    alice.ask(pay("s-1"))
    alice.settle()
    bob = standby(alice)
    bob.wait(60_000).settle()
    bob.mono += 7
    bob.ask(pay("s-2"))
    assert decode(bob.take(Append).payload).time == 5_007


def test_claim_that_lost_the_race_goes_back_to_following() -> None:
    """Of two claims at the same head one lands; the other instance waits a second more."""
    alice = owner()
    bob, carol = standby(alice), Bench("carol", alice.store, mono=7).start()
    bob.wait(1_000)
    carol.wait(1_000)
    bob.settle()
    carol.settle()
    assert (bob.replica.role, carol.replica.role) == (Role.OWNER, Role.STANDBY)
    carol.follow()
    assert carol.replica.fence == (1, 2, 0)
    carol.wait(999)
    assert carol.role() is Role.STANDBY


def test_own_claim_is_recognised_when_its_acknowledgement_was_lost() -> None:
    """The entry behind the head has the own id: the claim had landed."""
    alice = owner()
    bob = standby(alice)
    bob.wait(1_000)
    claim = bob.take(Append)
    bob.store.append(0, claim.expected, claim.payload)
    bob.replica.unknown(claim.token, bob.mono)
    bob.wait(50).settle()
    assert bob.role() is Role.OWNER
    assert len(bob.store.entries) == 2


def test_stuck_tail_makes_a_standby_load() -> None:
    """The owner's heartbeats name a head that the tail does not bring for a second."""
    alice = owner()
    bob = standby(alice)
    for _ in range(6):
        bob.mono += 200
        bob.replica.heartbeat((1, 1, 3), 4, bob.mono)
    assert bob.role() is Role.LOADING
    assert bob.wants(Load)


def test_heartbeat_of_what_is_known_shows_that_the_tail_is_not_stuck() -> None:
    """Being behind for a moment is forgotten when the tail has caught up."""
    alice = owner()
    bob = standby(alice)
    bob.replica.heartbeat((1, 1, 3), 4, bob.mono)
    bob.mono += 900
    bob.replica.heartbeat((1, 1, 0), 1, bob.mono)
    bob.mono += 900
    bob.replica.heartbeat((1, 1, 3), 4, bob.mono)
    assert bob.role() is Role.STANDBY


def test_a_tail_that_is_always_behind_and_goes_on_is_not_stuck() -> None:
    """A busy owner is ahead of who follows it whenever it beats; to load all again would only make that worse."""
    alice = owner()
    bob = standby(alice)
    for number in range(20):
        alice.ask(pay(f"s-{number}"))
        alice.settle()
        bob.mono += 200
        bob.replica.heartbeat((1, 1, number + 3), alice.store.last_sequence + 1, bob.mono)
        bob.follow()
    assert bob.role() is Role.STANDBY
    assert bob.replica.head.sequence == alice.store.last_sequence


def test_heartbeats_of_an_earlier_owner_do_not_count() -> None:
    """A zombie that still beats does not keep the shard without an owner."""
    alice = owner()
    bob = standby(alice)
    bob.wait(1_000).settle()
    carol = Bench("carol", alice.store, mono=3).start()
    carol.mono += 999
    carol.replica.heartbeat((1, 1, 0), 1, carol.mono)
    carol.wait(1)
    assert carol.role() is Role.CLAIMING


def test_owner_that_hears_of_a_later_one_proves_itself() -> None:
    """Its next append tells whether it still owns the shard."""
    alice = owner()
    alice.replica.heartbeat((1, 2, 0), 2, alice.mono)
    assert decode(alice.take(Append).payload).kind == BEAT
    alice.replica.heartbeat((1, 1, 0), 1, alice.mono)
    assert not alice.wants(Append)


def test_resignation_is_followed_at_once() -> None:
    """The leaving owner says so and beats no more; a standby need not wait for its silence."""
    alice = owner()
    bob = standby(alice)
    alice.replica.resign(alice.mono)
    farewell = alice.take(Heartbeat)
    assert farewell.leaving
    alice.wait(5_000)
    assert not alice.wants(Heartbeat)
    bob.replica.heartbeat(farewell.fence, farewell.sequence, bob.mono)
    bob.replica.resigned(farewell.fence)
    bob.wait(0)
    assert bob.role() is Role.CLAIMING
    bob.replica.resign(bob.mono)  # only an owner has anything to resign from
    assert not bob.wants(Heartbeat)


def test_resignation_is_followed_when_the_last_entry_has_been_read() -> None:
    """A standby that lags behind would claim in vain and wait a second more: it reads to the owner's head first."""
    alice = owner()
    bob = standby(alice)
    alice.ask(pay("s-1"))
    alice.settle()
    alice.replica.resign(alice.mono)
    farewell = alice.take(Heartbeat)
    bob.replica.heartbeat(farewell.fence, farewell.sequence, bob.mono)
    bob.replica.resigned(farewell.fence, farewell.sequence)
    bob.wait(100)
    assert bob.role() is Role.STANDBY
    bob.follow()
    bob.wait(0)
    assert bob.role() is Role.CLAIMING


def test_standby_that_cannot_load_tries_again() -> None:
    """After a second; or at once when the connection is back."""
    alice = owner()
    bob = Bench("bob", alice.store)
    bob.replica.start(bob.mono)
    bob.replica.load_failed(bob.take(Load).token, bob.mono)
    bob.wait(999)
    assert not bob.wants(Load)
    bob.wait(1)
    bob.replica.load_failed(bob.take(Load).token, bob.mono)
    bob.replica.reconnected(bob.mono)
    bob.wait(0).settle()
    assert bob.role() is Role.STANDBY


def test_result_of_an_earlier_load_is_ignored() -> None:
    """Only the newest load counts."""
    alice = owner()
    bob = Bench("bob", alice.store)
    bob.replica.start(bob.mono)
    first = bob.take(Load)
    bob.replica.load_failed(first.token, bob.mono)
    bob.wait(1_000)
    bob.load(first)
    assert bob.role() is Role.LOADING


def test_entry_that_does_not_follow_makes_a_standby_load() -> None:
    """A gap in the tail, or bytes that are no entry."""
    for payload in (b"no entry", None):
        alice = owner()
        bob = standby(alice)
        for number in (1, 2):
            alice.ask(pay(f"s-{number}"))
            alice.settle()
        bob.replica.tail(3, payload or alice.store.entries[3][1], bob.mono)
        assert bob.role() is Role.LOADING


def test_tail_repeats_and_late_entries_are_harmless() -> None:
    """What is below the head is skipped; an owner takes no entries from the tail."""
    alice = owner()
    bob = standby(alice)
    alice.ask(pay("s-1"))
    alice.settle()
    bob.follow()
    bob.replica.tail(1, alice.store.entries[1][1], bob.mono)
    bob.replica.tail(2, alice.store.entries[2][1], bob.mono)
    assert bob.replica.head == alice.replica.head
    head = alice.replica.head
    alice.replica.tail(3, b"whatever", alice.mono)
    assert alice.replica.head == head


def test_roles_move_only_along_the_table() -> None:
    """Every role has a way out; an owner never becomes a standby without loading."""
    assert set(TRANSITIONS) == set(Role)
    assert all(TRANSITIONS.values())
    assert Role.STANDBY not in TRANSITIONS[Role.OWNER]
    alice = Bench("alice", MemoryStore())
    alice.replica.start(alice.mono)
    assert alice.replica.effects[0] == RoleChanged("loading", "start")


def test_instance_that_slept_while_others_purged_loads_instead_of_recovering() -> None:
    """Its head was purged below newer snapshots: the journal goes on, so nothing is lost."""
    alice = owner()
    bob = standby(alice)
    for number in range(1, 5):
        alice.ask(pay(f"s-{number}"))
        alice.settle()
    for sequence in (1, 2, 3):
        del alice.store.entries[sequence]
    bob.wait(5_000)
    bob.append(bob.take(Append))
    inspect = bob.take(Inspect)
    bob.replica.inspected(inspect.token, alice.store.inspect(0, inspect.sequence), bob.mono)
    assert bob.role() is Role.LOADING
