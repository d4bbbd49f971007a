"""Storing snapshots and forgetting old ones, in the order that makes a crash at any point harmless."""

from __future__ import annotations

from collections.abc import Sequence

from bursar.kernel.bugs import seeded
from bursar.kernel.journal.base import Journal
from bursar.kernel.snapshot import KEEP, Manifest


async def store_snapshot(journal: Journal, manifest: Manifest, chunks: Sequence[bytes]) -> None:
    """Chunks first, the manifest last: a snapshot is complete or does not exist. Then drop what it displaces."""
    before = await journal.manifests()
    if seeded("manifest_before_chunks"):
        await journal.put_manifest(manifest)
    for index, chunk in enumerate(chunks):
        await journal.put_chunk(manifest.id, index, chunk)
    if not seeded("manifest_before_chunks"):
        await journal.put_manifest(manifest)
    for old in before[KEEP - 1 :]:
        if old.id != manifest.id:
            await journal.drop_snapshot(old.id)


async def forget_old(journal: Journal) -> None:
    """Purge the journal below the oldest kept snapshot, once all that are to be kept exist; its entry stays."""
    kept = await journal.manifests()
    if len(kept) >= KEEP:
        await journal.purge_below(min(manifest.sequence for manifest in kept[:KEEP]))
