"""From what is stored to a follower: the newest valid snapshot, and every entry after it.

What cannot be all is said in words, as damage: a snapshot that is newer than the journal, a gap, another stream. A
recovery entry mends the damage before it: it names the base that replaces everything below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Decider
from bursar.kernel.entry import chain_hash, decode, is_recovery
from bursar.kernel.errors import BrokenChain, CorruptEntry, CorruptSnapshot, OutcomeUnknown
from bursar.kernel.fold import EMPTY_HEAD, Folded, Follower, Head
from bursar.kernel.journal.base import Journal
from bursar.kernel.snapshot import Manifest, join


class Loaded(NamedTuple):
    follower: Follower
    damage: str


async def read_snapshot(journal: Journal, manifest: Manifest, decider: Decider[Any]) -> Folded:
    """Raises `CorruptSnapshot` or `VersionMismatch`."""
    chunks = [await journal.chunk(manifest.id, index) for index in range(manifest.chunks)]
    return Folded.load(decider, join(manifest, chunks))


async def load(journal: Journal, decider: Decider[Any]) -> Loaded:
    """Rebuild a shard's state. Raises `OutcomeUnknown` when the journal cannot be read now."""
    manifests = await journal.manifests()
    created = (await journal.inspect(0)).created
    follower, damage = await _newest_snapshot(journal, decider, created, manifests)
    after = 0 if damage else follower.head.sequence
    if after and seeded("snapshot_sequence_off_by_one"):
        after += 1
    async for sequence, payload in journal.read(after):
        try:
            base = await base_of(journal, payload, decider) if is_recovery(payload) else None
            if damage and base is not None:
                entry = decode(payload)
                if entry.incarnation > follower.folded.incarnation:
                    follower, damage = Follower(base, Head(0, entry.prev, created)), ""
            if not damage:
                follower.follow(sequence, payload, base)
        except (CorruptEntry, BrokenChain, CorruptSnapshot) as error:
            damage = str(error)
    if damage and manifests != await journal.manifests():
        raise OutcomeUnknown("what a newer snapshot displaced may be gone: not damage, too slow", damage=damage)
    return Loaded(follower, damage)


async def _newest_snapshot(
    journal: Journal, decider: Decider[Any], created: str, manifests: Sequence[Manifest]
) -> tuple[Follower, str]:
    damage = ""
    for manifest in manifests:
        try:
            folded = await read_snapshot(journal, manifest, decider)
        except CorruptSnapshot:
            continue
        if manifest.created != created:
            damage = "the stream was created anew"
        else:
            at = (await journal.inspect(manifest.sequence)).at
            if at is None:
                damage = "the entry that the snapshot ends with is gone"
            elif chain_hash(at) != manifest.hash:
                damage = "the entry that the snapshot ends with is another one"
        return Follower(folded, Head(manifest.sequence, manifest.hash, created)), damage
    return Follower(Folded(decider), EMPTY_HEAD._replace(created=created)), damage


async def base_of(journal: Journal, payload: bytes, decider: Decider[Any]) -> Folded | None:
    """The state that a recovery entry starts over from; None when it goes on from what is before it."""
    base = decode(payload).base
    return await read_snapshot(journal, Manifest._make(base), decider) if base is not None else None
