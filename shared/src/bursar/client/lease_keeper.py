"""The leases of one process: asked for when a budget is in demand, renewed at half their life, given back when idle.

A holder is in one of two states, and calls never wait for it to change: ``direct`` (every call asks the limiter) and
``held`` (calls are decided here; what does not fit into the hand asks the limiter).

::

    direct --demand above ON--> held --calm, refused, over, unknown to the limiter--> direct

One report is on its way at a time. It is repeated until it is answered, with the same id, so the limiter hears each
exactly once; meanwhile the lease is used up, and then calls go directly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bursar.client.lease_demand import CALM, ON, Demand
from bursar.client.local import CONCURRENT, FIELDS, NOTHING, UNLIMITED, Hand, HeldLease
from bursar.client.local_book import Book, Report
from bursar.client.local_permit import LocalPermit
from bursar.client.local_rate import RateLease
from bursar.client.local_threads import LockedLease, LockedRateLease
from bursar.client.offset import DRIFT
from bursar.errors import BursarError, CallerError

if TYPE_CHECKING:
    from bursar.client.background import Background
    from bursar.client.caller import Call, Caller, Reply
    from bursar.client.observe import Freezes

MS: Final = 1_000_000
PATIENCE: Final = 2_000.0
"""Milliseconds after which an unanswered report is looked at again; it is repeated all the while."""

SOON: Final = 0.1
"""Seconds from the first call that did not fit to the next report, so that one report is about many."""

FIRST_TRY: Final = 2_000.0
"""Milliseconds until a lease is asked for again that was refused."""

WIND_DOWN: Final = 0.5
"""Seconds between reports of calls that outlive their lease."""

Key = tuple[str, str, tuple[str, ...]]
"""(budget, run or "", other objects)"""


class Holder:
    """One budget path of this process. ``lease`` stays the same object for ever, so that it can be kept at hand."""

    def __init__(self, key: Key, caller: Caller, background: Background, ttl_ms: int, lease: HeldLease) -> None:
        self.key = key
        self.lease = lease
        self.ttl_ms = ttl_ms
        self.id = ""
        self.refused_until = 0.0
        self.told: dict[str, Any] = {}
        self.is_closing = False
        self.frozen: Callable[[], bool] = lambda: False
        self._caller = caller
        self._background = background
        self._task: asyncio.Task[None] | None = None
        self._kick = asyncio.Event()
        self._is_short = False
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
        if self._task is not None:
            if self.lease.until:
                self.demand.short(amounts, self.lease.hand)
                self._kick.set()
        elif self.demand.calls >= ON and now >= self.refused_until and not self.is_closing:
            self._task = self._background.spawn(self._hold())

    # -- a lease from its beginning to its end

    async def _hold(self) -> None:
        try:
            if await self._begin():
                while await self._next():
                    pass
        except (BursarError, LookupError, TypeError, ValueError):  # refused, or an answer that cannot be read
            self._drop()
        finally:
            self._task = None
            self.refused_until = max(self.refused_until, self.now + 200.0)

    async def _begin(self) -> bool:
        """Ask for a lease; whether there is one."""
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
            return False
        with self.lease.book.lock:
            self.lease.book.restart(self.lease, reply.body["limited"], reply.body["held"])
            self.id = reply.body["lease"]
            return self._take_in(reply)

    async def _next(self) -> bool:
        """Wait until it is time, then report and renew; whether the lease goes on."""
        await self._pause()
        if self.is_closing or self.demand.calm >= CALM:
            await self._end()
            return False
        with self.lease.book.lock:
            self._lapse()
            told = self.lease.book.report(self.lease, self.lease.clock(), self._unused())
        self.demand.took(told.taken, told.calls)
        self.demand.look(self.now)
        flying = told.open[CONCURRENT]
        want = NOTHING if self.frozen() else self.demand.want(self._ahead, flying)
        asked = self.demand.per_second(flying)
        call = self._caller.request("renew", {**_fields(self.id, told), "want": want, "demand": asked})
        reply = await self._run(call)
        self._is_short = self._lacks(told.hand, reply.body["add"], want)
        with self.lease.book.lock:
            self._lapse()
            if reply.body["over"]:
                return False
            return self._take_in(reply)

    def _lacks(self, hand: Hand, add: Sequence[int], want: Hand) -> bool:
        """Whether there was less than was wanted, of anything that is limited."""
        limited = self.lease.book.limited
        return any(limited >> d & 1 and hand[d] + add[d] < want[d] for d in range(len(FIELDS)))

    async def _pause(self) -> None:
        """Until half of the life is over; sooner when a call did not fit. Where there was less than was asked for it is
        not worth asking much sooner: others have the rest."""
        seconds = self.told.get("renew_in_ms", 500) / 1000.0
        self._kick.clear()
        if self._is_short:
            await asyncio.sleep(seconds / 2)
            return
        try:
            await asyncio.wait_for(self._kick.wait(), seconds)
            await asyncio.sleep(min(seconds, SOON))
        except TimeoutError:
            return

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

    def _take_in(self, reply: Reply) -> bool:
        """Use what an answer brings. Its lease began after the request was sent, so it ends no earlier than that and
        its length; two clocks drift apart by less than `DRIFT` of it."""
        body = self.told = reply.body
        sent = int(reply.sent * MS)
        length = int(body["length_ms"]) * MS
        until = sent + length - int(DRIFT * length)
        self._rtt += 0.2 * (self.now - reply.sent - self._rtt)
        if reply.is_lost:
            self._drop()
            return False
        self._excess = body["excess"]
        if until <= self.lease.clock():
            return True
        self.lease.book.grant(self.lease, tuple(body["add"]), until, int(body["good_for_ms"]) * MS)
        if isinstance(self.lease, RateLease):
            self.lease.pace(tuple(body["rates"]), tuple(body["bursts"]))
        return True

    async def _end(self) -> None:
        """Give all back; calls that are still in flight are reported when they have ended."""
        with self.lease.book.lock:
            hand = self.lease.hand
            unused: Hand = tuple(max(0, amount) if amount < UNLIMITED // 2 else 0 for amount in hand)  # type: ignore[assignment]
            self.lease.until = 0
            told = self.lease.book.report(self.lease, self.lease.clock(), unused)
        reply = await self._run(self._caller.request("return", _fields(self.id, told)))
        until = self.now + self.ttl_ms
        while reply.body.get("open") and self.now < until and not self.is_closing:
            await asyncio.sleep(WIND_DOWN)
            if self.demand.calls >= ON:
                break
            with self.lease.book.lock:
                book = self.lease.book
                if not book.has_news and book.opened() == told.open:
                    continue
                told = book.report(self.lease, self.lease.clock())
            reply = await self._run(self._caller.request("return", _fields(self.id, told)))

    async def close(self, timeout: float) -> None:
        """Give the lease back, if there is one."""
        self.is_closing = True
        self._kick.set()
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=timeout)

    async def _run(self, call: Call) -> Reply:
        """Repeat a message until it is answered, or everything that it is about is over."""
        give_up = self.now + self.ttl_ms
        try:
            while True:
                try:
                    return await self._caller.run(call, self.now + PATIENCE)
                except BursarError as error:
                    if error.code != "limiter_unavailable" or self.now > give_up or self.is_closing:
                        raise
        finally:
            self._caller.give_up(call)

    def _lapse(self) -> None:
        if self.lease.until and self.lease.clock() >= self.lease.until:
            self.lease.book.lapse(self.lease, self.lease.clock())

    def _drop(self) -> None:
        """The limiter does not know this lease (any more): nothing of it is used."""
        with self.lease.book.lock:
            self.lease.book.lapse(self.lease, self.lease.clock())


def _fields(key: str, told: Report) -> dict[str, Any]:
    return {
        "lease": key,
        "period": told.period,
        "hand": told.hand,
        "unused": told.unused,
        "back": [[period, amounts] for period, amounts in list(told.back.items())[-128:]],
        "done": told.done,
        "open": told.open,
        "calls": told.calls,
    }


class Keeper:
    """All holders of a process. ``threads``: permits are taken and ended in any thread; ``paced``: holders keep the
    pace of their rates, too, instead of spending an advance as they like."""

    def __init__(
        self,
        caller: Caller,
        background: Background,
        freezes: Freezes,
        clock_ns: Callable[[], int],
        *,
        threads: bool = False,
        paced: bool = False,
        is_on: bool = True,
        ttl_ms: int = 120_000,
    ) -> None:
        self.holders: dict[Key, Holder] = {}
        self.ttl_ms = ttl_ms
        self._is_on = is_on
        self._running: asyncio.AbstractEventLoop | None = None
        self._caller = caller
        self._background = background
        self._freezes = freezes
        self._clock = clock_ns
        kinds = (LockedLease, LockedRateLease) if threads else (HeldLease, RateLease)
        self._make = kinds[paced]
        self.threads = threads

    def holder(self, key: Key) -> Holder:
        found = self.holders.get(key)
        if found is None:
            book = Book(key[0], self.ttl_ms * MS)
            book.freezes = self._freezes
            lease = self._make(book, self._clock)
            made = Holder(key, self._caller, self._background, self.ttl_ms, lease)
            made.frozen = partial(self._is_frozen, key[0])
            found = self.holders.setdefault(key, made)
        return found

    def _is_frozen(self, budget: str) -> bool:
        try:
            return bool(self._freezes) and self._freezes.left(budget, _ANY) > 0.0
        except (KeyError, RuntimeError):  # it is changing, in another thread
            return True

    def take(self, key: Key, amounts: Hand) -> LocalPermit | None:
        """A permit from the lease of this path, if there is one and it fits; else it counts as demand for one."""
        holder = self.holders.get(key) or self.holder(key)
        lease = holder.lease
        if lease.until and not (self._freezes and holder.frozen()):
            requests, tokens_in, tokens_out, concurrent, usd, total, size = amounts
            if total in (0, tokens_in + tokens_out):
                permit = lease.take(tokens_in, tokens_out, requests, concurrent, usd, size)
                if permit is not None:
                    return permit
        if self._is_on:
            self._missed(holder, amounts)
        return None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._running is None:
            raise CallerError("not_connected", "use the fleet inside `async with bursar.connect() as fleet:`")
        return self._running

    def start(self) -> None:
        """Called in the event loop that leases are kept in."""
        self._running = asyncio.get_running_loop()

    def _missed(self, holder: Holder, amounts: Hand) -> None:
        """Count demand in the loop; who asks from another thread does not wait for it."""
        loop = self._running
        if loop is None or loop.is_closed():
            return
        if not self.threads or _running() is loop:
            holder.missed(amounts)
        else:
            loop.call_soon_threadsafe(holder.missed, amounts)

    async def close(self, timeout: float = 5.0) -> None:
        """Give all leases back; what cannot be told within the time is left to its end."""
        ending = [asyncio.ensure_future(holder.close(timeout)) for holder in self.holders.values() if holder.is_held]
        if ending:
            await asyncio.wait(ending, timeout=timeout)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_ANY: Final = dict.fromkeys(FIELDS, 1)
