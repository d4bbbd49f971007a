"""Policies that look at more than one task, at work: when they are asked, and what becomes of their plans. Volatile.

* *Per tick*: while several tasks wait, at most every `TICK_MS`, a policy says where each of them should go; the order
  stays that of `ordering`, and a task that is not in the plan, or whose worker has no room any more, goes by the policy
  per task. So no slot stays free because of a plan.
* In the *background*, every `BACKGROUND_MS`: what runs is moved by the way of preemption. Its worker is asked to yield
  at the end of a chunk, and the task goes to the worker of the move if that has room then.
* For *slots*, every `SLOTS_MS`: workers get nothing beyond the slots that they are given, until a task waits for which
  nobody has room: then all slots count again at once.
* From outside: whoever thinks longer than a decision may take asks for a `snapshot`, and `propose`s moves.

Each kind of policy has a shadow, too: asked alike, its plans are weighed and not carried out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from bursar.kernel.decider import Accept, Command, Fence, Outcome
from bursar_scheduler import yielding
from bursar_scheduler.asking import ask_of
from bursar_scheduler.lifecycle import READY, RUNNING
from bursar_scheduler.moving import (
    BACKGROUND,
    NONE,
    SLOTS,
    TICK,
    Move,
    Now,
    Plan,
    Snapshot,
    TaskView,
    WorkerView,
    usable,
)
from bursar_scheduler.scoring import score
from bursar_scheduler.task import ALL_SLOTS

if TYPE_CHECKING:
    from bursar_scheduler.board import Board, Lane
    from bursar_scheduler.state import State
    from bursar_scheduler.task import Task, Worker

TICK_MS: Final = 10
BACKGROUND_MS: Final = 1_000
SLOTS_MS: Final = 10_000

MAX_TASKS: Final = 64
MAX_WORKERS: Final = 64
MAX_SCANNED: Final = 2_048
MAX_TOUCHED: Final = 20_000
MAX_STEERED: Final = 1_000


class Planner:
    """``sequence``: counts changes, and grows through owners, since it begins with the time. ``touched``: when tasks
    and workers changed last; those that changed before ``first`` are not known. ``plan``: of this tick, workers by
    task; ``steered``: where tasks that yield are to go. ``moves``: to be made. ``counts``: what became of plans."""

    def __init__(self, now: int) -> None:
        self.sequence = self.first = now << 10
        self.touched: dict[str, int] = {}
        self.plan: dict[str, str] = {}
        self.shadowed: dict[str, str] = {}
        self.steered: dict[str, str] = {}
        self.moves: list[Move] = []
        self.has_caps = False
        self.tick_at = self.background_at = self.slots_at = now
        self.counts: Counter[str] = Counter()
        self.shadow = ""
        self.watched: Counter[str] = Counter()

    def touch(self, name: str) -> None:
        """A task or a worker is not what it was."""
        self.sequence += 1
        self.touched.pop(name, None)
        self.touched[name] = self.sequence
        if len(self.touched) > MAX_TOUCHED:
            for old in list(islice(self.touched, MAX_TOUCHED // 2)):
                self.first = self.touched.pop(old)

    def steer(self, move: Move) -> None:
        """It is to go there when it is placed next."""
        self.steered.pop(move.task, None)
        self.steered[move.task] = move.worker
        if len(self.steered) > MAX_STEERED:
            del self.steered[next(iter(self.steered))]
        self.counts["moved"] += 1

    def changed_since(self, sequence: int) -> Changed:
        return Changed(self, sequence)

    def told(self) -> dict[str, Any]:
        """Of the shadow, for a status."""
        count = max(1, self.watched["decisions"])
        return {
            "policy": self.shadow, "decisions": self.watched["decisions"],
            "agreed_permille": self.watched["agreed"] * 1_000 // count,
            "regret_us": self.watched["regret_us"] // count, "gap_us": 0,
        }  # fmt: skip

    def watch(self, policy: str, agreed: bool, regret_us: int) -> None:
        if policy != self.shadow:
            self.shadow, self.watched = policy, Counter()
        self.watched["decisions"] += 1
        self.watched["agreed"] += agreed
        self.watched["regret_us"] += regret_us


class Changed:
    """Which names have changed since a sequence; all, if it is too old to tell."""

    def __init__(self, planner: Planner, sequence: int) -> None:
        self._planner = planner
        self._sequence = sequence

    def __contains__(self, name: object) -> bool:
        planner = self._planner
        return self._sequence < planner.first or planner.touched.get(str(name), 0) > self._sequence


def planner_of(board: Board, now: int) -> Planner:
    if board.planner is None:
        board.planner = Planner(now)
    return board.planner


def look(state: State, board: Board, now: int) -> None:
    """Ask the policies whose time has come. Called while any of them is on, or was."""
    planner = planner_of(board, now)
    config = state.config
    if now >= planner.background_at and (config.background != NONE or config.shadow in BACKGROUND):
        planner.background_at = now + BACKGROUND_MS
        _think(state, planner, now)
    if now >= planner.slots_at and (config.slot_policy != NONE or config.shadow in SLOTS or planner.has_caps):
        planner.slots_at = now + SLOTS_MS
        _give_slots(state, board, planner, now)
    if planner.has_caps and any(_would_help(board, lane) for lane in board.lanes.values() if lane.count):
        lift(board, planner)


def _would_help(board: Board, lane: Lane) -> bool:
    """Whether tasks wait for slots that a policy has taken out of use."""
    if len(lane.room) >= lane.key[4]:
        return False
    capped = sum(worker.cap != ALL_SLOTS and worker.serves(lane.key) for worker in board.workers.values())
    return capped > 0 and len(lane.room) + capped >= lane.key[4]


def wake_at(state: State, board: Board) -> list[int]:
    """When the next of them is to be asked."""
    config, planner = state.config, board.planner
    at = []
    if config.background != NONE or config.shadow in BACKGROUND:
        at.append(0 if planner is None else planner.background_at)
    if config.slot_policy != NONE or config.shadow in SLOTS:
        at.append(0 if planner is None else planner.slots_at)
    return at


# ---- per tick


def steered(state: State, board: Board, task: Task, now: int) -> Worker | None:
    """Where the plans want a task that is just being placed; None when they say nothing, or that one has no room."""
    planner = board.planner
    if planner is None:
        return None
    name = planner.steered.pop(task.id, "")
    config = state.config
    if not name and (config.tick != NONE or config.shadow in TICK):
        if task.id not in planner.plan and task.id not in planner.shadowed and now >= planner.tick_at:
            planner.tick_at = now + TICK_MS
            _plan_tick(state, planner, now)
        name = planner.plan.pop(task.id, "")
    worker = state.workers.get(name)
    if worker is None or not (worker.serves(task.lane) and worker.fits(task.lane)):
        return None
    planner.counts["placed"] += 1
    return worker


def _plan_tick(state: State, planner: Planner, now: int) -> None:
    snapshot = snapshot_of(state, now)
    for policy, kept in ((state.config.tick, planner.plan), (state.config.shadow, planner.shadowed)):
        kept.clear()
        if policy in TICK:
            moves, dropped = usable(TICK[policy](snapshot), facts(state, snapshot.sequence, now))
            kept.update({move.task: move.worker for move in moves if not move.token})
            planner.counts.update(dropped)


def compare(state: State, board: Board, task: Task, chosen: str) -> None:
    """What a shadow per tick would have chosen, against the live choice."""
    planner = board.planner
    other = "" if planner is None else planner.shadowed.pop(task.id, "")
    if planner is not None and other in board.fleet.rows:
        cost = board.fleet.costs(task.lane[0])[1]
        rows = board.fleet.rows
        regret = (cost.item(rows[chosen]) - cost.item(rows[other])) // 1_000
        planner.watch(state.config.shadow, chosen == other, regret)


# ---- in the background


def _think(state: State, planner: Planner, now: int) -> None:
    snapshot = snapshot_of(state, now, runs=True)
    if state.config.background in BACKGROUND:
        moves, dropped = usable(BACKGROUND[state.config.background](snapshot), facts(state, snapshot.sequence, now))
        planner.moves = moves
        planner.counts.update(dropped)
    if state.config.shadow in BACKGROUND:
        moves, _ = usable(BACKGROUND[state.config.shadow](snapshot), facts(state, snapshot.sequence, now))
        planner.watch(state.config.shadow, not moves, sum(move.gain_us for move in moves))


def decide_move(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Its worker is asked to yield it at the end of a chunk; it is steered to the other one then."""
    move: Move = command.body
    board = state.awake(now)
    event, notice = yielding.ask(state, state.tasks[move.task], now)
    planner_of(board, now).steer(move)
    return Accept([event], {}, [notice])


