"""The journal as a process sees it: `MemoryJournal` behind a network that delays, loses and breaks off.

Every operation suspends before and after it touches the store, so that a crash, another process's operation or a
disaster may come between any two of them; and it may fail on either side: not carried out, or carried out without an
answer.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from bursar.kernel.effects import Inspection
from bursar.kernel.errors import KernelError, OutcomeUnknown
from bursar.kernel.journal.base import Appended
from bursar.kernel.keeper import purge_in_need
from bursar.kernel.snapshot import Manifest
from tests.simulation.simulator import SUSPEND

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World


class SimulatedJournal:
    """One process's view of the shard's journal; appends go through `Network` instead."""

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    async def append(self, expected: int, payload: bytes) -> int:
        raise NotImplementedError("appends go through the network")

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        raise NotImplementedError("appends go through the network")

    async def inspect(self, sequence: int) -> Inspection:
        """As over JetStream: several reads, between which the store may change, and each of which an old leader may
        answer."""
        shard, store = self._world.shard, self._world.store
        await self._travel()
        created = store.created
        found = store.entries.get(sequence) if sequence <= self._known() else None
        at = found[1] if found and found[0] == shard else None
        await SUSPEND
        known = self._known()
        following = next((row for row in store.after(shard, sequence) if row[0] <= known), None)
        await SUSPEND
        known = self._known()
        last = next((row for row in reversed(list(store.after(shard, 0))) if row[0] <= known), None)
        await self._travel()
        return Inspection(created, at, following, last)

    def _known(self) -> float:
        """The last entry that the server which answers this read knows of."""
        leader, simulator = self._world.old_leader, self._world.simulator
        if leader is None or simulator.now >= leader.until or simulator.chance(0.5):
            return math.inf
        return leader.last

    async def read(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        """What exists when the reading begins, a few entries at a time."""
        await self._travel()
        for count, row in enumerate(list(self._world.store.after(self._world.shard, after))):
            if count % 16 == 0:
                await self._travel()
            yield row

    async def tail(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        async for row in self.read(after):
            yield row
        raise OutcomeUnknown("the tail of this journal is polled")

    async def purge_below(self, sequence: int) -> None:
        await self._travel()
        await self._world.journal.purge_below(sequence)
        self._world.simulator.log(self._process.name, "purged below", sequence)
        await self._travel()

    async def put_chunk(self, snapshot_id: str, index: int, data: bytes) -> None:
        await self._travel()
        await self._world.journal.put_chunk(snapshot_id, index, data)
        await self._travel()

    async def chunk(self, snapshot_id: str, index: int) -> bytes | None:
        await SUSPEND
        return await self._world.journal.chunk(snapshot_id, index)

    async def put_manifest(self, manifest: Manifest, after: str) -> None:
        await self._travel()
        await self._world.journal.put_manifest(manifest, after)
        self._world.simulator.log(self._process.name, "stored snapshot", manifest.id)
        self._world.check_manifests()
        await self._travel()

    async def manifests(self) -> list[Manifest]:
        await self._travel()
        return await self._world.journal.manifests()

    async def drop_snapshot(self, snapshot_id: str) -> None:
        await self._travel()
        self._world.checker.dropping(snapshot_id)
        await self._world.journal.drop_snapshot(snapshot_id)
        self._world.check_manifests()
        await self._travel()

    async def leftovers(self) -> list[str]:
        await self._travel()
        found = await self._world.journal.leftovers()
        await self._travel()
        return found

    async def make_room(self) -> None:
        """The journal is full: do what `bursar.kernel.room` does."""
        await SUSPEND
        try:
            await purge_in_need(self)
            self._world.checker.count("purged_in_need")
        except KernelError as error:
            self._world.simulator.log(self._process.name, "not purged:", error.text)

    async def _travel(self) -> None:
        await SUSPEND
        if self._world.simulator.chance(self._world.faults.storage_error):
            raise OutcomeUnknown("the network broke off")
