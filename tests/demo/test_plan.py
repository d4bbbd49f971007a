"""The plan of a run follows from the trace and the wishes."""

from __future__ import annotations

import tomllib
from collections import Counter

import pytest

from bursar.contracts.gpu import DEFAULT_RESERVE
from bursar.demo.plan import (
    GIB,
    LOCAL_EVERY,
    MANAGED_KEY,
    UNMANAGED_KEY,
    UTILISATION,
    PlanError,
    Wishes,
    make_plan,
)
from bursar.demo.provider.settings import from_dict
from bursar.demo.trace import Arrival, generate

ARRIVALS = generate(1)


def test_demand_is_above_the_limit_and_still_fits_into_the_run() -> None:
    """While requests arrive there is more work than the pace allows; in the whole run there is not."""
    plan = make_plan(ARRIVALS, "generated", Wishes())
    total = sum(job.input_tokens for job in plan.remote)
    pace = plan.quota.input_tokens * UTILISATION / plan.window_s
    assert total > pace * plan.jobs[-1].at
    assert total < pace * (plan.seconds - plan.outage_s)


def test_every_request_is_kept_with_its_size() -> None:
    """Scaling changes when, not what; nothing asks for no tokens."""
    plan = make_plan([Arrival(0.0, 0, 0), *ARRIVALS], "generated", Wishes())
    assert len(plan.jobs) == len(ARRIVALS) + 1
    assert [job.input_tokens for job in plan.jobs[1:]] == [arrival.context_tokens for arrival in ARRIVALS]
    assert min(job.input_tokens for job in plan.jobs) == 1
    assert all(job.output_tokens < job.max_tokens <= max(16, 2 * job.output_tokens) for job in plan.jobs)


def test_faults_fall_into_the_time_of_the_arrivals() -> None:
    """The outage ends before the first kill, and the last fault comes while requests still arrive."""
    plan = make_plan(ARRIVALS, "generated", Wishes(kills=3))
    times = [kill.at for kill in plan.kills]
    assert plan.outage_at + plan.outage_s < times[0]
    assert times == sorted(times)
    assert max(times[-1], plan.worker_kill_at, plan.card_lost_at, plan.overload_at + plan.overload_s) < plan.jobs[-1].at


def test_every_service_that_decides_for_agents_is_killed_equally_often() -> None:
    """Each round kills all four; no round kills nobody."""
    for rounds in (0, 1, 2):
        killed = Counter(kill.service for kill in make_plan(ARRIVALS, "generated", Wishes(kills=rounds)).kills)
        assert set(killed.values()) <= {rounds}
        assert len(killed) == (4 if rounds else 0)


def test_every_job_of_a_card_fits_on_a_card() -> None:
    """With the reserve that the manager keeps free; and some are too large to be beside another."""
    plan = make_plan(ARRIVALS, "generated", Wishes())
    local = [job for job in plan.jobs if job.local]
    assert len(local) + len(plan.remote) == len(plan.jobs)
    assert len(local) == len(plan.jobs) // LOCAL_EVERY
    assert max(job.gpu_bytes for job in local) <= 12 * GIB - DEFAULT_RESERVE


def test_the_breaker_can_read_its_rules() -> None:
    """They stand in the file that the service is given."""
    assert tomllib.loads(make_plan(ARRIVALS, "generated", Wishes()).circuits_toml())["default"]["quorum"] == 2


def test_the_judge_and_the_limiter_are_told_the_same_limits() -> None:
    """The judge can read its settings, and the limiter's budget has the numbers of the managed key."""
    plan = make_plan(ARRIVALS, "generated", Wishes(window="bucket"))
    settings = from_dict(plan.provider_settings())
    limits = tomllib.loads(plan.budgets_toml())["budgets"]["demo/openai"]["limits"]
    assert settings.keys[MANAGED_KEY] == settings.keys[UNMANAGED_KEY]
    for name in ("requests", "input_tokens", "output_tokens"):
        assert limits[name]["limit"] == getattr(settings.keys[MANAGED_KEY], name)
        assert limits[name]["window"] == f"{settings.window_ms}ms"
    assert limits["concurrent"] == settings.keys[MANAGED_KEY].concurrency


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        (Wishes(seconds=5), "too few"),
        (Wishes(agents=2, processes=3), "cannot be spread"),
    ],
)
def test_wishes_that_do_not_fit_together_are_refused(wishes: Wishes, says: str) -> None:
    """With the reason."""
    with pytest.raises(PlanError, match=says):
        make_plan(ARRIVALS, "generated", wishes)


def test_the_limit_has_room_for_the_largest_request_of_any_trace() -> None:
    """A few large requests make a plan, too: none of them may be one that never fits."""
    few = [Arrival(float(n), 5_000, 10) for n in range(6)]
    plan = make_plan(few, "few", Wishes())
    assert plan.quota.input_tokens >= 2 * 5_000
