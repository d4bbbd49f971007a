"""What `bursar journal` says of a journal in which something is missing."""

from __future__ import annotations

import pytest

from bursar.cli.journal_check import nothing_from, replayed, verdict
from bursar.kernel.errors import JournalError
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.keeper import forget_old
from tests.kernel.bench import Bench, owner
from tests.kernel.test_loader import paying, snapshot, with_snapshots
from tests.simulation.simulator import finish
from tests.simulation.toy import BankDecider


def checked(bench: Bench) -> tuple[bool, str]:
    lines: list[str] = []
    return finish(verdict(bench.journal, BankDecider(), lines.append)), "\n".join(lines)


def one_snapshot() -> Bench:
    """Entries from 3 on, and the snapshot that ends with entry 3."""
    alice = owner()
    paying(alice, 1, 2)
    snapshot(alice)
    paying(alice, 3, 4)
    finish(forget_old(alice.journal))
    return alice


def test_an_empty_journal_is_sound_and_told_to_be_empty() -> None:
    """Nothing is missing where nothing was, and nobody has to guess why there is no output."""
    journal = MemoryJournal(MemoryStore())
    lines: list[str] = []
    assert finish(verdict(journal, BankDecider(), lines.append))
    assert lines == ["sound: the journal is empty"]
    assert finish(nothing_from(journal, 0)) == "the journal is empty"


def test_a_whole_journal_is_sound_with_and_without_what_was_purged() -> None:
    """Below the oldest snapshot nothing is needed."""
    alice = with_snapshots()
    assert checked(alice)[0]
    finish(forget_old(alice.journal))
    assert checked(alice)[0]
    assert checked(one_snapshot())[0]


@pytest.mark.parametrize("lost", [[3], [3, 4], [3, 4, 5]])
def test_entries_lost_right_after_the_only_snapshot_are_missed(lost: list[int]) -> None:
    """The first entry that is left follows from nothing, and that is not taken for a purge."""
    alice = one_snapshot()
    for sequence in lost:
        del alice.store.entries[sequence]
    sound, text = checked(alice)
    assert not sound
    assert "WRONG" in text
    assert "NOT SOUND" in text


def test_first_entries_lost_without_a_snapshot_are_missed() -> None:
    """Without a snapshot the journal has to begin at the beginning."""
    alice = with_snapshots()
    alice.store.manifests.clear()
    finish(alice.journal.purge_below(2))
    assert not checked(alice)[0]


def test_the_only_snapshot_is_read_too() -> None:
    """One that cannot be read is told although all entries are there."""
    alice = one_snapshot()
    for key in alice.store.chunks:
        alice.store.chunks[key] = b"junk"
    sound, text = checked(alice)
    assert not sound
    assert "WRONG snapshot at-3" in text


def test_a_sequence_beyond_the_end_has_no_state() -> None:
    """Replay says where the journal ends instead of giving the last state for another; 0 is before the first entry."""
    alice = with_snapshots()
    assert finish(replayed(alice.journal, BankDecider(), 9)).head.sequence == 9
    with pytest.raises(JournalError, match="there is no entry 10: the journal ends at 9"):
        finish(replayed(alice.journal, BankDecider(), 10))
    assert finish(nothing_from(alice.journal, 10)) == "nothing to show from 10 on: the journal ends at 9"


def test_a_purged_sequence_has_no_state_either() -> None:
    """What is below the oldest snapshot cannot be rebuilt, and the empty state is not passed off for it."""
    alice = with_snapshots()
    finish(forget_old(alice.journal))
    assert finish(replayed(alice.journal, BankDecider(), 3)).head.sequence == 3
    assert finish(replayed(alice.journal, BankDecider(), 0)).head.sequence == 0
    with pytest.raises(JournalError, match="entry 2 is purged: the journal begins at 3"):
        finish(replayed(alice.journal, BankDecider(), 2))


def test_a_sequence_that_was_lost_has_no_state_either() -> None:
    """The state of the snapshot before it is not passed off for it."""
    alice = one_snapshot()
    del alice.store.entries[4]
    assert finish(replayed(alice.journal, BankDecider(), 3)).head.sequence == 3
    with pytest.raises(JournalError, match="there is no entry 4: it is lost, or another shard's"):
        finish(replayed(alice.journal, BankDecider(), 4))
