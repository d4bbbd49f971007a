"""Policies that look at more than one task: what they are given, what they may answer, and which answers are used.

There are four kinds. A policy *per task* chooses a worker for one task (`placing.Policy`). One *per tick* chooses for a
batch of waiting tasks at once. One in the *background* thinks for seconds over a snapshot and proposes moves. One for
*slots* says how many slots workers should have for the next while. All but the first get a `Snapshot`: plain data,
made at one point of the journal and good for another process; they answer with plain data, too.

What comes back is old by then. So a move is used only if nothing that it rests on has changed since the snapshot's
sequence (the task stands where it stood, the worker is the same process and has room), and if what it gains beats
what the move costs, by a tenth at least: otherwise two policies, or one that is unsure, would move a task to and fro.
A plan whose moves are no better than leaving everything as it is changes nothing, so no optimiser can make matters
worse than the live policy by the common objective (`scoring`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping
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
    """A task in a snapshot. ``token`` and ``worker``: of its attempt, "" while it waits; ``runs_us``: expected run
    time by worker, with its price, for those that may have it, of one that runs what is left of it; ``carry_us``:
    what moving it costs: work since its checkpoint, transfer."""

    task: str
    band: int
    token: str
    worker: str
    waited_us: int
    carry_us: int
    runs_us: Mapping[str, int]


class Snapshot(NamedTuple):
    """``sequence``: counts the changes; ``at``: the decider's time; ``waiting``: tasks that wait, of which ``tasks``
    has those that came first."""

    sequence: int
    at: int
    workers: tuple[WorkerView, ...]
    tasks: tuple[TaskView, ...]
    waiting: int = 0


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


PlanPolicy = Callable[[Snapshot], Plan]
"""Per tick, in the background, or for slots."""


class Now(NamedTuple):
    """What a move is held against: the token and the cost of moving of each task, free slots of each worker, and which
    tasks and workers have ``changed`` since the snapshot."""

    tokens: Mapping[str, str]
    carry_us: Mapping[str, int]
    free: Mapping[str, int]
    changed: Container[str] = ()


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
    if now.tokens[move.task] != move.token or move.task in now.changed or move.worker in now.changed:
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


def rebalance(snapshot: Snapshot) -> Plan:
    """A background policy: what runs, may be preempted and would end earlier elsewhere goes there, the greatest gain
    first; each free slot once. One step of a local search, so that it costs little and can stop at any time."""
    free = {worker.name: worker.slots - worker.taken for worker in snapshot.workers if worker.taken < worker.slots}
    waits = {worker.name: worker.wait_us for worker in snapshot.workers}
    better = [
        Move(task.task, task.token, name, task.runs_us[task.worker] - took - waits[name])
        for task in snapshot.tasks
        if task.token and task.worker in task.runs_us
        for name, took in task.runs_us.items()
        if name != task.worker and name in free
    ]
    moves: dict[str, Move] = {}
    for move in sorted(better, key=lambda move: (-move.gain_us, move.task, move.worker)):
        if move.gain_us > 0 and move.task not in moves and free[move.worker]:
            moves[move.task] = move
            free[move.worker] -= 1
    return Plan(snapshot.sequence, tuple(moves.values()))


BUSY_PERMILLE: Final = 800
"""Part of the slots that `demand` wants to be in use."""


def demand(snapshot: Snapshot) -> Plan:
    """A policy for slots: as many as what runs and waits needs at 80 % use, on the cheapest workers; the others get
    nothing new beyond what they have, so that they fall idle and can be given up."""
    wanted = (sum(worker.taken for worker in snapshot.workers) + snapshot.waiting) * 1_000 // BUSY_PERMILLE + 1
    slots = []
    for worker in sorted(snapshot.workers, key=lambda worker: (worker.price, worker.name)):
        given = min(worker.slots, max(worker.taken, wanted))
        wanted -= given
        if given < worker.slots:
            slots.append((worker.name, given))
    return Plan(snapshot.sequence, (), tuple(slots))


NONE: Final = "none"
TICK: Final[dict[str, PlanPolicy]] = {"earliest": earliest}
BACKGROUND: Final[dict[str, PlanPolicy]] = {"rebalance": rebalance}
SLOTS: Final[dict[str, PlanPolicy]] = {"demand": demand}


def is_planned(tick: str, background: str, slots: str, shadow: str) -> bool:
    """Whether any policy that looks at more than one task is on, live or as the shadow."""
    return {tick, background, slots} != {NONE} or shadow in TICK or shadow in BACKGROUND or shadow in SLOTS
