"""What one agent may do to the others: the work that it causes is bounded."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.codec import decode
from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Reload, Reserve, Settle
from bursar.errors import CallerError
from bursar.kernel.decider import Accept, Command, Park, Refuse, Reject
from bursar_limiter.budget import LOOKED_AT, in_order
from bursar_limiter.waiting import COUNTED
from tests.limiter.fleet import Desk

CALLS = BudgetSpec(name="b", limits={"concurrent": LimitSpec(limit=10, window_ms=0)})


def ask(name: str, wait_ms: int = 0, calls: int = 1, ttl_ms: int = 60_000) -> Reserve:
    amounts = Amounts(requests=0, concurrent=calls)
    return Reserve(id=name, budget="b", amounts=amounts, wait_ms=wait_ms, ttl_ms=ttl_ms)


def test_a_line_whose_deadlines_come_from_the_end_is_not_counted_again_for_each() -> None:
    """Each who gives up is told how many others stand in line; how long it would have had to wait is estimated from no
    more than so many of its own before it."""
    desk = Desk(CALLS)
    desk.must(ask("all", calls=10, ttl_ms=600_000))
    line = 3 * COUNTED
    for number in range(line):
        assert isinstance(desk.ask(ask(f"w-{number}", wait_ms=60_000 - number)), Park)
    waiting = desk.state.budgets["b"].line
    assert waiting.before("agent", waiting.waiters["agent", f"w-{line - 1}"])[3] == COUNTED
    desk.advance(60_000)

    told = [desk.answers["agent", f"w-{number}"] for number in range(line)]
    assert [outcome.reply["ahead"] for outcome in told if isinstance(outcome, Refuse)] == list(range(line))


def test_reservations_that_hold_nothing_are_not_searched_for_ever() -> None:
    """Many that end first and free nothing: the answer is then a time at which to ask again, which is too early."""
    desk = Desk(CALLS)
    desk.must(ask("all", calls=10, ttl_ms=60_000))
    for number in range(LOOKED_AT + 10):
        desk.must(ask(f"idle-{number}", calls=0, ttl_ms=1_000 + number))

    assert desk.refused(concurrent=1)["retry_at_ms"] == 1_000 + LOOKED_AT - 1
    desk.advance(30_000)
    assert desk.refused(concurrent=1)["retry_at_ms"] == 60_000


def test_time_outs_are_looked_at_in_order() -> None:
    """Whatever the order in which the heap keeps them."""
    desk = Desk(CALLS)
    for number in range(200):
        desk.must(ask(f"i-{number}", calls=0, ttl_ms=100 + number * 7919 % 997))
    heap = desk.state.budgets["b"].expiries

    assert list(in_order(heap)) == sorted(heap)
    assert list(in_order([])) == []


def test_who_waited_for_a_removed_budget_is_not_granted_twice_when_it_comes_back() -> None:
    """Removed, offered again and asked again before the removal was told: the one who asked again has the grant."""
    desk = Desk(CALLS)
    first = desk.must(ask("all", calls=10))["reservation"]
    command = Command("agent", "w-1", ask("w-1", wait_ms=1_000))
    assert isinstance(desk._decide(command), Park)
    desk.must(Reload(id="o-1", budgets=()), "ops")
    desk.must(Reload(id="o-2", budgets=(CALLS,)), "ops")
    desk.cancel(first)
    assert isinstance(desk._decide(Command("agent", "w-1", ask("w-1", wait_ms=1_000))), Accept)
    desk.settle_due()

    told = desk.answers["agent", "w-1"]
    assert isinstance(told, Reject)
    assert told.code == "unknown_budget"
    assert len(desk.state.live) == 1


@pytest.mark.parametrize("amount", [-1, 2**53, 2**60])
@pytest.mark.parametrize(("field", "model"), [("amounts", Reserve), ("usage", Settle)])
def test_amounts_below_zero_or_beyond_the_wire_have_their_own_code(amount: int, field: str, model: Any) -> None:
    """Refused at the border: the decider never sees them."""
    body = {"id": "a-1", "budget": "b", "reservation": "1.1.1", field: {"input_tokens": amount}}
    body.pop("reservation" if model is Reserve else "budget")
    with pytest.raises(CallerError) as caught:
        decode(model, msgpack.packb(body))
    assert caught.value.code == "bad_amount"
