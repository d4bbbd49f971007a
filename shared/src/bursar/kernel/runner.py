"""The shell of one shard: carries out a replica's effects with a real journal and a real clock.

One list of effects, in order, after every input; what takes time becomes a task that hands its result back as another
input. Nothing here decides anything.

An error that nobody has foreseen (a decider whose ``evolve`` raises, an effect that cannot be carried out) leaves a
state that may be half changed, or an append that nobody will ever send. So it ends the process, whoever called, and
until then nothing leaves this runner any more. Otherwise the reader of the network, which survives its handlers, would
have the instance go on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from bursar.kernel.clock import Clock
from bursar.kernel.decider import Fence
from bursar.kernel.desk import Request
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
from bursar.kernel.entry import is_recovery
from bursar.kernel.errors import Conflict, JournalFull, KernelError, OutcomeUnknown
from bursar.kernel.faults import FaultLog
from bursar.kernel.floor import FloorFile
from bursar.kernel.forked import start_dump
from bursar.kernel.journal.base import Journal
from bursar.kernel.keeper import keep
from bursar.kernel.loader import base_of, load
from bursar.kernel.outlet import Outlet
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Role
from bursar.kernel.room import Room
from bursar.kernel.snapshot import Manifest, base_id, manifest_of, split

log = logging.getLogger("bursar.kernel")

TICK_SECONDS = 0.1
"""What cannot wait for a tick has a timer; each tick of an idle service costs 0.2 ms of CPU."""
FLOOR_SECONDS = 1.0
WARN_SECONDS = 0.2
TAIL_PAUSE_SECONDS = 0.2
SNAPSHOT_SECONDS = 300.0
"""A snapshot that takes longer is given up: without another one the journal would never be purged again."""


class ShardRunner:
    """One replica with its journal. All methods belong to the event loop's thread. ``late``: told after each tick by
    how many seconds the loop was late."""

    def __init__(
        self, replica: Replica, journal: Journal, clock: Clock, outlet: Outlet, floor: FloorFile | None,
        late: Callable[[float], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.replica = replica
        self._journal = journal
        self._clock = clock
        self._outlet = outlet
        self._floor = floor
        self._late = late
        self._tasks: set[asyncio.Task[None]] = set()
        self._tail: asyncio.Task[None] | None = None
        self._pump_wanted = False
        self._pump_scheduled = False
        self._wake: asyncio.TimerHandle | None = None
        self._room = Room(replica, journal, outlet.journal_full, self._spawn)
        self._faults = FaultLog()
        self._has_failed = False
        self.snapshots = 0

    def start(self) -> None:
        self.replica.start(self._clock.monotonic_ms())
        self._carry_out()
        self._spawn(self._tick_for_ever())
        self._spawn(self._warn_others())
        if self._floor is not None:
            self._spawn(self._remember_floor())

    async def stop(self) -> None:
        """Stop everything; the journal keeps what was committed."""
        if self._wake is not None:
            self._wake.cancel()
        tasks = [*self._tasks, *([self._tail] if self._tail else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._write_floor()

    async def drain(self, seconds: float) -> None:
        """Commit and answer what was accepted, send away who waits in line, and resign."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            self.replica.send_away_parked()  # again and again: what was still queued may have got in line meanwhile
            self._carry_out()
            if self.replica.is_idle:
                break
            await asyncio.sleep(TICK_SECONDS / 8)
        self.replica.resign(self._clock.monotonic_ms())
        self._carry_out()

    # ---- inputs

    def offer(self, request: Request) -> bool:
        """Queue a request, to be decided in the next turn of the loop together with all that arrives in this one."""
        if not self.take(request):
            return False
        self._schedule_pump()
        return True

    def take(self, request: Request) -> bool:
        """As `offer`, for a caller that says `pump_offered` when there is nothing more to take in this turn."""
        taken = not self.replica.is_full and self.replica.offer(request)
        self._pump_wanted = self._pump_wanted or taken
        return taken

    def saw(self, fence: Fence) -> bool:
        beyond = self.replica.saw(fence, self._clock.monotonic_ms())
        self._carry_out()
        return beyond

    def heard(self, fence: Fence, sequence: int, leaving: bool) -> None:
        self.replica.heartbeat(fence, sequence, self._clock.monotonic_ms())
        if leaving:
            self.replica.resigned(fence, sequence)
        self._carry_out()

    def reconnected(self) -> None:
        """The connection that the journal is reached by is back."""
        self.replica.reconnected(self._clock.monotonic_ms())
        self._carry_out()

    def _schedule_pump(self) -> None:
        self._pump_wanted = True
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._scheduled_pump)

    def pump_offered(self) -> None:
        """Decide what was taken or offered in this turn."""
        if self._pump_wanted:
            self._pump()

    def _scheduled_pump(self) -> None:
        self._pump_scheduled = False
        self.pump_offered()

    def _pump(self) -> None:
        self._pump_wanted = False
        try:
            self.replica.pump(self._clock.monotonic_ms())
        except Exception as error:  # noqa: BLE001 - whatever it is: see the module's text
            self._fail(error)
        self._carry_out()

    async def _tick_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            self._late(loop.time() - due)
            self.replica.tick(self._clock.monotonic_ms())
            self._carry_out()
            self._room.look()
            self._faults.look(self._clock.monotonic_ms())

    # ---- effects

    def _carry_out(self) -> None:
        try:
            self._carry_out_all()
        except Exception as error:  # noqa: BLE001 - whatever it is: see the module's text
            self._fail(error)

    def _carry_out_all(self) -> None:
        replica = self.replica
        if self._has_failed:
            replica.effects.clear()
            return
        while replica.effects:
            effects, replica.effects = replica.effects, []
            self._outlet.cork()
            for effect in effects:
                if type(effect) is Answer:  # nearly all are
                    self._outlet.answer(effect)
                else:
                    self._do(effect)
            self._outlet.write_out()
        if replica.has_work:
            self._schedule_pump()
        self._set_alarm()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Answer():
                self._outlet.answer(effect)
            case Append(token, expected, payload):
                self._journal.start_append(expected, payload, partial(self._appended, token))
            case Drop(tickets):
                for ticket in tickets:
                    self._outlet.drop(ticket)
            case Announce(broadcasts, fence):
                for broadcast in broadcasts:
                    self._outlet.announce(broadcast, fence)
            case Heartbeat():
                self._outlet.heartbeat(effect)
            case TakeSnapshot():
                self._snapshot(effect)
            case RoleChanged(role, reason):
                self._role_changed(role, reason)
            case Faulted(faults):
                self._faults.add(faults, self._clock.monotonic_ms())
            case _:
                self._spawn(self._work(effect))

    def _work(self, effect: Inspect | Load | WriteBase) -> Coroutine[Any, Any, None]:
        match effect:
            case Inspect(token, sequence):
                return self._inspect(token, sequence)
            case Load(token):
                return self._load(token)
            case WriteBase():
                return self._write_base(effect)

    def _set_alarm(self) -> None:
        """Wake up for what the decider has due, when that is sooner than the next tick."""
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        mono = self._clock.monotonic_ms()
        at = self.replica.wake_at(mono)
        if at is not None and (at - mono) / 1000 < TICK_SECONDS:
            self._wake = asyncio.get_running_loop().call_later(max(0.001, (at - mono) / 1000), self._pump)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """The process has to end: see the module's text."""
        if not self._has_failed:
            self._has_failed = True
            log.critical("shard_failed", exc_info=error)
            asyncio.get_running_loop().call_exception_handler({"message": "shard failed", "exception": error})
            self._outlet.write_out()  # what was committed before

    def _appended(self, token: int, result: int | KernelError) -> None:
        try:
            self._settle(token, result)
        except Exception as error:  # noqa: BLE001 - whatever it is: see the module's text
            self._fail(error)
        self._carry_out()

    def _settle(self, token: int, result: int | KernelError) -> None:
        mono = self._clock.monotonic_ms()
        if isinstance(result, int):
            self.replica.appended(token, result, mono)
        elif isinstance(result, Conflict):
            self.replica.refused(token, result.facts["code"], mono)
        elif isinstance(result, JournalFull):
            self.replica.no_room(token, mono)
        else:
            log.warning("append_unsettled", extra={"why": result.text, **result.facts})
            self.replica.unknown(token, mono)

    async def _inspect(self, token: int, sequence: int) -> None:
        try:
            seen = await self._journal.inspect(sequence)
        except OutcomeUnknown:
            self.replica.unknown(token, self._clock.monotonic_ms())
        else:
            self.replica.inspected(token, seen, self._clock.monotonic_ms())
        self._carry_out()

    async def _load(self, token: int) -> None:
        try:
            follower, damage = await load(self._journal, self.replica.decider)
        except OutcomeUnknown as error:
            log.warning("load_failed", extra={"why": error.text, **error.facts})
            self.replica.load_failed(token, self._clock.monotonic_ms())
        else:
            floor = await asyncio.to_thread(self._floor.read) if self._floor is not None else None
            self.replica.loaded(token, follower, self._clock.monotonic_ms(), damage, floor)
        self._carry_out()

    async def _write_base(self, effect: WriteBase) -> None:
        token, data, after = effect
        chunks = list(split(data))
        name = base_id(after, secrets.token_hex(8))
        manifest = manifest_of(name, 0, bytes(16), "", data, len(chunks))
        try:
            for index, chunk in enumerate(chunks):
                await self._journal.put_chunk(manifest.id, index, chunk)
        except KernelError:
            self.replica.unknown(token, self._clock.monotonic_ms())
        else:
            self.replica.base_written(token, manifest, self._clock.monotonic_ms())
        self._carry_out()

    # ---- snapshots

    def _snapshot(self, effect: TakeSnapshot) -> None:
        try:
            dump = start_dump(effect.folded)
        except OSError as error:
            log.warning("snapshot_not_started", extra={"errno": error.errno})
            self.replica.snapshot_done()
            return
        self._schedule_pump()
        fence = self.replica.committed
        self._spawn(self._store_snapshot(dump, effect, f"{fence[0]}-{fence[1]}-{fence[2]}-{effect.sequence}"))

    async def _store_snapshot(self, dump: Any, effect: TakeSnapshot, snapshot_id: str) -> None:
        try:
            async with asyncio.timeout(SNAPSHOT_SECONDS):
                chunks = [chunk async for chunk in dump.chunks()]
            facts = (1, snapshot_id, effect.sequence, effect.hash, effect.created, len(chunks), dump.size, dump.digest)
            swept = await keep(self._journal, Manifest(*facts), chunks)
            self.snapshots += 1
            known = {"id": snapshot_id, "bytes": dump.size, "chunks": len(chunks), "swept": len(swept)}
            log.info("snapshot_stored", extra=known)
        except (KernelError, OSError) as error:
            log.warning("snapshot_failed", extra={"why": str(error)[:200]})
        finally:
            self.replica.snapshot_done()

    # ---- following

    def _role_changed(self, role: str, reason: str) -> None:
        log.info("role_changed", extra={"role": str(role), "reason": reason, "fence": self.replica.fence})
        if self._tail is not None:
            self._tail.cancel()
            self._tail = None
        if role == Role.STANDBY:
            self._tail = asyncio.get_running_loop().create_task(self._follow())
            self._tail.add_done_callback(self._finished)
        self._outlet.role_changed(role, reason)

    async def _follow(self) -> None:
        while True:
            try:
                async for sequence, payload in self._journal.tail(self.replica.head.sequence):
                    base = None
                    if is_recovery(payload):
                        base = await base_of(self._journal, payload, self.replica.decider)
                    self.replica.tail(sequence, payload, self._clock.monotonic_ms(), base)
                    self._carry_out()
            except KernelError as error:  # what cannot be read here, a load will look into
                log.info("tail_restarts", extra={"why": error.text})
            await asyncio.sleep(TAIL_PAUSE_SECONDS)

    async def _warn_others(self) -> None:
        """Nobody is to decide on a journal of which one instance knows that it has lost something."""
        while True:
            await asyncio.sleep(WARN_SECONDS)
            if self.replica.role is not Role.OWNER and (suspect := self.replica.suspect) is not None:
                self._outlet.warn(suspect)

    async def _remember_floor(self) -> None:
        while True:
            await asyncio.sleep(FLOOR_SECONDS)
            await self._write_floor()

    async def _write_floor(self) -> None:
        """The file helps to see a loss; the service can do without, as on a full disk."""
        if self._floor is not None and (known := self._known_fence()) is not None:
            try:
                await asyncio.to_thread(self._floor.write, known)
            except OSError as error:
                log.warning("fence_not_written", extra={"errno": error.errno})

    def _known_fence(self) -> Fence | None:
        """The highest fence that is known to stand in the journal, as its owner or as one who reads it."""
        if self.replica.role is Role.OWNER:
            return self.replica.committed
        return self.replica.fence if self.replica.role is Role.STANDBY else None
