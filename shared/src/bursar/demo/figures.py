"""From what was written down in a run to its figures.

Everything is counted from two sources that know nothing of each other: the judge's log of what it admitted, charged and
refused, and what the agents themselves found. The judge's own count of violations is checked again here, from its log,
by going through every window.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, Literal

from bursar.demo.plan import MANAGED_KEY, UNMANAGED_KEY, USD_PER_M_INPUT, USD_PER_M_OUTPUT, Plan
from bursar.demo.result import Arm, Happening, Result, Span
from bursar.demo.run import Recording

STEP_S: Final = 0.25
"""Resolution of the series and of the backlog."""
WAITING_S: Final = 0.5
"""Work waits when a request has been due for so long and the provider has not seen it."""
KEYS: Final = {"managed": MANAGED_KEY, "unmanaged": UNMANAGED_KEY}
LABELS: Final = {"managed": "Under Bursar", "unmanaged": "Unmanaged: the SDK's own retries"}


def result_of(recording: Recording, trace: str, wall_s: float) -> Result:
    """All figures of a run; ``wall_s`` is the time of the whole command."""
    plan = recording.plan
    probed = recording.probe["probed"]
    inner = [probe for part in recording.arms["managed"] for probe in part["probed"]]
    return Result(
        trace=trace,
        agents=plan.agents,
        processes=plan.processes,
        window=plan.window,
        window_s=plan.window_s,
        limit=plan.quota.input_tokens,
        seconds=wall_s,
        unmanaged=_arm(recording, "unmanaged"),
        managed=_arm(recording, "managed"),
        happenings=[
            *(Happening("outage", start, end - start, "provider outage") for start, end in recording.outages),
            *(Happening("kill", at, 0.0, "kill -9 of the limiter") for at in recording.kills),
        ],
        kill_recovery_s=[recovery_after(recording.begin + at, probed) for at in recording.kills],
        coordination_ms=[granted * 1000 for _, granted, _ in probed if granted >= 0],
        agent_reserve_ms=[granted * 1000 for _, granted, _ in inner if granted >= 0],
        extra={
            "probes_unanswered": sum(granted < 0 for _, granted, _ in probed),
            "limiter_unavailable": sum(part["unavailable"] for part in recording.arms["managed"]),
            "largest_request_share": max(job.input_tokens for job in plan.jobs) / plan.quota.input_tokens,
        },
    )


def recovery_after(kill: float, probed: Iterable[Sequence[float]]) -> float:
    """Seconds from a kill to the first grant of a probe that was sent after it; the time that was waited in vain when
    there was none."""
    later = [(sent, granted) for sent, granted, _ in probed if sent > kill]
    granted_at = [sent + granted for sent, granted in later if granted >= 0]
    return (min(granted_at) if granted_at else max((sent for sent, _ in later), default=kill) + 60.0) - kill


def _arm(recording: Recording, name: Literal["managed", "unmanaged"]) -> Arm:
    plan, key = recording.plan, KEYS[name]
    counts, log = recording.stats["keys"][key], recording.log["keys"][key]
    outcomes = [outcome for part in recording.arms[name] for outcome in part["outcomes"]]
    done = {job: (seconds, ended) for job, seconds, ended, how in outcomes if how == "done"}
    admitted = [((row[0] - recording.begin_ms) / 1000, row[1], row[4]) for row in log["admitted"]]
    finished = max((ended for _, _, ended, _ in outcomes), default=0.0)
    backlog = backlog_of(plan, admitted, finished)
    return Arm(
        name=name,
        label=LABELS[name],
        arrivals=len(plan.jobs),
        completed=len(done),
        completed_twice=counts["completed_twice"],
        violations=counts["violations"] + overruns(plan, log),
        calls=counts["admitted"] + counts["rejected"],
        completion_s=[seconds for seconds, _ in done.values()],
        wasted_tokens=counts["wasted_input_tokens"] + counts["wasted_output_tokens"],
        wasted_usd=(counts["wasted_input_tokens"] * USD_PER_M_INPUT + counts["wasted_output_tokens"] * USD_PER_M_OUTPUT)
        / 1e6,
        utilisation=utilisation(plan, admitted, without(backlog, recording.outages)),
        used=use_over_time(plan, admitted, finished),
        backlog=backlog,
        finished_at=finished,
    )


def overruns(plan: Plan, log: dict[str, Any]) -> int:
    """How many moments there were at which the provider's window held more than a limit, by its own log.

    For rolling and clock windows; a token bucket allows what a rolling window does not, so there it is not counted.
    """
    if plan.window == "bucket":
        return 0
    width = round(plan.window_s * 1000)
    rows = (
        (((row[0], 1) for row in log["admitted"]), plan.quota.requests),
        (((row[0], row[1]) for row in log["admitted"]), plan.quota.input_tokens),
        (((row[0], row[1]) for row in log["output"]), plan.quota.output_tokens),
    )
    return sum(_over(list(charges), limit, width, plan.window == "clock") for charges, limit in rows)


def _over(charges: list[tuple[int, int]], limit: int, width_ms: int, by_clock: bool) -> int:
    """Charges after which the window that they fall in holds more than the limit."""
    inside: deque[tuple[int, int]] = deque()
    total = over = 0
    for at, amount in sorted(charges):
        start = at - at % width_ms if by_clock else at - width_ms + 1
        inside.append((at, amount))
        total += amount
        while inside and inside[0][0] < start:
            total -= inside.popleft()[1]
        over += total > limit
    return over


def backlog_of(plan: Plan, admitted: Sequence[tuple[float, int, str]], finished: float) -> list[Span]:
    """The spans in which some request had been due for half a second and was not admitted yet."""
    first: dict[str, float] = {}
    for at, _, name in admitted:
        first.setdefault(name, at)
    waits = []
    for number, job in enumerate(plan.jobs):
        seen = first.get(f"job-{number}", finished)
        if seen > job.at + WAITING_S:
            waits.append((job.at + WAITING_S, seen))
    return merged(waits)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Overlapping spans as one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1] + STEP_S:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined


def without(spans: Sequence[Span], holes: Iterable[Span]) -> list[Span]:
    """The spans with the holes taken out."""
    left = list(spans)
    for hole_start, hole_end in holes:
        cut: list[Span] = []
        for start, end in left:
            cut += [(start, min(end, hole_start)), (max(start, hole_end), end)]
        left = [(start, end) for start, end in cut if end > start]
    return left


def utilisation(plan: Plan, admitted: Sequence[tuple[float, int, str]], spans: Sequence[Span]) -> float:
    """Tokens admitted while work waited and the provider was up, as a share of what the limit allows in that time."""
    times = [at for at, _, _ in admitted]
    seconds = sum(end - start for start, end in spans)
    tokens = 0
    for start, end in spans:
        tokens += sum(row[1] for row in admitted[bisect_left(times, start) : bisect_left(times, end)])
    allowed = plan.quota.input_tokens / plan.window_s * seconds
    return tokens / allowed if allowed else 0.0


def use_over_time(plan: Plan, admitted: Sequence[tuple[float, int, str]], finished: float) -> list[tuple[float, float]]:
    """At each step: tokens admitted in the window that ends there, as a share of the limit."""
    series: list[tuple[float, float]] = []
    inside: deque[tuple[float, int]] = deque()
    total, position = 0, 0
    for step in range(int(finished / STEP_S) + 1):
        now = step * STEP_S
        while position < len(admitted) and admitted[position][0] <= now:
            inside.append(admitted[position][:2])
            total += admitted[position][1]
            position += 1
        start = now - now % plan.window_s if plan.window == "clock" else now - plan.window_s
        while inside and inside[0][0] <= start:
            total -= inside.popleft()[1]
        series.append((now, total / plan.quota.input_tokens))
    return series
