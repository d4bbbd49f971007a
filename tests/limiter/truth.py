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
        """What counts against a limit at this moment, in the worst case for the provider."""
        mine = [call for call in self.calls.values() if call.budget == spec.name]
        limit = only(spec.limits[dimension])  # type: ignore[index]
        if dimension == "concurrent":
            return sum(call.reserved[dimension] for call in mine if not call.over(now))
        since = now - limit.window_ms - spec.jitter_ms if limit.window_ms else -1
        total = 0
        for call in mine:
            for at, amount in self._charges(call, dimension, limit.charge == "production", now):
                if at > since:
                    total += amount
        return total

    @staticmethod
    def _charges(call: Call, dimension: str, produced: bool, now: int) -> list[tuple[int, int]]:
        reserved = call.reserved[dimension]
        late = [(at, max(0, used[dimension] - reserved)) for at, used in call.late]
        if not call.over(now):
            return [(now if produced else call.granted_at, reserved)]
        if call.ended_at is None or call.used is None:
            return [(call.expires_at if produced else call.granted_at, reserved), *late]
        used = call.used[dimension]
        if produced:
            return [(call.ended_at, used)]
        return [(call.granted_at, min(used, reserved)), (call.ended_at, max(0, used - reserved))]


def only(limits: Limits) -> LimitSpec:
    """The limit of a dimension that has one."""
    assert isinstance(limits, LimitSpec)
    return limits


def no_amounts() -> Amounts:
    return dict.fromkeys(map(str, DIMENSIONS), 0)
