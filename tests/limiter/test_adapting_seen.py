"""What headers tell: a lower limit is learned, foreign use of the key is noticed; a minority changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_observed import Adapting, ForeignUse, Headroom, Seen, foreign_subject
from bursar.kernel.decider import Accept, Broadcast, Command, Outcome
from tests.limiter.fleet import Desk

MINUTE = 60_000


def budget(limit: int = 1_000, **more: Any) -> BudgetSpec:
    return BudgetSpec(name="p", limits={"requests": LimitSpec(limit=limit, window_ms=MINUTE)}, **more)


def seen(
    desk: Desk, limit: int | None, remaining: int | None = None, *, who: str = "agent", rounding: int = 0, age: int = 0,
    name: str = "p", window: int = MINUTE,
) -> Outcome:  # fmt: skip
    row = Headroom(dimension="requests", limit=limit, remaining=remaining, rounding=rounding)
    body = Seen(budget=name, window_ms=window, age_ms=age, limits=(row,))
    return desk._decide(Command(who, "", body))


def status(desk: Desk) -> Any:
    return desk.status("p").budgets[0].dimensions["requests"]


def test_a_lower_limit_holds_and_a_higher_one_never_does() -> None:
    """The configured limit is the ceiling; when the provider gives it back, it holds again."""
    desk = Desk(budget())
    seen(desk, 600)
    assert (status(desk).limit, status(desk).configured) == (600, 1_000)
    assert desk.refused("p", requests=601)["reason"] == "never_fits"
    desk.granted("p", requests=30)
    assert status(desk).headroom == 570
    seen(desk, 5_000)
    assert (status(desk).limit, status(desk).headroom) == (1_000, 970)
    desk.check()


def test_a_learned_limit_survives_a_restart() -> None:
    """With the same room, and the same pace."""
    desk = Desk(budget(), now=100)
    desk.granted("p", requests=20)
    seen(desk, 400)
    desk.check()
    copy = desk.copy(desk.now)
    assert status(copy) == status(desk)
    assert copy.state.budgets["p"].meters[0].rate == desk.state.budgets["p"].meters[0].rate


def test_no_learned_limit_is_below_a_tenth_of_the_configured_one() -> None:
    """Whatever is said."""
    desk = Desk(budget())
    seen(desk, 0)
    assert status(desk).limit == 100


def test_a_minority_cannot_lower_a_limit() -> None:
    """The median of the reporters counts; a liar alone among honest ones changes nothing."""
    desk = Desk(budget())
    for who in ("a", "b", "c"):
        seen(desk, 1_000, who=who)
    for _ in range(5):
        seen(desk, 1, who="liar")
    assert status(desk).limit == 1_000
    seen(desk, 700, who="a")
    seen(desk, 700, who="b")
    assert status(desk).limit == 700


def test_only_headers_of_the_same_window_count() -> None:
    """A limit per day says nothing of one per minute."""
    desk = Desk(budget())
    seen(desk, 10, window=86_400_000)
    assert status(desk).limit == 1_000


def test_an_operator_may_forbid_it() -> None:
    """Each is a switch of the budget."""
    desk = Desk(budget(adapt=Adapting(learn=False, foreign=False)))
    for _ in range(4):
        seen(desk, 10, 0)
        desk.advance(desk.now + 300)
    assert (status(desk).limit, status(desk).foreign_used) == (1_000, 0)


def foreign_of(outcome: Outcome) -> ForeignUse | None:
    if not isinstance(outcome, Accept) or not outcome.broadcasts:
        return None
    (told,) = outcome.broadcasts
    assert isinstance(told, Broadcast)
    assert f"bursar.evt.limiter.{told.kind}.{told.name}" == foreign_subject("p")
    return ForeignUse(**told.body, fence="1.1.1.0123456789abcdef")


def test_foreign_use_is_charged_said_and_shown() -> None:
    """What the provider counts beyond all that the fleet can have had counted."""
    desk = Desk(budget(), now=10_000)
    desk.granted("p", requests=50)
    found = []
    for _ in range(4):
        found.append(foreign_of(seen(desk, 1_000, 700)))
        desk.advance(desk.now + 200)
    told = [use for use in found if use is not None]
    assert [(use.used, use.limit) for use in told] == [(200, 1_000)], "300 used, 50 are ours, and once more in flight"
    assert status(desk).foreign_used == 200
    assert status(desk).headroom == 1_000 - 250
    desk.check()
    desk.advance(desk.now + 61_000)
    assert status(desk).foreign_used == 0
    assert status(desk).headroom == 1_000 - 0


def test_our_own_use_is_not_foreign() -> None:
    """Reserved, in flight, settled or not; and rounded by the provider."""
    desk = Desk(budget(burst_permille=1_000), now=10_000)
    keys = [desk.granted("p", requests=100) for _ in range(4)]
    for step in range(12):
        if step in (3, 5):
            desk.settle(keys[step], requests=100) if step < 4 else desk.cancel(keys[0])
        assert foreign_of(seen(desk, 1_000, 600 - 90, rounding=100, age=150)) is None
        desk.advance(desk.now + 250)
    assert status(desk).foreign_used == 0


def test_a_single_odd_sample_is_nothing_and_so_is_an_old_one() -> None:
    """Two in a row of one reporter, sent a moment ago, after somebody looked."""
    desk = Desk(budget(), now=10_000)
    assert foreign_of(seen(desk, 1_000, 100)) is None, "nobody had looked before"
    desk.advance(desk.now + 300)
    assert foreign_of(seen(desk, 1_000, 100)) is None, "the first one that is judged"
    desk.advance(desk.now + 300)
    assert foreign_of(seen(desk, 1_000, 1_000)) is None
    desk.advance(desk.now + 300)
    assert foreign_of(seen(desk, 1_000, 100)) is None, "and again only one"
    for _ in range(4):
        desk.advance(desk.now + 300)
        assert foreign_of(seen(desk, 1_000, 1_000)) is None
        assert foreign_of(seen(desk, 1_000, 100, age=9_000)) is None


def test_a_liar_alone_does_not_make_others_pay() -> None:
    """The median over reporters counts."""
    desk = Desk(budget(), now=10_000)
    for _ in range(6):
        for who in ("a", "b", "c"):
            seen(desk, 1_000, 1_000, who=who)
        assert foreign_of(seen(desk, 1_000, 0, who="liar")) is None
        desk.advance(desk.now + 300)


@pytest.mark.parametrize("name", ["nowhere", "p/x"])
def test_an_unknown_budget_changes_nothing(name: str) -> None:
    """It is counted for its principal by the host."""
    desk = Desk(budget())
    before = desk.dump()
    assert desk.rejected(seen(desk, 10, 5, name=name)) == "unknown_budget"
    assert desk.dump() == before


def test_what_the_provider_gives_beyond_the_configured_limit_is_not_ours() -> None:
    """Others may have it; only what they take of ours is charged."""
    desk = Desk(budget(), now=10_000)
    for _ in range(4):
        assert foreign_of(seen(desk, 5_000, 1_100)) is None, "3900 used by others, who have 4000"
        desk.advance(desk.now + 200)
    told = []
    for _ in range(4):
        told.append(foreign_of(seen(desk, 5_000, 700)))
        desk.advance(desk.now + 200)
    assert [use.used for use in told if use is not None] == [300]


def test_headers_that_speak_of_a_longer_window_are_not_judged() -> None:
    """A limit per day that fills up over hours."""
    desk = Desk(budget(), now=10_000)
    row = Headroom(dimension="requests", limit=1_000, remaining=10, reset_in_ms=7_200_000)
    for _ in range(5):
        body = Seen(budget="p", window_ms=MINUTE, age_ms=0, limits=(row,))
        assert foreign_of(desk._decide(Command("agent", "", body))) is None
        desk.advance(desk.now + 200)


def test_a_learned_limit_that_nobody_confirms_is_forgotten() -> None:
    """Ten minutes after the last word on it the configured one holds again, also when a new owner has come since: what
    keeps all calls away would never be told to be over."""
    desk = Desk(budget(), now=100)
    seen(desk, 100)
    assert desk.refused("p", requests=500)["reason"] == "never_fits"
    desk.advance(5 * MINUTE)
    seen(desk, 200)
    desk.advance(14 * MINUTE)
    assert status(desk).limit == 200
    other = desk.copy(desk.now)
    desk.advance(15 * MINUTE + 1_000)
    assert status(desk).limit == 1_000
    desk.advance(16 * MINUTE)
    desk.granted("p", requests=500)
    desk.check()
    other.advance(23 * MINUTE)
    assert status(other).limit == 200
    other.advance(24 * MINUTE + 1_000)
    assert status(other).limit == 1_000
