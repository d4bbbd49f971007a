"""How many calls to a target are under way at once, and how that number is learned.

A bulkhead keeps a target that has become slow from taking all of an agent's tasks with it. Its bound follows the
latency (`Gradient`), after Gradient2 of Netflix' concurrency-limits: when calls take longer than they did on the long
run, queues are building up there, and the bound falls with the ratio of the two; while they do not, it grows by what a
short queue may hold. An overload or a time-out cuts it at once, as in AIMD. Nothing is learned from calls that use less
than half of it: they say nothing about the bound.

Time is an argument, in milliseconds. Nothing waits here: a full bulkhead refuses (`BulkheadFull`), because a line in
front of a slow target is the very thing to be avoided.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bursar.contracts.breaker import Outcome
from bursar.errors import ServiceError

OVERLOADED: Final = frozenset({"overload", "timeout"})
MEASURED: Final = frozenset({"ok", "slow"})
_LONG_WEIGHT: Final = 600
_WARM_UP: Final = 10


class BulkheadFull(ServiceError):
    """As many calls to the target are under way as it can take. ``limit``: how many that is."""

    def __init__(self, target: str, limit: int) -> None:
        super().__init__("bulkhead_full", f"{limit} calls to {target} are under way", target=target, limit=limit)
        self.target = target
        self.limit = limit

    @property
    def advice(self) -> str:
        return "Use another target, or try again when one of them has ended."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.target, self.limit))


@dataclass(frozen=True)
class Bounds:
    """Between which numbers of calls the bound moves, and how.

    - ``initial``, ``least``, ``most``: calls under way at once.
    - ``tolerance``: by what factor latency may exceed the long-run one before the bound falls.
    - ``queue``: how many calls may wait at the target; the bound grows by it.
    - ``smoothing``: part of each new estimate that counts.
    - ``backoff``: what is left of the bound after an overload or a time-out.
    """

    initial: int = 20
    least: int = 2
    most: int = 200
    tolerance: float = 1.5
    queue: int = 4
    smoothing: float = 0.2
    backoff: float = 0.9

    def __post_init__(self) -> None:
        if not (1 <= self.least <= self.initial <= self.most and self.tolerance >= 1.0 and self.queue >= 0):
            raise ValueError("a bulkhead's bounds are 1 <= least <= initial <= most, tolerance >= 1, queue >= 0")
        if not (0.0 < self.smoothing <= 1.0 and 0.0 < self.backoff < 1.0):
            raise ValueError("smoothing is above 0 up to 1, backoff between 0 and 1")


class Gradient:
    """The bound, as a number that moves with what is measured. ``usual``: the long-run latency (ms)."""

    __slots__ = ("_bounds", "_seen", "limit", "usual")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._seen = 0
        self.limit = float(bounds.initial)
        self.usual = 0.0

    def measure(self, took: float, under_way: int) -> None:
        """A call went well after ``took`` ms, while so many were under way (itself included)."""
        took = max(took, 0.001)
        self._learn(took)
        if under_way * 2 < self.limit:
            return
        b = self._bounds
        gradient = max(0.5, min(1.0, b.tolerance * self.usual / took))
        aimed = self.limit * gradient + b.queue
        self._move(self.limit + b.smoothing * (aimed - self.limit))

    def overloaded(self) -> None:
        """The target could not take what it got."""
        self._move(self.limit * self._bounds.backoff)

    def _learn(self, took: float) -> None:
        """The mean of the first few, then an exponential one; it comes down sooner when all has become quicker."""
        self._seen += 1
        weight = 1.0 / self._seen if self._seen <= _WARM_UP else 2.0 / (_LONG_WEIGHT + 1)
        self.usual += weight * (took - self.usual)
        if self.usual > 2.0 * took:
            self.usual *= 0.95

    def _move(self, limit: float) -> None:
        self.limit = max(float(self._bounds.least), min(float(self._bounds.most), limit))


class Bulkhead:
    """Counts the calls to one target. ``under_way``, and since it was made ``most`` at once and ``refused``."""

    __slots__ = ("gradient", "most", "refused", "target", "under_way")

    def __init__(self, target: str, bounds: Bounds | None = None) -> None:
        self.target = target
        self.gradient = Gradient(bounds or Bounds())
        self.under_way = self.most = self.refused = 0

    @property
    def limit(self) -> int:
        return int(self.gradient.limit)

    @property
    def has_room(self) -> bool:
        return self.under_way < self.limit

    def enter(self) -> None:
        """A call begins. Raises `BulkheadFull`."""
        if not self.has_room:
            self.refused += 1
            raise BulkheadFull(self.target, self.limit)
        self.under_way += 1
        self.most = max(self.most, self.under_way)

    def leave(self, took: float, outcome: Outcome | None) -> None:
        """It ended after ``took`` ms; None: it says nothing about the target."""
        self.note(took, outcome)
        self.release()

    def note(self, took: float, outcome: Outcome | None) -> None:
        """What is known of a call that keeps its place for now, such as one whose answer is still being read."""
        if outcome in OVERLOADED:
            self.gradient.overloaded()
        elif outcome in MEASURED:
            self.gradient.measure(took, self.under_way)

    def release(self) -> None:
        self.under_way -= 1
