"""The experiment: which jobs come when, what the provider allows, and when what goes wrong. All of it is derived from
the trace and the wished length, before anything runs.

The provider's limit of input tokens is chosen so that the work, paced at `UTILISATION` and with the outage in it, ends
at about the wished time: demand is then above the limit most of the time, as in a fleet that pays for no more quota
than it needs. The other limits have room, so that one limit binds and the figures are about that one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from bursar.demo.provider.windows import Kind
from bursar.demo.trace import Arrival, scaled

UTILISATION: Final = 0.95
BURST: Final = 0.05
JITTER_MS: Final = 500
SEND_WITHIN_MS: Final = 300
WINDOW_S: Final = 20.0

MANAGED_KEY: Final = "sk-managed"
UNMANAGED_KEY: Final = "sk-unmanaged"
BUDGET: Final = "demo/openai"
PROBE_BUDGET: Final = "demo/probe"

ARRIVALS_SHARE: Final = 0.76
"""Part of the run in which requests arrive; the rest works off what has piled up."""
OUTAGE_SHARE: Final = 0.047
OUTAGE_AT: Final = 0.36
KILL_AT: Final = 0.58
STEP_S: Final = 0.05
MIN_SECONDS: Final = 20.0

USD_PER_M_INPUT: Final = 3.0
USD_PER_M_OUTPUT: Final = 15.0
"""Dollars per million tokens, for what waste costs; the list price of a middle-sized model."""


class PlanError(ValueError):
    """The wishes do not fit together; the text says which."""


class Job(NamedTuple):
    """One request to make: due ``at`` seconds after the start, with sizes in tokens. ``max_tokens`` is what the agent
    states: the next power of two above what it will get, as somebody would who roughly knows the kind of task."""

    at: float
    input_tokens: int
    output_tokens: int
    max_tokens: int


@dataclass(frozen=True)
class Quota:
    """The provider's limits of one key, per window."""

    requests: int
    input_tokens: int
    output_tokens: int
    concurrency: int


@dataclass(frozen=True)
class Plan:
    """One run. Times in seconds after the start of the arrivals."""

    jobs: list[Job]
    seconds: float
    agents: int
    processes: int
    retries: int
    window: Kind
    window_s: float
    quota: Quota
    outage_at: float
    outage_s: float
    kills_at: tuple[float, ...]
    give_up_at: float
    seed: int
    source: str

    def provider_settings(self) -> dict[str, Any]:
        """The judge's configuration: both keys have the same limits."""
        limits = asdict(self.quota)
        return {
            "keys": {MANAGED_KEY: limits, UNMANAGED_KEY: limits},
            "window": self.window,
            "window_ms": round(self.window_s * 1000),
            "output_charge": "produced",
            "seed": self.seed,
            "first_token_ms": 150.0,
            "per_token_ms": 5.0,
            "chunk_tokens": 16,
        }

    def budgets_toml(self) -> str:
        """The limiter's budgets: the provider's limits as they are, and for the probe one that is never short."""
        window = f'window = "{round(self.window_s * 1000)}ms"'
        return f"""
[budgets."{BUDGET}"]
jitter = "{JITTER_MS}ms"
send_within = "{SEND_WITHIN_MS}ms"
utilisation = "{round(UTILISATION * 100)}%"
burst = "{round(BURST * 100)}%"
limits.requests = {{ limit = {self.quota.requests}, {window} }}
limits.input_tokens = {{ limit = {self.quota.input_tokens}, {window} }}
limits.output_tokens = {{ limit = {self.quota.output_tokens}, {window}, charge = "production" }}
limits.concurrent = {self.quota.concurrency}

[budgets."{PROBE_BUDGET}"]
limits.requests = {{ limit = 1000000, {window} }}
"""


@dataclass(frozen=True)
class Wishes:
    """What the command line asked for. ``seconds``: about how long the fleet works."""

    seconds: float = 64.0
    agents: int = 100
    processes: int = 3
    retries: int = 5
    window: Kind = "rolling"
    window_s: float = WINDOW_S
    kills: int = 1
    seed: int = 1


def make_plan(arrivals: list[Arrival], source: str, wishes: Wishes) -> Plan:
    """The run for these arrivals. Raises `PlanError`."""
    if wishes.seconds < MIN_SECONDS:
        raise PlanError(f"{wishes.seconds:g} s are too few: the outage and the kill need at least {MIN_SECONDS:g} s")
    if wishes.agents < wishes.processes:
        raise PlanError(f"{wishes.agents} agents cannot be spread over {wishes.processes} processes")
    jobs = [_job(arrival) for arrival in scaled(arrivals, wishes.seconds * ARRIVALS_SHARE)]
    outage_at, outage_s = wishes.seconds * OUTAGE_AT, wishes.seconds * OUTAGE_SHARE
    rate = _rate(jobs, wishes.seconds, outage_at, outage_s)
    quota = _quota(jobs, rate, wishes)
    first = wishes.seconds * KILL_AT
    gap = (wishes.seconds * ARRIVALS_SHARE - first) / max(1, wishes.kills)
    return Plan(
        jobs=jobs,
        seconds=wishes.seconds,
        agents=wishes.agents,
        processes=wishes.processes,
        retries=wishes.retries,
        window=wishes.window,
        window_s=wishes.window_s,
        quota=quota,
        outage_at=outage_at,
        outage_s=outage_s,
        kills_at=tuple(first + gap * number for number in range(wishes.kills)),
        give_up_at=wishes.seconds * 1.15 + 3.0,
        seed=wishes.seed,
        source=source,
    )


def _job(arrival: Arrival) -> Job:
    output = max(1, arrival.generated_tokens)
    return Job(arrival.at, max(1, arrival.context_tokens), output, max(16, 1 << output.bit_length()))


def _quota(jobs: list[Job], rate: float, wishes: Wishes) -> Quota:
    """The limits per window: input tokens bind, the others have room."""
    share = wishes.window_s / wishes.seconds
    largest_output = max(job.max_tokens for job in jobs)
    return Quota(
        requests=round(len(jobs) * share * 1.6) + 1,
        input_tokens=max(round(rate * wishes.window_s), 2 * max(job.input_tokens for job in jobs)),
        output_tokens=max(round(sum(job.output_tokens for job in jobs) * share * 2.5), largest_output * 15),
        concurrency=160,
    )


def _rate(jobs: list[Job], seconds: float, outage_at: float, outage_s: float) -> float:
    """Input tokens per second that the provider has to allow so that all work ends at about ``seconds``."""
    total = sum(job.input_tokens for job in jobs)
    low, high = total / seconds / 4, total / seconds * 16
    for _ in range(40):
        middle = (low + high) / 2
        if _ends_at(jobs, middle * UTILISATION, outage_at, outage_s) > seconds - 2.5:
            low = middle
        else:
            high = middle
    return high


def _ends_at(jobs: list[Job], pace: float, outage_at: float, outage_s: float) -> float:
    """When a queue with that pace (tokens/s) has worked everything off, the outage being lost time."""
    now, waiting, next_job = 0.0, 0.0, 0
    while next_job < len(jobs) or waiting > 0:
        while next_job < len(jobs) and jobs[next_job].at <= now:
            waiting += jobs[next_job].input_tokens
            next_job += 1
        if not outage_at <= now < outage_at + outage_s:
            waiting = max(0.0, waiting - pace * STEP_S)
        now += STEP_S
    return now
