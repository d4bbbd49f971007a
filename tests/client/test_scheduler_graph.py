"""The client's graphs, maps and pipelines, against the real decider on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bursar.client.fleet import Fleet
from bursar.client.scheduler_errors import TaskCancelled, TaskFailed
from bursar.client.scheduler_graph import Node, Stage
from bursar.client.scheduler_values import pack_value, unpack_value
from bursar.contracts.scheduler import Fail, Finish, Register, Start
from bursar.contracts.scheduler_graph import Inputs
from bursar.errors import CallerError
from bursar.kernel.decider import Command
from tests.client.fake_scheduler import FakeScheduler
from tests.client.test_scheduler import do, play

CLASSES = ("square", "add", "fetch", "parse", "scan", "store")
Do = Callable[[str, Any, list[Any]], Any]


async def serve(there: FakeScheduler, function: Do) -> None:
    """One worker with two slots that does everything: the function gets class, payload, results before."""
    do(there, Register(id="r-1", session="s", slots=2, classes=CLASSES))
    number = 0
    while True:
        there._settle()
        for task in [task for task in there.state.tasks.values() if task.state == "assigned"]:
            number += 1
            told: Any = {"task": task.id, "token": task.token}
            do(there, Start(id=f"s-{number}", **told))
            inputs = there._decide(Command("w1", "", Inputs(**told))).reply["inputs"]  # type: ignore[union-attr]
            before = [unpack_value(row["result"]) for row in inputs]
            try:
                result = function(task.lane[0], unpack_value(task.payload), before)
                do(there, Finish(id=f"f-{number}", **told, result=pack_value(result)))
            except ValueError as error:
                do(there, Fail(id=f"f-{number}", **told, error=str(error), retryable=False))
        await asyncio.sleep(0.05)


def served(function: Do, body: Any) -> None:
    async def test(fleet: Fleet, there: FakeScheduler) -> None:
        working = asyncio.ensure_future(serve(there, function))
        try:
            await body(fleet, there)
        finally:
            working.cancel()

    play(test)


def arithmetic(task_class: str, payload: Any, before: list[Any]) -> Any:
    if payload == "bad":
        raise ValueError("no number")
    return sum(before) if task_class == "add" else payload**2


def test_a_map_gives_its_results_in_order_and_gathers_them() -> None:
    """One request for all that fit; the gather runs when all are done."""

    async def body(fleet: Fleet, there: FakeScheduler) -> None:
        made = await fleet.scheduler.map("square", range(7), gather="add")
        assert await made.results(60) == [n * n for n in range(7)]
        assert made.gathered is not None
        assert await made.gathered.result(60) == sum(n * n for n in range(7))
        assert there.verbs().count("graph") == 2
        assert sorted([place async for place, _ in made.as_done()]) == list(range(7))

    served(arithmetic, body)


def test_a_large_map_goes_in_several_requests_and_can_be_asked_again() -> None:
    """The same name is the same tasks."""

    async def body(fleet: Fleet, there: FakeScheduler) -> None:
        made = await fleet.scheduler.map("square", range(600), name="big", priority="proactive")
        assert there.verbs().count("graph") == 3
        again = await fleet.scheduler.map("square", range(600), name="big", priority="proactive")
        assert again.handles == made.handles
        assert await made.cancel() > 500
        with pytest.raises(TaskCancelled):
            await made.handles[-1].result(10)
        with pytest.raises(CallerError, match="255"):
            await fleet.scheduler.map("square", range(600), gather="add")

    served(arithmetic, body)


def test_a_graph_runs_in_its_order_and_a_failure_cancels_what_comes_after() -> None:
    """A diamond; and a chain behind a failure."""

    async def body(fleet: Fleet, there: FakeScheduler) -> None:
        nodes = [
            Node("a", 2, "square"),
            Node("b", None, "add", after=["a"]),
            Node("c", None, "add", after=["a"]),
            Node("d", None, "add", after=["b", "c"]),
        ]
        handles = await fleet.scheduler.graph("diamond", nodes)
        assert await handles["d"].result(30) == 8
        bad = await fleet.scheduler.submit("square", "bad")
        last = await fleet.scheduler.submit("add", after=[bad], key="last")
        with pytest.raises(TaskFailed, match="no number"):
            await bad.result(30)
        with pytest.raises(TaskCancelled, match="dependency failed"):
            await last.result(30)
        with pytest.raises(TypeError, match="no option"):
            await fleet.scheduler.submit("add", hurry=True)  # type: ignore[call-arg]

    served(arithmetic, body)


def test_items_stream_through_the_stages_of_a_pipeline() -> None:
    """In order, with so many on their way at most; a stage may have several classes at once."""
    most = 0

    def clean(task_class: str, payload: Any, before: list[Any]) -> Any:
        return f"{task_class}({payload if payload is not None else ','.join(before)})"

    async def body(fleet: Fleet, there: FakeScheduler) -> None:
        nonlocal most
        line = fleet.scheduler.pipeline("clean", [Stage("fetch"), Stage(["parse", "scan"]), Stage("store")], window=3)
        results = []
        async for result in line.run(f"u{n}" for n in range(8)):
            results.append(result)
            most = max(most, len({task.partition("/")[0] for task in there.state.tasks}))
        assert results == [f"store(parse(fetch(u{n})),scan(fetch(u{n})))" for n in range(8)]
        assert most <= 3

    served(clean, body)


def test_progress_can_be_awaited() -> None:
    """Each change of state or progress, until the end."""

    async def body(fleet: Fleet, there: FakeScheduler) -> None:
        handle = await fleet.scheduler.submit("add")
        seen = [found.state async for found in handle.progress(every=0.02)]
        assert seen[0] in {"ready", "assigned"}
        assert seen[-1] == "done"
        assert handle.is_over

    served(arithmetic, body)
