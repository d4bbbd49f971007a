"""One contract for the journal in memory and the one on a real nats-server, alone and replicated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bursar.kernel.errors import Conflict, JournalFull, OutcomeUnknown
from bursar.kernel.journal.base import Journal
from bursar.kernel.journal.jetstream import JetStreamJournal
from bursar.kernel.journal.memory import CONFLICT_R3, MemoryJournal, MemoryStore
from bursar.kernel.snapshot import KEEP, Manifest, manifest_of
from tests.integration.support import Rig

REAL = pytest.mark.integration
CONFLICTS = (10071, 10164)


class Pair:
    """Two shards of one service, on one stream; ``limit`` bounds its bytes."""

    def __init__(self, first: Journal, second: Journal, limit: Callable[[int], Awaitable[Any]]) -> None:
        self.first = first
        self.second = second
        self.limit = limit


@pytest.fixture(
    params=[
        "memory",
        "memory, as on three replicas",
        pytest.param("server", marks=REAL),
        pytest.param("cluster", marks=REAL),
    ]
)
async def journals(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    if request.param.startswith("memory"):
        store = MemoryStore(conflict_code=CONFLICT_R3) if "three" in request.param else MemoryStore()

        async def limit(max_bytes: int) -> None:
            store.max_bytes = max_bytes

        yield Pair(MemoryJournal(store, 0), MemoryJournal(store, 1), limit)
        return
    async with Rig(tmp_path, replicas=3 if request.param == "cluster" else 1) as rig:
        bus = await rig.bus("contract")
        first, second = (JetStreamJournal(bus, rig.service, shard, 10.0) for shard in (0, 1))
        yield Pair(first, second, rig.limit_journal)


async def rows(journal: Journal, after: int = 0) -> list[tuple[int, bytes]]:
    return [row async for row in journal.read(after)]


def manifest(name: str) -> Manifest:
    return manifest_of(name, 7, b"h" * 16, "created", b"data", 2)


async def test_journal_appends_reads_and_purges_by_its_contract(journals: Pair) -> None:
    """Conditional appends per shard, reads in order, the view around a sequence, purging below one."""
    first, second = journals.first, journals.second
    empty = await first.inspect(0)
    assert (empty.at, empty.following, empty.last) == (None, None, None)
    assert empty.created
    assert await rows(first) == []

    # each shard has its own last sequence, on one common stream
    assert await first.append(0, b"one") == 1
    assert await second.append(0, b"other") == 2
    assert await first.append(1, b"two") == 3
    for expected in (0, 1, 2, 4):
        with pytest.raises(Conflict) as refused:
            await first.append(expected, b"no")
        assert refused.value.facts["code"] in CONFLICTS
    assert await first.append(-1, b"three") == 4
    assert await rows(first) == [(1, b"one"), (3, b"two"), (4, b"three")]
    assert await rows(first, 1) == [(3, b"two"), (4, b"three")]
    assert await rows(first, 4) == []
    assert await rows(second) == [(2, b"other")]

    seen = await first.inspect(1)
    assert seen == (empty.created, b"one", (3, b"two"), (4, b"three"))
    assert (await first.inspect(4)).following is None
    assert (await first.inspect(2)).at is None  # another shard's
    assert (await first.inspect(99)).at is None

    await first.purge_below(4)
    assert await rows(first) == [(4, b"three")]
    assert await rows(second) == [(2, b"other")]
    assert (await first.inspect(3)).at is None
    assert await first.append(4, b"four") == 5
    with pytest.raises(Conflict):
        await second.append(0, b"no")


async def test_of_many_appends_at_one_sequence_one_lands(journals: Pair) -> None:
    """The conditional append is the fence, however many try at once."""
    outcomes = await asyncio.gather(*(journals.first.append(0, b"%d" % i) for i in range(8)), return_exceptions=True)
    assert sum(outcome == 1 for outcome in outcomes) == 1
    assert all(isinstance(outcome, Conflict) for outcome in outcomes if outcome != 1), outcomes
    assert len(await rows(journals.first)) == 1


async def test_tail_brings_what_exists_from_a_sequence_on(journals: Pair) -> None:
    """In order and without gaps; it may break at any time, and then goes on after the last one seen."""
    for expected in range(5):
        await journals.first.append(expected, b"%d" % expected)
    found: list[int] = []
    while len(found) < 3:
        try:
            async for sequence, _ in journals.first.tail(found[-1] if found else 2):
                found.append(sequence)
                if len(found) == 3:
                    break
        except OutcomeUnknown:
            continue
    assert found == [3, 4, 5]


async def test_snapshots_are_kept_by_their_contract(journals: Pair) -> None:
    """Chunks by name, the newest three manifests, each made valid only after the one that was the newest."""
    first, second = journals.first, journals.second
    assert await first.manifests() == []
    assert await first.chunk("a", 0) is None
    before = ""
    for name in ("a", "b", "c", "d"):
        for index in range(2):
            await first.put_chunk(name, index, name.encode() * (index + 1))
        await first.put_manifest(manifest(name), before)
        before = name
    assert await first.manifests() == [manifest(name) for name in ("d", "c", "b")]
    assert len(await first.manifests()) == KEEP
    assert await first.chunk("c", 1) == b"cc"
    for after in ("", "c"):
        with pytest.raises(Conflict):
            await first.put_manifest(manifest("late"), after)
    await first.drop_snapshot("c")
    assert await first.chunk("c", 1) is None
    assert await first.chunk("d", 1) == b"dd"
    assert await second.manifests() == []
    assert await second.chunk("d", 1) is None


async def test_leftovers_are_older_than_the_newest_manifest_and_have_none(journals: Pair) -> None:
    """Chunks that are newer may get a manifest yet; dropping them ends the matter. Other shards do not count."""
    first, second = journals.first, journals.second
    for index in range(2):
        await first.put_chunk("crashed", index, b"x")
    await second.put_chunk("elsewhere", 0, b"x")
    assert await first.leftovers() == []  # there is no manifest at all
    await first.put_chunk("a", 0, b"x")
    await first.put_manifest(manifest("a"), "")
    await first.put_chunk("new", 0, b"x")
    assert await first.leftovers() == ["crashed"]
    await first.put_chunk("crashed", 2, b"x")  # still the same writer, who began before
    assert await first.leftovers() == ["crashed"]
    await first.drop_snapshot("crashed")
    assert await first.leftovers() == []
    assert await first.chunk("new", 0) == b"x"
    assert await second.leftovers() == []


async def test_full_journal_says_so_and_has_room_again_after_a_purge(journals: Pair) -> None:
    """No room is not a conflict: nothing is stored, what stands there stays, and the same append lands later."""
    first = journals.first
    for expected in range(4):
        await first.append(expected, bytes(2_000))
    await journals.limit(9_000)
    for _ in range(2):
        with pytest.raises(JournalFull):
            await first.append(4, bytes(2_000))
    with pytest.raises(Conflict):
        await first.append(3, bytes(2_000))
    assert len(await rows(first)) == 4
    await first.purge_below(4)
    assert await first.append(4, bytes(2_000)) == 5
