"""Several tasks at once: any graph, a map over many items, a pipeline that items stream through.

::

    done = await fleet.scheduler.graph("report", [
        Node("load", task_class="load", payload=url),
        Node("words", task_class="count", after=["load"]),
        Node("sums", task_class="add", after=["load"]),
        Node("page", task_class="print", after=["words", "sums"]),
    ])
    page = await done["page"].result()

    squares = await fleet.scheduler.map("square", range(1_000))
    print(await squares.results())

    line = fleet.scheduler.pipeline("clean", [Stage("fetch"), Stage(["parse", "scan"]), Stage("store")], window=32)
    async for result in line.run(urls):
        ...

A worker gets the results of the tasks before its own by `WorkerTask.inputs`. Each request is accepted whole or not at
all, and may be repeated: names make it the same tasks.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bursar.client.scheduler_options import TaskOptions, fields_of, refs_of
from bursar.contracts.scheduler import size_of
from bursar.contracts.scheduler_graph import MAX_ITEMS
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.scheduler import Scheduler
    from bursar.client.scheduler_handle import Handle

ROOM: Final = 40_000
"""Bytes of payloads in one request; more items go into several."""

GATHER: Final = "gather"


@dataclass(frozen=True)
class Node:
    """One task of a graph. ``after``: names of nodes before it, ids of other own tasks, or their handles; what is None
    is as for the whole graph."""

    name: str
    payload: Any = None
    task_class: str | None = None
    needs: Mapping[str, Any] | None = None
    after: Iterable[str | Handle] | None = None
    after_failure: str | None = None

    def as_sent(self, payload: bytes | dict[str, Any] | None) -> dict[str, Any]:
        return {
            "v": 1, "name": self.name, "payload": payload,
            "task_class": self.task_class, "needs": None if self.needs is None else {"v": 1, **self.needs},
            "after": None if self.after is None else refs_of(self.after), "after_failure": self.after_failure,
        }  # fmt: skip


async def submit_graph(
    scheduler: Scheduler, name: str, nodes: Sequence[Node], template: dict[str, Any], wait: float
) -> dict[str, Handle]:
    """One request. The template needs a class only if a node has none."""
    sent = [await scheduler.blobs.send(node.payload) for node in nodes]
    return await _submit_packed(scheduler, name, nodes, sent, template, wait)


async def _submit_packed(
    scheduler: Scheduler, name: str, nodes: Sequence[Node], sent: Sequence[Any], template: dict[str, Any], wait: float
) -> dict[str, Handle]:
    items = [node.as_sent(payload) for node, payload in zip(nodes, sent, strict=True)]
    fields = {"name": name, "template": {"v": 1, **template}, "items": items}
    now = scheduler.clock.now()
    body, incarnation = await scheduler.accept("graph", fields, f"{scheduler.bus.principal}.{name}", wait)
    began = None if body.get("known") else now
    tasks = zip(nodes, body["tasks"], strict=True)
    return {node.name: scheduler.made(task, incarnation, began) for node, task in tasks}


class Mapped:
    """The tasks of a map. ``handles``: in the order of the items; ``gathered``: of the task after all of them."""

    def __init__(self, handles: list[Handle], gathered: Handle | None) -> None:
        self.handles = handles
        self.gathered = gathered

    async def results(self, timeout: float | None = None) -> list[Any]:
        """In the order of the items; raises the first error that is met."""
        async with asyncio.timeout(timeout):
            return [await handle.result() for handle in self.handles]

    async def as_done(self) -> AsyncIterator[tuple[int, Handle]]:
        """The number of each item and its handle, whoever ends first."""
        waiting = {asyncio.ensure_future(_over(handle)): place for place, handle in enumerate(self.handles)}
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for one in sorted(done, key=waiting.__getitem__):
                    place = waiting.pop(one)
                    yield place, self.handles[place]
        finally:
            for one in waiting:
                one.cancel()

    async def cancel(self) -> int:
        """End all of them; how many had not ended."""
        ends = [await handle.cancel() for handle in self.handles]
        return sum(ends)


async def _over(handle: Handle) -> None:
    await handle.over()


async def submit_map(
    scheduler: Scheduler, items: Iterable[Any], template: dict[str, Any], name: str | None, gather: str | None,
    wait: float,
) -> Mapped:  # fmt: skip
    """As many requests as the items need; each is accepted whole."""
    name = name or f"map_{secrets.token_hex(8)}"
    nodes = [Node(f"i{number}", item) for number, item in enumerate(items)]
    if gather is not None and len(nodes) >= MAX_ITEMS:
        raise CallerError("bad_request", f"a map with a gather has at most {MAX_ITEMS - 1} items", items=len(nodes))
    handles: list[Handle] = []
    sent = [await scheduler.blobs.send(node.payload) for node in nodes]
    for piece in _pieces(sent):
        made = await _submit_packed(
            scheduler, name, nodes[piece.start : piece.stop], sent[piece.start : piece.stop], template, wait
        )
        handles += made.values()
    if gather is None:
        return Mapped(handles, None)
    last = Node(GATHER, None, gather, after=handles)
    plain = {key: value for key, value in template.items() if key != "payload"}
    return Mapped(handles, (await submit_graph(scheduler, name, [last], plain, wait))[GATHER])


def _pieces(payloads: Sequence[bytes | dict[str, Any] | None]) -> Iterable[range]:
    """Which items go into one request."""
    start = size = 0
    for place, payload in enumerate(payloads):
        own = 128 + size_of(payload)
        if place > start and (size + own > ROOM or place - start == MAX_ITEMS):
            yield range(start, place)
            start, size = place, 0
        size += own
    if payloads:
        yield range(start, len(payloads))


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline: a class, or several that work on the same item at the same time. ``needs``: of its
    workers."""

    task_class: str | Sequence[str]
    needs: Mapping[str, Any] | None = None

    @property
    def classes(self) -> list[str]:
        return [self.task_class] if isinstance(self.task_class, str) else list(self.task_class)


