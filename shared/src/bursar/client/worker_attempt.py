"""One attempt in a worker: ask to start, run the function, tell the end until it is heard.

The attempt is over, for the scheduler, when one of these was answered: finish, fail, or release. Until then it is
listed in the heartbeats, and its slot is taken on both sides. A function that cannot be stopped at once is waited for
(`bursar.client.worker_run`).

The answer to an end may bring the next attempt, begun: then there is nothing to ask, unless the answer took so long
that the lease may have been lost meanwhile; then a sign of life tells whether it still counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from bursar.client.scheduler_errors import QueueFull, SchedulerUnavailable
from bursar.client.scheduler_values import pack_value
from bursar.client.traced import attempt, attempt_ended
from bursar.client.worker_run import Run
from bursar.client.worker_saga import Held, NotNow, take
from bursar.client.worker_task import Message, TaskRefused, TaskYielded, WorkerTask, in_words
from bursar.contracts.scheduler_blobs import is_reference
from bursar.contracts.scheduler_takes import MAX_WHY
from bursar.errors import BursarError, CallerError, ServiceError
from bursar.telemetry import traces

if TYPE_CHECKING:
    from bursar.client.worker import Worker

log = logging.getLogger("bursar.client")

TELL_FOR: Final = 3_600_000.0
"""Milliseconds for which an end is told again and again; a void attempt ends that before."""

HAND_BACK: Final = 5_000.0
"""Milliseconds in which the end of an attempt that is handed back has to be heard."""

LATE: Final = 1_000.0
"""Milliseconds after which an answer that brings an attempt may be too old to go by."""

GONE: Final = frozenset({"stale_attempt", "already_ended", "unknown_task", "not_yours", "not_started"})


class Attempt:
    """See the module's text. ``lease_ms``: as the assignment says. ``gate``: what to ask before it may run; "": nothing
    any more."""

    def __init__(self, worker: Worker, notice: dict[str, Any], gate: str = "start") -> None:
        self.worker = worker
        self._gate = gate
        self.token: str = notice["token"]
        self.lease_ms: int = notice["lease_ms"]
        self.work = WorkerTask(notice, self._hear, self._hear_soon)
        self._stopping = False
        self._running: asyncio.Task[Any] | None = None
        self._said: dict[str, Message] = {}
        self._saying: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        run = self._run if traces.tracing is None else self._run_traced
        self._process = self._loop.create_task(run())

    def stop(self) -> None:
        """The attempt is void: cancel what runs, tell nothing but that the slot is free."""
        if not self.work.is_void:
            self.work.stop(is_void=True)
            self._process.cancel()

    def ask_to_stop(self) -> None:
        """The worker has to end soon: whoever looks at ``should_stop`` stops early."""
        self.work.stop(is_void=False)

    def hand_back(self) -> None:
        """The worker ends: stop, and give the task back."""
        self._stopping = True
        self._process.cancel()

    async def wait(self, seconds: float) -> None:
        """Until it is over, or so long."""
        await asyncio.wait([self._process], timeout=seconds)

    # ---- the way of an attempt

    async def _run_traced(self) -> None:
        with attempt(self.work.notice, self.worker.principal):
            await self._run()

    async def _run(self) -> None:
        release = True
        try:
            if not self.worker.is_draining:
                async with self.worker.places:
                    release = not await self._start_and_work()
        except asyncio.CancelledError:
            if not self.work.is_void and not self._stopping:
                raise
        except BursarError as error:
            log.warning("attempt_not_told", extra={"code": error.code})
        finally:
            if self._saying is not None:
                self._saying.cancel()
            if release:
                await self._release()
            self.worker.is_over(self)

    async def _start_and_work(self) -> bool:
        """True when nothing has to be released any more."""
        await self.worker.link.registered()
        takes = self.work.notice.get("takes")
        return await (self._work() if takes is None else self._with_all(takes))

    async def _with_all(self, takes: dict[str, Any]) -> bool:
        """The same with what the task takes first, all of it or none (`bursar.client.worker_saga`)."""
        try:
            held = self.work.held = await take(self.worker.fleet, takes)
        except NotNow as refused:
            return await self._try_later(refused.again, str(refused))
        except (CallerError, ServiceError) as error:
            if await self._may_run():
                await self._end("fail", {"error": f"it cannot be had: {in_words(error)}", "retryable": False})
            return True
        raised: BaseException | None = None
        try:
            return await self._work(held)
        except BaseException as error:
            raised = error
            raise
        finally:
            await self._give_back(held, raised)

    async def _give_back(self, held: Held, raised: BaseException | None) -> None:
        running = self._running
        if raised is None and running is not None and running.done() and not running.cancelled():
            raised = running.exception()
        try:
            await held.end(raised)
        except TimeoutError as late:
            await self._end("fail", {"error": in_words(late), "retryable": True})

    async def _try_later(self, again: float, why: str) -> bool:
        fields = {"after_ms": round(again * 1000.0), "reason": why[:MAX_WHY]}
        await self._tell("release", fields)
        return True

    async def _work(self, held: Held | None = None) -> bool:
        if not await self._may_run() or not await self._has_inputs():
            return True
        if held is not None:
            try:
                held.sent()
            except CallerError as late:
                return await self._try_later(0.0, in_words(late))
        verb, fields = await self._outcome(self.worker.runs[self.work.task_class])
        if verb == "finish":
            verb, fields = await self._with_result(fields["result"])
        if traces.tracing is not None:
            attempt_ended(verb)
        if verb != "finish" and self._saying is not None:
            await asyncio.wait([self._saying])  # a checkpoint that is on its way is heard before the end
        await self._end(verb, fields)
        return True

    async def _may_run(self) -> bool:
        try:
            if self._gate == "start":
                await self._tell("start", {})
            elif self._gate:
                await self.worker.link.ask(self._gate, {"task": self.work.id, "token": self.token}, TELL_FOR)
        except CallerError as error:
            if error.code not in GONE:
                raise
            return False
        return True

    async def _has_inputs(self) -> bool:
        """Fetch what the tasks before this one have given; False when the attempt counts no more."""
        rows: list[dict[str, Any]] = []
        more = bool(self.work.notice.get("after"))
        try:
            while more:
                fields = {"task": self.work.id, "token": self.token, "first": len(rows)}
                reply = await self.worker.link.ask("inputs", fields, TELL_FOR)
                rows += reply["inputs"]
                more = reply["more"] and bool(reply["inputs"])
        except CallerError as error:
            if error.code not in GONE:
                raise
            return False
        return await self._are_received(rows)

    async def _are_received(self, rows: list[dict[str, Any]]) -> bool:
        """Fetch what is too large for a message: the payload, and the results of the tasks before."""
        blobs, notice = self.worker.blobs, self.work.notice
        try:
            if is_reference(notice["payload"]):
                self.work.take_payload(await _kept_at(blobs.receive, notice["payload"], self.work.id))
            for row in rows:
                if row["kept"]:
                    row["result"] = await _kept_at(blobs.receive, row["result"], self.work.id)
        except CallerError as error:
            if error.code not in {"unknown_blob", *GONE}:
                raise
            return False
        self.work.take_inputs(rows)
        return True

    async def _outcome(self, run: Run) -> tuple[str, dict[str, Any]]:
        """Run the function; what has to be told. One that was stopped may still have a result, or a checkpoint."""
        self._running = running = asyncio.ensure_future(run(self.work))
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            await self._until_stopped()
            if self.work.is_void or not self._stopping or not _has_given(running):
                raise
        return _told(running)

    async def _until_stopped(self) -> None:
        """Cancel the function if it still runs, and wait until it really has ended (a thread takes its time)."""
        running = self._running
        while running is not None and not running.done():
            running.cancel()
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError:
                continue

    async def _with_result(self, result: Any) -> tuple[str, dict[str, Any]]:
        """What a function has returned, as it is told: in the message, or stored beside it."""
        try:
            return "finish", {"result": await _kept_at(self.worker.blobs.send, result)}
        except CallerError as wrong:
            return "fail", {"error": f"the result cannot be sent: {wrong}", "retryable": False}

    async def _end(self, verb: str, fields: dict[str, Any]) -> None:
        asked_at = self.worker.now()
        try:
            reply = await self._tell(verb, {**fields, "next": not self.worker.is_draining})
        except CallerError as error:
            if error.code not in GONE:
                raise
            log.info("attempt_does_not_count", extra={"task": self.work.id, "code": error.code})
        else:
            if reply.get("next") is not None:
                self.worker.go_on(reply["next"], "progress" if self.worker.now() - asked_at > LATE else "")

    async def _tell(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        """One request, repeated with the same id until it is answered."""
        patience = HAND_BACK if self._stopping else TELL_FOR
        return await self.worker.link.tell(verb, {"task": self.work.id, "token": self.token, **fields}, patience)

    async def _release(self) -> None:
        """The slot is free: nothing of this attempt runs any more."""
        try:
            await self.worker.link.tell("release", {"task": self.work.id, "token": self.token}, 10_000.0)
        except (BursarError, asyncio.CancelledError) as error:
            log.info("not_released", extra={"task": self.work.id, "why": type(error).__name__})

    # ---- what the function tells

    async def _hear(self, message: Message) -> None:
        try:
            if "checkpoint" in message:
                await self._tell("checkpoint", message)
            else:
                await self._progress(message["part"], message["note"])
        except CallerError as error:
            if error.code not in GONE:
                raise
            self.stop()
            await asyncio.sleep(0)
        except SchedulerUnavailable:
            log.info("not_told", extra={"task": self.work.id})

    async def _progress(self, part: float | None, note: str | None) -> None:
        permille = None if part is None else max(0, min(1000, round(part * 1000)))
        fields = {"task": self.work.id, "token": self.token, "permille": permille, "note": note and note[:200]}
        await self.worker.link.ask("progress", fields, 2_000.0)

    def _hear_soon(self, message: Message) -> None:
        """From any thread; of each kind the newest that has not been told yet."""
        with contextlib.suppress(RuntimeError):  # the worker has ended, and its loop with it
            self._loop.call_soon_threadsafe(self._say_soon, message)

    def _say_soon(self, message: Message) -> None:
        self._said["checkpoint" if "checkpoint" in message else "progress"] = message
        if (self._saying is None or self._saying.done()) and not self._process.done():
            self._saying = self._loop.create_task(self._say())

    async def _say(self) -> None:
        while self._said:
            await self._hear(self._said.pop(next(iter(self._said))))


def _has_given(running: asyncio.Future[Any]) -> bool:
    """A function that was stopped has returned all the same, or given back."""
    return not running.cancelled() and isinstance(running.exception(), TaskYielded | None)


def _told(running: asyncio.Future[Any]) -> tuple[str, dict[str, Any]]:
    """How a function has ended, as the scheduler is told."""
    if running.cancelled():
        return "fail", {"error": "the task cancelled itself", "retryable": True}
    error = running.exception()
    if error is not None and not isinstance(error, TaskYielded):
        return "fail", {"error": in_words(error), "retryable": not isinstance(error, TaskRefused)}
    if error is None:
        return "finish", {"result": running.result()}
    try:
        return "yield", {"checkpoint": None if error.checkpoint is None else pack_value(error.checkpoint)}
    except CallerError as wrong:
        return "fail", {"error": f"the checkpoint cannot be sent: {wrong}", "retryable": False}


async def _kept_at(ask: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Ask again while the scheduler is away or has no room; an attempt that is void is cancelled meanwhile."""
    while True:
        try:
            return await ask(*args)
        except SchedulerUnavailable:
            log.info("not_told", extra={"what": "blob"})
        except QueueFull as full:
            await asyncio.sleep(full.retry_in)
