"""The judge can say no, with a proof; and it does not say no to a clean history."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tests.oracle.history import Charge, Flight, Limit, Wish, produced
from tests.oracle.judge import Verdict, excess, judge, shut_out, utilisation

KEY = Limit("key", "tokens", 10, 10)


def charges(*rows: tuple[int, int], path: tuple[str, ...] = ("key",)) -> list[Charge]:
    return [Charge(at, path, {"tokens": amount}, f"call-{number}") for number, (at, amount) in enumerate(rows)]


def models(verdict: Verdict) -> set[str]:
    return {model for _, _, model in verdict.by}


def test_one_token_too_many_in_one_window_is_seen_by_all_three() -> None:
    """All at one instant: no provider takes it."""
    verdict = judge([KEY], charges((0, 10), (0, 1)))
    assert models(verdict) == {"clock", "rolling", "bucket"}
    assert all(violation.holds() for violation in verdict.proofs)


def test_the_whole_limit_at_once_once_a_window_is_clean_for_a_clock_and_a_rolling_window() -> None:
    """A request of the whole limit is allowed; the next one a window later."""
    judge([KEY], charges((5, 10), (15, 10), (25, 10))).must_be_clean()


def test_both_sides_of_a_clock_boundary_break_the_rolling_window_alone() -> None:
    """The classic double: all at the end of one minute, all at the start of the next. Some offset sees it, too."""
    rows = charges((9, 10), (10, 10))
    assert {"rolling", "bucket"} <= models(judge([KEY], rows))
    at_zero = [v for v in judge([KEY], rows).proofs if v.model == "clock" and v.begin % 10 == 0]
    assert at_zero == []


def test_a_rolling_window_forgets_at_the_instant() -> None:
    """What was charged exactly one window ago does not count any more; one unit earlier it does."""
    assert "rolling" not in models(judge([KEY], charges((5, 10), (15, 10))))
    assert "rolling" in models(judge([KEY], charges((5, 10), (14, 10))))


def test_a_smaller_bucket_is_stricter_than_its_windows() -> None:
    """Its capacity bounds what goes at once, although the minute would have room."""
    small = KEY._replace(bucket=4)
    assert models(judge([small], charges((0, 5)))) == {"bucket"}
    judge([small], charges((0, 4), (1, 1), (2, 1), (6, 4))).must_be_clean()


def test_a_bucket_refills_to_the_token() -> None:
    """Half a window gives half the limit, and not a token more."""
    judge([KEY], charges((0, 10), (5, 5))[1:]).must_be_clean()
    assert "bucket" in models(judge([KEY], charges((0, 10), (5, 6))))
    assert "bucket" not in models(judge([KEY], charges((0, 10), (5, 5))))


def test_every_level_is_judged_by_itself() -> None:
    """The root has room, one team has not: the proof names the team."""
    limits = [Limit("org", "tokens", 100, 10), Limit("org/a", "tokens", 10, 10), Limit("org/b", "tokens", 10, 10)]
    verdict = judge(limits, [*charges((0, 8), (1, 8), path=("org", "org/a")), *charges((0, 9), path=("org", "org/b"))])
    assert {scope for scope, _, _ in verdict.by} == {"org/a"}


def test_the_root_is_judged_over_all_that_is_below_it() -> None:
    """Each team is within its limit, and together they are not."""
    limits = [Limit("org", "tokens", 10, 10), Limit("org/a", "tokens", 10, 10), Limit("org/b", "tokens", 10, 10)]
    verdict = judge(limits, [*charges((0, 8), path=("org", "org/a")), *charges((0, 8), path=("org", "org/b"))])
    assert {scope for scope, _, _ in verdict.by} == {"org"}


def test_money_that_is_spent_does_not_come_back() -> None:
    """A purse has no window."""
    verdict = judge([Limit("key", "tokens", 10, 0)], charges((0, 6), (10**9, 5)))
    assert models(verdict) == {"purse"}
    assert verdict.proofs[0].charged == 11


def test_calls_in_flight_are_counted_at_every_instant() -> None:
    """Two at once are too many for one; one after the other is not."""
    limit = Limit("key", "concurrent", 1, 0)
    one = {"concurrent": 1}
    apart = [Flight(0, 10, ("key",), one), Flight(10, 20, ("key",), one)]
    judge([limit], [], apart).must_be_clean()
    verdict = judge([limit], [], [*apart, Flight(19, 21, ("key",), one, "late")])
    assert verdict.violations == 1
    assert verdict.proofs[0].rows[-1].call == "late"
    assert verdict.proofs[0].holds()


def test_output_that_is_charged_as_produced_counts_when_it_comes() -> None:
    """Two calls admitted in one window produce in the next: by admission it is clean, as produced it is not."""
    admitted = [Charge(0, ("key",), {"tokens": 8}), Charge(11, ("key",), {"tokens": 6})]
    judge([KEY], admitted).must_be_clean()
    late = [part for charge, end in zip(admitted, (14, 13), strict=True) for part in produced(charge, end, "tokens")]
    assert sum(part.amounts["tokens"] for part in late) == 14
    assert "rolling" in models(judge([KEY], late))


def test_parts_of_a_production_add_up_and_end_with_the_call() -> None:
    """Nothing is lost by rounding, and other dimensions count at the beginning."""
    charge = Charge(100, ("key",), {"tokens": 1000, "requests": 1}, "c")
    parts = list(produced(charge, 170, "tokens", steps=7))
    assert parts[0] == Charge(100, ("key",), {"requests": 1}, "c")
    assert sum(part.amounts.get("tokens", 0) for part in parts) == 1000
    assert parts[-1].at == 170
    assert all(before.at <= after.at for before, after in pairwise(parts))


def test_what_a_provider_refuses_takes_no_room() -> None:
    """One mistake is one violation of the rolling window, not one for each charge after it."""
    verdict = judge([KEY], charges((0, 6), (1, 6), (2, 4)))
    assert verdict.by["key", "tokens", "rolling"] == 1


def test_whoever_fits_and_is_told_never_was_shut_out() -> None:
    """A request of the whole limit fits; one above it does not, and may be told so."""
    whole = Wish(0, ("key",), {"tokens": 10}, "never", 0, "a")
    over = Wish(0, ("key",), {"tokens": 11}, "never", 0, "b")
    assert shut_out([KEY], [whole, over], 100) == [whole]


def test_whoever_is_refused_again_and_again_was_shut_out() -> None:
    """A call that asks for longer than the patience and is never granted counts once; one that is granted does not."""
    asked = [Wish(at, ("key",), {"tokens": 9}, "refused", at, "a") for at in range(0, 300, 50)]
    granted = [*[wish._replace(call="b") for wish in asked], Wish(260, ("key",), {"tokens": 9}, "granted", 260, "b")]
    assert [wish.call for wish in shut_out([KEY], [*asked, *granted], 200)] == ["a"]
    assert shut_out([KEY], asked, 300) == []


def test_utilisation_is_over_backlogged_time() -> None:
    """Ten a window are allowed; six were used while there was demand, and what was used without demand is no merit."""
    rows = charges((0, 6), (30, 10))
    assert utilisation(KEY, rows, [(0, 10)]) == pytest.approx(0.6)
    assert utilisation(KEY, rows, [(0, 10), (30, 40)]) == pytest.approx(0.8)


def test_excess_is_the_fullest_window() -> None:
    """Twice the limit within one rolling window is an excess of 2."""
    assert excess(KEY, charges((9, 10), (10, 10), (30, 10))) == 2.0
    assert excess(KEY, charges((0, 10), (10, 10))) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_a_random_history_agrees_with_adding_up_by_hand(seed: int) -> None:
    """Every window of every phase is added up without any cleverness; the judge finds a violation where that does, and
    each of its proofs holds."""
    rng = random.Random(seed)
    at, rows = 0, []
    for _ in range(30):
        at += rng.choice((0, 1, 1, 2, 5, 9))
        rows.append((at, rng.randint(1, rng.choice((3, 4, 10)))))
    verdict = judge([KEY], charges(*rows))
    crowded = any(sum(a for t, a in rows if start <= t < start + 10) > 10 for start in range(-10, at + 1))
    assert ("rolling" in models(verdict)) == crowded
    flooded = any(
        sum(a for t, a in rows if begin <= t <= end) > 10 + (end - begin)
        for begin, _ in rows
        for end, _ in rows
        if begin <= end
    )
    assert ("bucket" in models(verdict)) == flooded
    assert all(violation.holds() for violation in verdict.proofs)
