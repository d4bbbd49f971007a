"""Who might yield, and who might want that: a volatile index, a part of the board."""

from __future__ import annotations

from itertools import islice
from typing import Final

from bursar_scheduler.lifecycle import PREEMPTING, RUNNING
from bursar_scheduler.task import Task

LOWEST: Final = 2
"""The lowest band: nobody yields for it."""


class Watched:
    """``running``: attempts that may be preempted; ``wanting``: tasks that wait in a band above the lowest, and for
    which nobody was asked to yield; ``asked``: for whom each of those that were asked is to yield, and ``served`` the
    other way round. ``look_at``: when it is worth to look for somebody (None: not before something changes)."""

    __slots__ = ("asked", "look_at", "running", "served", "wanting")

    def __init__(self) -> None:
        self.running: dict[str, Task] = {}
        self.wanting: dict[str, Task] = {}
        self.asked: dict[str, Task] = {}
        self.served: dict[str, str] = {}
        self.look_at: int | None = None

    def note(self, task: Task, now: int, min_run_ms: int) -> None:
        """A task is in another state, or has left."""
        name = task.id
        if name in self.asked and task.state != PREEMPTING:
            self._over(name, now)
        if task.band < LOWEST and task.listed and task.lane[4] == 1 and name not in self.served:
            if name not in self.wanting:
                self.wanting[name] = task
                self._look(now)
        else:
            self.wanting.pop(name, None)
        if task.preemptible and task.state == RUNNING:
            self.running[name] = task
            self._look(max(now, task.since + min_run_ms))
        else:
            self.running.pop(name, None)

    def _over(self, name: str, now: int) -> None:
        """An attempt that was asked to yield is over; whom it was for may have the slot, or has to ask again."""
        wants = self.asked.pop(name)
        del self.served[wants.id]
        if wants.listed:
            self.wanting[wants.id] = wants
            self._look(now)

    def serve(self, task: Task, victim: Task) -> None:
        """Somebody is going to yield for it."""
        self.wanting.pop(task.id, None)
        self.asked[victim.id] = task
        self.served[task.id] = victim.id

    def waiting(self, count: int) -> list[Task]:
        return list(islice(self.wanting.values(), count)) if self.running else []

    def _look(self, at: int) -> None:
        if self.running and self.wanting and (self.look_at is None or at < self.look_at):
            self.look_at = at

    def looked(self, now: int, min_run_ms: int) -> None:
        """Nobody was found: when the next one will have run for long enough."""
        ripe = [at for task in self.running.values() if (at := task.since + min_run_ms) > now]
        self.look_at = min(ripe, default=None) if self.wanting else None
