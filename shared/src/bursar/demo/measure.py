"""From what was written down to what it says: the figures of both arms, from the judge's log and the agents' notes.

*Work waits* at a moment when requests that are due and not yet admitted (for the last time: a call that was cut and
repeated waits until the repetition) amount to more than the quota lets through in one step of `STEP_MS`. *Utilisation*
is what the judge admitted in the stretches in which work waited for at least one window (pauses of up to a second are
part of them), as a share of what the quota lets through in that time. A stretch that follows a quiet time may be above
100 %: it uses what was saved up. The provider's bad times and the kills are not left out: what could not be used
because of them counts as unused.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final, Literal

from bursar.demo import control
from bursar.demo.plan import MANAGED_KEY, UNMANAGED_KEY, USD_PER_M_INPUT, USD_PER_M_OUTPUT, Plan
from bursar.demo.recheck import over_limit, used_at
from bursar.demo.result import Arm, Result, Span
from bursar.demo.run import Recording

STEP_MS: Final = 100
PAUSE_S: Final = 1.0
KEYS: Final = {"managed": MANAGED_KEY, "unmanaged": UNMANAGED_KEY}
LABELS: Final = {"managed": "With Bursar", "unmanaged": "Without: the SDK's own retries"}


def result_of(recording: Recording, wall_s: float) -> Result:
    """All figures of a run; ``wall_s``: how long everything took, start and end included."""
    plan = recording.plan
    submits = [seconds for found in recording.arms["managed"] for _, seconds in found["submits"]]
    return Result(
        trace=plan.source,
        agents=plan.agents,
        processes=plan.processes,
        window=plan.window,
        window_s=plan.window_s,
        limit=plan.quota.input_tokens,
        seconds=wall_s,
        unmanaged=arm_of(recording, "unmanaged"),
        managed=arm_of(recording, "managed"),
        happenings=control.happenings(recording),
        recoveries=control.recoveries(recording),
        coordination_ms={
            service: [1000 * answered for _, answered in probed if answered >= 0]
            for service, probed in recording.probe["probed"].items()
        },
        inside_agents_ms=[1000 * seconds for seconds in submits],
        circuit=control.circuit(recording),
        trips_ms=control.trips_ms(recording),
        tasks=control.tasks(recording),
        gpu=control.gpu(recording),
        footprint=recording.footprint,
        extra=_extra(recording),
    )


def arm_of(recording: Recording, name: Literal["managed", "unmanaged"]) -> Arm:
    """The figures of one arm."""
    plan, key = recording.plan, KEYS[name]
    stats, log = recording.stats["keys"][key], recording.log["keys"][key]
    outcomes = [outcome for found in recording.arms[name] for outcome in found["outcomes"]]
    done = [outcome for outcome in outcomes if outcome[3] == "done"]
    waste = (stats["wasted_input_tokens"], stats["wasted_output_tokens"])
    end_ms = round(max((outcome[2] for outcome in done), default=0.0) * 1000)
    waits = waiting(plan, log, recording.begin_ms, end_ms)
    return Arm(
        name=name,
        label=LABELS[name],
        arrivals=len(plan.jobs),
        completed=len({outcome[0] for outcome in done}),
        completed_twice=stats["completed_twice"],
        violations=stats["violations"] + over_windows(plan, log),
        calls=sum(stats["statuses"].values()) + stats["admitted"] - stats["completed"],
        completion_s=[outcome[1] for outcome in done],
        wasted_tokens=sum(waste),
        wasted_usd=(waste[0] * USD_PER_M_INPUT + waste[1] * USD_PER_M_OUTPUT) / 1e6,
        utilisation=utilisation(plan, log, recording.begin_ms, waits),
        measured_s=sum(end - start for start, end in backlogged(plan, waits)),
        used=_used(plan, log, recording.begin_ms, end_ms),
        backlog=spans(waits),
        finished_at=end_ms / 1000,
    )


def over_windows(plan: Plan, log: dict[str, Any]) -> int:
    """Windows over a limit in the judge's log, which the judge should not have let happen."""
    window = round(plan.window_s * 1000)
    admitted = [(at, tokens) for at, tokens, *_ in log["admitted"]]
    calls = [(at, 1) for at, _ in admitted]
    output = [(at, tokens) for at, tokens in log["output"]]
    return sum(
        over_limit(plan.window, charges, limit, window)
        for charges, limit in (
            (admitted, plan.quota.input_tokens),
            (calls, plan.quota.requests),
            (output, plan.quota.output_tokens),
        )
    )


