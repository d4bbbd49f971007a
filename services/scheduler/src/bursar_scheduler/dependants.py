"""Who comes after whom: what follows from the tasks, and the results that are kept for those who still need them.

A task is *needed* while another that comes after it has not ended; its result is then held beyond the time for which
results are kept, so that a worker can ask for it (`depending`).
"""

from __future__ import annotations

from collections import Counter

from bursar_scheduler.task import Ended, Task


class Dependants:
    """``waiting``: for each task those that wait for its end; ``needed``: how many that have not ended come after it;
    ``held``: ends whose time is over, and which are needed; ``held_bytes``: of their results."""

    __slots__ = ("held", "held_bytes", "needed", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[str, dict[str, None]] = {}
        self.needed: Counter[str] = Counter()
        self.held: dict[str, Ended] = {}
        self.held_bytes = 0

    def need(self, task: Task) -> None:
        """It is there from now on, and comes after others."""
        self.needed.update(task.after)

    def forget(self, task: Task) -> list[Ended]:
        """It is over; the ends that were held for it, and are held no more."""
        freed = []
        for name in task.after:
            self.needed[name] -= 1
            if not self.needed[name]:
                del self.needed[name]
                ended = self.held.pop(name, None)
                if ended is not None:
                    self.held_bytes -= ended.size
                    freed.append(ended)
        return freed

    def wait(self, task: Task) -> None:
        for name in task.unmet:
            self.waiting.setdefault(name, {})[task.id] = None

    def wait_no_more(self, task: Task) -> None:
        for name in task.unmet:
            self._leave(name, task)

    def met(self, task: Task, name: str) -> None:
        """It need not wait for this one any more."""
        self._leave(name, task)
        task.unmet = tuple(other for other in task.unmet if other != name)

    def _leave(self, name: str, task: Task) -> None:
        those = self.waiting[name]
        del those[task.id]
        if not those:
            del self.waiting[name]

    def hold(self, name: str, ended: Ended) -> bool:
        """Its time is over; keep it if it is needed."""
        if name not in self.needed:
            return False
        self.held[name] = ended
        self.held_bytes += ended.size
        return True
