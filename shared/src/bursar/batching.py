"""Batches: what is done together is collected by size and time-out, and both follow the latency that is wanted.

Pure: time is an argument, in milliseconds of whatever clock the caller has. A `Collector` holds what waits; a batch is
due when it is full, when its first member has waited long enough, or when one of its members would miss its deadline if
it waited longer. A `Tuner` moves size and time-out of its rule up and down so that the 95th percentile of the latency
(from coming in to the end of the work) meets a target.

The tuner is a PID controller in its incremental form (Åström and Hägglund, "Advanced PID Control", 2006, section 3.5).
With e = (target - p95) / target, held within -1 and 1, and s the factor on the rule's size and time-out,

    ln s  <-  ln s + KP·(e - e') + KI·e + KD·(e - 2e' + e'')

Steps are relative, as latency is roughly proportional to s. The incremental form has no integral that could wind up: s
is simply held within its bounds. Each step looks only at members that came in after the step before, so that what was
measured is the effect of what was set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

KP: Final = 0.4
KI: Final = 0.3
KD: Final = 0.05

SMALLEST: Final = 0.01
"""Least factor: below one member and a hundredth of the time-out there is nothing to gain."""

LARGEST: Final = 4.0
"""Greatest factor on a rule's size and time-out."""

MAX_SIZE: Final = 256
"""Members of one batch, at most: a worker has no more slots."""

SAMPLES: Final = 40
"""Latencies that one step goes by: the 95th percentile is then the third largest."""


@dataclass(frozen=True, slots=True)
class BatchRule:
    """``size``: members, 1 to 256; ``wait_ms``: how long the first one waits for others, at most."""

    size: int
    wait_ms: float

    def __post_init__(self) -> None:
        if not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"a batch has 1 to {MAX_SIZE} members, not {self.size}")
        if not 0.0 <= self.wait_ms <= 60_000.0:
            raise ValueError(f"a batch waits 0 to 60,000 ms, not {self.wait_ms}")

    def scaled(self, factor: float) -> BatchRule:
        """Size and time-out times ``factor``, within what a rule may say."""
        size = max(1, min(MAX_SIZE, round(self.size * factor)))
        return BatchRule(size, min(60_000.0, self.wait_ms * factor))


DEFAULTS: Final = {
    "model": BatchRule(10, 100.0),
    "database": BatchRule(50, 50.0),
    "file": BatchRule(20, 200.0),
    "network": BatchRule(15, 150.0),
}
"""Rules by what the work is done with."""


class Collector(Generic[T]):
    """What waits to be done together. ``rule`` may be set at any time; ``run_ms`` is how long a batch is expected to
    take, which members with a deadline are not to wait into."""

    __slots__ = ("_members", "due_at", "rule", "run_ms")

    def __init__(self, rule: BatchRule) -> None:
        self.rule = rule
        self.run_ms = 0.0
        self.due_at = math.inf
        """When the batch is to begin, though it is not full; infinity when nothing waits."""
        self._members: list[tuple[T, float]] = []

    def __len__(self) -> int:
        return len(self._members)

    def add(self, member: T, now: float, deadline: float = math.inf) -> None:
        """One more member; ``deadline``: when its work is to have ended."""
        due_at = min(now + self.rule.wait_ms, max(now, deadline - self.run_ms))
        self._members.append((member, due_at))
        self.due_at = min(self.due_at, due_at)

    def drop(self, member: T) -> bool:
        """It does not want to be done any more; whether it was there."""
        kept = [waiting for waiting in self._members if waiting[0] != member]
        was_there = len(kept) < len(self._members)
        self._keep(kept)
        return was_there

    def is_due(self, now: float, room: int = MAX_SIZE) -> bool:
        """``room``: members that can come at all, when that is less than the rule's size."""
        return len(self._members) >= min(self.rule.size, max(1, room)) or now >= self.due_at

    def take(self) -> list[T]:
        """The members that begin now, oldest first; those beyond the size go on waiting."""
        taken = self._members[: self.rule.size]
        self._keep(self._members[self.rule.size :])
        return [member for member, _ in taken]

    def _keep(self, members: list[tuple[T, float]]) -> None:
        self._members = members
        self.due_at = min((due_at for _, due_at in members), default=math.inf)


class Tuner:
    """See the module's text. ``target_ms``: the 95th percentile that is wanted, above 0."""

    __slots__ = ("_base", "_errors", "_latencies", "_since", "factor", "p95_ms", "target_ms")

    def __init__(self, rule: BatchRule, target_ms: float) -> None:
        if not 0.0 < target_ms < math.inf:
            raise ValueError(f"the target is a time above 0 ms, not {target_ms}")
        self.target_ms = target_ms
        self.factor = 1.0
        self.p95_ms: float | None = None
        self._base = rule
        self._latencies: list[float] = []
        self._errors = (0.0, 0.0)
        self._since = -math.inf

    @property
    def rule(self) -> BatchRule:
        """Size and time-out as they are to be now."""
        return self._base.scaled(self.factor)

    def ended(self, came: float, now: float) -> bool:
        """A member that came in at ``came`` has been done; whether `rule` may have changed by that."""
        if came < self._since:
            return False
        self._latencies.append(now - came)
        if len(self._latencies) < SAMPLES:
            return False
        self._step()
        self._latencies.clear()
        self._since = now
        return True

    def _step(self) -> None:
        ordered = sorted(self._latencies)
        self.p95_ms = ordered[math.ceil(0.95 * len(ordered)) - 1]
        error = max(-1.0, min(1.0, (self.target_ms - self.p95_ms) / self.target_ms))
        last, before = self._errors
        step = KP * (error - last) + KI * error + KD * (error - 2.0 * last + before)
        self.factor = max(SMALLEST, min(LARGEST, self.factor * math.exp(step)))
        self._errors = (error, last)
