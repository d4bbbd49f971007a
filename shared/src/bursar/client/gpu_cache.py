"""Weights that agents share: loaded once, found by all.

::

    async def load(where):                       # only called for the one that has to load
        lease = await fleet.gpu.lease(where.size, hosts=[...], purpose="weights")
        read_weights(where.source, lease.device)
        return lease

    async with fleet.gpu.cache.weights("llama-3-8b", "gpu-1/GPU-3f6c", size, load) as held:
        while not held.lost.is_set():
            infer()

Of all that enter at the same time one loads, and the others wait until the weights are there; when it fails, the next
one loads. Whoever owns a copy is asked to give it back when its room is wanted (`on_evict`): it unloads, and what the
card says then decides, not an answer. An owner that does nothing loses its lease in the end.

While a process uses weights, waits for them or loads them it says so again in the background: what a process that died
had used would never be given back otherwise. One that could not say it for too long, cut off or asleep, has lost its
use, and is told so by ``held.lost``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError

from bursar.client.gpu_asking import query, read, request
from bursar.client.gpu_lease import GpuLease
from bursar.contracts.base import Message
from bursar.contracts.gpu_cache import CacheAnswer, CacheKept, CacheReply, CacheTold, Tier
from bursar.errors import BursarError, ServiceError

if TYPE_CHECKING:
    from bursar.client.gpu import Gpu

LOOK_S: Final = 2.0
"""A notice may be lost: so often somebody who waits looks for himself."""

AGAIN_S: Final = 0.5
"""While room is being made, it is asked for again so often."""

MOST_KEPT: Final = 64
"""Copies in one message."""


M = TypeVar("M", bound=Message)


class Loading(NamedTuple):
    """What is to be loaded where. ``source``: from where it is quickest (peer, ram, mmap, disk, network) and
    ``source_place`` where that is; ``number``: of the load."""

    model: str
    place: str
    tier: Tier
    size: int
    source: str
    source_place: str
    number: int


class Held:
    """Weights of a `GpuCache.weights`. ``lost`` is set when the manager does not know any more that this process uses
    them: leave, and enter again."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self.entered = False


Name = tuple[str, str, str]
"""Model, place, tier."""

Load = Callable[[Loading], Awaitable[GpuLease | None]]
"""Loads the weights; returns the lease under which they are held (None in a host's memory), which stays the caller's to
release when it has unloaded them."""


