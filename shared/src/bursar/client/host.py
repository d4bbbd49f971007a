"""CPU, memory and disk of a host as an agent leases them.

::

    async with fleet.host.lease(cpu=1.5, memory=2 << 30, wait=30) as lease:
        lease.check()                 # raises LeaseLost: stop
        lease.limits.cpu              # now: up to most_cpu while others do not use theirs

A lease is renewed in the background at a third of its time to live and given back at the end of the block. The probe of
the host keeps its processes (this one and its children, unless told) within the limits, and tells what they really use.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Sequence
from typing import Final

from bursar.bus.base import Bus
from bursar.client.background import Background
from bursar.client.caller import Call, Caller, Reply
from bursar.client.errors import BadReply
from bursar.client.gpu import own_process
from bursar.client.gpu_asking import read
from bursar.client.gpu_lease import SILENT, Ask, Leasing, until
from bursar.client.held_leases import REAP_MS, HeldLeases
from bursar.client.host_errors import HostRefused, HostUnavailable
from bursar.client.host_lease import HostLease
from bursar.client.session import Session
from bursar.client.time import Clock, SystemClock
from bursar.contracts.monitor import SERVICE
from bursar.contracts.monitor_quota import HostLeased, HostRenewed
from bursar.errors import BursarError, CallerError

PATIENCE: Final = 10.0
DEFAULT_TTL: Final = 15.0
MAX_WAIT: Final = 600.0
WHOLE_WITHIN: Final = 20.0
"""Seconds within which a new lease has its guarantee, although somebody had borrowed it."""
AGAIN: Final = 0.5
LONGEST: Final = 5.0
"""Seconds between two questions of who waits."""


class Host:
    """Made by `bursar.connect`: ``fleet.host``."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock | None = None,
        background: Background | None = None,
        session: Session | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.clock = clock or SystemClock()
        self.background = background or Background()
        self._patience = patience
        self._caller = Caller(bus, SERVICE, self.clock, session=session, unavailable=HostUnavailable)
        self._held: HeldLeases[HostLease] = HeldLeases(self._caller, self.background, self.renew)
        self._started: asyncio.Task[None] | None = None

    @property
    def leases(self) -> tuple[HostLease, ...]:
        """Those that were granted to this process and not released."""
        return tuple(self._held.by_id.values())

    def lease(
        self,
        cpu: float = 0.0,
        memory: int = 0,
        disk: int = 0,
        *,
        host: str | None = None,
        most_cpu: float | None = None,
        most_memory: int | None = None,
        ttl: float = DEFAULT_TTL,
        wait: float = 0.0,
        processes: Sequence[tuple[int, int]] | None = None,
        note: str = "",
    ) -> Leasing[HostLease]:
        """``cpu`` cores, ``memory`` and ``disk`` bytes, guaranteed, on ``host`` (this machine unless given): use it
        with ``async with``, or ``await`` it.

        ``most_cpu``, ``most_memory``: up to where it may borrow what others have and do not use. ``ttl``: seconds after
        which a holder that is gone has lost it (1 to 60). ``wait``: seconds to ask again (at most 600) instead of being
        refused at once. ``processes``: (pid, start) of those that use it; this process if it is on this machine.

        Entering raises `HostRefused`, `HostUnavailable`, or another `bursar.errors.BursarError`.
        """
        here = host is None or host == this_host()
        who = (own_process() if here else []) if processes is None else processes
        fields = {
            "host": host or this_host(),
            "cpu_milli": round(cpu * 1_000),
            "memory_bytes": memory,
            "disk_bytes": disk,
            "most_cpu_milli": None if most_cpu is None else round(most_cpu * 1_000),
            "most_memory_bytes": most_memory,
            "ttl_ms": int(ttl * 1_000),
            "processes": [{"pid": pid, "started": started} for pid, started in who],
            "note": note,
        }
        return Leasing(self.grant, Ask(fields, min(max(wait, 0.0), MAX_WAIT)))

    async def close(self, timeout: float = 5.0) -> int:
        """Release what is held; returns how many releases could not be finished."""
        for lease in list(self._held.by_id.values()):
            lease.release_soon()
        unfinished = await self.background.drain(timeout)
        if self._started is not None:
            self._started = None
            await self._caller.close()
        return unfinished

    async def grant(self, ask: Ask) -> HostLease:
        """A lease that holds now and is renewed from now on; see `lease`."""
        await self._start()
        wait_until = self.clock.now() + ask.wait * 1_000.0
        lease = await self._ask_until(ask, wait_until)
        self._held.keep(lease)
        try:
            await self._whole(lease)
        except BaseException:
            lease.release_soon()
            raise
        return lease

    async def _ask_until(self, ask: Ask, wait_until: float) -> HostLease:
        while True:
            try:
                return await self._ask(ask)
            except HostRefused as refused:
                left = (wait_until - self.clock.now()) / 1_000.0
                if left <= 0 or refused.retry_in is None:
                    raise
                await asyncio.sleep(min(left, max(AGAIN, min(refused.retry_in, LONGEST))))

    async def _whole(self, lease: HostLease) -> None:
        """Until whoever has borrowed what is this lease's has given it back."""
        deadline = self.clock.now() + WHOLE_WITHIN * 1_000.0
        while not lease.is_whole:
            lease.check()
            if self.clock.now() > deadline:
                raise HostUnavailable("what is guaranteed was not given back in time", lease=lease.id)
            await asyncio.sleep(AGAIN)
            await self.renew(lease)
        lease.check()

    async def _start(self) -> None:
        if self._started is None:
            self._started = asyncio.ensure_future(self._caller.start())
        await self._started

    async def _ask(self, ask: Ask) -> HostLease:
        call = self._caller.request("host-lease", ask.fields)
        try:
            reply = await self._caller.run(call, self._deadline())
        except (asyncio.CancelledError, HostUnavailable):
            self._abandon(call, ask)
            raise
        if reply.body.get("ok") is not True:
            raise _refused(reply)
        return self._lease(ask, reply)

    def _lease(self, ask: Ask, reply: Reply) -> HostLease:
        leased = read(HostLeased, reply.body)
        lease = HostLease(self, leased, until(reply.sent, leased.ttl_ms), dict(ask.fields))
        self._held.by_id[lease.id] = lease
        return lease

    def _abandon(self, call: Call, ask: Ask) -> None:
        until = self.clock.now() + REAP_MS
        self._held.abandon(call, until, lambda reply: self.release(self._lease(ask, reply)))

    async def renew(self, lease: HostLease, *, tell: bool = False) -> None:
        """Renew once; the lease is lost if that fails. ``tell``: say whose it is."""
        if not lease.held:
            return
        fields = {"lease": lease.id, "ttl_ms": lease.fields["ttl_ms"]}
        if tell:
            fields["processes"] = lease.fields["processes"]
        try:
            reply = await self._caller.ask("host-renew", fields, lease.deadline)
            lease.renewed(read(HostRenewed, reply.body), reply.sent)
        except CallerError as error:
            lease.lose(error.code)
        except HostUnavailable:
            lease.lose(SILENT)
        except BursarError:
            lease.lose("bad_reply")

    async def release(self, lease: HostLease) -> None:
        """Say that it is not used any more; nobody needs to hear it once it has expired by itself."""
        await self._held.release(lease, "host-release", {"lease": lease.id}, self._deadline())

    def _deadline(self) -> float:
        return self.clock.now() + self._patience * 1_000.0


def _refused(reply: Reply) -> BursarError:
    try:
        return HostRefused(reply.body)
    except (LookupError, TypeError):
        return BadReply("the refusal cannot be read")


def this_host() -> str:
    """The name of this machine's probe: ``BURSAR_HOST``, or as `bursar up` makes it from the machine's name."""
    first = os.environ.get("BURSAR_HOST") or socket.gethostname().partition(".")[0]
    return re.sub(r"[^a-z0-9-]+", "-", first.lower()).strip("-")[:59].rstrip("-") or "host"
