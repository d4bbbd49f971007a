"""Which snapshots become valid, and what is forgotten."""

from __future__ import annotations

import pytest

from bursar.kernel.entry import BEAT, chain_hash, encode
from bursar.kernel.errors import Conflict
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.keeper import forget_old, store_snapshot
from bursar.kernel.snapshot import KEEP, Manifest, manifest_of


@pytest.fixture
def journal() -> MemoryJournal:
    return MemoryJournal(MemoryStore())


async def _grow(journal: MemoryJournal, count: int) -> None:
    for _ in range(count):
        last = journal.store.last(0)
        sequence, before = last or (0, b"")
        await journal.append(sequence, encode(BEAT, (1, 1, 1), b"id%d" % sequence, 0, chain_hash(before)))


def _of(journal: MemoryJournal, sequence: int, name: str = "") -> Manifest:
    """A snapshot that ends with this entry."""
    payload = journal.store.entries[sequence][1]
    return manifest_of(name or f"at-{sequence}", sequence, chain_hash(payload), journal.store.created, b"state", 1)


async def test_oldest_of_three_snapshots_bounds_the_journal(journal: MemoryJournal) -> None:
    """Nothing is purged before all three exist; then everything below the oldest, whose entry stays."""
    await _grow(journal, 50)
    for sequence in (10, 20, 30, 40):
        await store_snapshot(journal, _of(journal, sequence), [b"chunk"])
        await forget_old(journal)
        assert min(journal.store.entries) == {30: 10, 40: 20}.get(sequence, 1)
    assert [m.sequence for m in await journal.manifests()] == [40, 30, 20]
    assert len(journal.store.chunks) == KEEP


async def test_snapshot_of_an_instance_that_slept_does_not_become_the_newest(journal: MemoryJournal) -> None:
    """Newer ones exist: the late one is given up, with its chunks."""
    await _grow(journal, 50)
    late = _of(journal, 5, "late")
    await store_snapshot(journal, _of(journal, 40), [b"chunk"])
    with pytest.raises(Conflict):
        await store_snapshot(journal, late, [b"chunk"])
    assert [m.sequence for m in await journal.manifests()] == [40]
    assert len(journal.store.chunks) == 1


async def test_snapshot_whose_last_entry_is_purged_or_replaced_is_given_up(journal: MemoryJournal) -> None:
    """The entry that it ends with must stand in the journal, with its hash, in the same stream."""
    await _grow(journal, 20)
    purged, replaced = _of(journal, 5), _of(journal, 15)._replace(hash=bytes(16))
    elsewhere = _of(journal, 15)._replace(created="another stream")
    await journal.purge_below(10)
    for manifest in (purged, replaced, elsewhere):
        with pytest.raises(Conflict):
            await store_snapshot(journal, manifest, [b"chunk"])
    assert await journal.manifests() == []


async def test_snapshot_after_a_loss_may_end_lower_than_the_newest(journal: MemoryJournal) -> None:
    """What the newest ends with is gone: the journal has started over below it, and the lower one counts."""
    await _grow(journal, 50)
    await store_snapshot(journal, _of(journal, 40), [b"chunk"])
    for sequence in range(31, 51):
        del journal.store.entries[sequence]
    await store_snapshot(journal, _of(journal, 30), [b"chunk"])
    assert [m.sequence for m in await journal.manifests()] == [30, 40]


async def test_manifest_is_refused_when_another_came_in_between(journal: MemoryJournal) -> None:
    """The newest manifest is not the one that was seen."""
    await _grow(journal, 20)
    await journal.put_manifest(_of(journal, 10), "")
    with pytest.raises(Conflict):
        await journal.put_manifest(_of(journal, 12), "")
    await journal.put_manifest(_of(journal, 12), "at-10")
    assert [m.sequence for m in await journal.manifests()] == [12, 10]
