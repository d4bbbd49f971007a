"""The window's arithmetic against a list of all that was reported."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.contracts.breaker import OUTCOMES, Delta, Rule
from bursar_breaker.evidence import counts_of
from bursar_breaker.rules import open_ms
from bursar_breaker.window import FAILING, SLOWED, Window
from tests.breaker.oracle import Oracle

pytestmark = pytest.mark.property

RULE = Rule(window_ms=500, failure_permille=400, slow_permille=700)
told_counts = st.dictionaries(st.sampled_from(OUTCOMES), st.integers(0, 4), max_size=4)
Step = tuple[int, str, dict[str, int]]
step = st.tuples(st.one_of(st.integers(0, 40), st.integers(0, 900)), st.sampled_from("abc"), told_counts)


@given(st.lists(step, max_size=60))
def test_sums_and_voices_are_those_of_the_reports_within_the_window(
    steps: list[Step],
) -> None:
    """Whatever is reported when by whom: totals, reporters and voices are exact, and nothing is left at the end."""
    seen, oracle, now = Window(RULE), Oracle(RULE), 12_345
    for pause, who, told in steps:
        now += pause
        found = counts_of(Delta.model_validate({"target": "p", **told}))
        if found:
            seen.note(now, who, found)
            oracle.note(now, who, **told)
        seen.advance(now)
        expected = oracle.sums(now)
        assert {name: count for name, count in seen.named().items() if count} == expected.total
        assert (seen.active, seen.voices[FAILING], seen.voices[SLOWED]) == expected[1:]
    seen.advance(now + 1_000)
    assert not any(seen.total)
    assert not seen.reporters
    assert not any(seen.voices.values())
    seen.validate()
    assert seen.cells == 0


@given(st.integers(10, 10_000), st.integers(1_000, 4_000), st.integers(10, 10_000_000), st.integers(1, 200))
@settings(max_examples=200)
def test_open_times_neither_shrink_nor_exceed_the_longest(first: int, growth: int, longest: int, times: int) -> None:
    """However often it opens in a row."""
    rule = Rule(open_ms=min(first, longest), growth_permille=growth, max_open_ms=longest)
    lengths = [open_ms(rule, opened) for opened in range(1, times + 1)]
    assert lengths == sorted(lengths)
    assert lengths[0] == rule.open_ms
    assert lengths[-1] <= longest


@pytest.mark.property
@given(st.integers(0, 2**63), st.integers(0, 1_000), st.integers(1, 40))
def test_jitter_is_a_part_of_the_open_time_and_never_beyond_the_cap(draw: int, jitter: int, opened: int) -> None:
    """Longer by at most that part; at the cap shorter by at most that part."""
    rule = Rule(open_ms=1_000, growth_permille=2_000, max_open_ms=60_000, jitter_permille=jitter)
    plain, time = open_ms(rule, opened), open_ms(rule, opened, draw)
    assert plain <= time <= plain + plain * jitter // 1000 or 60_000 - plain * jitter // 1000 <= time <= 60_000
    assert 1 <= time <= 60_000
