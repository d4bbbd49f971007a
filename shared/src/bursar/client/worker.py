"""A worker: takes tasks of some classes from the scheduler, and runs a function for each.

::

    worker = bursar.Worker(fleet, slots=4, kind="cpu", labels={"zone": "a"})

    @worker.task("summarise")
    async def summarise(task):
        await task.progress(0.5)
        return {"summary": ...}

    await worker.run()          # until SIGTERM, or worker.stop()

Coroutine functions run in the event loop, others in threads, and with ``run="process"`` in processes of their own
(`bursar.client.worker_run`). What is returned is the result; what is raised is a failure, tried again as the task's
submitter said (`TaskRefused`: not again). Leases are kept by heartbeats in the
background; an attempt that is void (its lease was lost, the task was cancelled) is cancelled.

A worker is known by its principal, so that each process needs credentials of its own (role ``worker``). A second
process with the same credentials takes over from the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import BusError
from bursar.client.background import Background
from bursar.client.caller import Caller
from bursar.client.scheduler_errors import SchedulerUnavailable
from bursar.client.worker_attempt import Attempt
from bursar.client.worker_process import KILL_AFTER
from bursar.client.worker_run import Run, Way, run_of
from bursar.client.worker_task import WorkerTask
from bursar.client.worker_threads import Lane, ThreadPool, shared_pool
from bursar.contracts.base import observation_subject, work_subject
from bursar.contracts.scheduler import MAX_SLOTS, SERVICE
from bursar.errors import BursarError, CallerError

if TYPE_CHECKING:
    from bursar.client.fleet import Fleet

log = logging.getLogger("bursar.client")

GRACE: Final = 30.0
"""Seconds that a worker which ends gives to what it runs."""

PATIENCE: Final = 10_000.0
"""Milliseconds without an answer after which a registration is asked anew, and a warning logged."""

LISTED: Final = MAX_SLOTS
"""Tokens in one heartbeat, at most."""

Function = TypeVar("Function", bound=Callable[[WorkerTask], Any])


class Worker:
    """See the module's text. ``name``: what operators see beside the principal, which is what the scheduler knows the
    worker by. ``slots``: tasks at a time (1 to 256). ``kind``: gpu, cpu or remote. ``labels``: what
    tasks may need. ``versions``: for the operators to see. ``grace``: seconds for what runs when the worker ends.
    ``threads``: the pool for functions that are no coroutines (None: one that all workers of the process share)."""

    def __init__(
        self,
        fleet: Fleet,
        name: str | None = None,
        *,
        slots: int = 1,
        kind: str = "cpu",
        labels: Mapping[str, str] | None = None,
        versions: Mapping[str, str] | None = None,
        grace: float = GRACE,
        threads: ThreadPool | None = None,
    ) -> None:
        if not 1 <= slots <= MAX_SLOTS:
            raise CallerError("bad_request", f"a worker has 1 to {MAX_SLOTS} slots", slots=slots)
        self.name = name
        self.slots = slots
        self.session = secrets.token_hex(8)
        self.runs: dict[str, Run] = {}
        self.is_draining = False
        self.places = asyncio.Semaphore(slots)
        self._fleet = fleet
        self._offer = {
            "session": self.session, "kind": kind, "slots": slots,
            "labels": dict(labels or {}), "versions": {**({} if name is None else {"name": name}), **(versions or {})},
        }  # fmt: skip
        self._grace = grace
        self._threads = threads
        self._lane: Lane | None = None
        self._attempts: dict[str, Attempt] = {}
        self._stopped: deque[str] = deque(maxlen=LISTED)
        self._ending = asyncio.Event()
        self._registering: asyncio.Task[None] | None = None
        self._registered = asyncio.Event()
        self._releases = Background()
        self._beat_every = 1.0
        self._is_registered = False
        self._ttl_ms = 3_000
        self._caller: Caller | None = None

    # ---- use

    def task(
        self, task_class: str, *, run: Way = "auto", kill_after: float = KILL_AFTER
    ) -> Callable[[Function], Function]:
        """Decorates the function that does the tasks of a class.

        ``run``: ``coroutine``, ``thread`` or ``process`` (auto: a coroutine if it is one, else a thread).
        ``kill_after``: seconds that a function in a process has to stop by itself.
        """

        def register(function: Function) -> Function:
            self.runs[task_class] = run_of(function, run, self._own_lane, kill_after)
            return function

        return register

    def _own_lane(self) -> Lane:
        if self._lane is None:
            self._lane = (self._threads or shared_pool()).lane()
        return self._lane

    def stop(self) -> None:
        """Take nothing new, finish or hand back what runs, and end `run`. May be called from a signal handler of the
        event loop."""
        self._ending.set()

    @property
    def principal(self) -> str:
        """Who the worker is, as its credentials say."""
        return self._fleet.principal

    @property
    def is_registered(self) -> bool:
        """Whether the scheduler has answered a registration of this worker."""
        return self._is_registered

    @property
    def running(self) -> list[str]:
        """The tokens of the attempts that are not over, oldest first."""
        return list(self._attempts)

    async def run(self, *, signals: bool = True) -> None:
        """Work until `stop`, or with ``signals`` until SIGTERM or SIGINT. Raises what makes working impossible, such as
        credentials that do not allow it."""
        if not self.runs:
            raise CallerError("bad_request", "a worker needs at least one function: @worker.task(...)")
        scheduler = self._fleet.scheduler
        self._caller = Caller(
            scheduler.bus, SERVICE, scheduler.clock, subject=work_subject, unavailable=SchedulerUnavailable,
            lost_data=self._data_was_lost,
        )  # fmt: skip
        hearing = (("assign", self._on_assign), ("stop", self._on_stop), ("register", self._on_register))
        await scheduler.open()
        await self._caller.start()
        for what, hear in hearing:
            scheduler.notices.listen(what, hear)
        try:
            with _signals(self.stop) if signals else contextlib.nullcontext():
                await self._work()
        finally:
            for what, hear in hearing:
                scheduler.notices.ignore(what, hear)
            await self._caller.close()
            await self._close()

    async def _close(self) -> None:
        for run in self.runs.values():
            await run.close()
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.close()

    async def _work(self) -> None:
        beating = asyncio.get_running_loop().create_task(self._beat())
        try:
            await self._until_ending(asyncio.get_running_loop().create_task(self._register()))
            await self._ending.wait()
            await self._drain()
        finally:
            beating.cancel()
            await self._releases.drain(1.0)
            for attempt in list(self._attempts.values()):
                attempt.hand_back()
            await asyncio.gather(beating, return_exceptions=True)

    async def _until_ending(self, work: asyncio.Task[None]) -> None:
        """Wait for some work, unless the worker is to end before."""
        ending = asyncio.get_running_loop().create_task(self._wait_for_end())
        await asyncio.wait([work, ending], return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not work.done():
            work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work

    async def _wait_for_end(self) -> None:
        await self._ending.wait()

    # ---- the scheduler

    async def tell(self, verb: str, fields: dict[str, Any], patience: float) -> dict[str, Any]:
        """A request that may change something, repeated for so many ms until it is answered."""
        caller = self._open_caller
        call = caller.request(verb, fields)
        try:
            return (await caller.run(call, self.now() + patience)).body
        finally:
            caller.give_up(call)

    async def ask(self, verb: str, fields: dict[str, Any], patience: float) -> dict[str, Any]:
        """A request that is not remembered."""
        caller = self._open_caller
        return (await caller.run(caller.query(verb, fields), self.now() + patience)).body

    @property
    def _open_caller(self) -> Caller:
        if self._caller is None:
            raise CallerError("not_connected", "the worker does not run")
        return self._caller

    def now(self) -> float:
        """Milliseconds of the worker's clock."""
        return self._fleet.scheduler.clock.now()

    async def registered(self) -> None:
        """Return when no registration is under way: it says what runs here, so nothing is started meanwhile."""
        await self._registered.wait()

    async def _register(self) -> None:
        """Until it is answered; and stop what is void."""
        self._registered.clear()
        fields = {**self._offer, "classes": sorted(self.runs), "running": self.running[:LISTED]}
        reply: dict[str, Any] = {}
        while not reply:
            try:
                reply = await self.tell("register", fields, PATIENCE)
            except SchedulerUnavailable as error:
                log.warning("not_registered_yet", extra={"worker": self.principal, "why": error.text})
        self._is_registered = True
        self._ttl_ms = int(reply["ttl_ms"])
        self._beat_every = reply["heartbeat_ms"] / 1000.0
        for token in reply["void"]:
            self._stop(token)
        self._registered.set()
        log.info("registered", extra={"worker": self.principal, "void": len(reply["void"])})

    async def _beat(self) -> None:
        """Heartbeats; and when they cannot be sent for so long that a lease must be lost, its attempt is stopped."""
        heard = self.now()
        while True:
            now = self.now()
            if self._send_beat():
                heard = now
            for attempt in list(self._attempts.values()):
                if now - heard > max(attempt.lease_ms, 1.1 * self._ttl_ms):
                    attempt.stop()
            await asyncio.sleep(self._beat_every)

    def _send_beat(self) -> bool:
        """One heartbeat; False when it could not be sent."""
        bus = self._fleet.scheduler.bus
        body = {"v": 1, "session": self.session, "running": self.running[:LISTED]}
        try:
            bus.publish(observation_subject(SERVICE, "heartbeat", bus.principal), msgpack.packb(body))
        except BusError:
            return False
        return bus.is_connected

    # ---- what the scheduler tells

    def _on_assign(self, notice: dict[str, Any]) -> None:
        token = notice["token"]
        if notice["session"] != self.session or token in self._attempts:
            return
        if notice["task_class"] in self.runs:
            self._attempts[token] = Attempt(self, notice)

    def go_on(self, begun: dict[str, Any], gate: str) -> None:
        """The answer to the end of an attempt has brought the next one; ``gate``: see `Attempt`."""
        token = begun["token"]
        if token not in self._stopped:
            self._attempts[token] = Attempt(self, begun, gate)

    def _on_stop(self, notice: dict[str, Any]) -> None:
        self._stop(notice["token"])

    def _stop(self, token: str) -> None:
        """Stop an attempt; of one that is not there (any more), say that its slot is free."""
        attempt = self._attempts.get(token)
        if attempt is not None:
            attempt.stop()
        elif len(self._releases) < LISTED:
            self._stopped.append(token)  # an answer that brings it may be just behind
            self._releases.spawn(self._release(token))

    async def _release(self, token: str) -> None:
        with contextlib.suppress(SchedulerUnavailable):
            await self.tell("release", {"token": token}, PATIENCE)

    def _on_register(self, _: dict[str, Any]) -> None:
        """The scheduler does not know this worker (any more)."""
        if not self._ending.is_set() and (self._registering is None or self._registering.done()):
            self._registering = asyncio.get_running_loop().create_task(self._register())

    def _data_was_lost(self) -> None:
        """No attempt of before counts any more."""
        for attempt in list(self._attempts.values()):
            attempt.stop()

    def is_over(self, attempt: Attempt) -> None:
        """An attempt has ended and the scheduler knows it, or will never."""
        self._attempts.pop(attempt.token, None)

    # ---- the end

    async def _drain(self) -> None:
        """Nothing new; what runs has its grace, and is handed back after it; then leave."""
        self.is_draining = True
        with contextlib.suppress(BursarError):
            await self.tell("drain", {"session": self.session}, 2_000.0)
        await self._wait_for_attempts(self._grace)
        for attempt in list(self._attempts.values()):
            attempt.hand_back()
        await self._wait_for_attempts(5.0)
        with contextlib.suppress(BursarError):
            await self.tell("leave", {"session": self.session}, 2_000.0)

    async def _wait_for_attempts(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._attempts:
                    await next(iter(self._attempts.values())).wait()


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
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
