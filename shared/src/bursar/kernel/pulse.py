"""What an owner says again and again, so that who listens learns of what it has missed without asking.

Broadcasts may be lost. If everybody who listens asks now and then, a fleet of a thousand costs hundreds of questions a
second; one broadcast every other second that says how far the service has come costs one, and only who has missed
something asks. A service says by `ServiceSpec.pulse` what that is.

It is told only by the owner, from a state in which nothing is undecided or uncommitted: a pulse that spoke of a
decision which is not in the journal yet might speak of one that never happened. An owner that is cut off from its
journal has a beat under way after ten seconds at most, and falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from bursar.kernel.clock import Clock
from bursar.kernel.decider import Broadcast, Fence
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Role
from bursar.kernel.spec import Pulse

log = logging.getLogger("bursar.kernel")

RETRY_SECONDS: Final = 0.02
"""An owner with something uncommitted is looked at again so soon: an append takes a few milliseconds."""


class Pulsing:
    """Tells ``announce`` what ``pulse`` makes of the owner's state. ``replica`` is asked for, since it is the shell
    that has it."""

    def __init__(
        self,
        pulse: Pulse,
        replica: Callable[[], Replica],
        clock: Clock,
        announce: Callable[[Broadcast, Fence], None],
    ) -> None:
        self._pulse = pulse
        self._replica = replica
        self._clock = clock
        self._announce = announce
        self._soon = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def soon(self) -> None:
        """Somebody has become owner: everybody wants to know."""
        self._soon.set()

    async def _run(self) -> None:
        while True:
            pause = self._pulse.seconds if self.tell() else RETRY_SECONDS
            self._soon.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._soon.wait()

    def tell(self) -> bool:
        """Tell it, if this is the owner; False when there is something uncommitted."""
        replica = self._replica()
        if replica.role is not Role.OWNER:
            return True
        if not replica.is_idle:
            return False
        try:
            told = self._pulse.tell(replica.folded.state, replica.now(self._clock.monotonic_ms()))
        except Exception as error:
            log.warning("pulse_failed", exc_info=error)
            return True
        if told is not None:
            self._announce(told, replica.committed)
        return True
