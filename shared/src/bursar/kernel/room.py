"""When the journal has no room: say so, and make some.

Nothing can be decided, so no newer snapshot comes that would let the journal be purged as usual: it is purged below
the newest one there is. Without one, an operator has to raise the limit of the stream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from bursar.kernel.errors import KernelError
from bursar.kernel.journal.base import Journal
from bursar.kernel.keeper import purge_in_need
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Role

log = logging.getLogger("bursar.kernel")

AGAIN_SECONDS: Final = 1.0
"""Between two attempts to make room."""


class Room:
    """Whether a replica's journal has room. ``tell`` is called with whether it is full, when that changes."""

    def __init__(
        self,
        replica: Replica,
        journal: Journal,
        tell: Callable[[bool], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._replica = replica
        self._journal = journal
        self._tell = tell
        self._spawn = spawn
        self._was_full = False

    def look(self) -> None:
        """To be called now and then."""
        if self._replica.is_full is self._was_full:
            return
        self._was_full = self._replica.is_full
        self._tell(self._was_full)
        if self._was_full:
            log.error("journal_full", extra={"fence": self._replica.committed})
            self._spawn(self._make_room())
        else:
            log.warning("journal_has_room")

    async def _make_room(self) -> None:
        while self._replica.is_full and self._replica.role is Role.OWNER:
            try:
                below = await purge_in_need(self._journal)
                log.warning("journal_purged_in_need", extra={"below": below})
            except KernelError as error:
                log.warning("journal_not_purged", extra={"why": error.text})
            await asyncio.sleep(AGAIN_SECONDS)
