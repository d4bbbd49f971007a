"""What a task takes before it starts, as one saga: a circuit of the breaker, a lease of GPU memory, a permit of the
limiter; all of them, or none.

They are taken in this order, always, so that two workers never wait for one another: the circuit first, which costs
nothing, and the permit last, since it has to be used soonest. Nobody stands in line meanwhile. When one is refused,
those before it are given back at once, in the other order, as if nothing had been called: the permit is refunded, the
circuit hears of no failure, the memory is free; and the task goes back to the scheduler with the time after which it
is worth another try. When the worker dies in between, each ends by itself: the lease by its time to live, the permit at
its (and counts as used), a probe of the circuit at its own.

When all are there the attempt is started, and the permit counts as sent. At the end of the task all are given back: the
function has told what it really used by ``task.held.permit.used(...)``, or it counts as it was reserved; a function
that raises is a failure of the circuit, if it looks like one (`bursar.client.breaker_cause`).

After Garcia-Molina and Salem, "Sagas" (SIGMOD 1987).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from bursar.client.errors import NeverFits
from bursar.errors import BursarError, CallerError

if TYPE_CHECKING:
    from bursar.client.breaker_call import CircuitCall
    from bursar.client.fleet import Fleet
    from bursar.client.gpu_lease import GpuLease
    from bursar.client.permit import Permit

TTL: Final = 600.0
"""Seconds after which a permit of a task that was never heard of again counts as used."""

GPU_TTL: Final = 10.0
"""The same of a lease; it is renewed while the worker lives."""

AGAIN: Final = 1.0
"""Seconds until another try, where nobody says when."""

LONGEST: Final = 10.0
"""And at most: who holds what is in the way may give it back long before it has to."""


class NotNow(Exception):
    """One of them was refused, and nothing is held. ``again``: seconds until another try."""

    def __init__(self, why: str, again: float) -> None:
        super().__init__(why)
        self.again = again


class Held:
    """``circuit``, ``gpu`` and ``permit``: None where the task takes none."""

    def __init__(self) -> None:
        self.circuit: CircuitCall | None = None
        self.gpu: GpuLease | None = None
        self.permit: Permit | None = None
        self._stack = AsyncExitStack()
        self._has_begun = False

    def sent(self) -> None:
        """The attempt has started: what was reserved counts as used. Raises `CallerError` when that is too late."""
        if self.permit is not None:
            self.permit.sent()
        self._has_begun = True

    async def end(self, error: BaseException | None) -> None:
        """Give all back; ``error``: with which the task has ended. What cannot be told now ends by itself. Raises
        `TimeoutError` when a probe of the circuit had to be cut off."""
        if not self._has_begun:
            error = error or NotNow("it was not started", 0.0)
            if self.circuit is not None:
                self.circuit.ignore()
        stack, self._stack = self._stack, AsyncExitStack()
        with contextlib.suppress(BursarError):
            await stack.__aexit__(None if error is None else type(error), error, None)


async def take(fleet: Fleet, takes: Mapping[str, Any]) -> Held:
    """All of it. Raises `NotNow`, and nothing is held; or `CallerError` for what no other try would change."""
    held = Held()
    try:
        await _take_in_order(fleet, takes, held)
    except BaseException as error:
        await held.end(error)
        if isinstance(error, CallerError | NeverFits) or not isinstance(error, BursarError):
            raise
        again: float | None = getattr(error, "retry_in", None)
        raise NotNow(f"{error.code}: {error}", min(LONGEST, AGAIN if again is None else max(0.0, again))) from None
    return held


async def _take_in_order(fleet: Fleet, takes: Mapping[str, Any], held: Held) -> None:
    enter = held._stack.enter_async_context
    if takes.get("circuit"):
        held.circuit = await enter(fleet.breaker.call(takes["circuit"]))
    if takes.get("gpu_bytes"):
        lease = fleet.gpu.lease(takes["gpu_bytes"], model=takes.get("gpu_model"), ttl=GPU_TTL, note="task")
        held.gpu = await enter(lease)
    if takes.get("budget"):
        held.permit = await enter(fleet.limiter.reserve(takes["budget"], ttl=TTL, **takes.get("amounts", {})))
