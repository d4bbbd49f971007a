"""The pace of a budget while what it pays for recovers, by the word of a circuit breaker."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts.breaker import BudgetShare
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.kernel.decider import Accept, Outcome, Refuse
from bursar_limiter.adapting import LOOK_MS
from bursar_limiter.adapting_share import LONGEST_MS
from tests.limiter.fleet import Desk
from tests.limiter.lease_holder import Holder, hand

LIMIT = LimitSpec(limit=10_000, window_ms=10_000)
SPEC = BudgetSpec(name="b", limits={"requests": LIMIT}, utilisation_permille=1_000, burst_permille=1, jitter_ms=0)


def tell(desk: Desk, share: int, revision: int, budget: str = "b", incarnation: int = 1) -> Outcome:
    fence = f"{incarnation}.1.{revision}.0123456789abcdef"
    body = BudgetShare(budget=budget, target="p/m", share=share, revision=revision, fence=fence)
    outcome = desk.ask(body, "svc-breaker")
    desk.settle_due()
    return outcome


def pace(desk: Desk) -> int:
    return desk.status("b").budgets[0].dimensions["requests"].pace_permille


def granted_in(desk: Desk, ms: int) -> int:
    """Calls that pass when one is tried every ms."""
    return sum(isinstance(desk.reserve(requests=1), Accept) for _ in tried(desk, ms))


def tried(desk: Desk, ms: int) -> Any:
    for _ in range(ms):
        desk.advance(desk.now + 1)
        yield desk.now


def test_the_pace_follows_the_steps_of_a_recovery() -> None:
    """At once, and what passes with it; then it is whole again, and nothing is looked at any more."""
    desk = Desk(SPEC)
    for revision, share in enumerate((50, 250, 500), start=3):
        tell(desk, share, revision)
        assert pace(desk) == share
        granted_in(desk, 100)
        assert granted_in(desk, 400) == pytest.approx(400 * share / 1_000, abs=2)
        desk.check()
    tell(desk, 1_000, 9)
    assert pace(desk) == 1_000
    assert desk.decider.wake_at(desk.state) is None or desk.state.live
    desk.check()


def test_a_relapse_ends_the_share() -> None:
    """While a circuit is open calls end where they are made, and its probes need their permits."""
    desk = Desk(SPEC)
    assert isinstance(tell(desk, 0, 2), Refuse)
    tell(desk, 50, 3)
    assert isinstance(tell(desk, 0, 4), Accept)
    assert pace(desk) == 1_000


def test_only_newer_words_count() -> None:
    """Of the newest incarnation of the breaker's data; also when the last one is over."""
    desk = Desk(SPEC)
    tell(desk, 250, 7)
    for revision, incarnation in ((7, 1), (6, 1)):
        assert isinstance(tell(desk, 50, revision, incarnation=incarnation), Refuse)
    assert pace(desk) == 250
    tell(desk, 1_000, 8)
    assert isinstance(tell(desk, 250, 7), Refuse)
    assert pace(desk) == 1_000
    tell(desk, 50, 1, incarnation=2)
    assert pace(desk) == 50
    assert isinstance(tell(desk, 500, 99), Refuse)


def test_a_share_ends_if_nothing_more_is_heard() -> None:
    """The broadcast that says so may have been lost; also in the middle of a take-over."""
    desk = Desk(SPEC)
    tell(desk, 50, 3)
    desk.advance(desk.now + LONGEST_MS - 1)
    assert pace(desk) == 50
    later = desk.copy(desk.now)
    for one in (desk, later):
        one.advance(one.now + 1 + LOOK_MS)
        assert pace(one) == 1_000
    desk.check()


def test_what_a_breaker_says_of_others_changes_nothing() -> None:
    """A budget that is not there, or one that was removed."""
    desk = Desk(SPEC)
    before = desk.dump()
    assert isinstance(tell(desk, 50, 3, budget="elsewhere"), Refuse)
    assert desk.dump() == before


def test_leases_get_the_share_of_their_rate() -> None:
    """With the next advance; and all of it when it is whole again."""
    desk = Desk(SPEC)
    holder = Holder(desk)
    holder.ask(hand(requests=900), hand(requests=900))
    assert holder.told["rates"][0] > 400
    tell(desk, 50, 3)
    desk.advance(desk.now + 500)
    holder.renew(hand(requests=900), hand(requests=900))
    assert holder.told["rates"][0] <= 50
    assert holder.told["add"][0] <= 50
    tell(desk, 1_000, 4)
    desk.advance(desk.now + 500)
    holder.renew(hand(requests=900), hand(requests=900))
    assert holder.told["rates"][0] > 400
    desk.check()
