"""Hands the messages of a durable inbox to the owner, one by one and in order.

Only the owner reads, from the position in its own state on: what the state has decided is not handed out again, and
what it has not decided is. So a reader keeps no position of its own, and after anything that goes wrong - a lost
connection, a take-over, a command that was dropped before it was decided - it begins again at the state's position. A
message may therefore be offered twice; the decider refuses the second (`bursar.kernel.inbox.Delivered`).

Purging. Messages up to a position are forgotten only `KEEP_MS` after that position was committed. Until then a
journal that has lost its newest entries finds the messages again that those entries had decided. Two disasters are
beyond that, and are logged as errors rather than passed over: messages that are gone although the state has not
decided them (``inbox_has_a_gap``: the journal has lost more than that), and an inbox that is younger than the
state's position (``inbox_went_back``: its stream was deleted or replaced by an old copy). In the second case the
sequences are moved past the position, or the messages to come would look like ones that have been decided.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final, NamedTuple, Protocol

from bursar.bus.codec import AGENT_LIMITS, decode
from bursar.contracts.base import PRINCIPAL
from bursar.errors import BursarError
from bursar.kernel.decider import Command, Fence
from bursar.kernel.desk import Request
from bursar.kernel.doors import limits_for
from bursar.kernel.errors import KernelError
from bursar.kernel.inbox import Delivered
from bursar.kernel.journal.inbox import Inbox, Mail
from bursar.kernel.runner import ShardRunner
from bursar.kernel.spec import Inbox as InboxRule

log = logging.getLogger("bursar.kernel")

KEEP_MS: Final = 60_000
"""How long a decided message stays, in case the journal loses the decision."""
LOOK_SECONDS: Final = 5.0
"""Seconds between two looks at the position, and at what may be purged."""
PAUSE_SECONDS: Final = 0.2
"""Between a break and the next try."""
ROOM_PAUSE: Final = 0.005
WAITING: Final = 2_000
"""With so many commands in line the reader waits: requests must find room."""

_PRINCIPAL = re.compile(PRINCIPAL)


class Owner(Protocol):
    """What the reader must know of the shard that it reads for."""

    def position(self) -> int:
        """Of the state as it is now, decided but perhaps not committed."""
        ...

    def fences(self) -> tuple[Fence, Fence]:
        """Of the newest decision, and of the newest one that is committed."""
        ...

    def waiting(self) -> int:
        """Commands in line."""
        ...

    def offer(self, request: Request) -> bool: ...


class ShardOwner:
    """The `Owner` that a shard's runner is."""

    def __init__(self, runner: ShardRunner, position: Callable[[Any], int]) -> None:
        self._runner = runner
        self._position = position

    def position(self) -> int:
        return self._position(self._runner.replica.folded.state)

    def fences(self) -> tuple[Fence, Fence]:
        return self._runner.replica.fence, self._runner.replica.committed

    def waiting(self) -> int:
        return len(self._runner.replica.queue)

    def offer(self, request: Request) -> bool:
        return self._runner.offer(request)


class Mark(NamedTuple):
    """At ``time`` (ms) the state was at ``position``, by decisions up to ``fence``."""

    time: int
    position: int
    fence: Fence


class InboxReader:
    """Reads while it is started. ``now`` gives milliseconds of a clock that never goes back."""

    def __init__(
        self, inbox: Inbox, rule: InboxRule, owner: Owner, now: Callable[[], int], keep_ms: int = KEEP_MS
    ) -> None:
        self._inbox = inbox
        self._message = rule.message
        self._limits = limits_for(AGENT_LIMITS, rule.strings)
        self._owner = owner
        self._now = now
        self._keep = keep_ms
        self._marks: deque[Mark] = deque()
        self._purged = 0
        self._offered = 0
        self._seen_at = -1
        self._task: asyncio.Task[None] | None = None
        self.unreadable = 0
        self.delivered = 0

    def start(self) -> None:
        """Read from the state's position on; when it reads already, it begins again."""
        self.stop()
        self._marks.clear()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(_ended)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    @property
    def is_reading(self) -> bool:
        return self._task is not None

    async def _run(self) -> None:
        purging = asyncio.create_task(self._purge_for_ever())
        try:
            while True:
                try:
                    await self._compare()
                    await self._deliver()
                except KernelError as error:
                    log.info("inbox_restarts", extra={"why": error.text})
                await asyncio.sleep(PAUSE_SECONDS)
        finally:
            purging.cancel()

    async def _compare(self) -> None:
        """Does the inbox fit to the state? See the module's text."""
        position, extent = self._owner.position(), await self._inbox.extent()
        if extent.first > position + 1:
            log.error("inbox_has_a_gap", extra={"after": position, "first": extent.first})
        elif extent.last < position:
            log.error("inbox_went_back", extra={"position": position, "last": extent.last})
            await self._inbox.purge(position)

    async def _deliver(self) -> None:
        """Offer message by message; returns when one of them found no owner."""
        self._offered = after = self._owner.position()
        async with aclosing(self._inbox.read(after)) as mails:
            await self._offer_all(mails)

    async def _offer_all(self, mails: AsyncGenerator[Mail, None]) -> None:
        async for mail in mails:
            while self._owner.waiting() >= WAITING:  # noqa: ASYNC110 - the line tells nobody when it is shorter
                await asyncio.sleep(ROOM_PAUSE)
            if not self._owner.offer(Request(None, self._command(mail), b"", 0)):
                return
            self._offered = mail.sequence
            self.delivered += 1

    def _command(self, mail: Mail) -> Command:
        sequence, principal, payload = mail
        if not _PRINCIPAL.fullmatch(principal):
            return Command("", "", Delivered(sequence, None, "bad_principal"))
        try:
            message = decode(self._message, payload, limits=self._limits)[0]
        except BursarError as error:
            self.unreadable += 1
            return Command(principal, "", Delivered(sequence, None, error.code))
        return Command(principal, "", Delivered(sequence, message))

    # ---- purging

    async def _purge_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._was_passed_over():
                log.warning("inbox_was_passed_over", extra={"position": self._owner.position()})
                self.start()
            try:
                await self.tidy()
            except KernelError as error:
                log.info("inbox_not_purged", extra={"why": error.text})

    def _was_passed_over(self) -> bool:
        """Was something offered that is neither in line nor decided, and that for as long as from look to look?"""
        position = self._owner.position()
        still, self._seen_at = position == self._seen_at, position
        return still and self._offered > position and self._owner.waiting() == 0

    async def tidy(self) -> None:
        """Note where the state is, and purge up to the newest position that has been committed for long enough."""
        decided, committed = self._owner.fences()
        position, now = self._owner.position(), self._now()
        safe = self._purged
        while self._marks and self._marks[0].time + self._keep <= now and self._marks[0].fence <= committed:
            safe = self._marks.popleft().position
        if position > (self._marks[-1].position if self._marks else safe):
            self._marks.append(Mark(now, position, decided))
        if safe > self._purged:
            await self._inbox.purge(safe)
            self._purged = safe


def _ended(task: asyncio.Task[None]) -> None:
    """A reader that has failed is an owner that is deaf: better that the process ends."""
    if not task.cancelled() and (error := task.exception()) is not None:
        task.get_loop().call_exception_handler({"message": "the inbox cannot be read", "exception": error})
