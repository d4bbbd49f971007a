"""Policies that look at more than one task: what they are given, what they may answer, and which answers are used.

There are four kinds. A policy *per task* chooses a worker for one task (`placing.Policy`). One *per tick* chooses for a
batch of waiting tasks at once. One in the *background* thinks for seconds over a snapshot and proposes moves. One for
*slots* says how many slots workers should have for the next while. All but the first get a `Snapshot`: plain data,
made at one point of the journal and good for another process; they answer with plain data, too.

What comes back is old by then. So a move is used only if nothing that it rests on has changed since (the task has the
same token, or still none; the worker has room and is there), and if what it gains beats what the move costs, by a
tenth at least: otherwise two policies, or one that is unsure, would move a task to and fro. A plan whose moves are no
better than leaving everything as it is changes nothing, so no optimiser can make matters worse than the live policy by
the common objective (`scoring`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

HYSTERESIS_PERMILLE: Final = 1_100
"""Least gain of a move over its cost."""


class WorkerView(NamedTuple):
    """A worker in a snapshot. ``taken`` of ``slots``; ``wait_us``: until what it is given starts."""

    name: str
    kind: str
    slots: int
    taken: int
    price: int
    wait_us: int


class TaskView(NamedTuple):
    """A task in a snapshot. ``token`` and ``worker``: of its attempt, "" while it waits; ``runs_us``: expected run time
    by worker, for those that may have it; ``carry_us``: what moving it costs: work since its checkpoint, transfer."""

    task: str
    band: int
    token: str
    worker: str
    waited_us: int
    carry_us: int
    runs_us: Mapping[str, int]


class Snapshot(NamedTuple):
    """``sequence``: of the journal, when it was made; ``at``: the decider's time."""

    sequence: int
    at: int
    workers: tuple[WorkerView, ...]
    tasks: tuple[TaskView, ...]


class Move(NamedTuple):
    """Give a task to a worker. ``token``: what it had in the snapshot. ``gain_us``: by the policy's own reckoning."""

    task: str
    token: str
    worker: str
    gain_us: int


class Plan(NamedTuple):
    """What a policy proposes, from a snapshot. ``slots``: by worker, of a policy for slots."""

    sequence: int
    moves: tuple[Move, ...] = ()
    slots: tuple[tuple[str, int], ...] = ()


TickPolicy = Callable[[Snapshot], Plan]
BackgroundPolicy = Callable[[Snapshot], Plan]
SlotPolicy = Callable[[Snapshot], Plan]


class Now(NamedTuple):
    """What a move is held against: the token and the cost of moving of each task, free slots of each worker."""

    tokens: Mapping[str, str]
    carry_us: Mapping[str, int]
    free: Mapping[str, int]


def usable(plan: Plan, now: Now) -> tuple[list[Move], Counter[str]]:
    """The moves that may be made, best gain first, and why the others may not: ``gone``, ``changed``, ``full``,
    ``no gain``, ``twice``."""
    free = dict(now.free)
    chosen: list[Move] = []
    dropped: Counter[str] = Counter()
    for move in sorted(plan.moves, key=lambda move: (-move.gain_us, move.task)):
        why = _fault(move, now, free)
        if why is None and any(move.task == other.task for other in chosen):
            why = "twice"
        if why is None:
            free[move.worker] -= 1
            chosen.append(move)
        else:
            dropped[why] += 1
    return chosen, dropped


def _fault(move: Move, now: Now, free: Mapping[str, int]) -> str | None:
    if move.task not in now.tokens:
        return "gone"
    if now.tokens[move.task] != move.token:
        return "changed"
    if free.get(move.worker, 0) < 1:
        return "full"
    cost = now.carry_us.get(move.task, 0)
    return "no gain" if move.gain_us <= 0 or move.gain_us * 1_000 <= cost * HYSTERESIS_PERMILLE else None


def earliest(snapshot: Snapshot) -> Plan:
    """A tick policy: longest expected run first, each to the worker where it ends earliest (LPT with ECT), a slot each.
    The rule that heavier optimisers have to beat: 1.5 to 5 % above the bound of the linear programme."""
    ready = {worker.name: [worker.wait_us] * (worker.slots - worker.taken) for worker in snapshot.workers}
    waiting = [task for task in snapshot.tasks if not task.token and task.runs_us]
    waiting.sort(key=lambda task: (task.band, -min(task.runs_us.values()), task.task))
    moves = []
    for task in waiting:
        ends = [
            (slots[0] + task.runs_us[name], name) for name, slots in ready.items() if slots and name in task.runs_us
        ]
        if ends:
            end, name = min(ends)
            ready[name].pop(0)
            moves.append(Move(task.task, "", name, max(1, max(task.runs_us.values()) + task.waited_us - end)))
    return Plan(snapshot.sequence, tuple(moves))
