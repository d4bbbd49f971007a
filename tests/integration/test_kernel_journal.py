"""The journal on JetStream where it differs from its twin in memory: long reads, purges while reading, tails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bursar.kernel.errors import Conflict, OutcomeUnknown
from bursar.kernel.journal.jetstream import PULL_MESSAGES, JetStreamJournal
from tests.integration.support import Rig

pytestmark = pytest.mark.integration

MANY = 2 * PULL_MESSAGES + 500


async def _fill(journal: JetStreamJournal, count: int) -> None:
    """So many entries, whatever their order."""
    for start in range(0, count, 500):
        await asyncio.gather(*(journal.append(-1, b"%d" % i) for i in range(start, min(start + 500, count))))


async def test_all_entries_are_read_in_order_however_many_requests_it_takes(tmp_path: Path) -> None:
    """More entries than one request may bring, from the beginning and from the middle; then the reading ends."""
    async with Rig(tmp_path) as rig:
        journal = await rig.journal()
        await _fill(journal, MANY)
        assert [sequence async for sequence, _ in journal.read(0)] == list(range(1, MANY + 1))
        assert [sequence async for sequence, _ in journal.read(MANY - 3)] == [MANY - 2, MANY - 1, MANY]
        assert [sequence async for sequence, _ in journal.read(MANY)] == []


async def test_tail_goes_on_with_what_is_new(tmp_path: Path) -> None:
    """A tail brings what exists, over several requests, and then each new entry as it comes."""
    async with Rig(tmp_path) as rig:
        journal = await rig.journal()
        await _fill(journal, MANY)
        read = []
        async with asyncio.timeout(10):
            async for sequence, _ in journal.tail(0):
                read.append(sequence)
                if sequence == MANY:
                    await journal.append(MANY, b"new")
                if sequence == MANY + 1:
                    break
        assert read == list(range(1, MANY + 2))


async def test_purge_while_reading_ends_the_reading(tmp_path: Path) -> None:
    """What was to come is gone: the reader says so instead of waiting for it, or of taking the rest for all."""
    async with Rig(tmp_path) as rig:
        journal = await rig.journal()
        await _fill(journal, MANY)

        async def read_and_purge() -> None:
            async for sequence, _ in journal.read(0):
                if sequence == 10:
                    await journal.purge_below(MANY + 1)

        with pytest.raises(OutcomeUnknown):
            await read_and_purge()


async def test_append_lands_only_after_the_entry_it_names(tmp_path: Path) -> None:
    """Zero names an empty shard; a wrong sequence is a conflict and stores nothing."""
    async with Rig(tmp_path) as rig:
        journal = await rig.journal()
        assert await journal.append(0, b"first") == 1
        for wrong in (0, 2):
            with pytest.raises(Conflict):
                await journal.append(wrong, b"second")
        assert await journal.append(1, b"second") == 2
        seen = await journal.inspect(1)
        assert (seen.at, seen.following, seen.last) == (b"first", (2, b"second"), (2, b"second"))
        assert (await journal.inspect(0)).following == (1, b"first")