@dataclass
class Pipeline:
    """A line of stages that items stream through: each item is a chain of tasks, so that all stages work at once on
    different items. The first stage gets the item as its payload, a later one the results of the stage before it
    (`WorkerTask.inputs`). ``window``: items that are on their way at most; feeding waits then (back-pressure)."""

    scheduler: Scheduler
    name: str
    stages: Sequence[Stage]
    window: int = 32
    options: TaskOptions = field(default_factory=TaskOptions)
    _fed: int = 0

    async def feed(self, item: Any) -> Handle:
        """Accept one more item durably; the handle of its last stage."""
        if not self.stages or len(self.stages[-1].classes) != 1:
            raise CallerError("bad_request", "a pipeline has stages, and one class in the last")
        nodes: list[Node] = []
        before: list[str] = []
        for depth, stage in enumerate(self.stages):
            names = [f"{self._fed}/{depth}/{place}" for place in range(len(stage.classes))]
            for name, task_class in zip(names, stage.classes, strict=True):
                payload = item if depth == 0 else None
                nodes.append(Node(name, payload, task_class, stage.needs, before))
            before = names
        template = fields_of(self.stages[0].classes[0], None, self.options)
        handles = await submit_graph(self.scheduler, self.name, nodes, template, wait=60.0)
        self._fed += 1
        return handles[before[0]]

    async def run(self, items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
        """The results of the last stage in the order of the items. An item that fails raises its error here; those
        that were fed before it go on."""
        on_their_way: list[Handle] = []
        async for item in _each(items):
            if len(on_their_way) >= self.window:
                yield await on_their_way.pop(0).result()
            on_their_way.append(await self.feed(item))
        for handle in on_their_way:
            yield await handle.result()


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
