"""What this process does while the limiter cannot be reached, by the rule of each budget.

*closed*: nothing, `LimiterUnavailable` is raised. *open*: calls go on, and are counted (`Away.uncovered`), logged, and
told to the limiter when it is back, which charges them and tells everybody. *island*: calls go on as far as a slice
allows that this process has held all along.

The limiter is *away* after it has not answered for `AWAY_MS` a budget that has such a rule; a question a second finds
out when it is back. The rule itself is asked for when a budget has first been used, so who has never reached the
limiter does nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import RLock
from typing import TYPE_CHECKING, Any, Final

from bursar.client import lease_fork
from bursar.client.local import Hand, HeldLease
from bursar.client.local_book import Book
from bursar.client.local_island import IslandBook, IslandLease, OpenLease
from bursar.client.local_permit import LocalPermit
from bursar.client.local_threads import LockedPermit
from bursar.client.offset import DRIFT
from bursar.errors import BursarError

if TYPE_CHECKING:
    from bursar.client.background import Background
    from bursar.client.caller import Caller
    from bursar.client.observe import Freezes
    from bursar.client.time import Clock

log = logging.getLogger("bursar.client")

AWAY_MS: Final = 2_000.0
"""Milliseconds of silence after which the limiter counts as out of reach: longer than a take-over."""

ASK_EVERY: Final = 1.0
"""Seconds between questions whether it is back."""

TERMS_FOR: Final = 60_000.0
"""Milliseconds after which a budget's rule is asked for again, when the budget is used."""

MS: Final = 1_000_000


