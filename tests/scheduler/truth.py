"""What really happened, kept beside the scheduler by those who took part: who runs what, and which ends were accepted.

It knows nothing of the scheduler's state. A worker's process truly runs an attempt from the answer to its start until
it has itself ended it; a process that dies stops everything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Key = tuple[int, ...]


def key_of(token: str) -> Key:
    return tuple(map(int, token.split(".")))


@dataclass
class Truth:
    """``accepted``: tasks that were promised to be done; ``ends``: the ends that somebody was told are accepted;
    ``tokens``: of each task, as they were handed out; ``running``: tokens by worker; ``slots``: by worker."""

    accepted: set[str] = field(default_factory=set)
    ends: dict[str, list[str]] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    running: dict[str, dict[str, str]] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)

    def assigned(self, notice: dict[str, Any], *, late: bool = False) -> None:
        """A worker has been told: tokens of one task grow, and none is given twice.

        ``late``: by an owner that perhaps was paused, and now tells what was committed when others have gone on. Nobody
        may start with that.
        """
        known = self.tokens.setdefault(notice["task"], [])
        token = notice["token"]
        if token in known:
            return
        in_order = late or not known or key_of(token) > key_of(known[-1])
        assert in_order, f"{notice['task']}: {token} after {known[-1]}"
        others = {t for task, tokens in self.tokens.items() if task != notice["task"] for t in tokens}
        assert token not in others, f"{token} stands for two tasks"
        known.append(token)
        known.sort(key=key_of)

    def started(self, worker: str, token: str, task: str) -> None:
        assert task not in self.cancelled, f"{task} runs after its cancellation was accepted"
        assert task not in self.ends, f"{task} runs after its end: {self.ends.get(task)}"
        mine = self.running.setdefault(worker, {})
        mine[token] = task
        assert len(mine) <= self.slots[worker], f"{worker} runs {len(mine)} with {self.slots[worker]} slots"

    def stopped(self, worker: str, token: str) -> None:
        self.running.get(worker, {}).pop(token, None)

    def died(self, worker: str) -> None:
        self.running.pop(worker, None)

    def ended(self, task: str, how: str) -> None:
        """Somebody was told that this end is accepted."""
        assert task in self.accepted, f"{task} ended and was never accepted"
        assert task not in self.ends, f"{task} has a second end: {self.ends[task]} and {how}"
        self.ends[task] = [how]
        if how == "cancelled":
            self.cancelled.add(task)
