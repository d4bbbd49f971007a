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
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, Unpack
from weakref import WeakValueDictionary

from pydantic import ValidationError

from bursar.bus.base import Bus, NotConnected
from bursar.bus.codec import AGENT_LIMITS, decode, encode
from bursar.client.caller import Caller, Reply
from bursar.client.errors import BadReply
from bursar.client.notices import Notices
from bursar.client.scheduler_blobs import Blobs
from bursar.client.scheduler_errors import QueueFull, SchedulerUnavailable, TaskForgotten, TaskInDoubt
from bursar.client.scheduler_graph import Mapped, Node, Pipeline, Stage, submit_graph, submit_map
from bursar.client.scheduler_handle import Handle
from bursar.client.scheduler_options import TaskOptions, fields_of
from bursar.client.session import Session
from bursar.client.time import Clock, SystemClock
from bursar.client.took import TookLog
from bursar.client.traced import submitting
from bursar.contracts.base import Message, inbox_subject
from bursar.contracts.scheduler import MAX_VALUE_BYTES, SERVICE, EndedReply, Found, ListReply, Post, StatusReply
from bursar.contracts.scheduler_explain import WhyReply
from bursar.errors import BursarError, CallerError
from bursar.telemetry import traces

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
        self.blobs = Blobs(bus.principal, self._put, self._ask_once)
        self.took = TookLog(bus)
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
        self.took.flush()
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
        key: str | None = None,
        wait: float = 0.0,
        **options: Unpack[TaskOptions],
    ) -> Handle:
        """Have a task done; returns when it is durable.

        ``payload``: whatever msgpack can hold; packed to more than 32 KB it is stored beside, up to 64 MB, 8 MB
        compressed. ``key``: an idempotency key; the same key and
        content again is the same task. ``wait``: seconds for which to go on asking while the queue is full.
        ``options``: see `bursar.client.scheduler_options.TaskOptions`.

        Raises `QueueFull`, `TaskInDoubt` (after a loss of data: it may have been accepted before),
        `SchedulerUnavailable`, or another `bursar.errors.BursarError`.
        """
        fields = {**fields_of(task_class, await self.blobs.send(payload), options), "key": key}
        began = self.clock.now()
        body, incarnation = await self.accept("submit", fields, f"{self.bus.principal}.{key}" if key else "", wait)
        return self.made(str(body["task"]), incarnation, None if body.get("known") else began)

    async def graph(
        self, name: str, nodes: Sequence[Node], task_class: str = "task", *, wait: float = 0.0,
        **options: Unpack[TaskOptions],
    ) -> dict[str, Handle]:  # fmt: skip
        """Several tasks, each after others of them or after tasks that are there; all are accepted, or none. The same
        ``name`` and content again are the same tasks. Handles by the names of the nodes; errors as `submit`."""
        return await submit_graph(self, name, nodes, fields_of(task_class, None, options), wait)

    async def map(
        self, task_class: str, items: Iterable[Any], *, name: str | None = None, gather: str | None = None,
        wait: float = 0.0, **options: Unpack[TaskOptions],
    ) -> Mapped:  # fmt: skip
        """One task for each item. ``gather``: the class of a task after all of them, of which there are 255 at most
        then. With a ``name`` of your own it may be asked again. Errors as `submit`; those that were accepted before
        an error go on."""
        return await submit_map(self, items, fields_of(task_class, None, options), name, gather, wait)

    def pipeline(
        self, name: str, stages: Sequence[Stage], *, window: int = 32, **options: Unpack[TaskOptions]
    ) -> Pipeline:
        """A line of stages that items stream through; nothing is sent yet."""
        return Pipeline(self, name, stages, window, options)

    async def accept(self, verb: str, fields: dict[str, Any], task: str, wait: float) -> tuple[dict[str, Any], int]:
        """Ask until it is accepted, while the queue is full at most so many seconds: the answer, and the incarnation
        of the journal that has it. ``task``: names it in errors; "": the id of the request does."""
        await self.open()
        if traces.tracing is not None:
            with submitting(verb, fields):
                return await self._accept(verb, fields, task, wait)
        return await self._accept(verb, fields, task, wait)

    async def _accept(self, verb: str, fields: dict[str, Any], task: str, wait: float) -> tuple[dict[str, Any], int]:
        until = self.clock.now() + wait * 1000.0
        while True:
            try:
                return await self._accept_once(verb, fields, task)
            except QueueFull as full:
                left = until - self.clock.now()
                if left <= 0:
                    raise
                await asyncio.sleep(min(full.retry_in * self._random.uniform(0.8, 1.2), left / 1000.0))

    async def _accept_once(self, verb: str, fields: dict[str, Any], task: str) -> tuple[dict[str, Any], int]:
        call = self.caller.request(verb, fields)
        name = task or f"{self.bus.principal}.{self._session.id_of(call.number)}"
        try:
            reply = await self.caller.run(call, self._deadline())
        except SchedulerUnavailable as error:
            error.facts["task"] = name
            raise
        finally:
            self.caller.give_up(call)
        if reply.body.get("ok") is not True:
            raise _refused(name, reply.body)
        return reply.body, reply.fence[0]

    async def post(
        self,
        task_class: str,
        payload: Any = None,
        *,
        name: str | None = None,
        **options: Unpack[TaskOptions],
    ) -> str:
        """Put a task into the scheduler's durable inbox, which works while the scheduler is away; returns its id.

        Returns when the server has it; the scheduler accepts it when it reads it, with the ``deadline`` from then on.
        There is no answer: a queue that is full makes it a dead letter. ``handle`` gives a handle for the id. ``name``:
        a name of your own, under which it is accepted once. The rest as `submit`; a payload of more than 32 KB
        needs a scheduler that is there.

        Raises `bursar.bus.base.NotConnected` (nothing was sent) or another network error; and `CallerError` for what
        the scheduler would not take, since nobody would say so later.
        """
        fields = fields_of(task_class, await self.blobs.send(payload), options)
        if name is None:
            self._posts += 1
            name = f"{self._session.name}:{self._posts}"
        message = {"v": 1, **fields, "name": name, "seen": self.caller.seen_text}
        if traces.tracing is not None:
            with submitting("post", message):
                return await self._post(name, message)
        return await self._post(name, message)

    async def _post(self, name: str, message: dict[str, Any]) -> str:
        packed = encode(message)
        decode(Post, packed, limits=INBOX_LIMITS)
        self.bus.publish(inbox_subject(SERVICE, self.bus.principal), packed)
        await self.bus.flush()
        return f"{self.bus.principal}.{name}"

    # ---- look and cancel

    def handle(self, task: str) -> Handle:
        """A handle for the id of an own task, posted ones above all: it waits also for one that is not known yet."""
        return self._handle(task, is_patient=True, incarnation=self.caller.seen[0])

    def made(self, task: str, incarnation: int, began: float | None = None) -> Handle:
        """The handle of a task that was accepted. ``began``: local ms at which it was submitted, if it is new."""
        return self._handle(task, is_patient=False, incarnation=incarnation, began=began)

    def _handle(self, task: str, *, is_patient: bool, incarnation: int, began: float | None = None) -> Handle:
        handle = self._handles.get(task)
        if handle is None:
            handle = Handle(self, task, is_patient=is_patient, incarnation=incarnation, began=began)
            self._handles[task] = handle
            early = self._early.pop(task, None)
            if early is not None:
                self._on_ended(early)
        return handle

    async def cancel(self, task: str) -> bool:
        """End an own task, wherever it stands; False when it had ended already."""
        try:
            await self._tell("cancel", {"task": task})
        except CallerError as error:
            if error.code == "already_ended":
                return False
            raise
        return True

    async def cancel_program(self, program: str) -> int:
        """End all own tasks of a program that are there now, dead letters included; how many had not ended."""
        return int((await self._tell("cancel-program", {"program": program}))["tasks"])

    async def _tell(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        await self.open()
        call = self.caller.request(verb, fields)
        try:
            return (await self.caller.run(call, self._deadline())).body
        finally:
            self.caller.give_up(call)

    async def _put(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        body = await self._tell(verb, fields)
        if body.get("ok") is not True:
            raise _refused("", body)
        return body

    async def _ask_once(self, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        return (await self._query(verb, fields)).body

    async def find(self, task: str) -> Found:
        """Where an own task stands, or how it has ended."""
        return await self._ask("find", {"task": task}, Found)

    async def why(self, task: str) -> WhyReply:
        """Why an own task waits: ``cause`` and ``text``, what it waits for, and what each worker lacks."""
        return await self._ask("why", {"task": task}, WhyReply)

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
