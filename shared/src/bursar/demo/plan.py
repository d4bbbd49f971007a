"""The experiment: which jobs come when, what the provider allows, and when what goes wrong. All of it is derived from
the trace and the wished length, before anything runs.

Most requests go to the provider; one in `LOCAL_EVERY` is done on the fleet's own GPUs, which are simulated. The
provider's limit of input tokens is chosen so that its part of the work, paced at `UTILISATION` and with the bad times
in it, ends at about the wished time: demand is then above the limit most of the time, as in a fleet that pays for no
more quota than it needs. The other limits have room, so that one limit binds and the figures are about that one.
"""

from __future__ import annotations

from collections.abc import Sequence
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
TARGET: Final = "demo-provider"
"""The circuit that stands before the provider."""

LOCAL_EVERY: Final = 12
GPU_HOSTS: Final = ("gpu-a", "gpu-b")
PLAIN_HOSTS: Final = ("plain-a", "plain-b")
"""The hosts of the fleet under Bursar, and those of the unmanaged one; they are alike."""
GPU_CARDS: Final = "2x12GiB"
GPU_WORKERS: Final = 1
GPU_SLOTS: Final = 12
"""Workers of a host, and tasks at a time of each: more than its cards have room for."""
GIB: Final = 1024**3
REMOTE_WORKERS: Final = 2
REMOTE_SLOTS: Final = 96
WORKER_TTL_MS: Final = 1_200
"""Silence after which the scheduler gives a worker's tasks to others."""
KILLED_SERVICES: Final = ("breaker", "gpu-manager", "limiter", "scheduler")

ARRIVALS_SHARE: Final = 0.76
"""Part of the run in which requests arrive; the rest works off what has piled up."""
OUTAGE_AT: Final = 0.20
OUTAGE_SHARE: Final = 0.025
OVERLOAD_AT: Final = 0.41
OVERLOAD_SHARE: Final = 0.018
CARD_LOST_AT: Final = 0.51
WORKER_KILL_AT: Final = 0.64
KILLS_FROM: Final = 0.27
KILLS_UNTIL: Final = 0.66
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
    local: bool = False

    @property
    def gpu_bytes(self) -> int:
        """What it takes on a card: the model's weights and a cache that grows with the text."""
        return GIB + min(self.input_tokens + self.output_tokens, 8 * 1024) * 1024**2

    @property
    def gpu_seconds(self) -> float:
        """How long it computes there."""
        return 0.25 + self.output_tokens * 0.005


class Kill(NamedTuple):
    """``kill -9`` of the instance of a service that decides, so many seconds after the start."""

    at: float
    service: str


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
    overload_at: float
    overload_s: float
    kills: tuple[Kill, ...]
    worker_kill_at: float
    card_lost_at: float
    give_up_at: float
    seed: int
    source: str

    @property
    def remote(self) -> list[Job]:
        """The jobs of the provider."""
        return [job for job in self.jobs if not job.local]

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

    def circuits_toml(self) -> str:
        """The breaker's rules: quick ones, as for a provider that is asked a hundred times a second."""
        return """
[default]
window = "2s"
minimum_calls = 10
failure_rate = "50%"
consecutive = 5
quorum = 2
open_for = "300ms"
growth = "120%"
max_open = "1s"
probes = 2
probe_ttl = "5s"
successes = 2
ramp_step = "100ms"
"""


@dataclass(frozen=True)
class Wishes:
    """What the command line asked for. ``seconds``: about how long the fleet works."""

    seconds: float = 84.0
    agents: int = 100
    processes: int = 2
    retries: int = 5
    window: Kind = "rolling"
    window_s: float = WINDOW_S
    kills: int = 1
    seed: int = 1


def make_plan(arrivals: list[Arrival], source: str, wishes: Wishes) -> Plan:
    """The run for these arrivals. Raises `PlanError`."""
    if wishes.seconds < MIN_SECONDS:
        raise PlanError(f"{wishes.seconds:g} s are too few: the faults need at least {MIN_SECONDS:g} s")
    if wishes.agents < wishes.processes:
        raise PlanError(f"{wishes.agents} agents cannot be spread over {wishes.processes} processes")
    seconds = wishes.seconds
    jobs = [_job(number, arrival) for number, arrival in enumerate(scaled(arrivals, seconds * ARRIVALS_SHARE))]
    remote = [job for job in jobs if not job.local]
    outage = (seconds * OUTAGE_AT, seconds * OUTAGE_SHARE)
    overload = (seconds * OVERLOAD_AT, seconds * OVERLOAD_SHARE)
    rate = _rate(remote, seconds, (outage, overload))
    return Plan(
        jobs=jobs,
        seconds=seconds,
        agents=wishes.agents,
        processes=wishes.processes,
        retries=wishes.retries,
        window=wishes.window,
        window_s=wishes.window_s,
        quota=_quota(remote, rate, wishes),
        outage_at=outage[0],
        outage_s=outage[1],
        overload_at=overload[0],
        overload_s=overload[1],
        kills=_kills(seconds, wishes.kills),
        worker_kill_at=seconds * WORKER_KILL_AT,
        card_lost_at=seconds * CARD_LOST_AT,
        give_up_at=seconds * 1.15 + 3.0,
        seed=wishes.seed,
        source=source,
    )


def _job(number: int, arrival: Arrival) -> Job:
    output = max(1, arrival.generated_tokens)
    is_local = number % LOCAL_EVERY == LOCAL_EVERY - 1
    return Job(arrival.at, max(1, arrival.context_tokens), output, max(16, 1 << output.bit_length()), is_local)


def _kills(seconds: float, rounds: int) -> tuple[Kill, ...]:
    """Every service so often, one after the other."""
    victims = KILLED_SERVICES * rounds
    gap = (KILLS_UNTIL - KILLS_FROM) / max(1, len(victims))
    return tuple(Kill(seconds * (KILLS_FROM + gap * number), name) for number, name in enumerate(victims))


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


BadTimes = Sequence[tuple[float, float]]
"""From when, for how long (s): nothing is done in it."""


def _rate(jobs: list[Job], seconds: float, bad: BadTimes) -> float:
    """Input tokens per second that the provider has to allow so that all work ends at about ``seconds``."""
    total = sum(job.input_tokens for job in jobs)
    low, high = total / seconds / 4, total / seconds * 16
    for _ in range(40):
        middle = (low + high) / 2
        if _ends_at(jobs, middle * UTILISATION, bad) > seconds - 2.5:
            low = middle
        else:
            high = middle
    return high


def _ends_at(jobs: list[Job], pace: float, bad: BadTimes) -> float:
    """When a queue with that pace (tokens/s) has worked everything off, bad times being lost."""
    now, waiting, next_job = 0.0, 0.0, 0
    while next_job < len(jobs) or waiting > 0:
        while next_job < len(jobs) and jobs[next_job].at <= now:
            waiting += jobs[next_job].input_tokens
            next_job += 1
        if not any(at <= now < at + lasts for at, lasts in bad):
            waiting = max(0.0, waiting - pace * STEP_S)
        now += STEP_S
    return now
