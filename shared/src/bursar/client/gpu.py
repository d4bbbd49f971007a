"""GPU memory as an agent sees it.

::

    async with fleet.gpu.lease(memory=12 << 30, wait=30) as lease:
        load_the_model(lease.host, lease.device)
        while work:
            lease.check()           # raises LeaseLost: stop, free the memory
            ...

A lease is renewed in the background at a third of its time to live and given back at the end of the block. What is
promised: a lease that is handed out holds; it never holds longer on this side than on the manager's; what was granted
and cannot be used (the caller was cancelled meanwhile, the answer came too late) is given back; after the manager has
lost data the leases that are held are declared to it again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bursar.bus.base import Bus
from bursar.client.background import Background
from bursar.client.caller import Call, Caller, Reply
from bursar.client.errors import BadReply
from bursar.client.gpu_asking import query
from bursar.client.gpu_cache import GpuCache
from bursar.client.gpu_errors import GpuRefused, GpuUnavailable
from bursar.client.gpu_kv import GpuKv
from bursar.client.gpu_lease import SILENT, Ask, GpuLease, Leasing, until
from bursar.client.gpu_moves import GpuMoves
from bursar.client.held_leases import REAP_MS, HeldLeases
from bursar.client.notices import Notices
from bursar.client.session import Session
from bursar.client.time import Clock, SystemClock
from bursar.contracts.gpu import SERVICE, Explained, Purpose, StatusReply
from bursar.errors import BursarError, CallerError

PATIENCE: Final = 10.0
"""Seconds to keep asking a manager that does not answer: longer than a restart or a take-over."""

DEFAULT_TTL: Final = 10.0
MAX_WAIT: Final = 600.0
TOO_LATE: Final = 5
"""Number of leases that may arrive too late, one after the other, before the manager counts as out of reach."""


class Gpu:
    """Made by `bursar.connect`: ``fleet.gpu``. ``cache``: weights that agents share; ``moves``: leases
    that may be moved, and advice for engines; ``kv``: pages of KV cache that engines share."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock | None = None,
        background: Background | None = None,
        session: Session | None = None,
        notices: Notices | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.clock = clock or SystemClock()
        self.background = background or Background()
        self.patience = patience
        self.caller = Caller(
            bus, SERVICE, self.clock, session=session, lost_data=self._data_was_lost, unavailable=GpuUnavailable
        )
        self.principal = bus.principal
        self.cache = GpuCache(self)
        self.moves = GpuMoves(self)
        self.kv = GpuKv(self)
        self._held: HeldLeases[GpuLease] = HeldLeases(
            self.caller, self.background, lambda lease: self.renew(lease, lease.deadline)
        )
        self._starting: asyncio.Lock | None = None
        self._notices = notices or Notices(bus)
        self._is_listening = False

    async def start(self) -> None:
        """Listen for answers and notices; the first use does it."""
        self._starting = self._starting or asyncio.Lock()
        async with self._starting:
            if not self._is_listening:
                await self.caller.start()
                await self._notices.start()
                self._notices.listen("lease_lost", self._on_lost)
                self._notices.listen("cache", self.cache.hear)
                self._notices.listen("move_wanted", self.moves.hear)
                self._notices.listen("kv_wanted", self.kv.hear)
                self._is_listening = True

    async def close(self, timeout: float = 5.0) -> int:
        """Release what is held; returns how many releases could not be finished."""
        for lease in list(self._held.by_id.values()):
            lease.release_soon()
        self.cache.stop()
        self.kv.stop()
        unfinished = await self.background.drain(timeout)
        if self._is_listening:
            self._is_listening = False
            self._notices.ignore("lease_lost", self._on_lost)
            self._notices.ignore("cache", self.cache.hear)
            self._notices.ignore("move_wanted", self.moves.hear)
            self._notices.ignore("kv_wanted", self.kv.hear)
            await self._notices.close()
            await self.caller.close()
        return unfinished

    @property
    def leases(self) -> tuple[GpuLease, ...]:
        """Those that were granted to this process and not released."""
        return tuple(self._held.by_id.values())

    def lease(
        self,
        memory: int,
        *,
        devices: int = 1,
        model: str | None = None,
        labels: dict[str, str] | None = None,
        hosts: Sequence[str] = (),
        exclude: Sequence[str] = (),
        one_host: bool = True,
        ttl: float = DEFAULT_TTL,
        wait: float = 0.0,
        purpose: Purpose = "workspace",
        note: str = "",
        processes: Sequence[tuple[int, int]] | None = None,
        **placement: Any,
    ) -> Leasing[GpuLease]:
        """``memory`` bytes on each of so many ``devices``: use it with ``async with``, or ``await`` it.

        ``model``: part of the card's name. ``labels``, ``hosts``: of the host. ``exclude``: hosts, uuids or devices
        not to use. ``one_host``: all devices on the same. ``ttl``: seconds after which a holder that is gone has lost
        it (0.1 to 600). ``wait``: seconds to stand in line (at most 600) instead of being refused at once.
        ``processes``: (pid, start) of those that will allocate; this process if not given. ``purpose``: ``weights``,
        ``kv_cache``, ``workspace``, or ``loading``, which only one lease of a device can have at a time (see
        `GpuLease.loaded`). ``note``: for people. ``placement``: policy, role, numa, link, group, apart, strictly of
        `bursar.contracts.gpu.Wanted`.

        Entering raises `GpuRefused`, `GpuUnavailable`, or another `bursar.errors.BursarError`.
        """
        who = own_process() if processes is None else processes
        fields = {
            "memory": memory,
            "devices": devices,
            "one_host": one_host,
            "model": model,
            "labels": dict(labels or {}),
            "hosts": list(hosts),
            "exclude": list(exclude),
            "ttl_ms": int(ttl * 1000.0),
            "processes": [{"pid": pid, "started": started} for pid, started in who],
            "purpose": purpose,
            "note": note,
            **placement,
        }
        return Leasing(self.grant, Ask(fields, min(max(wait, 0.0), MAX_WAIT)))

    async def status(self, host: str | None = None) -> StatusReply:
        """Devices, leases and counters; of one host or of all."""
        return await query(self, "status", StatusReply, host=host)

    async def explain(self, memory: int, *, devices: int = 1, **choice: Any) -> Explained:
        """Would ``memory`` bytes on each of so many devices be granted now? If not, why, device by device, and which
        leases would have to end. ``choice``: model, labels, hosts, exclude, one_host, purpose as for `lease`. Nothing
        is granted. Raises a `bursar.errors.BursarError`."""
        want = {"memory": memory, "devices": devices, **choice}
        return await query(self, "explain", Explained, want=want)

    async def what_if(self, model: str, *, choice: dict[str, Any] | None = None, **how: Any) -> Explained:
        """The same for a model, by name: its memory is estimated. ``how``: context, sequences, form, kv_form, shards,
        max_num_batched_tokens, max_num_sequences, or ``config`` for a model that is not known by name (see
        `bursar.contracts.gpu.ModelLoad`), and gpu_memory_utilization, swap_space_fraction (thousandths), host_memory;
        ``choice``: which devices, as for `explain`."""
        names = ("gpu_memory_utilization", "swap_space_fraction", "host_memory")
        own = {name: how.pop(name) for name in names if name in how}
        fields: dict[str, Any] = {"load": {"model": model, **how}, **own}
        if choice:
            fields["want"] = {"memory": 1, **choice}
        return await query(self, "explain", Explained, **fields)

    # -- lease

    async def grant(self, ask: Ask) -> GpuLease:
        """A lease that holds now and is renewed from now on; see `lease`."""
        await self.start()
        wait_until = self.clock.now() + ask.wait * 1000.0
        deadline = self._deadline(ask.wait)
        for _ in range(TOO_LATE):
            lease, is_lost = await self._ask(ask, wait_until - self.clock.now(), deadline)
            if await self._is_good(lease, is_lost):
                self._held.keep(lease)
                return lease
        raise GpuUnavailable("every lease came too late to be used")

    async def _ask(self, ask: Ask, wait_ms: float, deadline: float) -> tuple[GpuLease, bool]:
        call = self.caller.request("lease", {**ask.fields, "wait_ms": max(0, int(wait_ms))})
        try:
            reply = await self.caller.run(call, deadline)
        except (asyncio.CancelledError, GpuUnavailable):
            self._abandon(call, ask)
            raise
        if reply.body.get("ok") is not True:
            raise _refused(reply)
        return self._lease(ask, reply), reply.is_lost

    def _lease(self, ask: Ask, reply: Reply) -> GpuLease:
        try:
            deadline = until(reply.sent, reply.body["ttl_ms"])
            lease = GpuLease(self, reply.body, reply.fence, deadline, dict(ask.fields))
        except (LookupError, TypeError):
            raise BadReply("the lease cannot be read") from None
        self._held.by_id[lease.id] = lease
        return lease

    async def _is_good(self, lease: GpuLease, is_lost: bool) -> bool:
        """Whether a fresh lease holds. One that was waited for is old by the time of its request: it is renewed."""
        try:
            if is_lost and not await self._redeclare(lease):
                lease.lose("lost_with_the_log")
            elif lease.left < lease.ttl * 2 / 3:
                await self.renew(lease, self.clock.now() + lease.ttl * 1000.0, old=True)
        except BaseException:
            lease.release_soon()
            raise
        if lease.held:
            return True
        lease.release_soon()
        return False

    def take(self, fields: dict[str, Any], reply: Reply) -> GpuLease:
        """A lease that was granted by another way than `lease`; it is renewed from now on."""
        lease = self._lease(Ask(fields, 0.0), reply)
        self._held.keep(lease)
        return lease

    def _abandon(self, call: Call, ask: Ask) -> None:
        until = self.clock.now() + ask.wait * 1000.0 + REAP_MS
        self._held.abandon(call, until, lambda reply: self.release(self._lease(ask, reply)))

    # -- hold

    async def renew(self, lease: GpuLease, deadline: float, *, tell: bool = False, old: bool = False) -> None:
        """Renew once, at most until ``deadline`` (local ms); the lease is lost if that fails. ``tell``: say who
        allocates, and what for. ``old``: by its own clock it does not hold, but it was granted just now."""
        if not (lease.held or old):
            return
        processes = lease.fields["processes"] if tell else None
        fields = {"lease": lease.id, "fence": lease.fence, "ttl_ms": lease.fields["ttl_ms"], "processes": processes}
        if tell:
            fields["purpose"] = lease.fields["purpose"]
        try:
            reply = await self.caller.ask("renew", fields, deadline)
            lease.prolong(reply.sent, reply.body["ttl_ms"])
            lease.overuse = reply.body["overuse"]
        except CallerError as error:
            if error.code != "unknown_lease" or not await self._redeclare(lease):
                lease.lose(str(error.facts.get("why", error.code)))
        except GpuUnavailable:
            lease.lose(SILENT)
        except (BursarError, LookupError, TypeError):
            lease.lose("bad_reply")

    async def release(self, lease: GpuLease) -> None:
        """Say that the memory is free; nobody needs to hear it once the lease has expired by itself."""
        fields = {"lease": lease.id, "fence": lease.fence}
        await self._held.release(lease, "release", fields, self._deadline(lease.ttl))

    def _on_lost(self, body: dict[str, Any]) -> None:
        lease = self._held.by_id.get(str(body.get("lease")))
        if lease is not None:
            lease.lose(str(body.get("reason")))
        self.kv.lose(str(body.get("lease")), str(body.get("reason")))

    # -- after data loss: nothing is granted to others until all that may be held has ended

    def _data_was_lost(self) -> None:
        for lease in list(self._held.by_id.values()):
            self.background.spawn(self._declare(lease))
        self.kv.look()

    async def _declare(self, lease: GpuLease) -> None:
        if lease.held and not await self._redeclare(lease):
            lease.lose("lost_with_the_log")

    async def _redeclare(self, lease: GpuLease) -> bool:
        """Whether the manager knows of the lease (again)."""
        fields = {
            "lease": lease.id,
            "fence": lease.fence,
            "devices": [{"device": held.device, "memory": held.memory} for held in lease.devices],
            "ttl_ms": lease.fields["ttl_ms"],
            "processes": lease.fields["processes"],
            "purpose": lease.fields["purpose"],
            "note": lease.fields["note"],
            "group": lease.fields.get("group", ""),
        }
        try:
            reply = await self.caller.ask("redeclare", fields, self._deadline(0.0), seen=lease.fence)
        except BursarError:
            return False
        if reply.body.get("held") is not True:
            return False
        if reply.body.get("adopted") is True:
            lease.prolong(reply.sent, int(reply.body["ttl_ms"]))
        self.background.spawn(self.kv.open_again(lease))
        return True

    def _deadline(self, wait: float) -> float:
        return self.clock.now() + (wait + self.patience) * 1000.0


def _refused(reply: Reply) -> BursarError:
    try:
        return GpuRefused(reply.body)
    except (LookupError, TypeError):
        return BadReply("the refusal cannot be read")


def own_process() -> list[tuple[int, int]]:
    """This process as (pid, start); nothing where its start is not known."""
    started = started_at(os.getpid())
    return [] if started is None else [(os.getpid(), started)]


def started_at(pid: int) -> int | None:
    """When a process of this machine started, in ticks since the machine did (Linux); None when that is not known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
