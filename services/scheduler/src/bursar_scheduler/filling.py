"""Backfill: proactive chunks on workers that wait for a gang.

Workers that are held for a gang (`gathering`) would stand idle until there are enough of them. A task of the lowest
band that may be stopped (``preemptible``) is started there meanwhile, and gives way at the end of its chunk.

Rules (Agent.xpu, arXiv 2506.24045, section on slack-aware backfill):

1. It fits into the slack: what it runs until it can be stopped (a chunk, or its run time if that is shorter) is not
   more than the time until as many workers as are still missing are expected to be free.
2. It does not press on what is above it: nothing is added to a worker whose load is `PRESSED` or more while it runs
   something of a higher band.
3. It takes what is free: slots and resources of the worker, quotas of its submitter.

Of those that wait, of each kind, the next in its order; of these the shortest first. When enough workers are held, as
many fillers as are in the way are asked to yield (`yielding.ask`), so that the gang begins at most a chunk and a round
trip later than without them. Nothing is filled for a gang of the lowest band. After a take-over all proactive attempts
that may be stopped count as fillers; those that were not begun in a hold run for ``min_run_ms`` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Fence, Outcome
from bursar_scheduler import bugs, dispatch, yielding
from bursar_scheduler.gathering import fillers_of
from bursar_scheduler.lifecycle import PREEMPTING, RUNNING
from bursar_scheduler.watched import LOWEST

if TYPE_CHECKING:
    from bursar_scheduler.board import Board, Lane
    from bursar_scheduler.state import State
    from bursar_scheduler.task import Task, Worker

CHUNK_MS: Final = 100
"""The longest that an attempt which may be stopped goes on when it is asked to."""

PRESSED: Final = 700
"""A load in thousandths; Agent.xpu runs one after the other from 0.7 of the bandwidth on."""

AGAIN_MS: Final = 10
"""When the slack is looked at again; that takes a look at all workers."""

ENDLESS: Final = 1 << 53


class Fill(NamedTuple):
    """This one may run there until the gang begins."""

    task: str
    worker: str


class GiveWay(NamedTuple):
    """This filler is in the way of the gang."""

    task: str


def next_of(state: State, board: Board, now: int) -> Fill | GiveWay | None:
    """Asked while a gang gathers workers."""
    return next_to_give_way(state, board, now) or next_fill(state, board, now)


def next_fill(state: State, board: Board, now: int) -> Fill | None:
    """Who is to be started on a worker that is held."""
    gang = board.gathering.gathers_above(LOWEST)
    if gang is None or board.gathering.has_enough(board):
        return None
    gaps = [worker for name in board.gathering.held if may_fill(state, worker := board.workers[name])]
    if not gaps or now < board.gathering.fill_at:
        return None
    waiting = {lane.key: task for lane in board.lanes.values() if (task := _next_of(lane, now)) is not None}
    found = [
        (length_ms(state, task, worker.name), task.order, task.id, worker.name)
        for worker in gaps
        for lane in worker.lanes
        if (task := waiting.get(lane.key)) is not None and worker.fits_without(lane.key, ())
    ]
    if not found:
        return None
    length, _, task_id, name = min(found)
    if length > slack_ms(state, board, gang, now) and not seeded(bugs.FILLS_BEYOND_THE_SLACK):
        board.gathering.fill_at = now + AGAIN_MS
        return None
    return Fill(task_id, name)


def _next_of(lane: Lane, now: int) -> Task | None:
    """Of the lowest band: the next in its order if that may be stopped, or else who has waited for longest."""
    line = lane.line.bands[LOWEST]
    if not line.count or lane.key[4] > 1:
        return None
    head = line.head(now)
    if head is not None and head[1].preemptible:
        return head[1]
    oldest = line.oldest()
    return oldest if oldest is not None and oldest.preemptible else None


def may_fill(state: State, worker: Worker) -> bool:
    """Whether a slot is free and nothing above it would be pressed."""
    if len(worker.attempts) >= worker.slots:
        return False
    return (worker.load or 0) < PRESSED or len(fillers_of(state.tasks, worker)) == len(worker.attempts)


def length_ms(state: State, task: Task, worker: str) -> int:
    """How long it runs at most until it can be stopped."""
    return min(CHUNK_MS, expected_ms(state, task, worker))


def expected_ms(state: State, task: Task, worker: str) -> int:
    hinted = 0 if task.hints is None else task.hints.expected_ms
    return hinted or state.speeds.expect_us(task.lane[0], worker) // 1_000


def slack_ms(state: State, board: Board, gang: Task, now: int) -> int:
    """Until when as many more workers are expected to be free as the gang lacks."""
    held = board.gathering.able(board)
    lefts = sorted(
        left_ms(state, worker, now)
        for worker in board.workers.values()
        if worker.name not in held and not (worker.draining or worker.suspect) and worker.serves(gang.lane)
    )
    missing = gang.lane[4] - len(held)
    return lefts[missing - 1] if 0 < missing <= len(lefts) else ENDLESS


def left_ms(state: State, worker: Worker, now: int) -> int:
    """Until one of its attempts ends. One that has run for longer than expected is expected to be as late again; one
    that is void, or was asked to yield, ends at any moment."""
    left = ENDLESS
    for token, name in worker.attempts.items():
        task = state.tasks.get(name)
        if task is None or task.token != token or task.state == PREEMPTING:
            return 0
        left = min(left, abs(task.since + expected_ms(state, task, worker.name) - now))
    return left


def decide_fill(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Fill = command.body
    event, notice = dispatch.assignment(state, state.workers[body.worker], state.tasks[body.task], now, fence)
    return Accept([event], {}, [notice])


def next_to_give_way(state: State, board: Board, now: int) -> GiveWay | None:
    """Enough workers are held, and fillers are still in the way."""
    gathering = board.gathering
    gang = gathering.gathers_above(LOWEST)
    gathering.ask_at = None
    if gang is None or not gathering.has_enough(board) or seeded(bugs.FILLERS_STAY):
        return None
    missing = gang.lane[4]
    victims: list[Task] = []
    for name, since in gathering.able(board).items():
        fillers = fillers_of(state.tasks, worker := board.workers[name])
        asked = [token for token, task in fillers.items() if task.state == PREEMPTING]
        if worker.fits_without(gang.lane, asked):
            missing -= 1
            continue
        running = [task for task in fillers.values() if task.state == RUNNING]
        ripe = {task.id: task.since + (0 if task.since >= since else state.config.min_run_ms) for task in running}
        gathering.ask_again(min((at for at in ripe.values() if at > now), default=None))
        victims += sorted((t for t in running if ripe[t.id] <= now), key=lambda task: -task.order)
    return GiveWay(victims[0].id) if victims and missing > 0 else None


def decide_to_give_way(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: GiveWay = command.body
    event, notice = yielding.ask(state, state.tasks[body.task], now)
    return Accept([event], {}, [notice])