class GpuCache:
    """Made by `Gpu`: ``fleet.gpu.cache``."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._waiting: dict[Name, list[asyncio.Queue[CacheTold]]] = {}
        self._held: dict[Name, list[Held]] = {}
        self._owned: dict[Name, None] = {}
        self._keep_s = 0.0
        self._keeper: asyncio.Task[None] | None = None
        self._on_evict: list[Callable[[CacheTold], object]] = []
        self._ahead: Load | None = None

    def on_evict(self, callback: Callable[[CacheTold], object]) -> None:
        """Call this when a copy that this process has loaded is to be given back: ``step`` ask, sleep, or kill (its
        lease has been taken away). It must not block."""
        self._on_evict.append(callback)

    def load_ahead(self, load: Load) -> None:
        """Load what this process will probably want next, where room for it is free. It is called in the background;
        what it raises only means that nothing is there ahead."""
        self._ahead = load

    @asynccontextmanager
    async def weights(
        self, model: str, place: str, size: int, load: Load, *, tier: Tier = "gpu", on_disk: bool = True
    ) -> AsyncIterator[Held]:
        """Use weights of ``size`` bytes at a place: a device ``<host>/<uuid>``, or a host for the tiers ``ram`` and
        ``mmap``. Raises what ``load`` raised if it was this process that loaded, `ServiceError` ``cache_refused`` when
        no room can be made, or another `bursar.errors.BursarError`."""
        what, held = Loading(model, place, tier, size, "", "", 0), Held()
        with self._kept(what[:3], held):
            await self._enter(what, load, on_disk)
            held.entered = True
            try:
                yield held
            finally:
                await self._run("cache-leave", model, place, tier)

    async def where(self, model: str | None = None) -> CacheReply:
        """Copies of one model or of all, and how good the cache is."""
        return await query(self._gpu, "cache-where", CacheReply, model=model)

    async def gone(self, model: str, place: str, tier: Tier) -> None:
        """A copy in a host's memory that this process has loaded is gone."""
        await self._run("cache-gone", model, place, tier)
        self._owned.pop((model, place, tier), None)
        self._stop_if_idle()

    # -- saying that something is used still

    @contextlib.contextmanager
    def _kept(self, name: Name, held: Held) -> Iterator[None]:
        """Meanwhile the manager is told again and again that this process uses the copy, or waits for it."""
        self._held.setdefault(name, []).append(held)
        try:
            yield
        finally:
            self._held[name].remove(held)
            if not self._held[name]:
                del self._held[name]
            self._stop_if_idle()

    def _stop_if_idle(self) -> None:
        if not self._held and not self._owned:
            self.stop()

    def stop(self) -> None:
        """Say no more that anything is used (called by `Gpu` as well, when it is closed)."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()

    def _keep_within(self, seconds: float) -> None:
        self._keep_s = seconds / 3
        if self._keeper is None:
            self._keeper = self._gpu.background.spawn(self._keep())

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._keep_s)
            names = list(self._held | self._owned)
            for first in range(0, len(names), MOST_KEPT):
                with contextlib.suppress(BursarError):  # it is said again soon; what is lost meanwhile is told then
                    await self._keep_some(names[first : first + MOST_KEPT])

    async def _keep_some(self, names: list[Name]) -> None:
        copies = [{"model": model, "place": place, "tier": tier} for model, place, tier in names]
        used = {name: [held for held in self._held.get(name, ()) if held.entered] for name in names}
        told = await query(self._gpu, "cache-keep", CacheKept, copies=copies)
        self._keep_s = told.keep_ms / 3_000
        for copy in told.gone:
            self._owned.pop((copy.model, copy.place, copy.tier), None)
            for held in used.get((copy.model, copy.place, copy.tier), ()):
                held.lost.set()

    # -- entering

    async def _enter(self, what: Loading, load: Load, on_disk: bool) -> None:
        queue: asyncio.Queue[CacheTold] = asyncio.Queue()
        waiting = self._waiting.setdefault(what[:3], [])
        waiting.append(queue)
        try:
            while True:
                body = await self._run("cache-want", *what[:3], size=what.size, on_disk=on_disk)
                answer = read(CacheAnswer, body)
                self._keep_within(answer.keep_ms / 1_000)
                if answer.next is not None and self._ahead is not None:
                    foretold = what._replace(model=answer.next, size=answer.next_size)
                    self._gpu.background.spawn(self._load_ahead(foretold, self._ahead, on_disk))
                if answer.what == "refused":
                    raise ServiceError("cache_refused", "what is cached there is used, pinned, or was used just now")
                if answer.what == "hit":
                    return
                if answer.what == "room":
                    await asyncio.sleep(AGAIN_S)
                    continue
                number = answer.load if answer.what == "load" else await self._turn(what, queue)
                if number is not None:
                    where = what._replace(source=answer.source, source_place=answer.source_place, number=number)
                    await self._load(where, load)
                return
        finally:
            waiting.remove(queue)
            if not waiting:
                self._waiting.pop(what[:3], None)

    async def _load_ahead(self, what: Loading, load: Load, on_disk: bool) -> None:
        with contextlib.suppress(Exception):
            body = await self._run("cache-want", *what[:3], size=what.size, on_disk=on_disk, ahead=True)
            answer = read(CacheAnswer, body)
            if answer.what == "load":
                self._keep_within(answer.keep_ms / 1_000)
                source = what._replace(source=answer.source, source_place=answer.source_place, number=answer.load)
                await self._load(source, load)

    async def _turn(self, what: Loading, queue: asyncio.Queue[CacheTold]) -> int | None:
        """Wait until the weights are there (None), or are to be loaded by this process (the number of the load)."""
        try:
            while True:
                try:
                    told = await asyncio.wait_for(queue.get(), LOOK_S)
                except TimeoutError:
                    found = [copy for copy in (await self.where(what.model)).copies if copy.place == what.place
                             and copy.tier == what.tier]  # fmt: skip
                    if found and found[0].phase == "loading" and found[0].owner != self._gpu.principal:
                        continue
                    if found:
                        return found[0].load if found[0].phase == "loading" else None
                    told = None
                if told is None or told.step == "lost":
                    raise ServiceError("cache_lost", "the weights that were waited for are gone")
                return told.load if told.step == "load" else None
        except BaseException:
            self._gpu.background.spawn(self._quietly("cache-leave", what))
            raise

    async def _load(self, where: Loading, load: Load) -> None:
        began = self._gpu.clock.now()
        try:
            lease = await load(where)
        except BaseException:
            self._gpu.background.spawn(self._quietly("cache-failed", where, load=where.number))
            raise
        took = int(self._gpu.clock.now() - began)
        await self._run("cache-loaded", *where[:3], load=where.number, size=where.size, took_ms=took,
                        lease=None if lease is None else lease.id)  # fmt: skip
        if where.tier == "ram":
            self._owned[where[:3]] = None  # from now on it is said that it is there, until it is gone

    # -- asking

    async def _run(self, verb: str, model: str, place: str, tier: Tier, **fields: Any) -> dict[str, Any]:
        return await request(self._gpu, verb, model=model, place=place, tier=tier, **fields)

    async def _quietly(self, verb: str, where: Loading, **fields: Any) -> None:
        with contextlib.suppress(BursarError):  # a load whose loader says nothing is over by time
            await self._run(verb, *where[:3], **fields)

    def hear(self, body: dict[str, Any]) -> None:
        """A notice about a copy (called by `Gpu`)."""
        try:
            told = CacheTold.model_validate(body)
        except ValidationError:
            return
        if told.step in ("ask", "sleep", "kill"):
            for callback in self._on_evict:
                callback(told)
            return
        queues = self._waiting.get((told.model, told.place, told.tier), [])
        for queue in queues[: 1 if told.step == "load" else None]:
            queue.put_nowait(told)
