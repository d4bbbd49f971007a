"""Which snapshots become valid, and what is forgotten."""

from __future__ import annotations

import pytest

from bursar.kernel.entry import BEAT, GENESIS, RECOVERY, chain_hash, encode
from bursar.kernel.errors import Conflict, CorruptSnapshot
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.keeper import forget_old, purge_in_need, store_snapshot, sweep
from bursar.kernel.loader import load
from bursar.kernel.snapshot import KEEP, Manifest, base_after, base_id, digest_of, manifest_of, split
from tests.simulation.toy import BankDecider


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


# ---- what crashes leave behind


def _names(journal: MemoryJournal) -> set[str]:
    """Under which names there are chunks."""
    return {name for _, name, _ in journal.store.chunks}


async def _recover(journal: MemoryJournal, base: Manifest | None) -> int:
    """A recovery entry after the last one, with its base stored before it."""
    if base is not None:
        await journal.put_chunk(base.id, 0, b"base")
    sequence, before = journal.store.last(0) or (0, b"")
    entry = encode(RECOVERY, (2, 1, 1), b"id", 0, chain_hash(before), (), base)
    return await journal.append(sequence, entry)


def _base(after: int) -> Manifest:
    return manifest_of(base_id(after, "x"), 0, bytes(16), "", b"state", 1)


async def test_chunks_of_a_snapshot_that_was_never_completed_are_swept_after_the_next(journal: MemoryJournal) -> None:
    """A crash before the manifest: the chunks go once another snapshot is stored; the kept ones stay."""
    await _grow(journal, 20)
    await store_snapshot(journal, _of(journal, 5), [b"chunk"])
    for index in range(3):
        await journal.put_chunk("crashed", index, b"chunk")
    assert await sweep(journal) == []
    await store_snapshot(journal, _of(journal, 10), [b"chunk"])
    assert await sweep(journal) == ["crashed"]
    assert _names(journal) == {"at-5", "at-10"}


async def test_sweep_leaves_other_shards_alone(journal: MemoryJournal) -> None:
    """Each shard sweeps its own."""
    other = MemoryJournal(journal.store, 1)
    await other.put_chunk("crashed", 0, b"chunk")
    await _grow(journal, 5)
    await store_snapshot(journal, _of(journal, 5), [b"chunk"])
    assert await sweep(journal) == []
    assert await other.chunk("crashed", 0) == b"chunk"


class _Swept(MemoryJournal):
    """Another instance, which was slow, sweeps between this one's chunks and its manifest."""

    async def put_manifest(self, manifest: Manifest, after: str) -> None:
        await sweep(MemoryJournal(self.store, self.shard))
        await super().put_manifest(manifest, after)


async def unfinished_is_left(store: MemoryStore) -> bool:
    """Whether a snapshot is whole that was being stored while another instance swept."""
    journal = _Swept(store)
    await _grow(journal, 20)
    await store_snapshot(journal, _of(journal, 5), [b"one"])
    await store_snapshot(journal, _of(journal, 10), [b"one", b"two"])
    return all([await journal.chunk("at-10", index) for index in range(2)])


async def test_snapshot_that_another_instance_is_storing_is_not_swept() -> None:
    """Its chunks have no manifest yet, but nothing newer has been stored since they were."""
    assert await unfinished_is_left(MemoryStore())


async def test_base_stays_as_long_as_its_recovery_stands_in_the_journal(journal: MemoryJournal) -> None:
    """It is what a start needs that meets the recovery; when the journal is purged above that, the base goes."""
    await _grow(journal, 10)
    base = _base(10)
    assert await _recover(journal, base) == 11
    await _grow(journal, 40)
    for sequence in (20, 30, 40):
        await store_snapshot(journal, _of(journal, sequence), [b"chunk"])
        assert await sweep(journal) == []
    await forget_old(journal)
    assert min(journal.store.entries) == 20
    assert await sweep(journal) == [base.id]


async def test_base_of_a_recovery_that_may_still_come_is_not_swept(journal: MemoryJournal) -> None:
    """Nothing has been appended since it was written, so its recovery may yet land; a newer snapshot is no proof."""
    await _grow(journal, 10)
    await journal.put_chunk(_base(10).id, 0, b"base")
    await store_snapshot(journal, _of(journal, 10), [b"chunk"])
    assert await sweep(journal) == []
    await _recover(journal, None)
    assert await sweep(journal) == [_base(10).id]


async def test_base_of_a_recovery_that_another_came_before_is_swept(journal: MemoryJournal) -> None:
    """Two instances recovered at once: one entry landed, and the other's base is of no use."""
    await _grow(journal, 10)
    mine, other = _base(10), _base(10)._replace(id=base_id(10, "y"))
    await journal.put_chunk(other.id, 0, b"base")
    await _recover(journal, mine)
    await store_snapshot(journal, _of(journal, 11), [b"chunk"])
    assert await sweep(journal) == [other.id]
    assert await journal.chunk(mine.id, 0) == b"base"


async def test_recovery_that_lands_after_its_base_was_swept_is_damage(journal: MemoryJournal) -> None:
    """Two instances recovered at once and the loser's base was swept; then the winner's entry was lost as well, and the
    loser's append was still under way. The start fails closed: the next recovery is of a higher incarnation, where the
    late one would have begun the winner's a second time."""
    late = _base(0)
    await journal.put_chunk(late.id, 0, b"base")
    await _recover(journal, None)
    await store_snapshot(journal, _of(journal, 1), [b"chunk"])
    assert await sweep(journal) == [late.id]
    journal.store.entries.clear()
    journal.store.last_sequence = 0
    entry = encode(RECOVERY, (2, 1, 1), b"late", 0, GENESIS, (), late)
    assert await journal.append(0, entry) == 1
    assert (await load(journal, BankDecider())).damage == f"a chunk is missing (snapshot={late.id}, chunk=0)"


@pytest.mark.parametrize(("name", "after"), [("base-0-x", 0), ("base-417-a-1", 417), ("1-2-3-4", None)])
def test_base_is_named_after_what_it_follows(name: str, after: int | None) -> None:
    """A base says so in its name, and after which entry its recovery was to stand."""
    assert base_after(name) == after


# ---- a full journal


async def test_full_journal_is_purged_below_the_newest_snapshot(journal: MemoryJournal) -> None:
    """Rather than below the oldest of three: its entry stays, and a start from it needs nothing that is gone."""
    await _grow(journal, 50)
    with pytest.raises(CorruptSnapshot):
        await purge_in_need(journal)
    for sequence in (10, 20):
        await _store(journal, sequence)
    assert await purge_in_need(journal) == 20
    assert min(journal.store.entries) == 20


async def test_full_journal_is_not_purged_on_the_word_of_a_snapshot_that_is_damaged_or_elsewhere(
    journal: MemoryJournal,
) -> None:
    """The next older one that is whole stands for what goes; without any, all stays."""
    await _grow(journal, 50)
    for sequence in (10, 20, 30):
        await _store(journal, sequence)
    await journal.put_chunk("at-30", 0, b"not what it was")
    await journal.drop_snapshot("at-20")
    assert await purge_in_need(journal) == 10
    del journal.store.entries[10]
    with pytest.raises(CorruptSnapshot):
        await purge_in_need(journal)
    assert min(journal.store.entries) == 11


async def _store(journal: MemoryJournal, sequence: int) -> None:
    data = b"state"
    manifest = _of(journal, sequence)._replace(size=len(data), digest=digest_of(data))
    await store_snapshot(journal, manifest, list(split(data)))
