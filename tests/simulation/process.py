"""One instance of the service: a replica with its shell, as `bursar.kernel.runner` and `host` are, on virtual time.

A process carries out its replica's effects; the simulator decides when each takes place, and whether. It can be paused
(inputs queue, the clock goes on) and killed. The store, and the small file with the highest fence, survive that.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from bursar.kernel.decider import Command, Fence, Reject
from bursar.kernel.desk import Request, digest_of
from bursar.kernel.effects import (
    Announce,
    Answer,
    Append,
    Drop,
    Effect,
    Faulted,
    Heartbeat,
    Inspect,
    Load,
    RoleChanged,
    TakeSnapshot,
    WriteBase,
)
from bursar.kernel.entry import RECOVERY, decode
from bursar.kernel.errors import CorruptSnapshot, KernelError, OutcomeUnknown
from bursar.kernel.fencing import parse_fence
from bursar.kernel.keeper import forget_old, store_snapshot, sweep
from bursar.kernel.loader import load, read_snapshot
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Options, Role
from bursar.kernel.snapshot import Manifest, base_id, manifest_of, split
from tests.simulation.checks import is_beyond
from tests.simulation.journal import SimulatedJournal
from tests.simulation.simulator import SUSPEND, finish

if TYPE_CHECKING:
    from tests.simulation.workload import Call
    from tests.simulation.world import World

OPTIONS = Options(beat_ms=2_000, snapshot_ms=1_500, snapshot_events=200, max_queue=500)
"""The real times, but for beats and snapshots, so that a short history has many of them."""

FLOOR_MS = 1_000


class Process:
    """One life of instance ``name``. ``knows``: the highest fence it has known to be in the journal."""

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.simulator = world.simulator
        self.name = f"{name}{number}"
        self.slot = name
        self.alive = True
        self.is_paused = False
        self.listening = False
        self.resigned = False
        self.knows: Fence = (0, 0, 0)
        self.replica = Replica(world.workload.decider(), self.name.encode().ljust(8, b"."), OPTIONS)
        self.journal = SimulatedJournal(world, self)
        self._anchor = self.simulator.between(0, 1_000_000) - self.simulator.now
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._pump_scheduled = False
        self._alarm = 0
        self._tail_after: int | None = None
        self._tail_stalled_until = 0
        self._bases = 0
        self.deliver(self._begin)
        self.simulator.at(self.simulator.between(5, 40), self._tick)
        self.simulator.at(self.simulator.between(0, 50), self._poll_tail)
        self.simulator.at(FLOOR_MS, self._remember_floor)

    @property
    def mono(self) -> int:
        return self.simulator.now + self._anchor

    # ---- life

    def deliver(self, call: Callable[..., None], *arguments: Any) -> None:
        """Hand an input in, now or when the pause is over."""
        if not self.alive:
            return
        if self.is_paused:
            self._backlog.append((call, arguments))
            return
        call(*arguments)
        self._carry_out()

    def pause(self, ms: int) -> None:
        if not self.is_paused:
            self.simulator.log(self.name, "paused", ms)
            self.is_paused = True
            self.simulator.at(ms, self._resume)

    def _resume(self) -> None:
        """Go on with what has queued, in its order."""
        if not self.is_paused:
            return
        self.simulator.log(self.name, "resumes with", len(self._backlog))
        self.is_paused = False
        if self.simulator.chance(0.5):  # its connections wake up in any order
            self._read_tail(0)
        backlog, self._backlog = self._backlog, []
        for call, arguments in backlog:
            self.deliver(call, *arguments)

    def heal(self) -> None:
        """End a pause at once, and whatever else was in the way."""
        self._tail_stalled_until = 0
        self._resume()
        self.deliver(self._reconnected)

    def _reconnected(self) -> None:
        self.replica.reconnected(self.mono)

    def kill(self) -> None:
        self.simulator.log(self.name, "killed")
        self.alive = False
        self.world.died(self)

    def resign(self) -> None:
        """SIGTERM: answer what was accepted, tell the standbys, end."""
        if self.alive and not self.is_paused and not self.resigned:
            self.simulator.log(self.name, "resigns")
            self.resigned = True
            self.listening = False
            self.replica.send_away_parked()
            self._carry_out()
            self.simulator.at(0, self._drain, self.simulator.now + 1_000)

    def _drain(self, until: int) -> None:
        if not self.alive:
            return
        if not self.replica.is_idle and self.simulator.now < until:
            self.simulator.at(5, self._drain, until)
            return
        self.replica.resign(self.mono)
        self._carry_out()
        self.simulator.at(self.simulator.between(0, 50), self.kill)

    def _begin(self) -> None:
        self.replica.start(self.mono)

    def _tick(self) -> None:
        if self.alive:
            if not self.is_paused:
                self.deliver(self._tick_replica)
                self._warn_others()
            self.simulator.at(self.simulator.between(20, 80), self._tick)

    def _tick_replica(self) -> None:
        self.replica.tick(self.mono)
        if self.replica.is_full and self.replica.role is Role.OWNER and self.simulator.chance(0.1):
            self._run(self.journal.make_room())

    def _warn_others(self) -> None:
        """Nobody is to decide on a journal of which this instance knows that it has lost something."""
        suspect = self.replica.suspect
        if suspect is not None and self.replica.role is not Role.OWNER and self.simulator.chance(0.25):
            self.world.network.warn(suspect)

    def warned(self, suspect: Fence) -> None:
        self.replica.saw(suspect, self.mono)

    def _remember_floor(self) -> None:
        if self.alive:
            if self.replica.role in {Role.OWNER, Role.STANDBY} and not self.is_paused:
                floor = self.world.disk.get(self.slot, (0, 0, 0))
                self.world.disk[self.slot] = max(floor, self.replica.committed)
            self.simulator.at(FLOOR_MS, self._remember_floor)

    # ---- requests

    def request(self, call: Call) -> None:
        """A message of a client arrives at an endpoint."""
        if self.listening:
            self._request(call)
        else:
            self.world.clients.unheard(call)

    def _request(self, call: Call) -> None:
        body, replica = call.body, self.replica
        seen = parse_fence(body.seen) if isinstance(body.seen, str) else body.seen
        behind = seen is not None and replica.saw(seen, self.mono)
        digest = digest_of(body) if call.request_id else b""
        command, acked = Command(call.principal, call.request_id, body), getattr(body, "acked", 0)
        request = Request(call, command, digest, acked, patient=self.simulator.chance(0.3))
        if not behind and not replica.is_full and replica.offer(request):
            self._schedule_pump()
        else:
            self._refuse(call)

    def _refuse(self, call: Call) -> None:
        self.world.clients.reply(call, Answer(call, Reject("not_ready", "not now"), self.replica.fence))

    def _schedule_pump(self) -> None:
        if not self._pump_scheduled:
            self._pump_scheduled = True
            self.simulator.at(0, self.deliver, self._pump)

    def _pump(self) -> None:
        self._pump_scheduled = False
        self.replica.pump(self.mono)

    # ---- effects

    def _carry_out(self) -> None:
        replica, crash = self.replica, self.world.faults.effect_crash
        while replica.effects and self.alive:
            effects, replica.effects = replica.effects, []
            for effect in effects:
                if self.simulator.chance(crash):
                    self.kill()
                    return
                self._do(effect)
        if self.alive:
            if is_beyond(replica.committed, self.knows):
                self.knows = replica.committed
            if replica.has_work:
                self._schedule_pump()
            self._set_alarm()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Append():
                self.world.network.append(self, effect)
            case Answer():
                self.world.checker.answers(self, effect, effect.ticket)
                self.world.clients.reply(effect.ticket, effect)
            case Drop():
                pass
            case Announce(broadcasts, _):
                self.world.announced(broadcasts)
            case Faulted(faults):
                raise faults[0].error
            case Heartbeat():
                self.world.network.heartbeat(self, effect)
            case TakeSnapshot():
                self._snapshot(effect)
            case RoleChanged(role, reason):
                self._role_changed(role, reason)
            case Inspect(token, sequence):
                self._run(self._inspect(token, sequence))
            case Load(token):
                self._run(self._load(token))
            case WriteBase():
                self._run(self._write_base(effect))

    def _set_alarm(self) -> None:
        at = self.replica.wake_at(self.mono)
        self._alarm += 1
        if at is not None and at - self.mono < 20:
            self.simulator.at(max(1, at - self.mono), self._ring, self._alarm)

    def _ring(self, alarm: int) -> None:
        if alarm == self._alarm:
            self.deliver(self._pump)

    def _role_changed(self, role: str, reason: str) -> None:
        self.simulator.log(self.name, role, reason, self.replica.head.sequence, self.replica.folded.fence)
        self._tail_after = None
        self.listening = role in (Role.OWNER, Role.RECOVERING) and not self.resigned
        if role == Role.OWNER:
            self.world.checker.takes_office(self, reason)
            self.world.took_office(self)
            for body in self.world.workload.start():
                self.replica.offer(Request(None, Command("ops", "", body), b"", 0))
            self._schedule_pump()

    # ---- work that takes time: each is run step by step, and stops for ever when the process dies

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        """Start now; every later step takes its time."""
        work.send(None)
        self.simulator.at(self.simulator.between(0, self.world.faults.slow), self._step, work)

    def _step(self, work: Coroutine[Any, Any, None]) -> None:
        if not self.alive:
            work.close()
            return
        if self.is_paused:
            self._backlog.append((self._step, (work,)))
            return
        try:
            work.send(None)
        except StopIteration:
            self._carry_out()
            return
        self._carry_out()
        self.simulator.at(self.simulator.between(0, self.world.faults.slow), self._step, work)

    async def _inspect(self, token: int, sequence: int) -> None:
        try:
            seen = await self.journal.inspect(sequence)
        except OutcomeUnknown:
            self.replica.unknown(token, self.mono)
        else:
            self.replica.inspected(token, seen, self.mono)

    async def _load(self, token: int) -> None:
        try:
            follower, damage = await load(self.journal, self.replica.decider)
        except OutcomeUnknown:
            self.replica.load_failed(token, self.mono)
            return
        if damage:
            self.simulator.log(self.name, "found damage:", damage)
        self.replica.loaded(token, follower, self.mono, damage, self.world.disk.get(self.slot))
        self._learn(follower.folded.fence)

    def _learn(self, fence: Fence) -> None:
        if is_beyond(fence, self.knows):
            self.knows = fence

    async def _write_base(self, effect: WriteBase) -> None:
        token, data, after = effect
        chunks = list(split(data))
        self._bases += 1
        manifest = manifest_of(base_id(after, f"{self.name}-{self._bases}"), 0, bytes(16), "", data, len(chunks))
        try:
            for index, chunk in enumerate(chunks):
                await self.journal.put_chunk(manifest.id, index, chunk)
        except KernelError:
            self.replica.unknown(token, self.mono)
        else:
            self.replica.base_written(token, manifest, self.mono)

    def _snapshot(self, effect: TakeSnapshot) -> None:
        self.world.checker.compare(self)
        data = effect.folded.dump()
        self._schedule_pump()
        self._run(self._store_snapshot(data, effect, self.replica.committed))

    async def _store_snapshot(self, data: bytes, effect: TakeSnapshot, fence: Fence) -> None:
        await SUSPEND
        part = len(data) // 3 + 1  # several chunks of a state that is small
        chunks = [zlib.compress(data[at : at + part], 1) for at in range(0, len(data), part)]
        snapshot_id = f"{fence[0]}-{fence[1]}-{fence[2]}-{effect.sequence}"
        manifest = manifest_of(snapshot_id, effect.sequence, effect.hash, effect.created, data, len(chunks))
        try:
            await store_snapshot(self.journal, manifest, chunks)
            await forget_old(self.journal)
            self.world.checker.count("swept", len(await sweep(self.journal)))
            self.world.checker.count("snapshots")
        except KernelError as error:
            self.simulator.log(self.name, "snapshot failed:", error.text)
        finally:
            self.replica.snapshot_done()

    # ---- following

    def _poll_tail(self) -> None:
        """The tail of the journal as it comes in, late, repeated or not at all for a while; owners get it too."""
        if not self.alive:
            return
        simulator, faults, now = self.simulator, self.world.faults, self.simulator.now
        simulator.at(simulator.between(5, 10 + 4 * faults.slow), self._poll_tail)
        if now < self._tail_stalled_until or self.is_paused:
            return
        if simulator.chance(faults.stalled_tail):
            self._tail_stalled_until = now + simulator.between(100, 3_000)
        if self._tail_after is None or simulator.chance(faults.repeated_tail):
            self._tail_after = max(0, self.replica.head.sequence - simulator.between(0, 3))
        self._read_tail(simulator.between(0, 2))

    def _read_tail(self, delay: int) -> None:
        rows = list(self.world.store.after(self.world.shard, self._tail_after or self.replica.head.sequence))
        if rows:
            self._tail_after = rows[-1][0]
            if delay:
                self.simulator.at(delay, self._entries, rows)
            else:
                self._entries(rows)

    def _entries(self, rows: list[tuple[int, bytes]]) -> None:
        for sequence, payload in rows:
            self.deliver(self._entry, sequence, payload)

    def _entry(self, sequence: int, payload: bytes) -> None:
        entry = decode(payload)
        base = None
        if entry.kind == RECOVERY and self.replica.role is Role.STANDBY:
            try:
                base = finish(read_snapshot(self.world.journal, Manifest._make(entry.base), self.replica.decider))
            except CorruptSnapshot:
                self._tail_after = None
                return
        self.replica.tail(sequence, payload, self.mono, base)
        if self.replica.role is Role.STANDBY:
            self._learn(self.replica.folded.fence)

    def heard(self, beat: Heartbeat) -> None:
        self.replica.heartbeat(beat.fence, beat.sequence, self.mono)
        if beat.leaving:
            self.replica.resigned(beat.fence, beat.sequence)
