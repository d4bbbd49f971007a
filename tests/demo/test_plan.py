"""The plan of a run follows from the trace and the wishes."""

from __future__ import annotations

import tomllib

import pytest

from bursar.demo.plan import MANAGED_KEY, UNMANAGED_KEY, UTILISATION, PlanError, Wishes, make_plan
from bursar.demo.provider.settings import from_dict
from bursar.demo.trace import Arrival, generate

ARRIVALS = generate(1)


def test_demand_is_above_the_limit_and_still_fits_into_the_run() -> None:
    """While requests arrive there is more work than the pace allows; in the whole run there is not."""
    plan = make_plan(ARRIVALS, "generated", Wishes())
    total = sum(job.input_tokens for job in plan.jobs)
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
    """The outage ends before the first kill, and the last kill comes while requests still arrive."""
    plan = make_plan(ARRIVALS, "generated", Wishes(kills=3))
    assert plan.outage_at + plan.outage_s < plan.kills_at[0]
    assert list(plan.kills_at) == sorted(plan.kills_at)
    assert len(plan.kills_at) == 3
    assert plan.kills_at[-1] < plan.jobs[-1].at


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
