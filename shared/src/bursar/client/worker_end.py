"""How a worker ends: it takes nothing new, what runs is asked to stop early and has its grace, the rest is handed back.

When the host is taken away (a spot machine's notice, a node that is drained) all of that has to be over before: what
runs is handed back a second before the host goes, or after three quarters of the time when that is short, so that the
scheduler hears of it and nothing counts as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bursar.client.worker_attempt import HAND_BACK, Attempt
from bursar.client.worker_link import Link
from bursar.errors import BursarError

LOOK: Final = 0.25
"""Seconds between looks at what still runs."""

TELL: Final = 2_000.0
"""Milliseconds that the scheduler has to answer who drains and leaves."""

MAX_WITHIN: Final = 3_600_000
"""Longest notice that the scheduler is told of."""

SHORT_NOTICE: Final = 30.0
"""Seconds until a host goes whose notice does not say it: the shortest notice that a large cloud gives."""


class Ending:
    """``grace``: seconds for what runs. ``now``: milliseconds of the worker's clock."""

    def __init__(self, grace: float, now: Callable[[], float]) -> None:
        self.is_draining = False
        self._grace = grace
        self._now = now
        self._gone_at = math.inf
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """The worker is to end."""
        self._begun.set()

    def reclaim(self, seconds: float) -> None:
        """The host is taken away in so many seconds."""
        self._gone_at = min(self._gone_at, self._now() + max(0.0, seconds) * 1000.0)
        self.begin()

    async def wait(self) -> None:
        """Until the worker is to end."""
        await self._begun.wait()

    async def before(self, work: asyncio.Future[None]) -> None:
        """Wait for some work, unless the worker is to end before."""
        ending = asyncio.ensure_future(self.wait())
        await asyncio.wait((work, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not work.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def drain(self, link: Link, session: str, attempts: Mapping[str, Attempt]) -> None:
        """End, as the module says. ``attempts``: what runs, now and later."""
        self.is_draining = True
        link.register_no_more()
        for attempt in list(attempts.values()):
            attempt.ask_to_stop()
        began = self._now()
        await self._tell(link, "drain", {"session": session, **self._within()})
        await self._wait_for(attempts, lambda: min(began + self._grace * 1000.0, self._hand_back_at(began)))
        for attempt in list(attempts.values()):
            attempt.hand_back()
        handing = self._now()
        await self._wait_for(attempts, lambda: min(handing + HAND_BACK, self._gone_at))
        await self._tell(link, "leave", {"session": session})

    def _within(self) -> dict[str, int]:
        """For the scheduler, which can take away in time what does not give back."""
        if self._gone_at == math.inf:
            return {}
        return {"within_ms": max(1, min(MAX_WITHIN, round(self._gone_at - self._now())))}

    def _hand_back_at(self, began: float) -> float:
        if self._gone_at == math.inf:
            return math.inf
        return self._gone_at - max(0.0, min(1_000.0, (self._gone_at - began) / 4.0))

    async def _tell(self, link: Link, verb: str, fields: dict[str, Any]) -> None:
        patience = max(100.0, min(TELL, (self._gone_at - self._now()) / 4.0))
        with contextlib.suppress(BursarError):
            await link.tell(verb, fields, patience)

    async def _wait_for(self, attempts: Mapping[str, Attempt], until: Callable[[], float]) -> None:
        """``until`` may come nearer meanwhile: a worker that ends may hear that its host goes, too."""
        while attempts and (left := until() - self._now()) > 0.0:
            await next(iter(attempts.values())).wait(min(LOOK, left / 1000.0))


def file_notice(path: Path, every: float = 1.0) -> Callable[[], Awaitable[float]]:
    """A reclaim notice by file: the host goes when the file appears, in as many seconds as stand in it (30 when it does
    not say). For handlers of the notices of clouds and clusters, which can write a file for whatever runs there."""

    async def notice() -> float:
        while (seconds := _seconds_in(path)) is None:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(every)
        return seconds

    return notice


def _seconds_in(path: Path) -> float | None:
    """None while there is no such file."""
    try:
        seconds = float(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return SHORT_NOTICE
    return seconds if 0.0 <= seconds < math.inf else SHORT_NOTICE


@contextlib.contextmanager
def ends_by_signal(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT stop the worker, where the platform and the thread allow that."""
    loop = asyncio.get_running_loop()
    caught = []
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop)
            caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            loop.remove_signal_handler(number)
