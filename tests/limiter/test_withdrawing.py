"""Taking a request back."""

from __future__ import annotations

import pytest

from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Refused, Reserve, Withdraw, Withdrawn
from bursar.kernel.decider import Accept, Outcome, Park, Refuse
from bursar_limiter import state as state_module
from tests.limiter.fleet import Desk

FENCE = "1.1.1.0123456789abcdef"
SPEC = BudgetSpec(name="b", limits={"concurrent": LimitSpec(limit=1, window_ms=0)})


def wait(desk: Desk, name: str, who: str = "agent", wait_ms: int = 60_000) -> Outcome:
    amounts = Amounts(requests=0, concurrent=1)
    return desk.ask(Reserve(id=name, budget="b", amounts=amounts, wait_ms=wait_ms, ttl_ms=600_000), who)


def withdraw(desk: Desk, name: str, who: str = "agent", budget: str = "b") -> str:
    outcome = desk.ask(Withdraw(id=desk.new_id(), budget=budget, request=name), who)
    assert isinstance(outcome, Accept | Refuse), outcome
    reply = Withdrawn(**outcome.reply, fence=FENCE)
    assert reply.request == name
    desk.settle_due()
    return reply.outcome


def busy() -> tuple[Desk, str]:
    desk = Desk(SPEC)
    return desk, desk.granted(concurrent=1, ttl_ms=600_000)


def test_who_withdraws_leaves_the_line_and_the_next_one_moves_up() -> None:
    """At once, not at the deadline; whoever listens for the answer is told."""
    desk, call = busy()
    assert isinstance(wait(desk, "one"), Park)
    assert isinstance(wait(desk, "two"), Park)
    assert withdraw(desk, "one") == "withdrawn"
    told = desk.answers["agent", "one"]
    assert isinstance(told, Refuse)
    assert Refused(**told.reply, fence=FENCE).reason == "withdrawn"
    desk.settle(call)
    desk.settle_due()
    assert isinstance(desk.answers["agent", "two"], Accept)
    desk.check()


def test_withdrawn_request_that_comes_once_more_gets_no_new_place() -> None:
    """A retry that was on its way; and whoever asks again what has become of it is told the same."""
    desk, _ = busy()
    wait(desk, "one")
    assert withdraw(desk, "one") == "withdrawn"
    late = wait(desk, "one")
    assert isinstance(late, Refuse)
    assert late.reply["reason"] == "withdrawn"
    assert withdraw(desk, "one") == "withdrawn"


def test_withdrawal_that_overtakes_its_request_keeps_it_out_too() -> None:
    """Nobody knows it yet; it is refused when it comes."""
    desk, _ = busy()
    assert withdraw(desk, "one") == "unknown"
    assert isinstance(wait(desk, "one"), Refuse)
    assert isinstance(wait(desk, "one", who="bob"), Park)


def test_request_that_was_granted_out_of_the_line_meanwhile_ends_without_use() -> None:
    """Everything is refunded; once more changes nothing."""
    desk, call = busy()
    wait(desk, "one")
    desk.settle(call)
    desk.settle_due()
    assert withdraw(desk, "one") == "cancelled"
    assert not desk.state.live
    assert withdraw(desk, "one") == "over"
    assert [event[0] for event in desk.journal[-2:]] == ["g", "c"]
    desk.check()


@pytest.mark.parametrize(("who", "budget"), [("bob", "b"), ("agent", "other")])
def test_only_the_own_request_in_its_own_line_is_withdrawn(who: str, budget: str) -> None:
    """The same id of another principal, or in another budget, is another request."""
    desk, _ = busy()
    wait(desk, "one")
    assert withdraw(desk, "one", who, budget) == "unknown"
    assert len(desk.state.budgets["b"].line) == 1


def test_request_that_is_asked_again_while_its_withdrawal_is_told_has_one_place_at_most() -> None:
    """Withdrawn, and sent once more before anybody was told: it stays out, and is told so once."""
    desk, call = busy()
    wait(desk, "one")
    desk.ask(Withdraw(id="x-1", budget="b", request="one"))
    assert isinstance(wait(desk, "one"), Refuse)
    desk.settle(call)
    desk.settle_due()
    assert not desk.state.live
    desk.check()


def test_request_that_had_to_make_place_and_asks_again_at_once_keeps_its_new_place() -> None:
    """It was sent away and stands in line again before it was told: it is not told any more."""
    desk = Desk(SPEC.model_copy(update={"max_waiting": 3}))
    desk.granted(concurrent=1, ttl_ms=600_000)
    for name in ("one", "two", "three"):
        wait(desk, name)
    assert isinstance(wait(desk, "b-1", who="bob"), Park)
    withdraw_at_once = Withdraw(id="x-1", budget="b", request="two")
    desk.ask(withdraw_at_once)
    assert isinstance(wait(desk, "three"), Park)
    desk.settle_due()
    assert list(desk.answers) == [("agent", "two")]
    assert desk.state.budgets["b"].line.waiters.keys() == {("agent", "one"), ("bob", "b-1"), ("agent", "three")}
    desk.check()


def test_what_is_remembered_of_withdrawn_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten first."""
    monkeypatch.setattr(state_module, "NOTED", 2)
    desk, _ = busy()
    for name in ("one", "two", "three"):
        withdraw(desk, name)
    assert list(desk.state.decided) == [("agent", "two"), ("agent", "three")]


def test_who_withdraws_from_a_removed_budget_is_told_that_it_is_gone() -> None:
    """The operator was quicker."""
    desk, _ = busy()
    wait(desk, "one")
    desk.ask(Withdraw(id="x-1", budget="b", request="one"))
    desk.reload()
    desk.settle_due()
    assert desk.rejected(desk.answers["agent", "one"]) == "unknown_budget"
    desk.check()
