"""Replacing the set of budgets."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.limiter import BudgetSpec, LimitSpec, Reload, Reloaded
from bursar.kernel.decider import Accept, Refuse, Reject
from bursar_limiter.reloading import LoadFile, digest
from tests.limiter.fleet import Desk

FENCE = "1.1.1.0123456789abcdef"


def tokens(limit: int = 1000, window: int = 1000, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=window, paced=False, **more)


def spec(name: str = "b", limits: dict[str, LimitSpec] | None = None, **more: Any) -> BudgetSpec:
    return BudgetSpec(name=name, limits=limits or {"input_tokens": tokens()}, **{"jitter_ms": 0, **more})  # type: ignore[arg-type]


def test_the_answer_says_what_changed() -> None:
    """Added, changed, removed; a valid message."""
    desk = Desk(spec("a"), spec("b"), spec("c"))
    outcome = desk.reload(spec("b", jitter_ms=7), spec("c"), spec("d"))
    assert isinstance(outcome, Accept)
    reloaded = Reloaded(**outcome.reply, fence=FENCE)
    assert (reloaded.added, reloaded.changed, reloaded.removed) == (["d"], ["b"], ["a"])


def test_the_same_set_changes_nothing() -> None:
    """No event is written for it."""
    desk = Desk(spec("a"))
    assert isinstance(desk.reload(spec("a")), Refuse)


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"concurrent": tokens(5)}, "has no window"),
        ({"requests": tokens(5, 0)}, "needs a window"),
        ({"usd_micros": tokens(5, 0, charge="production")}, "charge as produced"),
        ({"output_tokens": tokens(5, charge="production", bucket=3)}, "charge as produced"),
        ({"requests": tokens(5, bucket=6)}, "not larger than the limit"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_and_changes_nothing(limits: dict[str, LimitSpec], why: str) -> None:
    """The whole set is refused, with the name and the reason."""
    desk = Desk(spec("a"))
    before = desk.dump()
    outcome = desk.reload(spec("a"), spec("bad", limits))
    assert isinstance(outcome, Reject)
    assert (outcome.code, outcome.facts) == ("bad_budget", {"budget": "bad"})
    assert why in outcome.text
    assert desk.dump() == before


def test_a_budget_needs_a_limit_and_a_name_of_its_own() -> None:
    """Neither an empty budget nor two of one name."""
    desk = Desk(spec("a"))
    assert desk.rejected(desk.reload(BudgetSpec(name="b", limits={}))) == "bad_budget"
    assert desk.rejected(desk.reload(spec("b"), spec("b"))) == "bad_budget"


def test_what_is_charged_stays_charged() -> None:
    """A raised limit gives only the difference; a lowered one blocks until enough has left."""
    desk = Desk(spec())
    desk.granted(input_tokens=900)
    desk.reload(spec(limits={"input_tokens": tokens(1100)}))
    desk.refused(input_tokens=201)
    desk.granted(input_tokens=200)
    desk.reload(spec(limits={"input_tokens": tokens(500)}))
    assert desk.refused(input_tokens=1)["level"] == 1100
    desk.check()


def test_a_shorter_window_forgets_sooner() -> None:
    """What is older than the new window is no longer in the way."""
    desk = Desk(spec(limits={"input_tokens": tokens(window=10_000)}))
    desk.granted(input_tokens=1000)
    desk.advance(2000)
    desk.reload(spec(limits={"input_tokens": tokens(window=1000)}))
    desk.granted(input_tokens=1000)
    desk.check()


def test_a_longer_window_starts_full() -> None:
    """What had left the shorter window is not known any more, but the longer one may still hold it."""
    desk = Desk(spec())
    desk.granted(input_tokens=1000)
    desk.advance(5000)
    desk.reload(spec(limits={"input_tokens": tokens(window=10_000)}))
    assert 15_000 < desk.refused(input_tokens=1)["retry_at_ms"] <= 15_040
    desk.check()


def test_a_limit_that_is_new_to_a_budget_in_use_starts_full() -> None:
    """Taken away and put back within a window it must not grant the window twice; one on money starts empty."""
    desk = Desk(spec(limits={"requests": tokens(100), "input_tokens": tokens()}))
    desk.granted(input_tokens=1000)
    desk.reload(spec(limits={"requests": tokens(100)}))
    desk.reload(spec(limits={"requests": tokens(100), "input_tokens": tokens(), "usd_micros": tokens()}))
    desk.granted(usd_micros=1000)
    assert 1000 <= desk.refused(input_tokens=1)["retry_at_ms"] <= 1010
    desk.advance(1010)
    desk.granted(input_tokens=1000)
    desk.check()


def test_an_unused_budget_may_get_a_longer_window_for_nothing() -> None:
    """Nothing was ever granted, so nothing is feared."""
    desk = Desk(spec())
    desk.reload(spec(limits={"input_tokens": tokens(window=10_000)}))
    desk.granted(input_tokens=1000)


def test_a_call_reserved_under_other_rules_is_not_refunded_from_the_new_ones() -> None:
    """The new ledger does not know where its amount stands; it can only add."""
    desk = Desk(spec())
    call = desk.granted(input_tokens=900)
    desk.reload(spec(jitter_ms=1))
    desk.settle(call, input_tokens=0)
    desk.refused(input_tokens=200)
    desk.check()


def test_calls_in_flight_count_under_a_new_limit_on_them() -> None:
    """Concurrency becomes limited while calls are in flight."""
    desk = Desk(spec())
    call = desk.granted(concurrent=2)
    desk.reload(spec(limits={"input_tokens": tokens(), "concurrent": LimitSpec(limit=3, window_ms=0)}))
    desk.refused(concurrent=2)
    desk.settle(call)
    desk.granted(concurrent=2)
    desk.check()


def test_a_removed_budget_still_settles() -> None:
    """It is not offered any more, but its reservations end as they should."""
    desk = Desk(spec("a"), spec("b"))
    call = desk.granted("b", input_tokens=900)
    desk.reload(spec("a"))
    assert desk.rejected(desk.reserve("b", input_tokens=1)) == "unknown_budget"
    assert isinstance(desk.settle(call, input_tokens=10), Accept)
    desk.check()


def test_a_removed_budget_does_not_come_back_empty() -> None:
    """Offered again within the window, it still counts what it had granted."""
    desk = Desk(spec("a"), spec("b"))
    desk.granted("b", input_tokens=900)
    desk.reload(spec("a"))
    desk.reload(spec("a"), spec("b"))
    assert desk.refused("b", input_tokens=200)["level"] == 900
    desk.check()


def test_a_removed_budget_is_forgotten_when_nothing_in_it_counts() -> None:
    """At the next reload after its last window."""
    desk = Desk(spec("a"), spec("b"))
    desk.granted("b", input_tokens=900, ttl_ms=100)
    desk.reload(spec("a"))
    assert list(desk.state.budgets) == ["a", "b"]
    desk.advance(5000)
    desk.reload(spec("a", jitter_ms=1))
    assert list(desk.state.budgets) == ["a"]
    desk.check()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (tokens(1000, 0), tokens(1000, 1000)),
        (tokens(1000, 1000), tokens(1000, 0)),
        (tokens(1000, 1000), tokens(1000, 1000, charge="production")),
        (tokens(1000, 1000, charge="production"), tokens(1000, 1000)),
        (tokens(1000, 0), tokens(1050, 0)),
    ],
)
@pytest.mark.parametrize("settled", [True, False])
def test_another_way_of_counting_keeps_what_counts(before: LimitSpec, after: LimitSpec, settled: bool) -> None:
    """Spent once, per window, as produced: whatever the change, what was used stays used."""
    desk = Desk(spec(limits={"usd_micros": before}))
    call = desk.granted(usd_micros=900)
    if settled:
        desk.settle(call, usd_micros=900)
    desk.reload(spec(limits={"usd_micros": after}))
    desk.refused(usd_micros=200)
    desk.check()


def test_pacing_debt_is_carried_over() -> None:
    """A reload is no way out of debt."""
    paced = LimitSpec(limit=1000, window_ms=1000)
    desk = Desk(spec(limits={"input_tokens": paced}))
    desk.granted(input_tokens=500)
    desk.reload(spec(limits={"input_tokens": paced}, utilisation_permille=500))
    assert desk.refused(input_tokens=50)["retry_at_ms"] == 1000
    desk.check()


def test_a_small_bucket_starts_empty_in_a_budget_in_use() -> None:
    """What the provider's bucket has left is not known."""
    desk = Desk(spec())
    desk.granted(input_tokens=100)
    desk.reload(spec(limits={"input_tokens": tokens(bucket=200)}))
    assert desk.refused(input_tokens=200)["retry_at_ms"] >= 200
    desk.check()


def test_a_file_is_applied_once() -> None:
    """A restart with the same file does not undo what an operator has reloaded since; a changed file counts."""
    desk = Desk()
    file = LoadFile(budgets=(spec("a"),))
    assert isinstance(desk.ask(file, "svc"), Accept)
    assert desk.state.source == digest(file.budgets)
    desk.reload(spec("a"), spec("b"))
    assert isinstance(desk.ask(file, "svc"), Refuse)
    assert list(desk.state.budgets) == ["a", "b"]
    assert isinstance(desk.ask(LoadFile(budgets=(spec("c"),)), "svc"), Accept)
    assert list(desk.state.budgets) == ["c"]
    desk.check()


def test_reload_is_a_request_like_any_other() -> None:
    """It carries an id, so that a retry is answered and not repeated."""
    assert Reload(id="r-1", budgets=(spec(),)).id == "r-1"
