"""What befalls processes and the store: crashes, pauses, resignations, spoiled snapshots, lost entries."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bursar.kernel.journal.memory import MemoryStore
from bursar.kernel.snapshot import decode_manifest

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World


BETWEEN_ELECTIONS_MS = 1_500


class OldLeader(NamedTuple):
    """Knows the entries up to ``last``; answers ``until`` (ms)."""

    last: int
    until: int


class Disasters:
    """Each kind strikes again and again, at random times around its mean."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.simulator = world.simulator
        self._copy: MemoryStore | None = None
        faults = world.faults
        self._plan(faults.crash_every, self._crash)
        self._plan(faults.pause_every, self._pause)
        self._plan(faults.resign_every, self._resign)
        self._plan(faults.suspend_every, self._suspend)
        self._plan(faults.corrupt_every, self._corrupt)
        self._plan(faults.regress_every, self._regress)
        self._plan(faults.regress_every, self._keep_copy)
        self._plan(faults.full_every, self._fill)
        self._plan(faults.old_leader_every, self._replace_leader)

    def _plan(self, every: int, strike: Callable[[], None]) -> None:
        if every:
            self.simulator.at(self.simulator.between(1, 2 * every), self._strike, every, strike)

    def _strike(self, every: int, strike: Callable[[], None]) -> None:
        if not self.world.is_healed:
            strike()
            self._plan(every, strike)

    def _victim(self) -> Process | None:
        alive = self.world.alive()
        owner = self.world.owner()
        if owner is not None and self.simulator.chance(0.6):
            return owner
        return self.simulator.random.choice(alive) if alive else None

    def _crash(self) -> None:
        victims = self.world.alive() if self.simulator.chance(0.1) else [self._victim()]
        for victim in victims:
            if victim is not None:
                victim.kill()

    def _pause(self) -> None:
        victim = self._victim()
        if victim is not None:
            most = 30_000 if self.world.faults.long_pauses else 3_000
            victim.pause(self.simulator.between(200, most))

    def _resign(self) -> None:
        victim = self._victim()
        if victim is not None:
            victim.resign()

    def _suspend(self) -> None:
        ms = self.simulator.random.choice((500, 5_000, 130_000))
        self.simulator.log("everything stands still for", ms)
        self.simulator.jump(ms)

    def _corrupt(self) -> None:
        """Spoil one snapshot, as long as another one is whole and of use: not while a full journal is purged below the
        newest."""
        world = self.world
        if world.store.max_bytes < math.inf:
            return
        manifests = [decode_manifest(raw) for raw in world.store.manifests.get(world.shard, [])]
        whole = [m for m in manifests if m.id not in world.spoiled and m.sequence in world.store.entries]
        if len(whole) < 2:
            return
        victim = self.simulator.random.choice(whole)
        world.spoiled[victim.id] = True
        key = (world.shard, victim.id, 0)
        self.simulator.log("snapshot spoiled", victim.id)
        if self.simulator.chance(0.5):
            world.store.chunks.pop(key, None)
        else:
            data = bytearray(world.store.chunks.get(key, b"\0"))
            data[self.simulator.between(0, len(data) - 1)] ^= 1 << self.simulator.between(0, 7)
            world.store.chunks[key] = bytes(data)

    def _fill(self) -> None:
        """The journal takes no more, or a few entries more, until somebody makes room or raises the limit."""
        store = self.world.store
        store.max_bytes = store.size + self.simulator.random.choice((0, 0, 1_000))
        self.simulator.log("journal full at", store.max_bytes)
        self.simulator.at(self.simulator.between(100, 6_000), self.world.give_room)

    def _replace_leader(self) -> None:
        """The server that led the stream goes on answering reads out of what it has, as one does that was paused (seen
        for 140 ms); new entries are known to its successor only, and so are the last ones before. Elections are not
        that close to one another."""
        world, now = self.world, self.simulator.now
        if world.old_leader is not None and now < world.old_leader.until + BETWEEN_ELECTIONS_MS:
            return
        missing = self.simulator.between(0, 3)
        world.old_leader = OldLeader(max(0, world.store.last_sequence - missing), now + self.simulator.between(20, 200))
        self.simulator.log("an old leader answers without the last", missing)

    # ---- loss of acknowledged entries

    def _keep_copy(self) -> None:
        self._copy = copy.deepcopy(self.world.store)

    def _regress(self) -> None:
        strike = self.simulator.random.choice(
            (self._truncate, self._truncate, self._purge, self._recreate, self._restore)
        )
        self.simulator.log("loss:", strike.__name__)
        strike()
        self.world.checker.lost()

    def _truncate(self) -> None:
        """The server forgets its last entries, and will number the next ones as them."""
        store = self.world.store
        for _ in range(min(len(store.entries) - 1, self.simulator.between(1, 30))):
            store.entries.popitem()
        store.last_sequence = max(store.entries, default=0)

    def _purge(self) -> None:
        self.world.store.entries.clear()

    def _recreate(self) -> None:
        store = self.world.store
        store.entries.clear()
        store.last_sequence = 0
        store.created += "+"
        if self.simulator.chance(0.3):
            store.chunks.clear()
            store.manifests.clear()

    def _restore(self) -> None:
        """A copy from earlier, snapshots and all."""
        if self._copy is not None:
            store, older = self.world.store, copy.deepcopy(self._copy)
            store.entries, store.last_sequence, store.created = older.entries, older.last_sequence, older.created
            store.chunks, store.manifests = older.chunks, older.manifests
            store.puts, store.first_put, store.manifest_put = older.puts, older.first_put, older.manifest_put
