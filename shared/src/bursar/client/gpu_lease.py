"""A lease of GPU memory in the hands of its holder.

It holds until ``deadline`` on this machine's own clock: so long after the moment at which the request that was granted
(or last renewed) was *sent* as the manager granted, less what clocks may drift. The manager frees the memory later than
that, so a holder that stops at the deadline never meets its successor, whatever the network or the manager did.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from bursar.client.caller import FenceKey
from bursar.client.gpu_errors import LeaseLost
from bursar.client.offset import DRIFT
from bursar.contracts.gpu import Purpose

if TYPE_CHECKING:
    from bursar.client.gpu import Gpu

LEAVE_WITHIN: Final = 1.0
"""Seconds that the end of an ``async with`` block waits for the release; then it goes on in the background."""

SILENT: Final = "out_of_reach"
RELEASED: Final = "released"


@dataclass(frozen=True, slots=True)
class HeldDevice:
    """One device of a lease. ``device``: its name ``<host>/<uuid>``; ``index``: its number on the host; bytes."""

    device: str
    host: str
    uuid: str
    index: int
    memory: int


class Ask(NamedTuple):
    """The fields of a request, and how long to wait (seconds)."""

    fields: dict[str, Any]
    wait: float


class Lapsing(Protocol):
    """What is held until a deadline: ``left`` seconds; ``ended``: it was given back."""

    ended: bool

    @property
    def left(self) -> float: ...


class Lost:
    """Whether a lease, or the pages of an engine, are lost: true or false as itself, to be awaited by `wait`, with the
    ``reason``.

    Reasons: ``device_lost``, ``dropped`` (by an operator), ``out_of_reach`` (it could not be renewed in time), or the
    manager's word for it, such as ``expired`` or ``crowded_out``.
    """

    __slots__ = ("_event", "_lease", "_reason")

    def __init__(self, lease: Lapsing) -> None:
        self._lease = lease
        self._event = asyncio.Event()
        self._reason = ""

    def __bool__(self) -> bool:
        return bool(self.reason)

    def __repr__(self) -> str:
        return f"<Lost: {self.reason or 'no'}>"

    @property
    def reason(self) -> str:
        """ "" while the lease is not lost. Past its deadline it is, even if nobody has had the time to notice."""
        if not self._reason and not self._lease.ended and self._lease.left <= 0:
            return SILENT
        return self._reason

    def is_set(self) -> bool:
        return bool(self)

    async def wait(self) -> str:
        """Return, with the reason, when the lease is lost; for ever if it is released before."""
        await self._event.wait()
        return self._reason

    def set(self, reason: str) -> None:
        if not self._reason:
            self._reason = reason
            self._event.set()


class GpuLease:
    """Made by `Gpu.lease`. ``fence``: the token to show wherever somebody checks who holds the memory; it grows from
    lease to lease. ``overuse``: bytes used beyond the lease, as the manager last saw."""

    def __init__(
        self, gpu: Gpu, granted: dict[str, Any], fence: FenceKey, deadline: float, fields: dict[str, Any]
    ) -> None:
        self._gpu = gpu
        self._callbacks: list[Callable[[GpuLease], object]] = []
        self.id: str = granted["lease"]
        self.fence: str = granted["fence"]
        self.fence_numbers = fence
        rows = granted["devices"]
        self.devices = tuple(
            HeldDevice(row["device"], row["host"], row["uuid"], row["index"], row["memory"]) for row in rows
        )
        self.ttl: float = granted["ttl_ms"] / 1000.0
        self.deadline = deadline
        self.fields = fields
        self.ended = False
        self.overuse = 0
        self.nudge = asyncio.Event()
        self.lost = Lost(self)

    def __repr__(self) -> str:
        state = "released" if self.ended else self.lost.reason or f"{self.left:.3f} s left"
        return f"<GpuLease {self.id} of {self.memory} bytes on {len(self.devices)} of {self.host}, {state}>"

    @property
    def host(self) -> str:
        """Host of the first device."""
        return self.devices[0].host

    @property
    def device(self) -> str:
        """The uuid of the first device; `devices` has all."""
        return self.devices[0].uuid

    @property
    def memory(self) -> int:
        """Bytes on each device."""
        return self.devices[0].memory

    @property
    def left(self) -> float:
        """Seconds in which the memory may still be used if it is not renewed; 0 or less when it may not."""
        return (self.deadline - self._gpu.clock.now()) / 1000.0

    @property
    def held(self) -> bool:
        """Whether the memory may be used now."""
        return not self.ended and not self.lost

    def check(self) -> None:
        """Raise `LeaseLost` unless the memory may be used now: call it before each step that uses it."""
        if not self.held:
            raise LeaseLost(self.id, self.lost.reason or RELEASED)

    def on_lost(self, callback: Callable[[GpuLease], object]) -> None:
        """Call this when the lease is lost, at once if it is already; it must not block."""
        if self.lost._reason:
            callback(self)
        else:
            self._callbacks.append(callback)

    async def bind(self, *processes: tuple[int, int]) -> None:
        """Say which processes on the lease's host allocate: (pid, ticks at which it started, see
        `bursar.client.gpu.started_at`). Returns when the manager knows, so that their memory counts as the lease's and
        not as somebody else's beside it. Raises `LeaseLost`."""
        self.fields["processes"] = [{"pid": pid, "started": started} for pid, started in processes]
        self.check()
        await self._gpu.renew(self, self.deadline, tell=True)
        self.check()

    async def loaded(self, purpose: Purpose = "weights") -> None:
        """An engine that leased for ``loading`` has started: somebody else may start on the device now. Returns when
        the manager knows what the memory is for from now on. Raises `LeaseLost`."""
        self.fields["purpose"] = purpose
        self.check()
        await self._gpu.renew(self, self.deadline, tell=True)
        self.check()

    async def release(self) -> None:
        """Give the memory back; it must be free. Returns when that is durable, or cannot be said any more."""
        await asyncio.shield(self.release_soon())

    def release_soon(self) -> asyncio.Task[None]:
        """As `release`, in the background: it is finished before the fleet closes."""
        return self._gpu.background.spawn(self._gpu.release(self))

    def lose(self, reason: str) -> None:
        """The lease does not hold any more (called by `Gpu`)."""
        if self.ended or self.lost._reason:
            return
        self.lost.set(reason)
        self.nudge.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def prolong(self, sent: float, ttl_ms: int) -> None:
        """It was granted or renewed for so long by a request that was sent at ``sent`` (local ms)."""
        self.ttl = ttl_ms / 1000.0
        self.deadline = max(self.deadline, until(sent, ttl_ms))


def until(sent: float, ttl_ms: int) -> float:
    """Local ms until which a lease may be believed in."""
    return sent + ttl_ms * (1.0 - DRIFT) - 1.0


class Releasable(Protocol):
    """A lease of whatever kind."""

    ended: bool

    def release_soon(self) -> asyncio.Task[None]: ...


Held = TypeVar("Held", bound=Releasable)


class Leasing(Generic[Held]):
    """What `Gpu.lease` and `Host.lease` return: ``async with`` it for a lease that is released at the end, or ``await``
    it for one that you release. ``grant``: asks for it."""

    __slots__ = ("_ask", "_grant", "_lease")

    def __init__(self, grant: Callable[[Ask], Coroutine[Any, Any, Held]], ask: Ask) -> None:
        self._grant = grant
        self._ask = ask
        self._lease: Held | None = None

    def __await__(self) -> Generator[Any, None, Held]:
        return self._grant(self._ask).__await__()

    async def __aenter__(self) -> Held:
        self._lease = await self._grant(self._ask)
        return self._lease

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, self._lease = self._lease, None
        if lease is None or lease.ended:
            return
        releasing = lease.release_soon()
        if kind is None:
            await asyncio.wait((releasing,), timeout=LEAVE_WITHIN)
