"""Why a task stands where it stands: the answer of the scheduler to whoever waits for it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query
from bursar.contracts.scheduler_words import Band, Principal, TaskId, TaskState, WorkerKind

Cause = Literal[
    "dependencies", "pause", "no_worker", "draining", "too_little", "no_room", "quota", "order", "start", "works",
    "yields", "dead_letter", "ended", "gang",
]  # fmt: skip
"""Why it is where it is; `Why` says what each means."""


class Why(Query):
    """Why is this own task waiting? Answered by `WhyReply`. (Operators ask for any task.)

    It waits: for the end of other tasks (``dependencies``), for the end of a pause after a failure (``pause``), for a
    worker that may have it (``no_worker``: none is registered; ``draining``: all of them end, or have fallen silent;
    ``too_little``: none of them has as much of a resource at all), for room on one of them (``no_room``), for the end
    of others of its submitter (``quota``), for enough workers at once (``gang``), or for those that go first
    (``order``). Or it is with a worker, which was
    told (``start``), works on it (``works``), or is asked to stop at the end of a chunk (``yields``). Or nobody works
    on it any more (``dead_letter``, ``ended``)."""

    task: TaskId


class Hold(Message):
    """A worker that knows the class, and why it does not get the task. ``lacks``: kind, labels, locality (another host
    or region), model (not loaded), resources, room (slots or resources are taken), gang (it is held for one), draining,
    or suspect (it has been silent)."""

    worker: Principal
    kind: WorkerKind
    lacks: str


class Rated(Message):
    """A worker that could have the task: its score, the lowest is the best, and what that is made of (`scoring`)."""

    worker: Principal
    score_us: int
    terms: dict[str, int]


class Decision(Message):
    """A placement: who was chosen, and the next best, three at most. What is kept is the latest one of each task, of
    some thousands, since the present owner started; a slot that goes straight to the next in line is no choice."""

    chosen: Rated
    rejected: list[Rated]


class WhyReply(Message):
    """``text``: the answer in words. ``after``: up to 16 tasks that it waits for. ``serving``: workers that may have
    it, ``with_room`` now. ``holds``: up to 16 workers that know its class and may not have it now. ``in_line``: tasks
    with the same needs that wait, and ``first`` the one of them that goes next. ``has_had_ms``: slot time that its
    program has had; ``running``: slots that its submitter has now. ``yields``: the attempt that was asked to stop for
    it. ``decision``: the latest placement of the task, if it is kept."""

    ok: Literal[True] = True
    task: TaskId
    state: TaskState
    cause: Cause
    text: str
    priority: Band | None
    age_ms: int | None
    after: list[TaskId]
    pause_ms: int | None
    serving: int
    with_room: int
    holds: list[Hold]
    in_line: int
    first: TaskId | None
    has_had_ms: int | None
    running: int
    yields: TaskId | None
    decision: Decision | None
    worker: str | None
    attempts: int
    reason: str
    error: str
    fence: str


class Spending(Query):
    """What agents had of workers since the ledger began; answered by `SpendingReply`. ``offset``: entries of the pages
    before."""

    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class SlotsSpent(Message):
    """What one agent had of one worker for one class: attempts whose slot is free again, the time of their slots, and
    what that cost at the price that the worker named."""

    team: str
    agent: str
    task_class: str
    worker: str
    kind: str
    preemptible: bool
    attempts: int
    slot_ms: int
    usd_micros: int


class SpendingReply(Message):
    """At most 200 rows; ``more``: there are others behind them."""

    ok: Literal[True] = True
    now_ms: int
    rows: list[SlotsSpent]
    more: bool
    fence: str