class Away:
    """``is_away``: whether the limiter is out of reach. ``uncovered``: how many calls of each budget went on without a
    permit. ``threads``: permits are taken and ended in any thread."""

    def __init__(
        self,
        caller: Caller,
        background: Background,
        clock: Clock,
        clock_ns: Callable[[], int],
        freezes: Freezes,
        *,
        threads: bool = False,
    ) -> None:
        self.is_away = False
        self._threads = threads
        self.uncovered: dict[str, int] = {}
        self._caller = caller
        self._background = background
        self._clock = clock
        self._clock_ns = clock_ns
        self._freezes = freezes
        self._rules: dict[str, str] = {}
        self._asked: dict[str, float] = {}
        self._slices: dict[str, str] = {}
        self._leases: dict[str, HeldLease] = {}
        self._is_closing = False
        lease_fork.watch(self)

    def know(self, budget: str) -> None:
        """The limiter has answered for this budget: see to it that its rule is known, in the background."""
        now = self._clock.now()
        if now - self._asked.get(budget, -TERMS_FOR) >= TERMS_FOR and not self._is_closing:
            self._asked[budget] = now
            self._background.spawn(self._learn(budget))

    def rule(self, budget: str) -> str:
        """``closed``, ``open`` or ``island``."""
        return self._rules.get(budget, "closed")

    def patience(self, budget: str, usual_ms: float) -> float:
        """Milliseconds to wait for the limiter before something else is done."""
        return usual_ms if self.rule(budget) == "closed" else min(usual_ms, AWAY_MS)

    def take(self, budget: str, amounts: Hand) -> LocalPermit | None:
        """A permit without the limiter, where the budget allows one."""
        lease = self._leases.get(budget)
        if lease is None:
            return None
        requests, tokens_in, tokens_out, concurrent, usd, _, size = amounts
        with lease.book.lock:
            permit = lease.take(tokens_in, tokens_out, requests, concurrent, usd, size)
            if permit is not None and isinstance(lease, OpenLease):
                self.uncovered[budget] = self.uncovered.get(budget, 0) + 1
        if permit is not None and self._threads:
            permit.__class__ = LockedPermit
        return permit

    def left(self) -> None:
        """The limiter did not answer."""
        if not self.is_away and not self._is_closing:
            self.is_away = True
            log.warning("limiter_out_of_reach", extra={"budgets": len(self._leases)})
            self._background.spawn(self._until_back())

    def forget(self) -> None:
        """This process is a copy of the one whose slices these are. Permits that it was copied with end here as ever,
        and do not wait for the copy of a lock that a thread held which is not here."""
        self._is_closing = True
        for lease in self._leases.values():
            lease.book.lock = self._lock(lease.book)
        self._leases.clear()

    def _lock(self, book: Book) -> AbstractContextManager[Any]:
        return RLock() if self._threads else book.lock

    async def close(self, timeout: float = 5.0) -> None:
        self._is_closing = True
        if self._leases:
            await self._tell(self._clock.now() + (0.0 if self.is_away else timeout * 1000.0))

    # -- in the background

    async def _learn(self, budget: str) -> None:
        try:
            reply = await self._caller.run(self._caller.query("terms", {"budget": budget}), self._clock.now() + 5_000.0)
        except BursarError:
            self._asked.pop(budget, None)
            return
        rule = self._rules[budget] = str(reply.body.get("when_unreachable", "closed"))
        if rule == "open":
            self._lease(budget, OpenLease).good_for = int(reply.body["good_for_ms"]) * MS
        elif rule == "island":
            await self._slice(budget)
        else:
            self._leases.pop(budget, None)

    async def _slice(self, budget: str) -> None:
        """Hold a slice, or keep it; it is asked for again each time that the rule is."""
        fields = {"budget": budget, "slice": self._slices.get(budget)}
        try:
            reply = await self._caller.ask("island", fields, self._clock.now() + 5_000.0)
        except BursarError:
            self._asked.pop(budget, None)
            return
        body = reply.body
        if body.get("ok") is not True or reply.is_lost:
            return
        if self._slices.get(budget) not in (None, body["slice"]):
            self._leases.pop(budget, None)
        self._slices[budget] = body["slice"]
        length = int(body["length_ms"]) * MS
        until = int(reply.sent * MS) + length - int(DRIFT * length)
        lease = self._lease(budget, IslandLease)
        assert isinstance(lease, IslandLease)
        good_for = int(body["good_for_ms"]) * MS
        with lease.book.lock:
            lease.hold(body["amounts"], body["window_ms"], body["jitter_ms"], body["limited"], until, good_for)

    def _lease(self, budget: str, kind: type[HeldLease]) -> HeldLease:
        lease = self._leases.get(budget)
        if type(lease) is not kind:
            book = IslandBook(budget) if kind is IslandLease else Book(budget)
            book.freezes = self._freezes
            book.lock = self._lock(book)
            lease = self._leases[budget] = kind(book, self._clock_ns)
        return lease

    async def _until_back(self) -> None:
        while not self._is_closing:
            try:
                await self._caller.run(self._caller.query("clock", {}), self._clock.now() + ASK_EVERY * 1000.0)
            except BursarError:
                await asyncio.sleep(ASK_EVERY / 4)
                continue
            break
        self.is_away = False
        self._asked.clear()
        if not self._is_closing:
            await self._tell(self._clock.now() + 30_000.0)

    async def _tell(self, deadline: float) -> None:
        """Report the calls that went on without a permit; what cannot be told now is told later."""
        for budget, lease in list(self._leases.items()):
            if isinstance(lease, OpenLease) and lease.until:
                with lease.book.lock:
                    calls, amounts = lease.count()
                if calls or any(amounts):
                    await self._report(budget, calls, amounts, deadline)

    async def _report(self, budget: str, calls: int, amounts: Hand, deadline: float) -> None:
        """Tell of them until it is known, however often the limiter goes away again; in closing up to ``deadline``."""
        log.warning("calls_without_permit", extra={"budget": budget, "calls": calls})
        fields: dict[str, Any] = {"budget": budget, "calls": calls, "amounts": amounts}
        call = self._caller.request("uncovered", fields)
        try:
            while True:
                try:
                    await self._caller.run(call, deadline)
                except BursarError as error:
                    deadline = self._clock.now() + AWAY_MS
                    if error.code == "limiter_unavailable" and not self._is_closing:
                        continue
                    log.warning("uncovered_not_told", extra={"budget": budget, "calls": calls, "code": error.code})
                return
        finally:
            self._caller.give_up(call)
