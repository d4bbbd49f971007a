"""What was set aside for agents that cannot reach the limiter, and what they did without asking."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.client.local_book import Book
from bursar.client.local_island import IslandBook, IslandLease, OpenLease
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_lease import UNCOVERED, Island, Terms, Uncovered
from bursar.kernel.decider import Accept, Broadcast, Outcome, Refuse
from bursar_limiter.leasing_islands import SLICE_MS
from tests.limiter.fleet import Desk

WINDOW = 10_000
J = 300
MS = 1_000_000
SEVEN = (0,) * 7


def spec(name: str = "b", parent: str | None = None, **changed: Any) -> BudgetSpec:
    limits: dict[Any, Any] = {
        "requests": LimitSpec(limit=100, window_ms=WINDOW, paced=False),
        "concurrent": LimitSpec(limit=20, window_ms=0),
    }
    rules: dict[str, Any] = {
        "limits": limits,
        "when_unreachable": "island",
        "islands": 2,
        "island_permille": 200,
        "max_ttl_ms": 5_000,
    }
    return BudgetSpec(name=name, parent=parent, **(rules | {"jitter_ms": J} | changed))


def ask(desk: Desk, principal: str = "agent", kept: str | None = None) -> Outcome:
    return desk.ask(Island(id=desk.new_id(), budget="b", slice=kept), principal)


def slice_of(desk: Desk, principal: str = "agent", kept: str | None = None) -> dict[str, Any]:
    outcome = ask(desk, principal, kept)
    assert isinstance(outcome, Accept), outcome
    return outcome.reply


def test_a_slice_is_cut_off_every_object_of_the_path_beforehand() -> None:
    """Whether or not it is used, it is not there for others."""
    desk = Desk(spec("org", islands=1), spec("b", "org"))
    told = slice_of(desk)
    assert told["amounts"][0] == 10
    assert told["amounts"][3] == 2
    desk.refused("org", requests=91)
    desk.refused("b", requests=91)
    desk.granted("b", requests=90)
    desk.check()


def test_there_are_no_more_slices_than_the_budget_has() -> None:
    """All slices together are a part of the limit."""
    desk = Desk(spec())
    slice_of(desk, "one")
    slice_of(desk, "two")
    outcome = ask(desk, "three")
    assert isinstance(outcome, Refuse)
    assert outcome.reply["reason"] == "all_taken"
    desk.check()


def test_who_keeps_a_slice_gets_the_same_one() -> None:
    """Asking again does not take another."""
    desk = Desk(spec())
    first = slice_of(desk)
    desk.advance(60_000)
    assert slice_of(desk, kept=first["slice"])["slice"] == first["slice"]
    slice_of(desk, "two")
    desk.check()


def test_another_agent_does_not_get_the_slice_that_it_names() -> None:
    """A slice belongs to who asked for it."""
    desk = Desk(spec())
    first = slice_of(desk, "one")
    assert slice_of(desk, "two", kept=first["slice"])["slice"] != first["slice"]


def test_a_slice_counts_until_what_it_allowed_has_left_every_window() -> None:
    """Only then somebody else may have it."""
    desk = Desk(spec(islands=1))
    slice_of(desk, "one")
    desk.advance(SLICE_MS + WINDOW + J)
    assert isinstance(ask(desk, "two"), Refuse)
    desk.advance(SLICE_MS + WINDOW + J + 20_000)
    slice_of(desk, "two")
    desk.check()


def test_slices_survive_a_restart() -> None:
    """They are durable."""
    desk = Desk(spec())
    slice_of(desk)
    desk.state = desk.decider.load(desk.dump())
    desk.refused(requests=91)
    desk.check()


def test_after_a_loss_unknown_slices_count_as_handed_out() -> None:
    """Nobody knows who holds one; the limit is kept all the same."""
    desk = Desk(spec())
    slice_of(desk, "one")
    for event in desk.decider.recover(desk.state, desk.now):
        desk.decider.evolve(desk.state, event)
        desk.journal.append(event)
    desk.check()
    desk.advance(60_000)
    assert isinstance(ask(desk, "two"), Refuse)
    desk.refused(requests=81)
    desk.granted(requests=80)


@pytest.mark.parametrize(
    "changed",
    [
        {"when_unreachable": "closed"},
        {"limits": {"usd_micros": LimitSpec(limit=500, window_ms=0)}},
        {"island_permille": 1},
    ],
)
def test_a_budget_without_slices_says_so(changed: dict[str, Any]) -> None:
    """By its rule, because a purse is spent once, or because a slice would be nothing."""
    outcome = ask(Desk(spec(**changed)))
    assert isinstance(outcome, Refuse)
    assert outcome.reply["reason"] == "no_slices"


def test_terms_tell_the_rule() -> None:
    """An agent has to know it before it needs it."""
    desk = Desk(spec())
    outcome = desk.ask(Terms(budget="b"))
    assert isinstance(outcome, Refuse)
    assert (outcome.reply["when_unreachable"], outcome.reply["lease_ms"]) == ("island", 1_000)
    assert desk.rejected(desk.ask(Terms(budget="c"))) == "unknown_budget"
    assert desk.rejected(desk.ask(Island(id=desk.new_id(), budget="c"))) == "unknown_budget"


def test_calls_without_a_permit_are_charged_and_told_to_everybody() -> None:
    """As of their report, whatever the limit."""
    desk = Desk(spec(when_unreachable="open"))
    body = Uncovered(id=desk.new_id(), budget="b", calls=120, amounts=(120, 0, 0, 0, 0, 0, 0))
    outcome = desk.ask(body)
    assert isinstance(outcome, Accept)
    (told,) = outcome.broadcasts
    assert isinstance(told, Broadcast)
    assert (told.kind, told.name, told.body["calls"]) == (UNCOVERED, "agent", 120)
    desk.refused(requests=1)
    desk.check()
    desk.advance(WINDOW + J + 100)
    desk.granted(requests=1)


def test_calls_without_a_permit_are_not_taken_where_they_are_not_allowed() -> None:
    """Otherwise an agent could close a budget to all others."""
    desk = Desk(spec(), spec("c", when_unreachable="closed"))
    for name in ("b", "c"):
        body = Uncovered(id=desk.new_id(), budget=name, calls=1, amounts=(1, 0, 0, 0, 0, 0, 0))
        assert desk.rejected(desk.ask(body)) == "not_open"


# -- at the holder


def island(amounts: tuple[int, ...], windows: tuple[int, ...], limited: int) -> tuple[IslandLease, list[int]]:
    now = [10**12]
    lease = IslandLease(IslandBook("b"), lambda: now[0])
    lease.hold(amounts, windows, J, limited, now[0] + SLICE_MS * MS, 300 * MS)
    return lease, now


def test_calls_in_flight_of_a_slice_come_back_when_they_end() -> None:
    """A level has no window."""
    lease, now = island((100, 0, 0, 2, 0, 0, 0), (WINDOW, 0, 0, 0, 0, 0, 0), 0b1001)
    one, two = lease.take(), lease.take()
    assert one is not None
    assert two is not None
    assert lease.take() is None
    one.end()
    assert lease.take() is not None
    now[0] += SLICE_MS * MS
    assert lease.take(concurrent=0) is None


def test_what_a_call_has_used_beyond_its_reservation_counts_in_the_slice() -> None:
    """From its end on, for a window; what it has not used does not come back."""
    lease, now = island((0, 100, 0, 0, 0, 0, 0), (0, WINDOW, 0, 0, 0, 0, 0), 0b10)
    one, two = lease.take(10, 0, 0, 0), lease.take(10, 0, 0, 0)
    assert one is not None
    assert two is not None
    one.end(input_tokens=75)
    two.end(input_tokens=1)
    assert lease.take(16, 0, 0, 0) is None
    assert lease.take(15, 0, 0, 0) is not None
    now[0] += (WINDOW + J) * MS + 1
    assert lease.take(100, 0, 0, 0) is not None


def test_a_slice_that_is_kept_remembers_what_it_has_let_pass() -> None:
    """Keeping it does not fill it again."""
    lease, now = island((5, 0, 0, 0, 0, 0, 0), (WINDOW, 0, 0, 0, 0, 0, 0), 0b1)
    for _ in range(5):
        assert lease.take() is not None
    lease.hold((5, 0, 0, 0, 0, 0, 0), (WINDOW, 0, 0, 0, 0, 0, 0), J, 0b1, now[0] + SLICE_MS * MS, 300 * MS)
    assert lease.take() is None
    now[0] += (WINDOW + J) * MS + 1
    assert lease.take() is not None


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4_000), st.integers(0, 30), st.integers(0, 200)), max_size=60))
def test_no_window_of_a_slice_sees_more_than_the_slice(calls: list[tuple[int, int, int]]) -> None:
    """Wherever it starts, however late within J the provider charges."""
    lease, now = island((0, 100, 0, 0, 0, 0, 0), (0, WINDOW, 0, 0, 0, 0, 0), 0b10)
    let: list[tuple[int, int]] = []
    for gap, late, tokens in calls:
        now[0] += gap * MS
        permit = lease.take(tokens, 0, 0, 0)
        if permit is not None:
            let.append((now[0] // MS + late * 10, tokens))
            permit.end(input_tokens=tokens // 2)
    let.sort()
    for at, (start, _) in enumerate(let):
        assert sum(tokens for when, tokens in let[at:] if when - start < WINDOW) <= 100


def test_what_passes_without_a_limiter_is_counted_with_its_usage() -> None:
    """What was reserved counts until it is known what was used."""
    lease = OpenLease(Book("b"))
    permit = lease.take(100, 50)
    assert permit is not None
    permit.end(input_tokens=80)
    assert lease.take(7, 0) is not None
    assert lease.count() == (2, (2, 87, 50, 0, 0, 137, 0))
    assert lease.count() == (0, SEVEN)
