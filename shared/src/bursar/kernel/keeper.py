"""Storing snapshots and forgetting old ones, in the order that makes a crash at any point harmless.

What a crash leaves behind is swept up after the next snapshot. Nobody is asked whether he still lives; that nobody can
need it follows from what is stored:

- *Chunks without a manifest, older than the newest manifest.* Who stores a snapshot looks for the newest manifest
  first, and his own is valid only if that is still the newest. Another has come since, so his never will be.
- *The base of a recovery* is named after the sequence that the recovery follows. As soon as some entry does, either it
  is that recovery, and the base stays as long as the entry does; or the recovery was, and will be, refused. (Unless
  the journal loses that entry, too, while the append is still under way. A recovery that lands so late may begin an
  incarnation that another has begun already; without its base it is damage, and whoever loads it begins a higher one.)

An owner may be paused while it stores a snapshot, and go on when others have long stored newer ones. Its snapshot must
not become the newest: what it ends with may be purged, and a start from it would look like a loss. So a snapshot is
made valid only while its last entry stands in the journal, none that is newer does, and no other comes in between.
"""

from __future__ import annotations

from collections.abc import Sequence

from bursar.kernel.bugs import seeded
from bursar.kernel.entry import RECOVERY, chain_hash
from bursar.kernel.errors import Conflict, CorruptSnapshot
from bursar.kernel.journal.base import Journal
from bursar.kernel.recovery import read_entry
from bursar.kernel.snapshot import KEEP, Manifest, base_after, join


async def keep(journal: Journal, manifest: Manifest, chunks: Sequence[bytes]) -> list[str]:
    """Store a snapshot, then forget what is older than it needs, and sweep; what was swept. Raises `KernelError`."""
    await store_snapshot(journal, manifest, chunks)
    await forget_old(journal)
    return await sweep(journal)


async def store_snapshot(journal: Journal, manifest: Manifest, chunks: Sequence[bytes]) -> None:
    """Chunks first, the manifest last: a snapshot is complete or does not exist. Then drop what it displaces.

    Raises `Conflict` when the snapshot is superseded.
    """
    before = await journal.manifests()
    newest = before[0].id if before else ""
    if seeded("manifest_before_chunks"):
        await journal.put_manifest(manifest, newest)
    for index, chunk in enumerate(chunks):
        await journal.put_chunk(manifest.id, index, chunk)
    if not seeded("manifest_before_chunks"):
        if await _is_superseded(journal, manifest, before):
            await journal.drop_snapshot(manifest.id)
            raise Conflict("the snapshot is superseded", sequence=manifest.sequence)
        await journal.put_manifest(manifest, newest)
    for old in before[KEEP - 1 :]:
        if old.id != manifest.id:
            await journal.drop_snapshot(old.id)


async def _is_superseded(journal: Journal, manifest: Manifest, before: Sequence[Manifest]) -> bool:
    if not await _stands(journal, manifest):
        return True
    return bool(before) and before[0].sequence >= manifest.sequence and await _stands(journal, before[0])


async def _stands(journal: Journal, manifest: Manifest) -> bool:
    """Whether the entry that a snapshot ends with is in the journal."""
    seen = await journal.inspect(manifest.sequence)
    return seen.created == manifest.created and seen.at is not None and chain_hash(seen.at) == manifest.hash


async def forget_old(journal: Journal) -> None:
    """Purge the journal below the oldest kept snapshot, once all that are to be kept exist; its entry stays.

    After a loss some kept snapshots may be of a history that has ended. Until they have been displaced nothing is
    purged: what a start from the remaining ones needs, the recovery entry among it, must stay.
    """
    kept = (await journal.manifests())[:KEEP]
    if len(kept) < KEEP:
        return
    for manifest in kept:
        if not await _stands(journal, manifest):
            return
    await journal.purge_below(min(manifest.sequence for manifest in kept))


async def purge_in_need(journal: Journal) -> int:
    """The journal is full: purge it below the newest snapshot that is whole, rather than below the oldest kept; returns
    the sequence below which it is purged. Raises `CorruptSnapshot` when none can stand for what would go.

    Until others have displaced them, older snapshots then are of no use any more.
    """
    for manifest in await journal.manifests():
        if await _stands(journal, manifest) and await _is_whole(journal, manifest):
            await journal.purge_below(manifest.sequence)
            return manifest.sequence
    raise CorruptSnapshot("there is no snapshot of what the journal holds")


async def _is_whole(journal: Journal, manifest: Manifest) -> bool:
    try:
        join(manifest, [await journal.chunk(manifest.id, index) for index in range(manifest.chunks)])
    except CorruptSnapshot:
        return False
    return True


async def sweep(journal: Journal) -> list[str]:
    """Drop the chunks that no manifest, no recovery and no unfinished writer can ever need; returns their names."""
    swept = []
    for name in await journal.leftovers():
        after = base_after(name)
        if after is None or seeded("sweep_takes_bases_in_use") or await _is_displaced(journal, name, after):
            await journal.drop_snapshot(name)
            swept.append(name)
    return swept


async def _is_displaced(journal: Journal, name: str, after: int) -> bool:
    """Whether something else than the recovery that names this base follows the entry that it would have followed."""
    following = (await journal.inspect(after)).following
    if following is None:
        return False
    entry = read_entry(following[1])
    return entry is None or entry.kind != RECOVERY or entry.base is None or Manifest._make(entry.base).id != name
