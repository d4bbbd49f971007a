"""What a run of the demo measured, as values: the table, the picture and the JSON are made from these alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from bursar.demo.footprint import Footprint

WORKER: Final = "worker"
Span = tuple[float, float]
"""From, to: seconds after the first arrival."""


@dataclass(frozen=True)
class Happening:
    """Something that was done to the fleet. ``seconds`` 0: a moment, such as a kill."""

    kind: Literal["outage", "overload", "kill", "card"]
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


class Recovery(NamedTuple):
    """Of a kill -9: what was killed (a service, or ``worker``), when, and the seconds until it was made up for: the
    first answer of the service after it, or all tasks of the worker begun by others."""

    what: str
    at: float
    seconds: float


class Tasks(NamedTuple):
    """What became of the tasks under Bursar. ``accepted``: submitted and durable; ``ended_twice``: with more than one
    accepted end; ``retried``: attempts beyond the first."""

    accepted: int
    done: int
    ended_twice: int
    retried: int


class Gpu(NamedTuple):
    """The simulated cards, as their drivers counted. ``oversubscribed``: allocations beyond what leases may promise,
    and those that failed, of the fleet under Bursar; ``unmanaged_failed``: allocations that found no memory without."""

    oversubscribed: int
    allocations: int
    unmanaged_failed: int
    unmanaged_allocations: int


@dataclass(frozen=True)
class Result:
    """A whole run. ``limit`` in tokens per ``window_s``; latencies in milliseconds, of ``coordination_ms`` by service;
    ``circuit``: (from, to, state) of the provider's circuit when it was not closed; ``trips_ms``: from the first failed
    call of a bad time to each worker process knowing that the circuit is open."""

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
    recoveries: Sequence[Recovery]
    coordination_ms: Mapping[str, Sequence[float]]
    inside_agents_ms: Sequence[float]
    circuit: Sequence[tuple[float, float, str]]
    trips_ms: Sequence[float]
    tasks: Tasks
    gpu: Gpu
    footprint: Mapping[str, Footprint]
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
        "kill_recovery_max_s": max((recovery.seconds for recovery in result.recoveries), default=0.0),
        "recoveries_over_3s": sum(recovery.seconds > 3.0 for recovery in result.recoveries),
        "services_killed": sum(recovery.what != WORKER for recovery in result.recoveries),
        "workers_killed": sum(recovery.what == WORKER for recovery in result.recoveries),
        "breaker_trips": len(result.trips_ms),
        "breaker_trip_p99_ms": quantile(result.trips_ms, 0.99),
        "circuit_not_closed_s": sum(end - start for start, end, _ in result.circuit),
        "tasks_accepted": result.tasks.accepted,
        "tasks_done": result.tasks.done,
        "tasks_lost": result.tasks.accepted - result.tasks.done,
        "tasks_ended_twice": result.tasks.ended_twice,
        "tasks_retried": result.tasks.retried,
        "gpu_oversubscribed": result.gpu.oversubscribed,
        "gpu_allocations": result.gpu.allocations,
        "unmanaged_gpu_failed": result.gpu.unmanaged_failed,
        "unmanaged_gpu_allocations": result.gpu.unmanaged_allocations,
        "idle_cpu_cores_all": sum(found.idle_cores for found in result.footprint.values()),
        "rss_mb_all": sum(found.rss for found in result.footprint.values()) / 1e6,
    }
    for service, found in sorted(result.footprint.items()):
        name = service.replace("-", "_")
        figures |= {f"idle_cpu_cores_{name}": found.idle_cores, f"rss_mb_{name}": found.rss / 1e6}
    for recovery in result.recoveries:
        name = f"recovery_{recovery.what.replace('-', '_')}_s"
        figures[name] = max(recovery.seconds, figures.get(name, 0.0))
    everywhere = [ms for values in result.coordination_ms.values() for ms in values]
    latencies = {"coordination": everywhere, "inside_agents": result.inside_agents_ms}
    latencies |= {f"{service.replace('-', '_')}_coordination": ms for service, ms in result.coordination_ms.items()}
    for name, values in latencies.items():
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
    managed, tasks = result.managed, result.tasks
    slowest = max(result.recoveries, key=lambda recovery: recovery.seconds, default=None)
    checks = (
        (managed.violations == 0, f"{managed.violations} calls over the limit under Bursar"),
        (managed.lost == 0, f"{managed.lost} requests lost under Bursar"),
        (managed.completed_twice == 0, f"{managed.completed_twice} requests done twice under Bursar"),
        (
            bool(not_promised(result)) or 0.85 <= managed.utilisation <= 0.95,
            f"utilisation {managed.utilisation:.1%} is not within 85-95 %",
        ),
        (result.gpu.oversubscribed == 0, f"{result.gpu.oversubscribed} allocations beyond what a card has for leases"),
        (tasks.done == tasks.accepted, f"{tasks.accepted - tasks.done} accepted tasks were lost"),
        (tasks.ended_twice == 0, f"{tasks.ended_twice} tasks with more than one accepted end"),
        (slowest is not None, "nothing was killed, so nothing is known of recovery"),
        (
            slowest is None or slowest.seconds <= 3.0,
            "" if slowest is None else f"{slowest.seconds:.1f} s until the {slowest.what} was made up for (at most 3)",
        ),
    )
    return [text for kept, text in checks if not kept]
