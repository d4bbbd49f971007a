"""A worker's line to the scheduler: it registers, gives signs of life, asks and tells, and hears what it is told.

A registration says what the worker can do and what it works on now; it is told again when the scheduler asks for it and
when the number of slots has changed. Nothing is started while one is under way. A heartbeat each second lists what runs
here, and how busy the host is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from itertools import count
from typing import Any, Final, Protocol

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError
from bursar.client.background import Background
from bursar.client.caller import Caller
from bursar.client.scheduler import Scheduler
from bursar.client.scheduler_errors import SchedulerUnavailable
from bursar.client.worker_load import Way
from bursar.contracts.base import observation_subject, work_subject
from bursar.contracts.scheduler import MAX_SLOTS, SERVICE
from bursar.errors import BursarError

log = logging.getLogger("bursar.client")

PATIENCE: Final = 10_000.0
"""Milliseconds without an answer after which a registration is asked anew, and a warning logged."""

WAY_EVERY: Final = 5
"""Heartbeats from one measurement of the way to the next."""

LISTED: Final = MAX_SLOTS
"""Tokens in one heartbeat, at most."""

Hear = Callable[[dict[str, Any]], None]


class Worked(Protocol):
    """What the line needs of its worker."""

    @property
    def session(self) -> str: ...

    @property
    def running(self) -> list[str]: ...

    def offer(self) -> dict[str, Any]:
        """What a registration says, beside what runs."""
        ...

    def stop_token(self, token: str) -> None:
        """This attempt is void."""
        ...

    def heard(self, silent_ms: float) -> None:
        """Once in a heartbeat: since when the scheduler cannot have heard of the worker."""
        ...

    def data_was_lost(self) -> None: ...


class Link:
    """See the module's text. ``hear``: by notice, what hears it."""

    def __init__(self, worker: Worked, scheduler: Scheduler, hear: dict[str, Hear]) -> None:
        self.is_registered = False
        self.ttl_ms = 3_000
        self.load_permille: int | None = None
        self.way = Way()
        self._beside = Background()
        self._worker = worker
        self._scheduler = scheduler
        self._hear = {**hear, "register": self._on_register}
        self._registering: asyncio.Task[None] | None = None
        self._registered = asyncio.Event()
        self._beat_every = 1.0
        self._again = False
        self._is_ending = False
        self._caller = Caller(
            scheduler.bus, SERVICE, scheduler.clock, subject=work_subject, unavailable=SchedulerUnavailable,
            lost_data=worker.data_was_lost,
        )  # fmt: skip

    async def open(self) -> None:
        await self._scheduler.open()
        await self._caller.start()
        for what, hear in self._hear.items():
            self._scheduler.notices.listen(what, hear)

    async def close(self) -> None:
        for what, hear in self._hear.items():
            self._scheduler.notices.ignore(what, hear)
        if self._registering is not None:
            self._registering.cancel()
            with contextlib.suppress(asyncio.CancelledError, BursarError):
                await self._registering
        await self._beside.drain(0.0)
        await self._caller.close()

    async def tell(self, verb: str, fields: dict[str, Any], patience: float) -> dict[str, Any]:
        """A request that may change something, repeated for so many ms until it is answered."""
        call = self._caller.request(verb, fields)
        try:
            return (await self._caller.run(call, self._scheduler.clock.now() + patience)).body
        finally:
            self._caller.give_up(call)

    async def ask(self, verb: str, fields: dict[str, Any], patience: float) -> dict[str, Any]:
        """A request that is not remembered."""
        query = self._caller.query(verb, fields)
        return (await self._caller.run(query, self._scheduler.clock.now() + patience)).body

    # ---- registration

    async def registered(self) -> None:
        """Return when no registration is under way: it says what runs here, so nothing is started meanwhile."""
        await self._registered.wait()

    def register_no_more(self) -> None:
        """The worker ends: a registration would say that it takes tasks."""
        self._is_ending = True
        if self._registering is not None:
            self._registering.cancel()
        self._registered.set()

    def register_soon(self) -> None:
        """Once more, with what holds by then."""
        if self._is_ending:
            return
        if self._registering is None or self._registering.done():
            self._registering = asyncio.get_running_loop().create_task(self._register())
        else:
            self._again = True

    async def first_registration(self) -> None:
        """Register, and return when that is answered. Raises what makes working impossible."""
        self.register_soon()
        assert self._registering is not None
        await asyncio.shield(self._registering)

    def _on_register(self, _: dict[str, Any]) -> None:
        """The scheduler does not know this worker (any more)."""
        if self._registering is None or self._registering.done():
            self.register_soon()

    async def _register(self) -> None:
        """Until it is answered; and stop what is void."""
        self._again = True
        while self._again:
            self._again = False
            self._registered.clear()
            reply = await self._ask_to_register()
            self.is_registered = True
            self.ttl_ms = int(reply["ttl_ms"])
            self._beat_every = reply["heartbeat_ms"] / 1000.0
            for token in reply["void"]:
                self._worker.stop_token(token)
            log.info("registered", extra={"worker": self._scheduler.bus.principal, "void": len(reply["void"])})
        self._registered.set()

    async def _ask_to_register(self) -> dict[str, Any]:
        fields = {**self._worker.offer(), "running": self._worker.running[:LISTED]}
        while True:
            try:
                return await self.tell("register", fields, PATIENCE)
            except SchedulerUnavailable as error:
                log.warning("not_registered_yet", extra={"worker": self._scheduler.bus.principal, "why": error.text})

    # ---- signs of life

    async def beat(self, each: Callable[[], None]) -> None:
        """Heartbeats until cancelled. ``each``: what is to be done before every one of them."""
        heard = self._scheduler.clock.now()
        for number in count():
            each()
            if number % WAY_EVERY == 0:
                self._beside.spawn(self._measure())
            now = self._scheduler.clock.now()
            if self._send_beat():
                heard = now
            self._worker.heard(now - heard)
            await asyncio.sleep(self._beat_every)

    async def _measure(self) -> None:
        """How long the server takes to answer: the way to the scheduler, but for its own work."""
        began = self._scheduler.clock.now()
        with contextlib.suppress(BusError):
            await self._scheduler.bus.flush()
            self.way.to_scheduler(self._scheduler.clock.now() - began)

    def _send_beat(self) -> bool:
        """One heartbeat; False when it could not be sent."""
        bus = self._scheduler.bus
        body: dict[str, Any] = {"v": 1, "session": self._worker.session, "running": self._worker.running[:LISTED]}
        if self.load_permille is not None:
            body["load_permille"] = self.load_permille
        if self.way.latency_us is not None:
            body["latency_us"] = self.way.latency_us
        try:
            bus.publish(observation_subject(SERVICE, "heartbeat", bus.principal), msgpack.packb(body))
        except BusError:
            return False
        return bus.is_connected
