"""All leases of one process: each path of budget objects has a `bursar.client.lease_holder.Holder`, and all are given
back at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Final

from bursar.client import lease_fork
from bursar.client.background import Background
from bursar.client.lease_holder import MS, Holder, Key
from bursar.client.local import FIELDS, Hand, HeldLease
from bursar.client.local_book import Book
from bursar.client.local_permit import LocalPermit
from bursar.client.local_rate import RateLease
from bursar.client.local_threads import LockedLease, LockedRateLease
from bursar.client.permit import check_amounts
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.caller import Caller
    from bursar.client.observe import Freezes


class Keeper:
    """All holders of a process. ``threads``: permits are taken and ended in any thread; ``paced``: holders keep the
    pace of their rates, too, instead of spending an advance as they like. ``background``: one task for each lease; they
    last as long as the demand does, so who waits for the work of a moment does not wait for these. ``renewed``: called
    with the name of a budget when the limiter has answered for it."""

    def __init__(
        self,
        caller: Caller,
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
        self.renewed: Callable[[str], None] = lambda budget: None
        self._is_on = is_on
        self._running: asyncio.AbstractEventLoop | None = None
        self._caller = caller
        self.background = Background()
        self._freezes = freezes
        self._clock = clock_ns
        kinds = (LockedLease, LockedRateLease) if threads else (HeldLease, RateLease)
        self._make = kinds[paced]
        self.threads = threads
        lease_fork.watch(self)

    def holder(self, key: Key) -> Holder:
        found = self.holders.get(key)
        if found is None:
            book = Book(key[0], self.ttl_ms * MS)
            book.freezes = self._freezes
            lease = self._make(book, self._clock)
            made = Holder(key, self._caller, self.background, self.ttl_ms, lease)
            made.frozen = partial(self._is_frozen, key[0])
            made.renewed = partial(self.renewed, key[0])
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
        check_amounts(amounts)
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

    def forget(self) -> None:
        """This process is a copy of the one whose leases these are: nothing is taken from them here, or it would be
        taken twice. It connects by itself if it wants any."""
        self._is_on = False
        for holder in self.holders.values():
            holder.forget()
            if self.threads:  # the copy of a lock that a thread held, which is not here, is never released
                holder.lease.book.lock = RLock()

    async def close(self, timeout: float = 5.0) -> None:
        """Give all leases back; what cannot be told within the time is left to its end."""
        for holder in list(self.holders.values()):
            holder.close()
        await self.background.drain(timeout)


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_ANY: Final = dict.fromkeys(FIELDS, 1)
