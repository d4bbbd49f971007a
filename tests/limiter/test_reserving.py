"""Reserving and refusing."""

from __future__ import annotations

import pytest

from bursar.contracts.limiter import Amounts, BudgetSpec, Granted, LimitSpec, Refused, Reserve
from bursar.kernel.decider import Accept
from tests.limiter.fleet import Desk

FENCE = "1.1.1.0123456789abcdef"
RAW = BudgetSpec(
    name="b",
    limits={
        "requests": LimitSpec(limit=10, window_ms=1000, paced=False),
        "input_tokens": LimitSpec(limit=1000, window_ms=2000, paced=False),
        "concurrent": LimitSpec(limit=3, window_ms=0),
    },
    jitter_ms=100,
)


def test_a_grant_is_a_valid_message() -> None:
    """The reservation id is the decision's fence; the permit says when it was made and how long it is good."""
    desk = Desk(RAW, now=50)
    outcome = desk.reserve(requests=1, input_tokens=100, concurrent=1, ttl_ms=5000)
    assert isinstance(outcome, Accept)
    granted = Granted(**outcome.reply, fence=FENCE)
    assert granted.reservation == f"1.1.{desk.number}"
    assert (granted.granted_at_ms, granted.expires_at_ms) == (50, 5050)


def test_a_permit_is_good_within_jitter() -> None:
    """Its send deadline is the budget's, cut to J and to the time to live: later charges are not accounted for."""
    for jitter, ttl, good in ((500, 60_000, 300), (100, 60_000, 100), (500, 200, 200)):
        desk = Desk(RAW.model_copy(update={"jitter_ms": jitter}))
        outcome = desk.reserve(requests=1, ttl_ms=ttl)
        assert isinstance(outcome, Accept)
        assert outcome.reply["send_by_at_ms"] == good


def test_a_longer_time_to_live_is_cut_to_the_budgets() -> None:
    """Nothing may be in flight for longer than a recovery waits."""
    desk = Desk(RAW.model_copy(update={"max_ttl_ms": 2000}))
    outcome = desk.reserve(requests=1, ttl_ms=60_000)
    assert isinstance(outcome, Accept)
    assert outcome.reply["expires_at_ms"] == 2000


def test_all_dimensions_are_taken_or_none() -> None:
    """A request that fails on tokens takes no request and no place in flight."""
    desk = Desk(RAW)
    desk.granted(requests=1, input_tokens=950, concurrent=1)
    before = desk.dump()
    assert desk.refused(requests=1, input_tokens=51, concurrent=1)["dimension"] == "input_tokens"
    assert desk.dump() == before


def test_a_refusal_says_what_is_in_the_way_until_when() -> None:
    """Reason, dimension, limit, level, the exact time, and a sentence; a valid message."""
    desk = Desk(RAW, now=1)
    desk.granted(input_tokens=900)
    refused = Refused(**desk.refused(input_tokens=200), fence=FENCE)
    assert refused.reason == "over_limit"
    assert (refused.dimension, refused.limit, refused.level, refused.ahead) == ("input_tokens", 1000, 900, 0)
    assert refused.retry_at_ms is not None
    assert refused.retry_in_ms == refused.retry_at_ms - 1
    assert 2101 < refused.retry_at_ms <= 2101 + 2100 // 512 + 2
    assert refused.text.startswith("900 of 1000 input tokens of budget b are used in the last 2 s, and 200 more")


def test_the_limit_that_lasts_longest_is_named() -> None:
    """Both requests and tokens are used up; tokens come back later."""
    desk = Desk(RAW)
    for _ in range(10):
        desk.granted(requests=1, input_tokens=100)
    assert desk.refused(requests=1)["dimension"] == "requests"
    assert desk.refused(requests=1, input_tokens=100)["dimension"] == "input_tokens"


def test_calls_in_flight_come_back_when_the_next_one_times_out() -> None:
    """If nothing is settled, time-outs make room: the retry time is that of enough of them."""
    desk = Desk(RAW)
    for ttl in (5000, 3000, 4000):
        desk.granted(concurrent=1, ttl_ms=ttl)
    assert desk.refused(concurrent=1)["retry_at_ms"] == 3000
    assert desk.refused(concurrent=2)["retry_at_ms"] == 4000
    assert desk.refused(concurrent=3)["retry_at_ms"] == 5000


def test_a_dimension_that_is_not_asked_for_does_not_hinder() -> None:
    """Tokens are used up; a request without tokens passes."""
    desk = Desk(RAW)
    desk.granted(input_tokens=1000)
    desk.granted(requests=1)


