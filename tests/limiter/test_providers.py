"""A saturating fleet against three strict providers at once: never over, and close to the limit."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median, pstdev

import pytest

from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Reserve
from bursar.kernel.decider import Accept, Park
from tests.limiter.fleet import Desk, arrivals, completion_tokens, prompt_tokens
from tests.limiter.truth import only
from tests.oracle.history import Limit
from tests.oracle.judge import seen_by_all
from tests.oracle.providers import Model

pytestmark = pytest.mark.property

WINDOW = 20_000
JITTER = 500
MINUTES = 8


@dataclass
class Run:
    """A fleet that always has ``backlog`` requests in line. Calls reserve more output than they use, some are
    cancelled, some never settle. A charge happens anywhere within J of its grant, often at either end."""

    spec: BudgetSpec
    seed: int
    backlog: int = 8
    gaps: bool = False
    charges: dict[str, list[tuple[float, int]]] = field(default_factory=dict)

    def play(self) -> Desk:
        rng = random.Random(self.seed)
        desk = Desk(self.spec, now=rng.randrange(10**6))
        self.begin, self.end = desk.now, desk.now + MINUTES * 60_000
        self.charges = {name: [] for name in self.spec.limits}
        asked: dict[tuple[str, str], tuple[int, int]] = {}
        ends: list[tuple[int, str, dict[str, int] | None]] = []
        calls = arrivals(rng, 230.0, MINUTES * 60_000)
        upcoming = self.begin + next(calls)
        while desk.now < self.end:
            while (upcoming <= desk.now) if self.gaps else (len(asked) < self.backlog):
                upcoming = self.begin + next(calls, 10**12) if self.gaps else upcoming
                self.ask(desk, rng, asked, ends)
            desk.settle_due()
            for key, outcome in desk.answers.items():
                prompt, completion = asked.pop(key)
                if isinstance(outcome, Accept):
                    self.call(rng, outcome, prompt, completion, ends)
            desk.answers.clear()
            moments = [desk.decider.wake_at(desk.state), ends[0][0] if ends else None, upcoming if self.gaps else None]
            desk.now = max(desk.now, min(moment for moment in moments if moment is not None))
            while ends and ends[0][0] <= desk.now:
                _, reservation, usage = heapq.heappop(ends)
                if usage is None:
                    desk.cancel(reservation)
                else:
                    desk.settle(reservation, "agent", **usage)
        return desk

    def ask(
        self,
        desk: Desk,
        rng: random.Random,
        asked: dict[tuple[str, str], tuple[int, int]],
        ends: list[tuple[int, str, dict[str, int] | None]],
    ) -> None:
        prompt, completion = prompt_tokens(rng), completion_tokens(rng)
        amounts = Amounts(requests=1, concurrent=0, input_tokens=prompt, output_tokens=completion + rng.randrange(60))
        body = Reserve(id=desk.new_id(), budget="b", amounts=amounts, wait_ms=600_000, ttl_ms=30_000)
        outcome = desk.ask(body)
        if isinstance(outcome, Park):
            asked["agent", body.id] = prompt, completion
        else:
            assert isinstance(outcome, Accept)
            self.call(rng, outcome, prompt, completion, ends)

    def call(
        self,
        rng: random.Random,
        granted: Accept,
        prompt: int,
        completion: int,
        ends: list[tuple[int, str, dict[str, int] | None]],
    ) -> None:
        reservation, at = granted.reply["reservation"], granted.reply["granted_at_ms"]
        fate = rng.random()
        done = at + JITTER + rng.randrange(100, 8000)
        if fate < 0.02:
            heapq.heappush(ends, (done, reservation, None))
            return
        charged = at + rng.choice([0, JITTER, JITTER * rng.random()])
        usage = {"requests": 1, "input_tokens": prompt, "output_tokens": completion}
        for name, charges in self.charges.items():
            charges.append((charged, usage[name]))
        if fate < 0.99:
            heapq.heappush(ends, (done, reservation, usage))

    def violations(self) -> dict[tuple[str, str, Model], int]:
        """How many there are, by dimension and model of the provider."""
        found: dict[tuple[str, str, Model], int] = {}
        for name, charges in self.charges.items():
            limit = only(self.spec.limits[name])  # type: ignore[index]
            judged = Limit("b", name, limit.limit, limit.window_ms * 1000, limit.bucket)
            found.update(seen_by_all(judged, [(round(at * 1000), amount) for at, amount in charges]).by)
        return found

    def utilisation(self, name: str) -> float:
        """Share of the limit that was really used, without the first window."""
        begin = self.begin + WINDOW
        used = sum(amount for at, amount in self.charges[name] if begin <= at < self.end)
        limit = only(self.spec.limits[name])  # type: ignore[index]
        return used * limit.window_ms / (limit.limit * (self.end - begin))


def budget(limit: int, bucket: int | None = None) -> BudgetSpec:
    limits = {
        "requests": LimitSpec(limit=limit // 500, window_ms=WINDOW),
        "input_tokens": LimitSpec(limit=limit, window_ms=WINDOW, bucket=bucket),
        "output_tokens": LimitSpec(limit=limit // 4, window_ms=WINDOW),
    }
    return BudgetSpec(name="b", limits=limits, jitter_ms=JITTER)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [107_000, 250_000])
def test_saturated_the_limit_is_used_but_never_exceeded(limit: int, seed: int) -> None:
    """No request above 7 % of the limit: 85-95 % of it is used, and three providers see no violation."""
    run = Run(budget(limit), seed)
    run.play().check()
    assert run.violations() == {}
    assert 0.85 <= run.utilisation("input_tokens") <= 0.95


@pytest.mark.parametrize("seed", range(2))
def test_a_tight_limit_is_never_exceeded_and_nobody_is_refused_for_ever(seed: int) -> None:
    """Single requests of three quarters of the limit wait for their turn and get it."""
    run = Run(budget(10_000), seed)
    run.play().check()
    assert run.violations() == {}
    assert run.utilisation("input_tokens") > 0.65


@pytest.mark.parametrize("bucket", [7500, 40_000])
def test_a_provider_with_a_small_bucket_is_never_exceeded(bucket: int) -> None:
    """Its bucket holds less than the limit of a window."""
    run = Run(budget(107_000, bucket), 1)
    run.play().check()
    assert run.violations() == {}
    assert 0.80 <= run.utilisation("input_tokens") <= 0.95


@pytest.mark.parametrize("seed", range(2))
def test_bursts_and_silences_are_never_over(seed: int) -> None:
    """Arrivals with a CV of 13: everything after a silence comes at once."""
    run = Run(budget(250_000), seed, gaps=True)
    run.play().check()
    assert run.violations() == {}


def test_the_generator_has_the_statistics_of_the_trace() -> None:
    """Prompts of median 1469 and at most 7437 tokens, completions of mean 28 and at most 1900, arrivals of CV 13."""
    rng = random.Random(5)
    prompts = sorted(prompt_tokens(rng) for _ in range(20_000))
    assert 1400 < median(prompts) < 1540
    assert 7300 < prompts[int(0.99 * len(prompts))] <= 7437
    completions = [completion_tokens(rng) for _ in range(20_000)]
    assert 24 < mean(completions) < 32
    assert max(completions) <= 1900
    times = list(arrivals(rng, 40.0, 40 * 400_000))
    gaps = [after - before for before, after in pairwise(times)]
    assert 9 < pstdev(gaps) / mean(gaps) < 18
