"""The table of answered requests."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.kernel import idempotency
from bursar.kernel.idempotency import MAX_AGE_MS, Answered, IdempotencyTable


def answered(time: int = 0, reply: bytes = b"r") -> Answered:
    return Answered(b"digest", (1, 1, 1), reply, time)


def ids(table: IdempotencyTable, principal: str = "a") -> list[str]:
    return [request_id for who, request_id, _ in table if who == principal]


def test_answer_is_found_by_principal_and_id() -> None:
    """Another principal's request of the same id is another request."""
    table = IdempotencyTable()
    table.record("a", "s-1", 0, *answered())
    assert table.find("a", "s-1") == answered()
    assert table.find("b", "s-1") is None
    assert table.find("a", "s-2") is None


def test_watermark_drops_what_has_arrived_and_keeps_its_late_copies_out() -> None:
    """Of its own session, up to its number."""
    table = IdempotencyTable()
    for number in (1, 2, 3):
        table.record("a", f"s-{number}", 0, *answered())
    table.record("a", "s-4", 2, *answered())
    assert ids(table) == ["s-3", "s-4"]
    assert table.is_acked("a", "s-2")
    assert not table.is_acked("a", "s-3")
    assert not table.is_acked("a", "t-1")
    assert not table.is_acked("a", "word")
    assert not table.is_acked("b", "s-1")


def test_watermark_does_not_go_back() -> None:
    """A request that was sent earlier carries a lower one."""
    table = IdempotencyTable()
    table.record("a", "s-5", 4, *answered())
    table.record("a", "s-6", 2, *answered())
    assert table.is_acked("a", "s-4")


def test_answers_of_another_session_end_the_sweep() -> None:
    """They stand in the way of older ones, which then leave by age; a bare word is never swept."""
    table = IdempotencyTable()
    table.record("a", "old-1", 0, *answered())
    table.record("a", "s-1", 0, *answered())
    table.record("a", "s-2", 1, *answered())
    assert ids(table) == ["old-1", "s-1", "s-2"]
    words = IdempotencyTable()
    words.record("a", "word", 0, *answered())
    words.record("a", "another", 9, *answered())
    assert ids(words) == ["word", "another"]


def test_sessions_with_a_watermark_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has stood longest is forgotten."""
    monkeypatch.setattr(idempotency, "MAX_SESSIONS", 2)
    table = IdempotencyTable()
    for session in ("x", "y", "z"):
        table.record("a", f"{session}-2", 1, *answered())
    assert [table.is_acked("a", f"{session}-1") for session in ("x", "y", "z")] == [False, True, True]


def test_answers_leave_by_age() -> None:
    """Two minutes after they were given, when something else is recorded; with the last one its principal leaves."""
    table = IdempotencyTable()
    table.record("a", "s-1", 0, *answered(0))
    table.record("a", "s-2", 0, *answered(10))
    table.record("b", "t-1", 0, *answered(MAX_AGE_MS))
    assert ids(table) == ["s-2"]
    table.record("b", "t-2", 0, *answered(MAX_AGE_MS + 10))
    assert [row[0] for row in table.dump()] == ["b"]
    assert len(table) == 2


def test_answers_leave_by_count() -> None:
    """The oldest first, per principal."""
    table = IdempotencyTable(max_per_principal=3)
    for number in range(10):
        table.record("a", f"s-{number}", 0, *answered(number))
        table.record("b", f"s-{number}", 0, *answered(number))
    assert ids(table) == ids(table, "b") == ["s-7", "s-8", "s-9"]
    assert len(table) == 6


def test_queue_of_ages_does_not_outgrow_the_table() -> None:
    """What leaves by watermark would stay in it for two minutes: it is made anew when most of it is such."""
    table = IdempotencyTable()
    for number in range(1, 5_000):
        table.record("a", f"s-{number}", number - 1, *answered(number))
    assert len(table) == 1
    assert len(table._by_age) < 1_100


class Step(NamedTuple):
    principal: str
    session: str
    acked: int
    later: int


STEPS = st.lists(
    st.builds(Step, st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(0, 12), st.sampled_from((0, 1, 40))),
    max_size=60,
)


@pytest.mark.property
@given(STEPS, st.integers(0, 60))
def test_table_from_a_dump_goes_on_like_the_one_that_was_dumped(steps: list[Step], cut: int) -> None:
    """At every later step both hold the same, and both are bounded by age and by count."""
    table = IdempotencyTable(max_age_ms=100, max_per_principal=5)
    copy = None
    time = 0
    for number, step in enumerate(steps):
        if number == cut:
            copy = IdempotencyTable.load(table.dump(), max_age_ms=100, max_per_principal=5)
        time += step.later
        for one in (table, copy):
            if one is not None:
                one.record(step.principal, f"{step.session}-{number}", step.acked, *answered(time, b"%d" % number))
        kept = [answer.time for _, _, answer in table]
        assert len(kept) == len(table) <= 10
        assert all(moment > time - 100 for moment in kept if steps) or step.later == 0
        if copy is not None:
            assert copy.dump() == table.dump()
            assert len(copy) == len(table)
