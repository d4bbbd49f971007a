"""Several tasks in one request, and what a worker gets of the tasks before its own.

A *graph* is a list of tasks of which each may come after earlier ones of the list, or after tasks that are there
already. All are accepted or none. A map over many items is a graph without edges, a gather is one task after all of
them, and an item that goes through the stages of a pipeline is a chain.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query, Request
from bursar.contracts.scheduler import Needs, Task
from bursar.contracts.scheduler_words import (
    MAX_AFTER,
    AfterFailure,
    TaskClass,
    TaskId,
    TaskName,
    TaskRef,
    TaskState,
    Token,
    Trace,
    Value,
)

MAX_ITEMS = 256
PAGE = 8
"""Results in one answer to `Inputs`."""

GraphName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_/-]{0,39}$", max_length=40)]
ItemName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_:/-]{0,38}$", max_length=39)]


class Item(Message):
    """One task of a graph, named ``<principal>.<graph>:<name>``; what is None is as in the template. ``after``: names
    of earlier items, or else own tasks."""

    name: ItemName
    payload: Value = None
    task_class: TaskClass | None = None
    needs: Needs | None = None
    after: Annotated[tuple[TaskRef, ...], Field(max_length=MAX_AFTER)] | None = None
    after_failure: AfterFailure | None = None


class Graph(Request):
    """Accept several tasks durably, all or none; answered by `GraphAccepted` or `Refused`. Items that were accepted
    before with the same content are the same tasks. ``template``: what they have in common."""

    name: GraphName
    template: Task
    items: Annotated[tuple[Item, ...], Field(min_length=1, max_length=MAX_ITEMS)]
    trace: Trace | None = None


class GraphAccepted(Message):
    """``tasks``: in the order of the items; ``known``: how many of them were there before."""

    ok: Literal[True] = True
    tasks: list[TaskId]
    known: int
    fence: str


class Inputs(Query):
    """A worker asks what the tasks before the one that it runs have given. ``first``: of which to begin with."""

    task: TaskId
    token: Token
    first: Annotated[int, Field(ge=0, le=MAX_AFTER)] = 0


class Input(Message):
    """How one task has ended. ``kept``: whether its result is still there."""

    task: TaskId
    state: TaskState | Literal["unknown"]
    kept: bool
    result: bytes | str | dict[str, Any] | None


class InputsReply(Message):
    """In the order of ``after``, eight at most."""

    ok: Literal[True] = True
    inputs: list[Input]
    more: bool
    fence: str


class CancelProgram(Request):
    """End all own tasks of a program (an agent's run) that are there now, dead letters included; answered by
    `ProgramCancelled` as soon as that is decided, durably. None of them is begun any more; one whose end is on its way
    may still be heard first."""

    program: TaskName


class ProgramCancelled(Message):
    """``tasks``: how many had not ended."""

    ok: Literal[True] = True
    program: TaskName
    tasks: int
    fence: str
