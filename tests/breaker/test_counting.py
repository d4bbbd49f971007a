"""The window by count against the list of all reports."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts.breaker import OUTCOMES, Delta, Rule
from bursar_breaker.counting import CountWindow, window_of
from bursar_breaker.evidence import counts_of
from bursar_breaker.window import Window
from tests.breaker.desk import Desk, rule

SAYS_NOTHING = {"rate_limited", "cancelled"}
Line = list[tuple[str, dict[str, int]]]
told_counts = st.dictionaries(st.sampled_from(OUTCOMES), st.integers(1, 9), min_size=1, max_size=3)


def size_of(told: dict[str, int]) -> int:
    return sum(count for name, count in told.items() if name not in SAYS_NOTHING)


def youngest(line: Line, calls: int) -> Line:
    """The youngest reports that have so many calls, the last of them with all of its own."""
    kept: Line = []
    for who, told in reversed(line):
        kept.append((who, told))
        if sum(size_of(one) for _, one in kept) >= calls:
            break
    return kept


@pytest.mark.property
@given(st.integers(1, 40), st.lists(st.tuples(st.sampled_from("abc"), told_counts), max_size=60))
def test_the_window_holds_the_last_calls_and_no_more(calls: int, line: Line) -> None:
    """Whoever reports what: the sums are those of the youngest reports, and nothing else is kept."""
    seen = CountWindow(Rule(window_calls=calls, minimum_calls=1))
    for number, (who, told) in enumerate(line):
        seen.note(number * 100_000, who, counts_of(Delta.model_validate({"target": "p", **told})))
        seen.validate()
        kept = youngest(line[: number + 1], calls)
        for name in OUTCOMES:
            assert seen.named()[name] == sum(told.get(name, 0) for _, told in kept), name
        assert set(seen.reporters) == {who for who, _ in kept}


def test_age_does_not_matter() -> None:
    """Failures of an hour ago count, as long as nothing else has been called."""
    desk = Desk(rule(window_calls=10, minimum_calls=10))
    for _ in range(9):
        desk.report(error=1)
        desk.advance(400_000)
    assert desk.state_of() == "closed"
    desk.report(ok=1)
    assert desk.state_of() == "open"


def test_old_failures_leave_when_younger_calls_come() -> None:
    """Ten calls, of which the last ten went well."""
    desk = Desk(rule(window_calls=10, minimum_calls=10))
    desk.report(error=4)
    for _ in range(10):
        desk.report(ok=1)
    desk.report(error=4)
    assert desk.state_of() == "closed"
    desk.report(error=1)
    assert desk.state_of() == "open"


def test_calls_that_say_nothing_push_nothing_out() -> None:
    """A flood of 429 neither trips nor hides what failed; nor does it fill the memory."""
    desk = Desk(rule(window_calls=10, minimum_calls=10))
    for _ in range(9):
        desk.report(error=1)
    for _ in range(20):
        desk.report(rate_limited=500)
    desk.report(error=1)
    assert desk.state_of() == "open"
    for _ in range(500):
        desk.report("q", rate_limited=1)
    seen = desk.state.windows.get("q")
    assert isinstance(seen, CountWindow)
    assert seen.cells < 100
    desk.check()


def test_the_rule_chooses_the_kind_of_window() -> None:
    """By time unless calls are counted."""
    assert type(window_of(Rule())) is Window
    assert type(window_of(Rule(window_calls=20))) is CountWindow
