"""Starting from a store, whole or damaged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bursar.kernel.effects import Inspection
from bursar.kernel.entry import GENESIS, chain_hash, encode
from bursar.kernel.errors import OutcomeUnknown, VersionMismatch
from bursar.kernel.fold import Follower
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.keeper import forget_old, store_snapshot
from bursar.kernel.loader import load
from bursar.kernel.snapshot import manifest_of, split
from tests.kernel.bench import Bench, owner, pay
from tests.simulation.simulator import finish
from tests.simulation.toy import BankDecider


class NextVersion(BankDecider):
    version = 2


def paying(bench: Bench, *numbers: int) -> None:
    for number in numbers:
        bench.ask(pay(f"s-{number}", 10))
        bench.settle()


def snapshot(bench: Bench) -> None:
    head, data = bench.replica.head, bench.replica.folded.dump()
    chunks = list(split(data))
    manifest = manifest_of(f"at-{head.sequence}", head.sequence, head.hash, bench.store.created, data, len(chunks))
    finish(store_snapshot(bench.journal, manifest, chunks))


def with_snapshots() -> Bench:
    """Entries 1 to 9, snapshots at 3, 5 and 7."""
    alice = owner()
    paying(alice, 1, 2)
    for numbers in ((3, 4), (5, 6), (7, 8)):
        snapshot(alice)
        paying(alice, *numbers)
    assert list(alice.store.entries) == list(range(1, 10))
    return alice


def loaded(bench: Bench) -> tuple[Follower, str]:
    return finish(load(bench.journal, BankDecider()))


def test_empty_store_is_the_empty_state() -> None:
    """Nothing is missing where nothing was."""
    follower, damage = loaded(Bench("alice", MemoryStore()))
    assert (follower.head.sequence, damage) == (0, "")


def test_snapshot_and_the_entries_after_it_make_the_whole_state() -> None:
    """The newest one; and nothing below the oldest is needed."""
    alice = with_snapshots()
    finish(forget_old(alice.journal))
    assert min(alice.store.entries) == 3
    follower, damage = loaded(alice)
    assert damage == ""
    assert follower.head == alice.replica.head
    assert follower.folded.dump() == alice.replica.folded.dump()


@pytest.mark.parametrize("spoiled", [1, 2])
def test_older_snapshot_serves_when_newer_ones_are_spoiled(spoiled: int) -> None:
    """Missing or flipped chunks: the one before, and more entries."""
    alice = with_snapshots()
    finish(forget_old(alice.journal))
    for key in list(alice.store.chunks)[-spoiled:]:
        alice.store.chunks[key] = b"junk"
    follower, damage = loaded(alice)
    assert damage == ""
    assert follower.folded.dump() == alice.replica.folded.dump()


def _recreate(bench: Bench) -> None:
    bench.store.created += "+"


def _lose(sequences: range) -> Callable[[Bench], None]:
    def strike(bench: Bench) -> None:
        for sequence in sequences:
            del bench.store.entries[sequence]

    return strike


def _replace(bench: Bench) -> None:
    bench.store.entries[7] = bench.store.entries[6]


def _garble(bench: Bench) -> None:
    bench.store.entries[8] = (0, b"no entry")


@pytest.mark.parametrize(
    ("strike", "words", "number"),
    [
        (_recreate, "created anew", 6),
        (_lose(range(7, 10)), "is gone", 6),
        (_replace, "is another one", 6),
        (_lose(range(8, 9)), "does not follow", 6),
        (_garble, "not a journal entry", 6),
    ],
)
def test_damage_is_told_in_words(strike: Callable[[Bench], None], words: str, number: int) -> None:
    """With as much of the state as there is."""
    alice = with_snapshots()
    strike(alice)
    follower, damage = loaded(alice)
    assert words in damage
    assert follower.folded.number == number + 1


def test_lost_tail_above_the_newest_snapshot_does_not_show_in_the_store() -> None:
    """Only somebody who remembers a fence can tell; that is what fences in requests and files are for."""
    alice = with_snapshots()
    _lose(range(8, 10))(alice)
    _, damage = loaded(alice)
    assert damage == ""


def test_recovery_mends_the_damage_below_it() -> None:
    """It names the base that replaces everything before, whatever is left of that."""
    alice = with_snapshots()
    _lose(range(5, 10))(alice)
    alice.store.last_sequence = 4
    paying(alice, 9)
    assert alice.replica.fence[0] == 2
    del alice.store.entries[2]
    follower, damage = loaded(alice)
    assert damage == ""
    assert follower.folded.dump() == alice.replica.folded.dump()


def test_entry_of_another_history_is_damage() -> None:
    """A zombie's append that hit the right sequence by chance."""
    alice = with_snapshots()
    alice.store.append(0, -1, encode("beat", (1, 1, 9), b"id", 99_999, chain_hash(GENESIS)))
    follower, damage = loaded(alice)
    assert "does not follow" in damage
    assert follower.head == alice.replica.head


def test_snapshot_of_another_version_stops_the_start() -> None:
    """An incompatible service must not start over as if nothing had been."""
    alice = with_snapshots()
    with pytest.raises(VersionMismatch):
        finish(load(alice.journal, NextVersion()))


def test_nothing_is_purged_while_a_kept_snapshot_is_of_a_lost_history() -> None:
    """Until three snapshots of the present history exist, the recovery entry is needed to start from the others."""
    alice = with_snapshots()
    _lose(range(4, 10))(alice)
    alice.store.last_sequence = 3
    paying(alice, 9)
    for number in (10, 11):
        paying(alice, number)
        snapshot(alice)
        finish(forget_old(alice.journal))
        assert min(alice.store.entries) == 1
        for key in list(alice.store.chunks):
            if key[1].startswith("at-") and int(key[1][3:]) > 7:
                alice.store.chunks[key] = b"junk"  # only those of the lost history are left
        follower, damage = loaded(alice)
        assert (damage, follower.folded.dump()) == ("", alice.replica.folded.dump())
    paying(alice, 12)
    snapshot(alice)
    finish(forget_old(alice.journal))
    assert min(alice.store.entries) > 4


class _Overtaken(MemoryJournal):
    """While the manifests have been read and the chunks have not, newer snapshots displace them."""

    bench: Bench

    async def inspect(self, sequence: int) -> Inspection:
        if sequence == 0:
            for number in (9, 10, 11):
                paying(self.bench, number)
                snapshot(self.bench)
            finish(forget_old(self))
        return await super().inspect(sequence)


def test_what_newer_snapshots_displace_during_a_start_is_not_damage() -> None:
    """A slow start finds chunks and entries gone that were there before: it begins anew, and does not recover."""
    alice = with_snapshots()
    slow = _Overtaken(alice.store)
    slow.bench = alice
    with pytest.raises(OutcomeUnknown):
        finish(load(slow, BankDecider()))
    assert loaded(alice)[1] == ""