@pytest.mark.parametrize(("dimension", "amount"), [("requests", 11), ("input_tokens", 1001), ("concurrent", 4)])
@pytest.mark.parametrize("wait_ms", [0, 60_000])
def test_more_than_the_limit_never_fits(dimension: str, amount: int, wait_ms: int) -> None:
    """No time is given, and nobody waits for it."""
    amounts = {dimension: amount}
    refused = Refused(**Desk(RAW).refused("b", wait_ms, **amounts), fence=FENCE)
    assert (refused.reason, refused.dimension, refused.retry_at_ms) == ("never_fits", dimension, None)
    assert "Ask for less" in refused.text


def test_a_request_larger_than_the_pacing_bucket_fits() -> None:
    """Only the limit is final: 5 % of a limit may go in one go, and 90 % after the bucket has filled."""
    desk = Desk(BudgetSpec(name="b", limits={"input_tokens": LimitSpec(limit=1000, window_ms=1000)}))
    desk.granted(input_tokens=900)
    refused = desk.refused(input_tokens=10)
    assert refused["retry_at_ms"] == 935
    assert "spread over time" in refused["text"]


def test_a_small_bucket_of_the_provider_bounds_a_request() -> None:
    """More than the provider's bucket holds never fits, whatever the limit of the window is."""
    limits = {"input_tokens": LimitSpec(limit=1000, window_ms=1000, bucket=100)}
    desk = Desk(BudgetSpec(name="b", limits=limits))  # type: ignore[arg-type]
    refused = desk.refused(input_tokens=101)
    assert refused["reason"] == "never_fits"
    assert "(100)" in refused["text"]
    desk.granted(input_tokens=100)
    assert desk.refused(input_tokens=10)["retry_at_ms"] > 500


def test_money_that_is_spent_once_does_not_come_back() -> None:
    """A refusal has no time; a cancelled call gives its money back."""
    desk = Desk(BudgetSpec(name="b", limits={"usd_micros": LimitSpec(limit=500, window_ms=0)}))
    desk.granted(usd_micros=400)
    refused = desk.refused(usd_micros=200)
    assert (refused["reason"], refused["retry_at_ms"]) == ("over_limit", None)
    assert "No waiting helps" in refused["text"]
    desk.advance(10_000_000)
    assert desk.refused(usd_micros=200)["retry_at_ms"] is None
    rest = desk.granted(usd_micros=100)
    desk.cancel(rest)
    desk.granted(usd_micros=100)


def test_output_in_flight_counts_however_old_it_is() -> None:
    """Charged as produced: a call of an hour may produce its output in the last second."""
    spec = LimitSpec(limit=1000, window_ms=1000, charge="production", paced=False)
    desk = Desk(BudgetSpec(name="b", limits={"output_tokens": spec}, jitter_ms=0))
    call = desk.granted(output_tokens=800, ttl_ms=60_000)
    desk.advance(30_000)
    assert desk.refused(output_tokens=300)["retry_at_ms"] > 61_000
    desk.settle(call, output_tokens=600)
    desk.granted(output_tokens=300)
    assert desk.refused(output_tokens=200)["level"] == 900
    desk.advance(31_100)
    desk.granted(output_tokens=700)


def test_an_unknown_budget_is_an_error_with_the_known_ones() -> None:
    """The caller is wrong, and is told what there is."""
    outcome = Desk(RAW).reserve("nothing", requests=1)
    assert Desk(RAW).rejected(outcome) == "unknown_budget"
    assert outcome.facts["known"] == ["b"]  # type: ignore[union-attr]


def test_memory_is_bounded_whatever_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reservations of nothing are bounded too; room comes with the next time-out."""
    monkeypatch.setattr("bursar_limiter.path.MAX_LIVE", 2)
    monkeypatch.setattr("bursar_limiter.refusal.MAX_LIVE", 2)
    desk = Desk(RAW)
    for ttl in (700, 900):
        desk.granted(ttl_ms=ttl)
    refused = desk.refused()
    assert (refused["retry_at_ms"], refused["dimension"]) == (700, None)
    desk.advance(700)
    desk.granted()


def test_two_budgets_do_not_share() -> None:
    """What one uses is not the other's."""
    desk = Desk(RAW, RAW.model_copy(update={"name": "c"}))
    desk.granted("b", input_tokens=1000)
    desk.granted("c", input_tokens=1000)


def test_decisions_are_the_same_for_the_same_history() -> None:
    """No clock, no randomness: equal commands at equal times give equal journals."""

    def history() -> Desk:
        desk = Desk(RAW)
        for at in range(0, 3000, 70):
            desk.advance(at)
            body = Reserve(id=f"x-{at}", budget="b", amounts=Amounts(input_tokens=at % 97, concurrent=1), wait_ms=200)
            desk.ask(body)
        return desk

    one, other = history(), history()
    assert one.journal == other.journal
    assert one.dump() == other.dump()
