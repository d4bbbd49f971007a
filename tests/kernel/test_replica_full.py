"""A journal without room: whoever waits is told, nothing is decided, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import math

from bursar.kernel.decider import Reject
from bursar.kernel.effects import Answer, Append, Heartbeat
from bursar.kernel.roles import Role
from tests.kernel.bench import Bench, owner, pay, standby
from tests.simulation.toy import Body


def full() -> Bench:
    """An owner whose journal takes nothing more."""
    alice = owner()
    alice.store.max_bytes = alice.store.size
    return alice


def codes(answers: list[Answer]) -> dict[str, str]:
    """By ticket: the code of an error, or ok."""
    return {a.ticket: a.outcome.code if isinstance(a.outcome, Reject) else "ok" for a in answers}


def told(bench: Bench) -> dict[str, str]:
    """Carry everything out; what was answered."""
    return codes([effect for effect in bench.settle() if isinstance(effect, Answer)])


def test_who_waits_for_a_commit_or_in_line_is_told_at_once_that_there_is_no_room() -> None:
    """Decided and in flight, decided after that, refused behind it, queued, and parked: all of them."""
    alice = full()
    alice.ask(Body(op="wait", account="bob", amount=9, ms=60_000, id="w-1", acked=0))
    alice.ask(pay("p-1"))
    alice.ask(pay("p-2"))
    alice.ask(Body(op="take", account="ada", amount=99, id="t-1", acked=0))
    assert told(alice) == dict.fromkeys(("w-1", "p-1", "p-2", "t-1"), "journal_full")
    assert alice.replica.is_full


def test_what_was_decided_lands_when_there_is_room_and_who_asks_again_gets_that_answer() -> None:
    """It is decided once, whatever its caller was told; the wait for room doubles, up to the longest pause."""
    alice = full()
    alice.ask(pay("p-1", 5))
    alice.settle()
    pauses = []
    for _ in range(9):
        before = alice.mono
        while not alice.wants(Append):
            alice.wait(5)
        pauses.append(alice.mono - before)
        assert told(alice) == {}
    assert pauses == sorted(pauses)
    assert pauses[0] == 50
    assert pauses[-1] == alice.replica.options.max_retry_ms
    alice.store.max_bytes = math.inf
    alice.wait(2_000)
    assert told(alice) == {}
    assert not alice.replica.is_full
    alice.ask(pay("p-1", 5), ticket="again")
    assert told(alice) == {"again": "ok"}
    assert alice.replica.folded.state.accounts == {"ada": 5}


def test_owner_without_room_stays_one_and_says_that_it_lives() -> None:
    """No other instance could do better; a standby that took over would only stand before the same wall."""
    alice = full()
    bob = standby(alice)
    alice.ask(pay("p-1"))
    for _ in range(400):
        for effect in alice.wait(20).settle():
            if isinstance(effect, Heartbeat):
                bob.replica.heartbeat(effect.fence, effect.sequence, bob.mono)
        bob.wait(20).settle()
    assert (alice.role(), bob.role()) == (Role.OWNER, Role.STANDBY)


def test_owner_whose_append_may_have_landed_counts_no_refusal_for_want_of_room_as_news() -> None:
    """How long it may answer without an entry is measured from the sending of what landed."""
    alice = full()
    alice.ask(pay("p-1"))
    first = alice.take(Append)
    alice.mono += 600
    alice.replica.unknown(first.token, alice.mono)
    alice.wait(2_000)
    alice.settle()
    alice.store.max_bytes = math.inf
    alice.wait(2_000).settle()
    assert not alice.replica.is_full
    alice.ask(pay("", op="ask"), ticket="query")
    assert not alice.answers()  # it proves itself first


def test_decider_is_not_woken_while_nothing_can_be_decided() -> None:
    """What is due is due as soon as there is room."""
    alice = owner()
    alice.ask(Body(op="wait", account="bob", amount=9, ms=100, id="w-1", acked=0))
    alice.settle()
    assert alice.replica.wake_at(alice.mono) is not None
    alice.store.max_bytes = alice.store.size
    alice.ask(pay("p-1"))
    alice.settle()
    assert alice.replica.wake_at(alice.mono) is None
