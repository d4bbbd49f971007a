"""One lease of this process, from the first question to the last answer about it. Calls never wait for it.

::

    direct --demand above ON--> held --calm, idle, over, closing--> ending --the last call has ended--> direct
                                  ^-----------demand is back-----------'

*Direct*: every call asks the limiter. *Held*: calls are decided here; what does not fit into the hand asks the limiter.
*Ending*: the hand is given back, and calls that are still in flight are reported as they end; the places that they
hold are free then, and not only when their time to live is over.

One report is on its way at a time. It is repeated until it is answered, with the same id, so the limiter hears each
exactly once, however long it was away; meanwhile the lease is used up, and then calls go directly. A report that is
refused, or an answer that cannot be read, ends the lease: it is given back as far as the limiter takes it, and another
is asked for after a pause that grows with each failure. What cannot be told at all ends at the limiter by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from bursar.client.lease_demand import CALM, ON, Demand
from bursar.client.local import CONCURRENT, FIELDS, NOTHING, UNLIMITED, Hand, HeldLease
from bursar.client.local_book import Report
from bursar.client.local_rate import RateLease
from bursar.client.offset import DRIFT
from bursar.contracts.base import MAX_INT
from bursar.errors import BursarError

if TYPE_CHECKING:
    from bursar.client.background import Background
    from bursar.client.caller import Call, Caller, Reply

log = logging.getLogger("bursar.client")

MS: Final = 1_000_000
PATIENCE: Final = 2_000.0
"""Milliseconds after which an unanswered report is looked at again; it is repeated all the while."""

SOON: Final = 0.1
"""Seconds from the first call that did not fit to the next report, so that one report is about many."""

FIRST_TRY: Final = 2_000.0
"""Milliseconds until a lease is asked for again that was refused."""

IDLE: Final = 2
"""Reports in a row without a single call after which a lease is given back."""

WIND_DOWN: Final = 0.5
"""Seconds between reports of calls that outlive their lease."""

PAUSE: Final = 200.0
LONGEST_PAUSE: Final = 30_000.0
"""Milliseconds until a lease is asked for after the last one: twice as long after each failure in a row."""

Key = tuple[str, str, tuple[str, ...]]
"""(budget, run or "", other objects)"""


class Holder:
    """One budget path of this process. ``lease`` stays the same object for ever, so that it can be kept at hand.
    ``id``: what the limiter calls it; empty when there is none. ``frozen``: whether the provider has asked for a pause;
    ``renewed``: called when the limiter has answered."""

    def __init__(self, key: Key, caller: Caller, background: Background, ttl_ms: int, lease: HeldLease) -> None:
        self.key = key
        self.lease = lease
        self.ttl_ms = ttl_ms
        self.id = ""
        self.refused_until = 0.0
        self.told: dict[str, Any] = {}
        self.is_closing = False
        self.frozen: Callable[[], bool] = lambda: False
        self.renewed: Callable[[], None] = lambda: None
        self._caller = caller
        self._background = background
        self._task: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()
        self._is_short = False
        self._is_over = False
        self._idle = 0
        self._failures = 0
        self._excess: Hand = NOTHING
        self._rtt = 1.0
        self.demand = Demand(self.now)

    @property
    def now(self) -> float:
        """Milliseconds of the lease's clock."""
        return self.lease.clock() / MS

    @property
    def is_held(self) -> bool:
        """Whether there is a lease, or one on its way."""
        return self._task is not None

    # -- calls

    def missed(self, amounts: Hand) -> None:
        """A call that could not be taken from here goes to the limiter: it counts as demand."""
        now = self.now
        self.demand.note(amounts, now)
        self._idle = 0
        if self._task is not None:
            if self.lease.until:
                self.demand.short(amounts, self.lease.hand)
            self._kick.set()
        elif self.demand.calls >= ON and now >= self.refused_until and not self.is_closing:
            self._task = self._background.spawn(self._hold())

    # -- a lease from its beginning to its end

    async def _hold(self) -> None:
        try:
            await self._begin()
            await self._keep()
        except Exception as error:  # noqa: BLE001 - whatever it is, what is held goes back
            await self._fail(error)
        finally:
            self._task = None
            pause = min(LONGEST_PAUSE, PAUSE * 2.0 ** min(self._failures, 10))
            self.refused_until = max(self.refused_until, self.now + pause)

    async def _begin(self) -> None:
        """Ask for a lease."""
        budget, run, also = self.key
        fields = {
            "budget": budget,
            "run": run or None,
            "also": also,
            "want": self.demand.want(self._ahead),
            "demand": self.demand.per_second(0),
            "ttl_ms": self.ttl_ms,
            "period": self.lease.period + 1,
        }
        reply = await self._run(self._caller.request("lease", fields))
        if reply.body.get("ok") is not True:
            self.refused_until = self.now + max(FIRST_TRY, float(reply.body.get("retry_in_ms") or 30_000.0))
            return
        self.id = str(reply.body["lease"])
        self._is_over, self._idle = False, 0
        with self.lease.book.lock:
            self.lease.book.restart(self.lease, reply.body["limited"], reply.body["held"])
            self.lease.book.ttl = min(self.ttl_ms, int(reply.body["ttl_ms"])) * MS
            self._take_in(reply)

    async def _keep(self) -> None:
        """Renew as long as it is worth it, then give back; until there is no lease any more."""
        while self.id:
            if not self._is_over:
                await self._pause()
            if self._is_over or self.is_closing or self._idle >= IDLE or self.demand.calm >= CALM:
                await self._end()
            else:
                await self._renew()

    async def _pause(self) -> None:
        """Until half of the life is over; sooner when a call did not fit. Where there was less than was asked for it is
        not worth asking much sooner: others have the rest."""
        seconds = self.told.get("renew_in_ms", 500) / 1000.0
        self._kick.clear()
        if self.is_closing:
            return
        if self._is_short:
            await asyncio.sleep(seconds / 2)
        elif await self._is_kicked(seconds):
            await asyncio.sleep(min(seconds, SOON))

    async def _is_kicked(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._kick.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _renew(self) -> None:
        """Report, and ask for more."""
        with self.lease.book.lock:
            self._lapse()
            told = self.lease.book.report(self.lease, self.lease.clock(), self._unused())
        self._idle = 0 if any(amount > 0 for amount in told.taken) else self._idle + 1
        self.demand.took(told.taken, told.calls)
        self.demand.look(self.now)
        flying = told.open[CONCURRENT]
        want = NOTHING if self.frozen() else self.demand.want(self._ahead, flying)
        reply = await self._tell("renew", told, want=want, demand=self.demand.per_second(flying))
        self._is_short = self._lacks(told.hand, reply.body["add"], want)
        with self.lease.book.lock:
            self._lapse()
            self._is_over = bool(reply.body["over"])
            if not self._is_over:
                self._take_in(reply)
        self._failures = 0
        self.renewed()

    def _lacks(self, hand: Hand, add: Sequence[int], want: Hand) -> bool:
        """Whether there was less than was wanted, of anything that is limited."""
        limited = self.lease.book.limited
        return any(limited >> d & 1 and hand[d] + add[d] < want[d] for d in range(len(FIELDS)))

    def _unused(self) -> Hand:
        """What to give up of the hand."""
        if self.frozen():
            return self.lease.hand
        want, hand = self.demand.want(self._ahead), self.lease.hand
        spare = [
            max(self._excess[d], hand[d] - 2 * want[d], 0) if hand[d] < UNLIMITED // 2 else 0
            for d in range(len(FIELDS))
        ]
        r, i, o, c, u, t, b = (min(spare[d], max(0, hand[d])) for d in range(len(FIELDS)))
        return (r, i, o, c, u, t, b)

    @property
    def _ahead(self) -> float:
        """Milliseconds that an advance has to last for."""
        return float(self.told.get("renew_in_ms", 500)) + 2.0 * self._rtt

    def _take_in(self, reply: Reply) -> None:
        """Use what an answer brings. Its lease began after the request was sent, so it ends no earlier than that and
        its length; two clocks drift apart by less than `DRIFT` of it."""
        body = self.told = reply.body
        sent = int(reply.sent * MS)
        length = int(body["length_ms"]) * MS
        until = sent + length - int(DRIFT * length)
        self._rtt += 0.2 * (self.now - reply.sent - self._rtt)
        if reply.is_lost:
            self._drop()
            self.id = ""
            return
        self._excess = body["excess"]
        if until <= self.lease.clock():
            return
        self.lease.book.grant(self.lease, tuple(body["add"]), until, int(body["good_for_ms"]) * MS)
        if isinstance(self.lease, RateLease):
            self.lease.pace(tuple(body["rates"]), tuple(body["bursts"]))

    # -- its end

    async def _end(self) -> None:
        """Give all back; calls that are still in flight are reported when they have ended. When demand is back before
        the last has, the same lease goes on."""
        with self.lease.book.lock:
            self.lease.until = 0
            told = self.lease.book.report(self.lease, self.lease.clock(), self.lease.hand)
        reply = await self._tell("return", told)
        while reply.body.get("open") and not self.is_closing:
            self._kick.clear()
            if await self._is_kicked(WIND_DOWN) and self._is_wanted():
                self._drop()
                await self._renew()
                return
            with self.lease.book.lock:
                book = self.lease.book
                self._drop()  # and with it what nobody has ended in its time to live
                if not book.has_news and book.opened() == told.open:
                    continue
                told = book.report(self.lease, self.lease.clock())
            reply = await self._tell("return", told)
        self.id = ""

    def _is_wanted(self) -> bool:
        """Whether there is so much demand that the lease should go on after all."""
        self.demand.look(self.now)
        is_wanted = self.demand.calls >= ON and not (self._is_over or self.is_closing)
        if is_wanted:
            self.demand.calm = self._idle = 0
        return is_wanted

    async def _fail(self, error: Exception) -> None:
        """Nothing of it is used any more, and as much of it goes back as the limiter knows of it."""
        code = error.code if isinstance(error, BursarError) else type(error).__name__
        log.warning("lease_failed", extra={"budget": self.key[0], "code": code})
        self._failures += 1
        self._is_over = True
        self._drop()
        if self.id and code != "unknown_lease":
            try:
                await self._end()
            except Exception as again:  # noqa: BLE001 - then it ends there by itself
                log.warning("lease_not_returned", extra={"budget": self.key[0], "code": type(again).__name__})
        self.id = ""

    def forget(self) -> None:
        """This process is a copy: what is in hand is its parent's."""
        self.lease.until = 0
        self.is_closing = True

    def close(self) -> None:
        """Give the lease back, if there is one, and ask for no other."""
        self.is_closing = True
        self._kick.set()

    # -- reports

    async def _tell(self, verb: str, told: Report, **more: Hand) -> Reply:
        return await self._run(self._caller.request(verb, {**_fields(self.id, told), **more}))

    async def _run(self, call: Call) -> Reply:
        """Repeat a message until it is answered: whenever the limiter is back, it has to know. Only who closes has no
        time for that."""
        try:
            while True:
                try:
                    return await self._caller.run(call, self.now + PATIENCE)
                except BursarError as error:
                    if error.code != "limiter_unavailable" or self.is_closing:
                        raise
        finally:
            self._caller.give_up(call)

    def _lapse(self) -> None:
        if self.lease.until and self.lease.clock() >= self.lease.until:
            self._drop()

    def _drop(self) -> None:
        """Nothing of the hand is used any more."""
        with self.lease.book.lock:
            self.lease.book.lapse(self.lease, self.lease.clock())


def _fields(key: str, told: Report) -> dict[str, Any]:
    """A report as it can be told: what calls said that they have used may be any number, and several together more
    than that."""
    return {
        "lease": key,
        "period": told.period,
        "hand": [max(-MAX_INT, amount) for amount in told.hand],
        "unused": told.unused,
        "back": [[period, amounts] for period, amounts in list(told.back.items())[-128:]],
        "done": [min(MAX_INT, amount) for amount in told.done],
        "open": told.open,
        "calls": told.calls,
    }
