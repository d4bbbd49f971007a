"""A worker: takes tasks of some classes from the scheduler, and runs a function for each.

::

    worker = bursar.Worker(fleet, slots=4, kind="cpu", labels={"zone": "a"})

    @worker.task("summarise")
    async def summarise(task):
        await task.progress(0.5)
        return {"summary": ...}

    await worker.run()          # until SIGTERM, or worker.stop()

A worker may also be made without a fleet, at the top of a module, and run by ``bursar worker run module:worker``.
Coroutine functions run in the event loop, others in threads, and with ``run="process"`` in processes of their own
(`bursar.client.worker_run`). What is returned is the result; what is raised is a failure, tried again as the task's
submitter said (`TaskRefused`: not again). Leases are kept by heartbeats in the
background; an attempt that is void (its lease was lost, the task was cancelled) is cancelled.

``slots`` is a number, or a `SlotRule`: then it follows the load of the host (`bursar.client.worker_slots`). At its end
a worker takes nothing new, asks what runs to stop early (``task.should_stop``), lets it finish for ``grace`` seconds,
and hands back what is left then; with `reclaim`, for a host that is taken away, all that before the host goes.

A worker is known by its principal, so that each process needs credentials of its own (role ``worker``). A second
process with the same credentials takes over from the first.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack

from bursar.client.background import Background
from bursar.client.scheduler_blobs import Blobs
from bursar.client.scheduler_errors import SchedulerUnavailable
from bursar.client.worker_attempt import Attempt
from bursar.client.worker_batch import Batch, rule_of
from bursar.client.worker_end import Ending, ends_by_signal
from bursar.client.worker_link import LISTED, PATIENCE, Link
from bursar.client.worker_load import Load
from bursar.client.worker_meter import Meter
from bursar.client.worker_offer import Has, offer_again, offer_of
from bursar.client.worker_places import Places
from bursar.client.worker_process import KILL_AFTER
from bursar.client.worker_run import Run, Way, run_of
from bursar.client.worker_slots import SlotRule
from bursar.client.worker_task import WorkerTask
from bursar.client.worker_threads import Lane, ThreadPool, shared_pool
from bursar.contracts.scheduler import MAX_SLOTS
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.fleet import Fleet

GRACE: Final = 30.0
"""Seconds that a worker which ends gives to what it runs."""

Function = TypeVar("Function", bound=Callable[[WorkerTask], Any])
BatchFunction = TypeVar("BatchFunction", bound=Callable[[list[WorkerTask]], Any])


class Worker:
    """See the module's text. ``name``: what operators see beside the principal, which is what the scheduler knows the
    worker by. ``slots``: tasks at a time (1 to 256), or the rule for their number. ``kind``: gpu, cpu or remote.
    ``labels``: what tasks may need. ``versions``: for the operators to see. ``grace``: seconds for what runs when the
    worker ends. ``threads``: the pool for functions that are no coroutines (None: one that all workers of the process
    share). ``reclaim_notice``: returns when the host is going to be taken away, with the seconds left until then.
    ``meter``: measures the host (None: by psutil). ``has``: see `bursar.client.worker_offer.Has`."""

    def __init__(
        self,
        fleet: Fleet | None = None,
        name: str | None = None,
        *,
        slots: int | SlotRule = 1,
        kind: str = "cpu",
        labels: Mapping[str, str] | None = None,
        versions: Mapping[str, str] | None = None,
        grace: float = GRACE,
        threads: ThreadPool | None = None,
        reclaim_notice: Callable[[], Awaitable[float]] | None = None,
        meter: Meter | None = None,
        **has: Unpack[Has],
    ) -> None:
        self.name = name
        self.session = secrets.token_hex(8)
        self.runs: dict[str, Run] = {}
        self.places = Places(_first_slots(slots))
        self._fleet = fleet
        self._rule = slots if isinstance(slots, SlotRule) else None
        told = {**({} if name is None else {"name": name}), **(versions or {})}
        self._offer = offer_of(self.session, kind, labels or {}, told, has)
        self._threads = threads
        self._lane: Lane | None = None
        self.reclaim_notice = reclaim_notice
        self._meter = meter
        self._attempts: dict[str, Attempt] = {}
        self._stopped: deque[str] = deque(maxlen=LISTED)
        self._ending = Ending(grace, self.now)
        self._releases = Background()
        self._at_end: list[Callable[[], Awaitable[None]]] = []
        self._link: Link | None = None

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

    def batch(
        self,
        task_class: str,
        *,
        like: str = "model",
        size: int | None = None,
        wait: float | None = None,
        target: float | None = None,
    ) -> Callable[[BatchFunction], BatchFunction]:
        """Decorates a function that does many tasks of a class at once (`bursar.client.worker_batch`).

        ``like``: what it works with, for size and time-out: ``model`` (10 tasks, 0.1 s), ``database`` (50, 0.05 s),
        ``file`` (20, 0.2 s), ``network`` (15, 0.15 s). ``size``, ``wait`` (seconds): others. ``target``: seconds that
        the 95th percentile of a task's time is steered to, by making both larger and smaller.
        """
        rule, target_ms = rule_of(like, size, wait, target)

        def register(function: BatchFunction) -> BatchFunction:
            run = run_of(function, "auto", self._own_lane, KILL_AFTER)
            self.runs[task_class] = Batch(run, rule, target_ms, self.now, lambda: self.places.limit)
            return function

        return register

    def at_end(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have something closed when the worker has ended."""
        self._at_end.append(close)

    def stop(self) -> None:
        """Take nothing new, finish or hand back what runs, and end `run`. May be called from a signal handler of the
        event loop."""
        self._ending.begin()

    def reclaim(self, seconds: float) -> None:
        """The host is taken away in so many seconds: end before that, with time to tell what was handed back."""
        self._ending.reclaim(seconds)

    def measured(self, seconds: float) -> None:
        """For functions: how long the way was to what the worker works with, such as a provider in its region. The
        shortest of the last ones is told with each heartbeat, and weighs the worker's region; without any it is the
        way to the scheduler."""
        if self._link is not None:
            self._link.way.measured(seconds)

    def loaded(self, models: Sequence[str]) -> None:
        """It has these models loaded from now on. Raises `CallerError` for what cannot be said."""
        self._offer = offer_again(self._offer, models)
        if self._link is not None:
            self._link.register_soon()

    @property
    def principal(self) -> str:
        """Who the worker is, as its credentials say."""
        return self._open_fleet.principal

    @property
    def slots(self) -> int:
        """Tasks at a time, now."""
        return self.places.limit

    @property
    def is_registered(self) -> bool:
        """Whether the scheduler has answered a registration of this worker."""
        return self._link is not None and self._link.is_registered

    @property
    def running(self) -> list[str]:
        """The tokens of the attempts that are not over, oldest first."""
        return list(self._attempts)

    async def run(self, fleet: Fleet | None = None, *, signals: bool = True) -> None:
        """Work until `stop`, or with ``signals`` until SIGTERM or SIGINT. Raises what makes working impossible, such as
        credentials that do not allow it. ``fleet``: for a worker that was made without one."""
        if not self.runs:
            raise CallerError("bad_request", "a worker needs at least one function: @worker.task(...)")
        self._fleet = fleet or self._fleet
        load = Load(self._rule, self.places, self._meter, self.now)
        self._link = Link(self, self._open_fleet.scheduler, {"assign": self._on_assign, "stop": self._on_stop})
        try:
            await self._link.open()
            with ends_by_signal(self.stop) if signals else contextlib.nullcontext():
                await self._work(self._link, load)
        finally:
            await self._link.close()
            await self._close()

    async def _close(self) -> None:
        for run in self.runs.values():
            await run.close()
        for close in self._at_end:
            await close()
        lane, self._lane = self._lane, None
        if lane is not None:
            lane.close()

    async def _work(self, link: Link, load: Load) -> None:
        def look() -> None:
            if load.look():
                link.register_soon()
            link.load_permille = load.permille

        beside = [asyncio.ensure_future(link.beat(look)), asyncio.ensure_future(self._await_reclaim())]
        try:
            await self._ending.before(asyncio.ensure_future(link.first_registration()))
            await self._ending.wait()
            await self._ending.drain(link, self.session, self._attempts)
        finally:
            for work in beside:
                work.cancel()
            await self._releases.drain(1.0)
            for attempt in list(self._attempts.values()):
                attempt.hand_back()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _await_reclaim(self) -> None:
        if self.reclaim_notice is not None:
            self.reclaim(await self.reclaim_notice())

    def _own_lane(self) -> Lane:
        if self._lane is None:
            self._lane = (self._threads or shared_pool()).lane()
        return self._lane

    # ---- what attempts and the line to the scheduler need

    @property
    def link(self) -> Link:
        """The line to the scheduler."""
        if self._link is None:
            raise CallerError("not_connected", "the worker does not run")
        return self._link

    @property
    def fleet(self) -> Fleet:
        """What the worker reaches the services by."""
        return self._open_fleet

    @property
    def blobs(self) -> Blobs:
        """Large payloads and results."""
        return self._open_fleet.scheduler.blobs

    @property
    def _open_fleet(self) -> Fleet:
        if self._fleet is None:
            raise CallerError("not_connected", "give the worker a fleet: Worker(fleet) or worker.run(fleet)")
        return self._fleet

    @property
    def is_draining(self) -> bool:
        """Nothing new is begun."""
        return self._ending.is_draining

    def now(self) -> float:
        """Milliseconds of the worker's clock."""
        return self._open_fleet.scheduler.clock.now()

    def offer(self) -> dict[str, Any]:
        """What the worker says of itself when it registers."""
        return {**self._offer, "slots": self.slots, "classes": sorted(self.runs)}

    def heard(self, silent_ms: float) -> None:
        """So long nobody can have heard of the worker: attempts whose lease must be lost by then are stopped."""
        for attempt in list(self._attempts.values()):
            if silent_ms > max(attempt.lease_ms, 1.1 * self.link.ttl_ms):
                attempt.stop()

    def data_was_lost(self) -> None:
        """No attempt of before counts any more."""
        for attempt in list(self._attempts.values()):
            attempt.stop()

    def is_over(self, attempt: Attempt) -> None:
        """An attempt has ended and the scheduler knows it, or will never."""
        self._attempts.pop(attempt.token, None)

    def go_on(self, begun: dict[str, Any], gate: str) -> None:
        """The answer to the end of an attempt has brought the next one; ``gate``: see `Attempt`."""
        token = begun["token"]
        if token not in self._stopped:
            self._attempts[token] = Attempt(self, begun, gate)

    def stop_token(self, token: str) -> None:
        """Stop an attempt; of one that is not there (any more), say that its slot is free."""
        attempt = self._attempts.get(token)
        if attempt is not None:
            attempt.stop()
        elif len(self._releases) < LISTED:
            self._stopped.append(token)  # an answer that brings it may be just behind
            self._releases.spawn(self._release(token))

    async def _release(self, token: str) -> None:
        with contextlib.suppress(SchedulerUnavailable):
            await self.link.tell("release", {"token": token}, PATIENCE)

    def _on_assign(self, notice: dict[str, Any]) -> None:
        token = notice["token"]
        if notice["session"] != self.session or token in self._attempts:
            return
        if notice["task_class"] in self.runs:
            self._attempts[token] = Attempt(self, notice)

    def _on_stop(self, notice: dict[str, Any]) -> None:
        attempt = self._attempts.get(notice["token"])
        if not notice.get("preempt", False):
            self.stop_token(notice["token"])
        elif attempt is not None:
            attempt.ask_to_stop()


def _first_slots(slots: int | SlotRule) -> int:
    if isinstance(slots, SlotRule):
        return slots.least
    if not 1 <= slots <= MAX_SLOTS:
        raise CallerError("bad_request", f"a worker has 1 to {MAX_SLOTS} slots", slots=slots)
    return slots