def next_move(state: State, board: Board, now: int) -> Move | None:
    """A move that can still be made."""
    planner = board.planner
    while planner is not None and planner.moves:
        move = planner.moves.pop(0)
        if may_move(state, move, now):
            return move
        planner.counts["changed"] += 1
    return None


def may_move(state: State, move: Move, now: int) -> bool:
    """Whether its task runs as the move has it and may be stopped, and its worker has room."""
    task, worker = state.tasks.get(move.task), state.workers.get(move.worker)
    if not move.token or task is None or worker is None or task.token != move.token or task.worker == move.worker:
        return False
    if not (task.state == RUNNING and task.preemptible) or now < task.since + state.config.min_run_ms:
        return False
    return worker.serves(task.lane) and worker.fits(task.lane)


# ---- slots


def _give_slots(state: State, board: Board, planner: Planner, now: int) -> None:
    config = state.config
    lift(board, planner)
    snapshot = snapshot_of(state, now)
    if config.shadow in SLOTS:
        other = SLOTS[config.shadow](snapshot).slots
        planner.watch(config.shadow, not other, 0)
    if config.slot_policy in SLOTS:
        set_slots(state, board, planner, SLOTS[config.slot_policy](snapshot))


def set_slots(state: State, board: Board, planner: Planner, plan: Plan) -> None:
    """Nothing beyond these for the workers that it names, if they are as they were."""
    changed = planner.changed_since(plan.sequence)
    for name, slots in plan.slots:
        worker = state.workers.get(name)
        if worker is not None and name not in changed:
            worker.cap = max(0, slots)
            planner.has_caps = True
            board.note(worker)


