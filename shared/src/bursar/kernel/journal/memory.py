"""The journal in memory: the same rules as a JetStream stream, for tests and the simulator.

`MemoryStore` is the stream (all shards of one service share its sequence, as on a server); `MemoryJournal` is one
shard's view of it. No method ever suspends, so that a synchronous caller can run the coroutines to their end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator

from bursar.kernel.bugs import seeded
from bursar.kernel.effects import Inspection
from bursar.kernel.errors import Conflict, JournalFull, KernelError, OutcomeUnknown
from bursar.kernel.journal.base import Appended
from bursar.kernel.snapshot import KEEP, Manifest, decode_manifest

CONFLICT_R1 = 10071
CONFLICT_R3 = 10164
FULL = 10077


class MemoryStore:
    """A stream and its snapshots. ``conflict_code`` is what refusals say (10071, or 10164 as on three replicas)."""

    def __init__(self, created: str = "2026-01-01T00:00:00Z", conflict_code: int = CONFLICT_R1) -> None:
        self.created = created
        self.conflict_code = conflict_code
        self.last_sequence = 0
        self.entries: dict[int, tuple[int, bytes]] = {}
        self.chunks: dict[tuple[int, str, int], bytes] = {}
        self.manifests: dict[int, list[bytes]] = {}
        self.max_bytes: float = math.inf
        self.puts = 0
        self.first_put: dict[tuple[int, str], int] = {}
        self.manifest_put: dict[int, int] = {}

    def last(self, shard: int) -> tuple[int, bytes] | None:
        for sequence in reversed(self.entries):
            if self.entries[sequence][0] == shard:
                return sequence, self.entries[sequence][1]
        return None

    @property
    def size(self) -> int:
        return sum(len(payload) for _, payload in self.entries.values())

    def append(self, shard: int, expected: int, payload: bytes) -> int:
        """Append if the shard's last sequence is as expected (-1: whatever it is); raises `Conflict`, `JournalFull`."""
        last = self.last(shard)
        if expected not in (-1, last[0] if last else 0):
            raise Conflict("wrong last sequence", code=self.conflict_code)
        if self.max_bytes < math.inf and self.size + len(payload) > self.max_bytes:
            raise JournalFull("maximum bytes exceeded", code=FULL)
        self.last_sequence += 1
        self.entries[self.last_sequence] = (shard, payload)
        return self.last_sequence

    def after(self, shard: int, sequence: int) -> Iterator[tuple[int, bytes]]:
        for at, (of, payload) in list(self.entries.items()):
            if of == shard and at > sequence:
                yield at, payload

    def inspect(self, shard: int, sequence: int) -> Inspection:
        at = self.entries.get(sequence)
        following = next(self.after(shard, sequence), None)
        return Inspection(self.created, at[1] if at and at[0] == shard else None, following, self.last(shard))


class MemoryJournal:
    """One shard of a `MemoryStore`, as a `Journal`."""

    def __init__(self, store: MemoryStore, shard: int = 0) -> None:
        self.store = store
        self.shard = shard

    async def append(self, expected: int, payload: bytes) -> int:
        return self.store.append(self.shard, expected, payload)

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        result: int | KernelError
        try:
            result = self.store.append(self.shard, expected, payload)
        except KernelError as error:
            result = error
        asyncio.get_running_loop().call_soon(then, result)

    async def inspect(self, sequence: int) -> Inspection:
        return self.store.inspect(self.shard, sequence)

    async def read(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        for sequence, payload in self.store.after(self.shard, after):
            yield sequence, payload

    async def tail(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """What exists now; then it breaks, as a tail may at any time (nothing here can wait)."""
        for sequence, payload in self.store.after(self.shard, after):
            yield sequence, payload
        raise OutcomeUnknown("the end of what is in memory")

    async def purge_below(self, sequence: int) -> None:
        entries = self.store.entries
        for at in [at for at, (shard, _) in entries.items() if shard == self.shard and at < sequence]:
            del entries[at]

    async def put_chunk(self, snapshot_id: str, index: int, data: bytes) -> None:
        self.store.puts += 1
        self.store.first_put.setdefault((self.shard, snapshot_id), self.store.puts)
        self.store.chunks[self.shard, snapshot_id, index] = data

    async def chunk(self, snapshot_id: str, index: int) -> bytes | None:
        return self.store.chunks.get((self.shard, snapshot_id, index))

    async def put_manifest(self, manifest: Manifest, after: str) -> None:
        kept = self.store.manifests.setdefault(self.shard, [])
        if after != (decode_manifest(kept[-1]).id if kept else ""):
            raise Conflict("another snapshot is newer", code=self.store.conflict_code)
        kept.append(manifest.encode())
        del kept[:-KEEP]
        self.store.puts += 1
        self.store.manifest_put[self.shard] = self.store.puts

    async def manifests(self) -> list[Manifest]:
        return [decode_manifest(m) for m in reversed(self.store.manifests.get(self.shard, []))]

    async def drop_snapshot(self, snapshot_id: str) -> None:
        chunks = self.store.chunks
        for key in [key for key in chunks if key[:2] == (self.shard, snapshot_id)]:
            del chunks[key]
        self.store.first_put.pop((self.shard, snapshot_id), None)

    async def leftovers(self) -> list[str]:
        kept = {manifest.id for manifest in await self.manifests()}
        newest = self.store.manifest_put.get(self.shard, 0)
        stored = {name for shard, name, _ in self.store.chunks if shard == self.shard}
        return sorted(name for name in stored - kept if self._first_put(name) < newest)

    def _first_put(self, snapshot_id: str) -> int:
        return 0 if seeded("sweep_takes_unfinished") else self.store.first_put.get((self.shard, snapshot_id), 0)