def waiting(plan: Plan, log: dict[str, Any], begin_ms: int, end_ms: int) -> list[bool]:
    """For each step until ``end_ms`` after the start: whether work waited in it."""
    admitted_at = {job: at - begin_ms for at, _, _, _, job in log["admitted"]}
    steps = end_ms // STEP_MS + 1
    change = [0] * (steps + 1)
    for number, job in enumerate(plan.jobs):
        if job.local:
            continue
        due = min(steps, round(job.at * 1000) // STEP_MS + 1)
        gone = min(steps, max(0, admitted_at.get(f"job-{number}", end_ms)) // STEP_MS)
        if gone > due:
            change[due] += job.input_tokens
            change[gone] -= job.input_tokens
    enough = plan.quota.input_tokens * STEP_MS / (plan.window_s * 1000)
    return [backlog > enough for backlog in accumulate(change[:steps])]


def utilisation(plan: Plan, log: dict[str, Any], begin_ms: int, waits: Sequence[bool]) -> float:
    """Admitted in the stretches of `backlogged`, as a share of the quota of that time; 0 without a stretch."""
    stretches = backlogged(plan, waits)
    admitted = 0
    for at, tokens, *_ in log["admitted"]:
        second = (at - begin_ms) / 1000
        if any(start <= second < end for start, end in stretches):
            admitted += tokens
    offered = plan.quota.input_tokens * sum(end - start for start, end in stretches) / plan.window_s
    return admitted / offered if offered else 0.0


def backlogged(plan: Plan, waits: Sequence[bool]) -> list[Span]:
    """The stretches in which work waited for at least one window, but for short pauses."""
    joined: list[Span] = []
    for start, end in spans(waits):
        if joined and start - joined[-1][1] <= PAUSE_S:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [(start, end) for start, end in joined if end - start >= plan.window_s]


def spans(waits: Sequence[bool]) -> list[Span]:
    """The stretches, in seconds, in which work waited."""
    found: list[Span] = []
    for step, waited in enumerate(waits):
        at = step * STEP_MS / 1000
        if not waited:
            continue
        if found and abs(found[-1][1] - at) < 1e-9:
            found[-1] = (found[-1][0], at + STEP_MS / 1000)
        else:
            found.append((at, at + STEP_MS / 1000))
    return found


def _used(plan: Plan, log: dict[str, Any], begin_ms: int, end_ms: int) -> list[tuple[float, float]]:
    times = list(range(0, end_ms + STEP_MS, STEP_MS))
    charges = [(at, tokens) for at, tokens, *_ in log["admitted"]]
    moments = [begin_ms + at for at in times]
    levels = used_at(plan.window, charges, moments, plan.quota.input_tokens, round(plan.window_s * 1000))
    return [(at / 1000, level / plan.quota.input_tokens) for at, level in zip(times, levels, strict=True)]


def _extra(recording: Recording) -> dict[str, Any]:
    """Figures beside the main ones."""
    probed = [found for service in recording.probe["probed"].values() for found in service]
    extra: dict[str, Any] = {
        "run_s": recording.elapsed,
        "sdk_retries": recording.plan.retries,
        "largest_request_share": max(job.input_tokens for job in recording.plan.remote)
        / recording.plan.quota.input_tokens,
        "probes": len(probed),
        "probes_without_answer": sum(answered < 0 for _, answered in probed),
        "managed_submits_repeated": sum(found["unavailable"] for found in recording.arms["managed"]),
        "unmanaged_gpu_out_of_memory": sum(found["out_of_memory"] for found in recording.arms["unmanaged"]),
    }
    for name, key in KEYS.items():
        stats = recording.stats["keys"][key]
        extra[f"{name}_over_limit_windows"] = over_windows(recording.plan, recording.log["keys"][key])
        extra[f"{name}_rejected"] = stats["rejected"]
        extra[f"{name}_running_max"] = stats["running_max"]
        for dimension, count in sorted(stats["violations_by_dimension"].items()):
            extra[f"{name}_rejected_for_{dimension}"] = count
    return extra
