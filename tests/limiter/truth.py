"""What has really been granted and used: a brute-force record beside the limiter, which shares no code with it.

It remembers every grant for ever, also those that the limiter has lost, and adds up from scratch on every question.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bursar.contracts.limiter import DIMENSIONS, BudgetSpec, Limits, LimitSpec

Amounts = dict[str, int]


@dataclass
class Call:
    """One granted call. ``end``: when it ended and with what; a call without an end is over at its time-out."""

    budget: str
    granted_at: int
    expires_at: int
    reserved: Amounts
    ended_at: int | None = None
    used: Amounts | None = None
    late: list[tuple[int, Amounts]] = field(default_factory=list)
    reports: list[tuple[int, Amounts]] = field(default_factory=list)
    """What was told as used so far while it went on, and when."""

    def in_full(self) -> Amounts:
        """What counts when nothing is said: as reserved, or as told; tokens in total are their sum."""
        done = self.reports[-1][1] if self.reports else self.reserved
        most = {name: max(amount, done[name]) for name, amount in self.reserved.items()}
        most["total_tokens"] = max(most["total_tokens"], most["input_tokens"] + most["output_tokens"])
        return most

    def end(self, now: int, used: Amounts) -> None:
        if self.ended_at is None and now < self.expires_at:
            self.ended_at, self.used = now, used
        elif now >= self.expires_at and self.ended_at is None:
            self.late.append((now, used))

    def over(self, now: int) -> bool:
        return self.ended_at is not None or now >= self.expires_at


class Truth:
    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}

    def counted(self, spec: BudgetSpec, dimension: str, now: int) -> int:
        """What counts against a budget's limit at this moment, in the worst case for the provider."""
        mine = Truth()
        mine.calls = {key: call for key, call in self.calls.items() if call.budget == spec.name}
        return mine.counted_by(only(spec.limits[dimension]), spec.jitter_ms, dimension, now)  # type: ignore[index]

    def counted_by(self, limit: LimitSpec, jitter_ms: int, dimension: str, now: int) -> int:
        """The same of all calls here against one limit."""
        if dimension == "concurrent":
            return sum(call.reserved[dimension] for call in self.calls.values() if not call.over(now))
        since = now - limit.window_ms - jitter_ms if limit.window_ms else -1
        total = 0
        for call in self.calls.values():
            for at, amount in self._charges(call, dimension, limit.charge == "production", now):
                if at > since:
                    total += amount
        return total

    @staticmethod
    def _charges(call: Call, dimension: str, produced: bool, now: int) -> list[tuple[int, int]]:
        reserved, most = call.reserved[dimension], call.in_full()[dimension]
        told = [(at, used[dimension]) for at, used in call.reports]
        steps = [(at, after - before) for (_, before), (at, after) in zip([(0, 0), *told], told, strict=False)]
        beyond = [
            (at, max(reserved, after) - max(reserved, before))
            for (_, before), (at, after) in zip([(0, 0), *told], told, strict=False)
        ]
        done = told[-1][1] if told else 0
        if call.ended_at is None or call.used is None:
            end = now if not call.over(now) else call.expires_at
            late = [(at, max(0, used[dimension] - most)) for at, used in call.late]
            if produced:
                return [*steps, (end, max(0, reserved - done)), *late]
            return [(call.granted_at, reserved), *beyond, *late]
        used = call.used[dimension]
        if produced:
            return [*steps, (call.ended_at, used - done)]
        more = max(0, used - max(reserved, done))
        return [(call.granted_at, min(used, reserved)), *beyond, (call.ended_at, more)]


def only(limits: Limits) -> LimitSpec:
    """The limit of a dimension that has one."""
    assert isinstance(limits, LimitSpec)
    return limits


def no_amounts() -> Amounts:
    return dict.fromkeys(map(str, DIMENSIONS), 0)
