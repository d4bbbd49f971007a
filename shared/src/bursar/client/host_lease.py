"""A lease of a host's CPU, memory and disk in the hands of its holder.

It holds until ``deadline`` on this machine's own clock, as a lease of GPU memory does (`bursar.client.gpu_lease`). What
is guaranteed never changes; the limits do, and are those of the last renewal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.client.gpu_errors import LeaseLost
from bursar.client.gpu_lease import RELEASED, Lost, until
from bursar.contracts.monitor_quota import HostLeased, HostRenewed

if TYPE_CHECKING:
    from bursar.client.host import Host

__all__ = ["HostLease", "Limits", "Used"]

CORE: Final = 1_000.0


class Limits(NamedTuple):
    """Up to where the processes may use the host now: cores, bytes, bytes."""

    cpu: float
    memory: int
    disk: int


class Used(NamedTuple):
    """What they really used when the host's probe last looked; None: not known. ``held_by``: what keeps them within
    the limits: "cgroup", "rlimit" or "nothing"."""

    cpu: float | None
    memory: int | None
    disk: int | None
    held_by: str


class HostLease:
    """Made by `Host.lease`. ``cpu`` (cores), ``memory``, ``disk`` (bytes): guaranteed. ``limits``: now, which may be
    more (borrowed) or, of processor that is not used, less (lent); ``used``: by the host's probe. ``fence``: grows from
    lease to lease."""

    def __init__(self, client: Host, leased: HostLeased, deadline: float, fields: dict[str, Any]) -> None:
        self._client = client
        self._callbacks: list[Callable[[HostLease], object]] = []
        self.id = leased.lease
        self.host = leased.host
        self.fence = leased.fence
        self.cpu: float = fields["cpu_milli"] / CORE
        self.memory: int = fields["memory_bytes"]
        self.disk: int = fields["disk_bytes"]
        self.limits = _limits(leased)
        self.used = Used(None, None, None, "nothing")
        self.ttl = leased.ttl_ms / 1000.0
        self.deadline = deadline
        self.fields = fields
        self.ended = False
        self.nudge = asyncio.Event()
        self.lost = Lost(self)

    def __repr__(self) -> str:
        state = "released" if self.ended else self.lost.reason or f"{self.left:.3f} s left"
        return f"<HostLease {self.id} of {self.cpu:g} cores and {self.memory} bytes on {self.host}, {state}>"

    @property
    def left(self) -> float:
        """Seconds in which it still holds if it is not renewed; 0 or less when it does not."""
        return (self.deadline - self._client.clock.now()) / 1000.0

    @property
    def held(self) -> bool:
        return not self.ended and not self.lost

    @property
    def is_whole(self) -> bool:
        """Whether the limits have reached what is guaranteed: somebody who had borrowed it may have to give it back
        first."""
        return self.limits.cpu >= self.cpu and self.limits.memory >= self.memory

    def check(self) -> None:
        """Raise `LeaseLost` unless it holds now."""
        if not self.held:
            raise LeaseLost(self.id, self.lost.reason or RELEASED)

    def on_change(self, callback: Callable[[HostLease], object]) -> None:
        """Call this when the limits have changed; it must not block."""
        self._callbacks.append(callback)

    async def bind(self, *processes: tuple[int, int]) -> None:
        """Say which processes of the host it is for: (pid, ticks at which it started; see
        `bursar.client.gpu.started_at`); their children follow. Raises `LeaseLost`."""
        self.fields["processes"] = [{"pid": pid, "started": started} for pid, started in processes]
        self.check()
        await self._client.renew(self, tell=True)
        self.check()

    async def release(self) -> None:
        """It is not used any more. Returns when that is durable, or cannot be said any more."""
        await asyncio.shield(self.release_soon())

    def release_soon(self) -> asyncio.Task[None]:
        """As `release`, in the background: it is finished before the fleet closes."""
        return self._client.background.spawn(self._client.release(self))

    def lose(self, reason: str) -> None:
        """It does not hold any more (called by `Host`)."""
        if not self.ended:
            self.lost.set(reason)
            self.nudge.set()

    def renewed(self, told: HostRenewed, sent: float) -> None:
        """It was renewed by a request that was sent at ``sent`` (local ms)."""
        self.deadline = max(self.deadline, until(sent, told.ttl_ms))
        cpu = None if told.used_cpu_milli is None else told.used_cpu_milli / CORE
        self.used = Used(cpu, told.used_memory_bytes, told.used_disk_bytes, told.held_by)
        before, self.limits = self.limits, _limits(told)
        if before != self.limits:
            for callback in self._callbacks:
                callback(self)


def _limits(told: HostLeased | HostRenewed) -> Limits:
    return Limits(told.cpu_milli / CORE, told.memory_bytes, told.disk_bytes)
