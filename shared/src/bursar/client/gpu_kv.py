"""Pages of KV cache that engines of one card share.

::

    lease = await fleet.gpu.lease(24 << 30, purpose="kv_cache", processes=[...])     # whoever gives the memory
    await fleet.gpu.kv.open(lease, engines=["engine-1", "engine-2"])

    engine = await fleet.gpu.kv.join(lease_id, promised=1_000, limit=8_000, per_page=64)      # each engine
    engine.check()                   # LeaseLost: do not touch a page any more
    told = await engine.tell(blocks=0, take=100)
    if not told.taken:
        ...                          # others were asked: ask again when pages have come back
    engine.on_wanted(shrink)         # called with the number of pages that another engine wants back
    await engine.leave()

What an engine told last is said again in the background, since the pages of one that says nothing are lent to others.
It has them until a deadline on its own clock, which is earlier than the manager's: then, and when the pool has ended,
``engine.lost`` is true, also of an engine that reaches nobody. When the manager has lost data, the holder's side opens
the pool again and engines join again with the pages that they hold, by themselves; pages that are others' by then are
wanted back.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from bursar.client.gpu_asking import ask, query, read, request
from bursar.client.gpu_errors import LeaseLost
from bursar.client.gpu_lease import RELEASED, SILENT, GpuLease, Lost, until
from bursar.contracts.gpu_kv import KvHeld, KvLeft, KvOpened, KvRefused, KvReply, KvWanted
from bursar.errors import BursarError, CallerError, ServiceError

if TYPE_CHECKING:
    from bursar.client.gpu import Gpu

PAGE: Final = 2 << 20
"""What CUDA maps at a time, in bytes."""

AGAIN_S: Final = 0.5
"""Seconds between two tries to open a pool, or join it, again."""


class Share(NamedTuple):
    """What an engine joined with."""

    promised: int
    limit: int
    per_page: int


class KvEngine:
    """An engine of a pool; made by `GpuKv.join`. ``pages``: that it holds; ``deadline``: local ms until when they are
    its own unless it says more; ``lost``: see `bursar.client.gpu_lease.Lost`."""

    def __init__(self, kv: GpuKv, lease: str, share: Share, told: KvHeld, sent: float) -> None:
        self.lease = lease
        self.share = share
        self.pages = told.pages
        self.ended = False
        self.deadline = until(sent, told.keep_ms)
        self.lost = Lost(self)
        self._proof = told.fence
        self._kv = kv
        self._keep_s = told.keep_ms / 3_000
        self._blocks = 0
        self._telling = asyncio.Lock()
        self._nudge = asyncio.Event()
        self._on_wanted: list[Callable[[int], object]] = []

    @property
    def left(self) -> float:
        """Seconds in which the pages may still be used if nothing more is said; 0 or less when they may not."""
        return (self.deadline - self._kv.now()) / 1_000.0

    @property
    def held(self) -> bool:
        """Whether the pages may be used now."""
        return not self.ended and not self.lost

    def check(self) -> None:
        """Raise `LeaseLost` unless the pages may be used now: call it before each step that uses them."""
        if not self.held:
            raise LeaseLost(self.lease, self.lost.reason or RELEASED)

    def on_wanted(self, callback: Callable[[int], object]) -> None:
        """Call this with the number of pages that another engine wants back. It must not block."""
        self._on_wanted.append(callback)

    async def tell(self, blocks: int, *, give: int = 0, take: int = 0, held: Sequence[Any] = ()) -> KvHeld:
        """``blocks`` are in use now, in the pages that it has; give so many pages back, take so many more (all or
        none). ``held``: maps of `bursar.contracts.gpu_kv.KvPage`, so that the answer says which pages to ``empty`` for
        others. Raises `LeaseLost`, `CallerError` ``conflict`` when the blocks do not fit, or another
        `bursar.errors.BursarError`."""
        fields = {"lease": self.lease, "blocks": blocks, "give": give, "take": take, "held": list(held)}
        self.check()
        async with self._telling:  # what is said again must not overtake what was said
            told = await self._tell(blocks, fields)
        self.check()
        return told

    async def _tell(self, blocks: int, fields: dict[str, Any]) -> KvHeld:
        """Where data was lost meanwhile, it joins again first."""
        if self._kv.incarnation != self._incarnation:
            await self._join_again()
        try:
            told, sent = await self._say(fields)
        except CallerError:  # an error has no fence: it may be the first that is heard after a loss
            if await self._kv.ask_incarnation() == self._incarnation:
                raise
            await self._join_again()
            told, sent = await self._say(fields)
        if incarnation_of(told.fence) != self._incarnation:
            self.pages += fields.get("take", 0) * told.taken
            told = await self._join_again()
        else:
            self._take(told, sent)
        self._blocks = blocks
        return told

    async def _say(self, fields: dict[str, Any]) -> tuple[KvHeld, float]:
        """What is given back is not its own any more from now on, whether or not an answer comes."""
        given = fields.get("give", 0)
        self.pages -= given
        try:
            return await self._kv.pages(fields)
        except CallerError:
            self.pages += given  # nothing has changed
            raise

    @property
    def _incarnation(self) -> int:
        return incarnation_of(self._proof)

    def _take(self, told: KvHeld, sent: float) -> None:
        """What the pool says of this engine, to something that was sent then."""
        self.pages, self._proof, self._keep_s = told.pages, told.fence, told.keep_ms / 3_000
        self.deadline = max(self.deadline, until(sent, told.keep_ms))

    async def _tell_again(self) -> None:
        async with self._telling:
            blocks = min(self._blocks, self.pages * self.share.per_page)
            await self._tell(blocks, {"lease": self.lease, "blocks": blocks})

    async def _join_again(self) -> KvHeld:
        """Join with what it holds, as soon as the pool is there again. Raises `CallerError` when it is not there while
        the pages may be used."""
        found: tuple[KvHeld, float] | None = None
        while found is None:
            try:
                found = await self._kv.join_again(self.lease, self.share, self.pages, self._proof)
            except CallerError as error:
                if error.code not in ("unknown_lease", "conflict") or not self.held:
                    raise
                await asyncio.sleep(AGAIN_S)
        others = self.pages - found[0].pages
        self._take(*found)
        if others > 0:
            self.hear(others)
        return found[0]

    def look(self) -> None:
        """The manager has lost data: say at once what is held."""
        self._nudge.set()

    async def leave(self) -> None:
        """Give all pages back."""
        self.ended = True
        self._kv.forget(self)
        await self._kv.leave(self.lease)

    async def keep(self) -> None:
        """Say again what was said last, until the pool does not know this engine any more, or its time is over."""
        while self.held:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudge.wait(), max(0.0, min(self._keep_s, self.left)))
            self._nudge.clear()
            try:
                async with asyncio.timeout(max(0.0, self.left)):
                    await self._tell_again()
            except CallerError as error:
                self.lost.set(str(error.facts.get("why", error.code)))
            except (BursarError, TimeoutError):
                continue  # it is said again soon, unless it is too late
        self.lost.set(SILENT)

    def hear(self, pages: int) -> None:
        for callback in self._on_wanted:
            callback(pages)


class GpuKv:
    """Made by `Gpu`: ``fleet.gpu.kv``. All methods raise a `bursar.errors.BursarError`."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._engines: dict[str, KvEngine] = {}
        self._keeping: dict[str, asyncio.Task[None]] = {}
        self._opened: dict[str, tuple[GpuLease, dict[str, Any]]] = {}

    async def open(self, lease: GpuLease, *, page: int = PAGE, engines: Sequence[str] = ()) -> int:
        """The lease, which is for ``kv_cache`` on one device, is a pool from now on; returns its pages. ``page``: bytes
        of one; ``engines``: principals that may join, beside this one."""
        fields = {"lease": lease.id, "fence": lease.fence, "page": page, "engines": list(engines)}
        told, _ = await ask(self._gpu, "kv-open", KvOpened, **fields)
        self._opened = {key: one for key, one in self._opened.items() if not one[0].ended}
        self._opened[lease.id] = (lease, fields)
        return told.pages

    async def open_again(self, lease: GpuLease) -> None:
        """If it was opened, once more: the manager has lost data (called by `Gpu` when it knows the lease again)."""
        _, fields = self._opened.get(lease.id, (lease, None))
        while fields is not None and lease.held:
            try:
                await request(self._gpu, "kv-open", **fields)
                return
            except CallerError:
                return  # the lease has ended, or is another pool
            except BursarError:
                await asyncio.sleep(AGAIN_S)

    async def join(self, lease: str, *, promised: int, limit: int, per_page: int) -> KvEngine:
        """Share the pool of this lease: ``promised`` pages for certain, ``limit`` at most, ``per_page`` blocks in each.
        Raises `ServiceError` ``no_pages`` when so many cannot be promised."""
        share = Share(promised, limit, per_page)
        engine = KvEngine(self, lease, share, *await self._join(lease, share))
        if lease in self._engines:
            self.forget(self._engines[lease])
        self._engines[lease] = engine
        self._keeping[lease] = self._gpu.background.spawn(engine.keep())
        return engine

    async def _join(self, lease: str, share: Share, **holding: Any) -> tuple[KvHeld, float]:
        """What it has, and when it was asked."""
        await self._gpu.start()
        deadline = self.now() + self._gpu.patience * 1_000.0
        reply = await self._gpu.caller.ask("kv-join", {"lease": lease, **share._asdict(), **holding}, deadline)
        if reply.body.get("ok") is True:
            return read(KvHeld, reply.body), reply.sent
        told = read(KvRefused, reply.body)
        raise ServiceError(told.reason, f"{told.lendable} pages can be promised", lendable=told.lendable)

    async def join_again(self, lease: str, share: Share, pages: int, proof: str) -> tuple[KvHeld, float]:
        """With the pages that an engine holds, and the fence that proves it."""
        return await self._join(lease, share, holding=pages, fence=proof)

    @property
    def incarnation(self) -> int:
        """It grows when the manager has lost data: as the answers so far say."""
        return self._gpu.caller.seen[0]

    async def ask_incarnation(self) -> int:
        """The same, after one more answer."""
        await self._gpu.status(self._gpu.principal)
        return self.incarnation

    def now(self) -> float:
        return self._gpu.clock.now()

    def look(self) -> None:
        """The manager has lost data (called by `Gpu`)."""
        for engine in self._engines.values():
            engine.look()

    async def status(self, lease: str) -> KvReply:
        """What the pool has, who has it, and what of it is wasted."""
        return await query(self._gpu, "kv-status", KvReply, lease=lease)

    def forget(self, engine: KvEngine) -> None:
        if self._engines.get(engine.lease) is engine:
            del self._engines[engine.lease]
            self._keeping.pop(engine.lease).cancel()

    def stop(self) -> None:
        """Say nothing more (called by `Gpu` when it is closed)."""
        for engine in list(self._engines.values()):
            self.forget(engine)

    def hear(self, body: dict[str, Any]) -> None:
        """A notice that pages are wanted back (called by `Gpu`)."""
        with contextlib.suppress(ValidationError):
            told = KvWanted.model_validate(body)
            engine = self._engines.get(told.lease)
            if engine is not None:
                engine.hear(told.pages)

    def lose(self, lease: str, reason: str) -> None:
        """A notice that the lease of a pool has ended (called by `Gpu`)."""
        engine = self._engines.get(lease)
        if engine is not None:
            engine.lost.set(reason)
            engine.look()

    async def pages(self, fields: dict[str, Any]) -> tuple[KvHeld, float]:
        return await ask(self._gpu, "kv-pages", KvHeld, **fields)

    async def leave(self, lease: str) -> None:
        await ask(self._gpu, "kv-leave", KvLeft, lease=lease)


def incarnation_of(fence: str) -> int:
    return int(fence.partition(".")[0])
