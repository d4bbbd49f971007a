"""For whoever thinks longer about the placement than a decision may take: a snapshot of it, and moves to be made.

The policies of the scheduler itself look at the same (services/scheduler, `moving`). A move is made only if neither its
task nor its worker has changed since the snapshot, and if it gains more than it costs.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Query, Request
from bursar.contracts.scheduler_words import MAX_SLOTS, Principal, TaskId, Token, WorkerKind

MAX_MOVES = 128

Sequence = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class TakeSnapshot(Query):
    """Administration: tasks that wait or may be moved (64 at most), and workers, those with room first (64 at most)."""


class WorkerSeen(Message):
    """``taken`` of its ``slots``; ``wait_us``: until what is given to it begins."""

    worker: Principal
    kind: WorkerKind
    slots: int
    taken: int
    price: int
    wait_us: int


class TaskSeen(Message):
    """``token`` and ``worker``: of its attempt, None while it waits. ``runs_us``: the expected run time with its price
    on each of the workers that may have it, of one that runs what is left of it; ``carry_us``: what it costs to move
    it. ``band``: from 0, the most urgent."""

    task: TaskId
    band: int
    token: Token | None
    worker: Principal | None
    waited_us: int
    carry_us: int
    runs_us: dict[str, int]


class SnapshotReply(Message):
    """``sequence``: to be named with the moves. ``waiting``: tasks that wait in all."""

    ok: Literal[True] = True
    sequence: int
    at_ms: int
    waiting: int
    workers: list[WorkerSeen]
    tasks: list[TaskSeen]
    fence: str


class ProposedMove(Message):
    """Give a task that runs to another worker. ``token``: as in the snapshot. ``gain_us``: what it gains, by one's own
    reckoning."""

    task: TaskId
    token: Token | None = None
    worker: Principal
    gain_us: Annotated[int, Field(ge=-1_000_000_000_000, le=1_000_000_000_000)]


class Propose(Request):
    """Administration: make these moves, as far as they can be made: each task is asked to yield at the end of a chunk,
    and goes to the worker then. ``slots``: slots in use by worker, until work waits for more of them."""

    sequence: Sequence
    moves: Annotated[tuple[ProposedMove, ...], Field(max_length=MAX_MOVES)] = ()
    slots: Annotated[dict[Principal, Annotated[int, Field(ge=0, le=MAX_SLOTS)]], Field(max_length=64)] = Field(
        default_factory=dict
    )


class Proposed(Message):
    """``used``: tasks whose moves are made. ``dropped``: how many are not, and why: gone, changed, full, no gain,
    twice, or fixed (it waits, and goes where there is room first; or it cannot be stopped, or not yet)."""

    ok: Literal[True] = True
    used: list[TaskId]
    dropped: dict[str, int]
    fence: str
