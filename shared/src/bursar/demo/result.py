"""What a run of the demo measured, as values: the table, the picture and the JSON are made from these alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Span = tuple[float, float]
"""From, to: seconds after the first arrival."""


@dataclass(frozen=True)
class Happening:
    """Something that was done to the fleet. ``seconds`` 0: a moment, such as a kill."""

    kind: Literal["outage", "overload", "kill"]
    at: float
    seconds: float
    label: str


@dataclass(frozen=True)
class Arm:
    """One fleet on one key of the provider. Times in seconds after the first arrival, tokens as the provider counts.

    ``used``: (time, share of the limit that was charged in the provider's window ending then). ``backlog``: spans in
    which work was waiting. ``utilisation``: share of the quota that was used in the ``measured_s`` seconds in which
    work waited for long (both 0 when it never did). ``calls``: with retries. ``wasted_tokens``: of calls that the
    provider admitted and that did not end well.
    """

    name: Literal["unmanaged", "managed"]
    label: str
    arrivals: int
    completed: int
    completed_twice: int
    violations: int
    calls: int
    completion_s: Sequence[float]
    wasted_tokens: int
    wasted_usd: float
    utilisation: float
    measured_s: float
    used: Sequence[tuple[float, float]]
    backlog: Sequence[Span]
    finished_at: float

    @property
    def lost(self) -> int:
        """Arrivals that never ended well."""
        return self.arrivals - self.completed


@dataclass(frozen=True)
class Result:
    """A whole run. ``limit`` in tokens per ``window_s``; latencies in milliseconds; recoveries in seconds from the kill
    to the first grant after it."""

    trace: str
    agents: int
    processes: int
    window: str
    window_s: float
    limit: int
    seconds: float
    unmanaged: Arm
    managed: Arm
    happenings: Sequence[Happening]
    kill_recovery_s: Sequence[float]
    coordination_ms: Sequence[float]
    agent_reserve_ms: Sequence[float]
    extra: dict[str, Any] = field(default_factory=dict)


def quantile(values: Sequence[float], q: float) -> float:
    """The value at rank ``q`` (0..1); 0 when there is none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0


def flat(result: Result) -> dict[str, Any]:
    """All figures under flat keys, for ``--json``."""
    figures: dict[str, Any] = {
        "trace": result.trace,
        "agents": result.agents,
        "processes": result.processes,
        "window": result.window,
        "window_s": result.window_s,
        "limit_tokens": result.limit,
        "wall_s": result.seconds,
        "kills": len(result.kill_recovery_s),
        "kill_recovery_max_s": max(result.kill_recovery_s, default=0.0),
    }
    for name, values in (("coordination", result.coordination_ms), ("agent_reserve", result.agent_reserve_ms)):
        figures |= {f"{name}_p{int(q * 100)}_ms": quantile(values, q) for q in (0.5, 0.95, 0.99)}
    for arm in (result.managed, result.unmanaged):
        figures |= {
            f"{arm.name}_{name}": getattr(arm, name)
            for name in (
                "arrivals", "completed", "lost", "completed_twice", "violations", "calls", "wasted_tokens",
                "wasted_usd", "utilisation", "measured_s", "finished_at",
            )
        }  # fmt: skip
        figures |= {
            f"{arm.name}_completion_p{int(q * 100)}_s": quantile(arm.completion_s, q) for q in (0.5, 0.95, 0.99)
        }
    return figures | result.extra


LARGE: Final = 0.07
"""A single request above this share of the limit cannot be packed tightly: then no use of the limit is promised."""


def not_promised(result: Result) -> str:
    """Why this run says nothing about how much of the limit is used; empty when it does."""
    share = result.extra.get("largest_request_share", 0.0)
    if share > LARGE:
        return f"one request is {share:.0%} of the limit: no use of the limit is promised above {LARGE:.0%}"
    if result.managed.measured_s < result.window_s:
        return "work never waited for as long as a window: the use of the limit says nothing"
    return ""


def broken_promises(result: Result) -> list[str]:
    """What the run did not keep, in words; empty when everything held."""
    managed = result.managed
    recovery = max(result.kill_recovery_s, default=0.0)
    checks = (
        (managed.violations == 0, f"{managed.violations} calls over the limit under Bursar"),
        (managed.lost == 0, f"{managed.lost} requests lost under Bursar"),
        (managed.completed_twice == 0, f"{managed.completed_twice} requests done twice under Bursar"),
        (
            bool(not_promised(result)) or 0.85 <= managed.utilisation <= 0.95,
            f"utilisation {managed.utilisation:.1%} is not within 85-95 %",
        ),
        (bool(result.kill_recovery_s), "the limiter was not killed, so nothing is known of its recovery"),
        (recovery <= 3.0, f"{recovery:.1f} s from the kill to the next grant (at most 3)"),
    )
    return [text for kept, text in checks if not kept]
