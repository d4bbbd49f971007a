"""Room for a gang that has waited for long: free workers are held for it until there are enough. Volatile.

A gang needs several free workers at once, and single tasks would take each as it gets free. So a gang that has waited
for `HOLD_AFTER_MS` has every worker that it may have held as soon as that has room, one gang at a time, those of a
higher band before, and begins when enough are held. That is the one case in which a worker stands idle though work
waits for it; it ends with the gang's start, its end, or when there are not enough workers for it any more.

Proactive attempts that may be stopped (*fillers*) do not count for a gang of a higher band: their workers are held,
too, and they give way when that is enough (`filling`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bursar.kernel.bugs import seeded
from bursar_scheduler import bugs
from bursar_scheduler.ordering import rank
from bursar_scheduler.watched import LOWEST

if TYPE_CHECKING:
    from bursar_scheduler.board import Board
    from bursar_scheduler.task import Task, Worker

HOLD_AFTER_MS: Final = 10_000
AGAIN_MS: Final = 1_000
"""When to look again at gangs for which there are too few workers, or that a quota keeps."""


class Gathering:
    """``task``: whom workers are held for, ``held``: their names, and since when, ``is_ready``: enough were held, and
    it goes next. ``look_at``: when another one may have waited for long enough (None: not before something changes);
    ``in_doubt``: a worker has gone, so there may be too few now. ``ask_at``: when a filler that is in the way has run
    for long enough (None: none is too young); ``fill_at``: the slack was too small, and is looked at then."""

    __slots__ = ("ask_at", "fill_at", "held", "in_doubt", "is_ready", "look_at", "now", "task")

    def __init__(self) -> None:
        self.task: Task | None = None
        self.held: dict[str, int] = {}
        self.is_ready = False
        self.in_doubt = False
        self.look_at: int | None = None
        self.ask_at: int | None = None
        self.fill_at = 0
        self.now = 0

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
        self.now = now
        if self.task is not None:
            is_over = not self.task.listed or (self.in_doubt and not can_begin(board, self.task))
            self.in_doubt = False
            if not is_over or seeded(bugs.HELD_FOR_NOBODY):
                return
            self.task, self.is_ready, self.ask_at = None, False, None
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
            self._offer_all(board)

    def _offer_all(self, board: Board) -> None:
        """To the gang; who has room before who runs fillers."""
        assert self.task is not None
        for name in sorted(board.lane(self.task.lane).room):
            board.note(board.workers[name])
        for worker in board.workers.values():
            if not worker.held:
                board.note(worker)

    def offer(self, board: Board, worker: Worker) -> None:
        """A worker may have room: hold it if the gang may have it."""
        task = self.task
        if task is None or self.is_ready:
            return
        if not worker.held and worker.serves(task.lane) and self._wants(board, worker, task):
            worker.held = True
            self.held[worker.name] = self.now
        if len(self.held) >= task.lane[4]:
            free = sum(board.workers[name].fits_without(task.lane, ()) for name in self.held)
            if free >= task.lane[4]:
                self.is_ready, self.ask_at = True, None
                self._let_go(board)

    def _wants(self, board: Board, worker: Worker, task: Task) -> bool:
        """Whatever has room; of those with fillers no more than are missing."""
        if worker.fits_without(task.lane, ()):
            return True
        return self._could(board, worker, task) and not self.has_enough(board)

    def _could(self, board: Board, worker: Worker, task: Task) -> bool:
        """Whether it has room, or would when its fillers have given way."""
        return worker.fits_without(task.lane, fillers_of(board.tasks, worker) if task.band < LOWEST else ())

    def able(self, board: Board) -> dict[str, int]:
        """Those that are held and can be had; not who has fallen silent, or runs on what is void."""
        task = self.task
        if task is None:
            return {}
        return {name: since for name, since in self.held.items() if self._could(board, board.workers[name], task)}

    def has_enough(self, board: Board) -> bool:
        task = self.task
        return task is not None and len(self.held) >= task.lane[4] <= len(self.able(board))

    def gathers_above(self, band: int) -> Task | None:
        """The gang that workers are being held for, if it is above this band."""
        task = self.task
        return None if task is None or self.is_ready or not task.listed or task.band >= band else task

    def ask_again(self, at: int | None) -> None:
        """A filler that is in the way may be asked then."""
        if at is not None and (self.ask_at is None or at < self.ask_at):
            self.ask_at = at

    def next(self, board: Board) -> Task | None:
        """The gang that enough workers were held for; if one of them has gone meanwhile it goes on holding."""
        task = self.task
        if task is None or not self.is_ready or not task.listed or board.ledger.held(task.who):
            return None
        if len(board.lane(task.lane).room) >= task.lane[4]:
            return task
        self.is_ready = False
        self._offer_all(board)
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


def fillers_of(tasks: dict[str, Task], worker: Worker) -> dict[str, Task]:
    """By token: what runs there, or is about to, and gives way to whatever is above it."""
    found = {token: task for token, name in worker.attempts.items() if (task := tasks.get(name)) is not None}
    return {
        token: task
        for token, task in found.items()
        if task.token == token and task.preemptible and task.band == LOWEST and task.gang is None
    }


def ripe_at(task: Task) -> int:
    """From when on workers are held for it."""
    return max(task.submitted_at, task.not_before) + HOLD_AFTER_MS


def can_begin(board: Board, task: Task) -> bool:
    """Whether there are enough workers that may have it, however busy they are, and no quota keeps it."""
    if board.ledger.held(task.who):
        return False
    serving = [worker for worker in board.workers.values() if not worker.draining and worker.serves(task.lane)]
    return len(serving) >= task.lane[4]
