"""Room for a gang that has waited for long: free workers are held for it until there are enough. Volatile.

A gang needs several free workers at once, and single tasks would take each as it gets free. So a gang that has waited
for `HOLD_AFTER_MS` has every worker that it may have held as soon as that has room, one gang at a time, those of a
higher band before, and begins when enough are held. That is the one case in which a worker stands idle though work
waits for it; it ends with the gang's start, its end, or when there are not enough workers for it any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.kernel.bugs import seeded
from bursar_scheduler import bugs
from bursar_scheduler.ordering import rank

if TYPE_CHECKING:
    from bursar_scheduler.board import Board
    from bursar_scheduler.task import Task, Worker

HOLD_AFTER_MS: Final = 10_000
AGAIN_MS: Final = 1_000
"""When to look again at gangs for which there are too few workers, or that a quota keeps."""


class Gathering:
    """``task``: whom workers are held for, ``held``: their names, ``is_ready``: enough were held, and it goes next.
    ``look_at``: when another one may have waited for long enough (None: not before something changes);
    ``in_doubt``: a worker has gone, so there may be too few now."""

    __slots__ = ("held", "in_doubt", "is_ready", "look_at", "task")

    def __init__(self) -> None:
        self.task: Task | None = None
        self.held: dict[str, None] = {}
        self.is_ready = False
        self.in_doubt = False
        self.look_at: int | None = None

    def waits(self, task: Task) -> None:
        """A gang has come into its lane."""
        self._look(ripe_at(task))

    def workers_changed(self) -> None:
        """There may be enough for a gang now, or too few."""
        self.in_doubt = True
        self._look(0)

    def _look(self, at: int) -> None:
        if self.look_at is None or at < self.look_at:
            self.look_at = at

    def look(self, board: Board, now: int) -> None:
        """Begin, or give up."""
        if self.task is not None:
            is_over = not self.task.listed or (self.in_doubt and not can_begin(board, self.task))
            self.in_doubt = False
            if not is_over or seeded(bugs.HELD_FOR_NOBODY):
                return
            self.task, self.is_ready = None, False
            self._let_go(board)
            self._look(now)
        if self.look_at is None or now < self.look_at:
            return
        ripe = [task for task in board.gangs.values() if ripe_at(task) <= now and can_begin(board, task)]
        later = [at for task in board.gangs.values() if (at := ripe_at(task)) > now]
        self.look_at = min(later, default=None)
        if not ripe and len(later) < len(board.gangs):
            self._look(now + AGAIN_MS)
        if ripe:
            self.task = min(ripe, key=rank)
            for name in sorted(board.lane(self.task.lane).room):
                board.note(board.workers[name])

    def offer(self, board: Board, worker: Worker) -> None:
        """A worker may have room: hold it if the gang may have it."""
        task = self.task
        if task is None or self.is_ready or worker.held:
            return
        if worker.serves(task.lane) and worker.fits(task.lane):
            worker.held = True
            self.held[worker.name] = None
            if len(self.held) >= task.lane[4]:
                self.is_ready = True
                self._let_go(board)

    def next(self, board: Board) -> Task | None:
        """The gang that enough workers were held for; if one of them has gone meanwhile it goes on holding."""
        task = self.task
        if task is None or not self.is_ready or not task.listed or board.ledger.held(task.who):
            return None
        if len(board.lane(task.lane).room) >= task.lane[4]:
            return task
        self.is_ready = False
        for name in sorted(board.lane(task.lane).room):
            board.note(board.workers[name])
        return None

    def drop(self, worker: Worker) -> None:
        """It is another one now, or gets nothing any more."""
        self.held.pop(worker.name, None)
        worker.held = False

    def _let_go(self, board: Board) -> None:
        held, self.held = self.held, {}
        for name in held:
            worker = board.workers.get(name)
            if worker is not None:
                worker.held = False
                board.note(worker)


def ripe_at(task: Task) -> int:
    """From when on workers are held for it."""
    return max(task.submitted_at, task.not_before) + HOLD_AFTER_MS


def can_begin(board: Board, task: Task) -> bool:
    """Whether there are enough workers that may have it, however busy they are, and no quota keeps it."""
    if board.ledger.held(task.who):
        return False
    serving = [worker for worker in board.workers.values() if not worker.draining and worker.serves(task.lane)]
    return len(serving) >= task.lane[4]
