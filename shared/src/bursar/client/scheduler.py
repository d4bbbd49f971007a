"""The scheduler as an agent sees it.

::

    handle = await fleet.scheduler.submit("summarise", {"text": text}, priority="reactive", deadline=30)
    summary = await handle.result(timeout=60)

What it promises: a task that was submitted is durable, and is accepted once however often its request arrives;
`Handle.result` does not hang because a message was lost or a process was killed: beside the notice that tells the end,
the scheduler is asked every one to two seconds which of the awaited tasks have ended.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

from pydantic import ValidationError

from bursar.bus.base import Bus, NotConnected
from bursar.bus.codec import AGENT_LIMITS, decode, encode
from bursar.client.caller import Caller, Reply
from bursar.client.errors import BadReply
from bursar.client.notices import Notices
from bursar.client.scheduler_errors import QueueFull, SchedulerUnavailable, TaskForgotten, TaskInDoubt
from bursar.client.scheduler_handle import Handle
from bursar.client.scheduler_values import pack_value
from bursar.client.session import Session
from bursar.client.time import Clock, SystemClock
from bursar.contracts.base import Message, inbox_subject
from bursar.contracts.scheduler import MAX_VALUE_BYTES, SERVICE, EndedReply, Found, ListReply, Post, StatusReply
from bursar.errors import BursarError, CallerError

PATIENCE: Final = 10.0
"""Seconds to keep asking a scheduler that does not answer: longer than a restart or a take-over."""

POLL: Final = (1.0, 2.0)
"""Seconds between two questions for the ends of awaited tasks, drawn from between these."""

EARLY: Final = 1_000
"""Ends that are kept for a handle that is just being made: a notice may overtake the answer to its submission."""

POLLED: Final = 200
"""Tasks in one such question."""

INBOX_LIMITS: Final = replace(AGENT_LIMITS, text=MAX_VALUE_BYTES)
"""What the scheduler reads from its inbox."""

M = TypeVar("M", bound=Message)


class Scheduler:
    """Made by `bursar.connect`; nothing is sent before the first use."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock | None = None,
        session: Session | None = None,
        notices: Notices | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.bus = bus
        self.clock = clock or SystemClock()
        self.patience = patience
        self.notices = notices or Notices(bus)
        self._session = session or Session()
        self.caller = Caller(bus, SERVICE, self.clock, session=self._session, unavailable=SchedulerUnavailable)
        self._handles: WeakValueDictionary[str, Handle] = WeakValueDictionary()
        self._watched: dict[str, None] = {}
        self._early: dict[str, dict[str, Any]] = {}
        self._posts = 0
        self._starting: asyncio.Task[None] | None = None
        self._is_open = False
        self._poller: asyncio.Task[None] | None = None
        self._random = random.Random()

    # ---- open and close

    async def open(self) -> None:
        """Listen for answers and notices; done by the first use."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        try:
            await asyncio.shield(self._starting)
        except BursarError:
            self._starting = None
            raise

    async def _start(self) -> None:
        await self.caller.start()
        await self.notices.start()
        self.notices.listen("ended", self._on_ended)
        self._is_open = True

    async def close(self) -> None:
        if self._poller is not None:
            self._poller.cancel()
        if self._is_open:
            self._is_open = False
            self.notices.ignore("ended", self._on_ended)
            await self.notices.close()
            await self.caller.close()

    # ---- submit

    async def submit(
        self,
        task_class: str,
        payload: Any = None,
        *,
        priority: str = "standard",
        deadline: float | None = None,
        retries: int = 2,
        backoff: float = 1.0,
        lease: float = 10.0,
        timeout: float | None = None,
        needs: Mapping[str, Any] | None = None,
        key: str | None = None,
        wait: float = 0.0,
    ) -> Handle:
        """Have a task done; returns when it is durable.

        ``payload``: whatever msgpack can hold, up to 32 KB packed. ``priority``: reactive, standard or proactive.
        Seconds: ``deadline`` from now, after which it ends as expired; ``backoff``, the first pause after a failure
        (doubling); ``lease``, how long an attempt is kept without a sign of life; ``timeout`` of one attempt; ``wait``,
        how long to go on asking while the queue is full. ``retries``: further attempts after failures. ``needs``:
        ``{"kind": "gpu", "labels": {"zone": "a"}}``. ``key``: an idempotency key; the same key and content again is the
        same task.

        Raises `QueueFull`, `TaskInDoubt` (after a loss of data: it may have been accepted before),
        `SchedulerUnavailable`, or another `bursar.errors.BursarError`.
        """
        fields = _fields(task_class, payload, priority, deadline, retries, backoff, lease, timeout, needs)
        await self.open()
        until = self.clock.now() + wait * 1000.0
        while True:
            try:
                return await self._submit({**fields, "key": key}, key)
            except QueueFull as full:
                left = until - self.clock.now()
                if left <= 0:
                    raise
                await asyncio.sleep(min(full.retry_in * self._random.uniform(0.8, 1.2), left / 1000.0))

    async def _submit(self, fields: dict[str, Any], key: str | None) -> Handle:
        call = self.caller.request("submit", fields)
        name = f"{self.bus.principal}.{key or self._session.id_of(call.number)}"
        try:
            reply = await self.caller.run(call, self._deadline())
        except SchedulerUnavailable as error:
            error.facts["task"] = name
            raise
        finally:
            self.caller.give_up(call)
        body = reply.body
        if body.get("ok") is not True:
            raise _refused(name, body)
        return self._handle(str(body.get("task", name)), is_patient=False, incarnation=reply.fence[0])

    async def post(
        self,
        task_class: str,
        payload: Any = None,
        *,
        priority: str = "standard",
        deadline: float | None = None,
        retries: int = 2,
        backoff: float = 1.0,
        lease: float = 10.0,
        timeout: float | None = None,
        needs: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> str:
        """Put a task into the scheduler's durable inbox, which works while the scheduler is away; returns its id.

        Returns when the server has it; the scheduler accepts it when it reads it, with the ``deadline`` from then on.
        There is no answer: a queue that is full makes it a dead letter. ``handle`` gives a handle for the id. ``name``:
        a name of your own, under which it is accepted once. The rest as `submit`.

        Raises `bursar.bus.base.NotConnected` (nothing was sent) or another network error; and `CallerError` for what
        the scheduler would not take, since nobody would say so later.
        """
        fields = _fields(task_class, payload, priority, deadline, retries, backoff, lease, timeout, needs)
        if name is None:
            self._posts += 1
            name = f"{self._session.name}:{self._posts}"
        message = {"v": 1, **fields, "name": name, "seen": self.caller.seen_text}
        packed = encode(message)
        decode(Post, packed, limits=INBOX_LIMITS)
        self.bus.publish(inbox_subject(SERVICE, self.bus.principal), packed)
        await self.bus.flush()
        return f"{self.bus.principal}.{name}"

    # ---- look and cancel

    def handle(self, task: str) -> Handle:
        """A handle for the id of an own task, posted ones above all: it waits also for one that is not known yet."""
        return self._handle(task, is_patient=True, incarnation=self.caller.seen[0])

    def _handle(self, task: str, *, is_patient: bool, incarnation: int) -> Handle:
        handle = self._handles.get(task)
        if handle is None:
            handle = Handle(self, task, is_patient=is_patient, incarnation=incarnation)
            self._handles[task] = handle
            early = self._early.pop(task, None)
            if early is not None:
                self._on_ended(early)
        return handle

    async def cancel(self, task: str) -> bool:
        """End an own task, wherever it stands; False when it had ended already."""
        await self.open()
        call = self.caller.request("cancel", {"task": task})
        try:
            await self.caller.run(call, self._deadline())
        except CallerError as error:
            if error.code == "already_ended":
                return False
            raise
        finally:
            self.caller.give_up(call)
        return True

    async def find(self, task: str) -> Found:
        """Where an own task stands, or how it has ended."""
        return await self._ask("find", {"task": task}, Found)

    async def tasks(self, *, dead: bool = False, after: str | None = None, limit: int = 100) -> ListReply:
        """A page of own tasks that have not ended, oldest first, or of dead letters; ``after``: the last one before."""
        return await self._ask("list", {"dead": dead, "after": after, "limit": limit}, ListReply)

    async def status(self) -> StatusReply:
        """The scheduler as a whole: queue, workers, counts."""
        return await self._ask("status", {}, StatusReply)

    async def _ask(self, verb: str, fields: dict[str, Any], model: type[M]) -> M:
        return read_reply(model, await self._query(verb, fields))

    async def _query(self, verb: str, fields: dict[str, Any]) -> Reply:
        await self.open()
        return await self.caller.run(self.caller.query(verb, fields), self._deadline())

    def _deadline(self) -> float:
        return self.clock.now() + self.patience * 1000.0

    # ---- ends

    def _on_ended(self, body: dict[str, Any]) -> None:
        handle = self._handles.get(body["task"])
        if handle is None:
            self._early[body["task"]] = body
            if len(self._early) > EARLY:
                del self._early[next(iter(self._early))]
        else:
            handle.ended(str(body["state"]), body["result"], str(body["reason"]), str(body["error"]))

    def watch(self, handle: Handle) -> None:
        """Somebody awaits this one: ask for it now and then."""
        self._watched[handle.id] = None
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        """Ask which of the awaited tasks have ended, as long as there are any."""
        while self._watched:
            await asyncio.sleep(self._random.uniform(*POLL))
            alive = [task for task in self._watched if (h := self._handles.get(task)) is not None and h.is_awaited]
            self._watched = dict.fromkeys(alive)
            for start in range(0, len(alive), POLLED):
                try:
                    await self._poll_some(alive[start : start + POLLED])
                except (BursarError, NotConnected):  # asked again soon
                    break

    async def _poll_some(self, tasks: list[str]) -> None:
        reply = await self._query("ended", {"tasks": tasks})
        told = read_reply(EndedReply, reply)
        for task, _ in told.ended:
            handle = self._handles.get(task)
            if handle is not None and not handle.is_over:
                handle.found(await self.find(task))
        for task in told.unknown:
            handle = self._handles.get(task)
            if handle is not None and not handle.is_patient:
                doubt = reply.fence[0] > handle.incarnation
                handle.lost((TaskInDoubt if doubt else TaskForgotten)(task, "unknown", "the scheduler has not got it"))


def _fields(
    task_class: str, payload: Any, priority: str, deadline: float | None, retries: int, backoff: float, lease: float,
    timeout: float | None, needs: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """The task as it goes over the wire."""
    return {
        "task_class": task_class,
        "payload": None if payload is None else pack_value(payload),
        "priority": priority,
        "deadline_ms": None if deadline is None else max(1, _ms("deadline", deadline)),
        "retries": retries,
        "backoff_ms": _ms("backoff", backoff),
        "lease_ms": _ms("lease", lease),
        "timeout_ms": None if timeout is None else max(1, _ms("timeout", timeout)),
        "needs": {"v": 1, **(needs or {})},
    }


def _ms(name: str, seconds: float) -> int:
    try:
        return round(seconds * 1000.0)
    except (TypeError, ValueError, OverflowError):
        raise CallerError("bad_request", f"{name} is a number of seconds, not {seconds!r:.40}") from None


def _refused(name: str, body: dict[str, Any]) -> BursarError:
    text = str(body.get("text", ""))
    if body.get("reason") == "in_doubt":
        return TaskInDoubt(name, "refused", "in_doubt", text)
    facts = {key: body.get(key) for key in ("dimension", "scope", "limit", "level")}
    return QueueFull(text, float(body.get("retry_in_ms") or 1_000) / 1000.0, task=name, **facts)


def read_reply(model: type[M], reply: Reply) -> M:
    """An answer as its model. Raises `BadReply`."""
    try:
        return model.model_validate(reply.body)
    except ValidationError as error:
        raise BadReply("the answer cannot be read", errors=error.error_count()) from None