def lift(board: Board, planner: Planner) -> None:
    """All slots count again."""
    if not planner.has_caps:
        return
    planner.has_caps = False
    for worker in board.workers.values():
        if worker.cap != ALL_SLOTS:
            worker.cap = ALL_SLOTS
            board.note(worker)


# ---- what they look at


def snapshot_of(state: State, now: int, *, runs: bool = False) -> Snapshot:
    """Tasks that wait (and with ``runs`` those that may be moved), and workers with room first; a bounded number."""
    board = state.awake(now)
    planner = planner_of(board, now)
    those: list[Task] = []
    if runs:
        those += islice(board.watched.running.values(), MAX_TASKS)
    those += islice(_waiting(state), MAX_TASKS - len(those))
    busy = sorted(state.workers.values(), key=lambda worker: (not worker.has_room, worker.ordinal))
    views = tuple(_worker_view(board, worker) for worker in busy[:MAX_WORKERS] if worker.name in board.fleet.rows)
    names = [view.name for view in views]
    waiting = sum(lane.count for lane in board.lanes.values())
    return Snapshot(
        planner.sequence, now, views, tuple(_task_view(state, board, t, names, now) for t in those), waiting
    )


def _waiting(state: State) -> Iterator[Task]:
    return (
        task for task in islice(state.tasks.values(), MAX_SCANNED)
        if task.listed and task.state == READY and task.lane[4] == 1
    )  # fmt: skip


def _worker_view(board: Board, worker: Worker) -> WorkerView:
    wait_us = board.fleet.wait.item(board.fleet.rows[worker.name]) // 1_000
    taken = len(worker.attempts) if worker.has_room else worker.slots
    return WorkerView(worker.name, worker.kind, worker.slots, taken, worker.place.get("price", 0), wait_us)


def _task_view(state: State, board: Board, task: Task, names: list[str], now: int) -> TaskView:
    cost = board.fleet.costs(task.lane[0])[1]
    rows = board.fleet.rows
    total = score(board.fleet, ask_of(board, task))
    runs = {name: cost.item(rows[name]) // 1_000 for name in names if total.item(rows[name]) < 1 << 57}
    carry = 0
    if task.token and task.worker in rows:
        here = max(1, cost.item(rows[task.worker]) // 1_000)
        expected = max(1, state.speeds.expect_us(task.lane[0], task.worker))
        left = max(0, 1_000 - 1_000_000 * (now - task.since) // expected)
        runs = {name: took * left // 1_000 for name, took in runs.items()}
        runs[task.worker] = here * left // 1_000
        carry = carry_us(board, task, now)
    waited = max(0, now - task.submitted_at) * 1_000
    return TaskView(task.id, task.band, task.token, task.worker, waited, carry, runs)


CHUNK_US: Final = 100_000
"""Until the end of a chunk."""


def carry_us(board: Board, task: Task, now: int) -> int:
    """What it costs to move a task that runs: the rest of a chunk, what it has done since its last checkpoint, and the
    bytes that have to be brought again."""
    size = 0 if task.hints is None else task.hints.size
    return CHUNK_US + 1_000 * max(0, now - max(task.since, task.kept_at)) + size * board.fleet.weights.transfer // 1_000


def facts(state: State, sequence: int, now: int) -> Now:
    """What moves from a snapshot are held against."""
    board = state.awake(now)
    those = [*islice(board.watched.running.values(), MAX_TASKS), *islice(_waiting(state), MAX_TASKS)]
    return _facts(state, those, sequence, now)


def facts_of(state: State, names: list[str], sequence: int, now: int) -> Now:
    """The same of these tasks, as far as they wait or run."""
    found = [task for name in names if (task := state.tasks.get(name)) is not None]
    return _facts(state, [task for task in found if task.listed or task.state == RUNNING], sequence, now)


def _facts(state: State, those: list[Task], sequence: int, now: int) -> Now:
    board = state.awake(now)
    free = {worker.name: min(worker.slots, worker.cap) - len(worker.attempts)
            for worker in state.workers.values() if worker.has_room}  # fmt: skip
    return Now(
        {task.id: task.token for task in those},
        {task.id: carry_us(board, task, now) for task in those if task.token},
        free, planner_of(board, now).changed_since(sequence),
    )  # fmt: skip
