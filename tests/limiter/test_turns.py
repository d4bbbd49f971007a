"""Fairness among principals in one line, and what it costs."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Refused, Reserve
from bursar.kernel.decider import Accept, Command, Outcome, Park, Refuse, Reject
from bursar_limiter import budget as budget_module
from bursar_limiter.turns import SPARE
from bursar_limiter.waiting import Line, Waiter
from tests.limiter.fleet import Desk

FENCE = "1.1.1.0123456789abcdef"
CALLS = BudgetSpec(name="b", limits={"concurrent": LimitSpec(limit=10, window_ms=0)}, max_waiting=40)
TOKENS = LimitSpec(limit=1000, window_ms=1000, paced=False)


def ask(desk: Desk, who: str, name: str, calls: int = 1, wait_ms: int = 60_000, tokens: int = 0) -> Outcome:
    amounts = Amounts(requests=0, concurrent=calls, input_tokens=tokens)
    return desk.ask(Reserve(id=name, budget="b", amounts=amounts, wait_ms=wait_ms, ttl_ms=600_000), who)


def busy(spec: BudgetSpec = CALLS) -> tuple[Desk, list[str]]:
    """All calls are in flight; the reservations that hold them."""
    desk = Desk(spec)
    return desk, [desk.granted(concurrent=1, ttl_ms=600_000) for _ in range(10)]


def granted(desk: Desk) -> list[str]:
    """Who was granted, in order."""
    return [who for (who, _), outcome in desk.answers.items() if isinstance(outcome, Accept)]


def free(desk: Desk, calls: list[str]) -> None:
    desk.settle(calls.pop())
    desk.settle_due()


def test_modest_principal_waits_for_one_request_of_a_flood() -> None:
    """Whose turn it is keeps it; the one who has had nothing is next, however many the other has sent before."""
    desk, calls = busy()
    for number in range(30):
        ask(desk, "flood", f"f-{number}")
    free(desk, calls)
    ask(desk, "modest", "m-1")
    for _ in range(3):
        free(desk, calls)
    assert granted(desk) == ["flood", "flood", "modest", "flood"]


@pytest.mark.parametrize("others", [1, 2, 7])
def test_of_each_other_principal_one_request_at_most_goes_before(others: int) -> None:
    """The bound on the wait of somebody who has had no more than the others, whatever they have in line."""
    desk, calls = busy()
    for number in range(4):
        for other in range(others):
            ask(desk, f"o-{other}", f"{number}")
    for _ in range(2):
        free(desk, calls)
    before = len(granted(desk))
    ask(desk, "modest", "m-1")
    while "modest" not in granted(desk):
        free(desk, calls)
    waited_for = Counter(granted(desk)[before:-1])
    assert max(waited_for.values()) == 1
    assert len(waited_for) <= others


def test_large_request_in_its_turn_is_not_overtaken_by_others() -> None:
    """Small ones of another principal would fit, and come without end: the large one still gets its turn."""
    limits = {"input_tokens": TOKENS}
    desk = Desk(CALLS.model_copy(update={"limits": limits, "max_waiting": 5_000}))
    desk.granted(input_tokens=900)
    ask(desk, "large", "l", calls=0, tokens=1000)
    for at in range(0, 2_000, 10):
        desk.advance(at)
        ask(desk, "small", f"s-{at}", calls=0, tokens=5)
    assert granted(desk)[0] == "large"


def test_large_requests_take_turns_less_often() -> None:
    """What counts is the share of a limit, not the number of requests: ten small ones for each large one."""
    desk = Desk(CALLS.model_copy(update={"limits": {"input_tokens": TOKENS}, "max_waiting": 5_000}))
    desk.granted(input_tokens=1000)
    for number in range(400):
        ask(desk, "small", f"s-{number}", calls=0, tokens=20)
        ask(desk, "large", f"l-{number}", calls=0, tokens=200)
    desk.advance(20_000)
    counts = Counter(granted(desk))
    assert 9 <= counts["small"] / counts["large"] <= 11


def test_who_wants_nothing_saves_up_no_turns() -> None:
    """After a long silence a principal is next, not next for ever."""
    desk, calls = busy()
    ask(desk, "late", "l-0")
    for number in range(30):
        ask(desk, "steady", f"s-{number}")
    for _ in range(6):
        free(desk, calls)
    for number in range(1, 9):
        ask(desk, "late", f"l-{number}")
    for _ in range(4):
        free(desk, calls)
    assert granted(desk)[6:] in (["late", "steady"] * 2, ["steady", "late"] * 2)


def test_full_line_has_a_place_for_whoever_has_fewer_in_it() -> None:
    """The last request of him who has most makes place, until all have as many; alone, one may have all of it."""
    desk, _ = busy()
    for number in range(40):
        assert isinstance(ask(desk, "flood", f"f-{number}"), Park)
    refused = Refused(**_reply(ask(desk, "flood", "f-40")), fence=FENCE)
    assert refused.reason == "queue_full"
    for number in range(20):
        assert isinstance(ask(desk, "modest", f"m-{number}"), Park)
        desk.settle_due()
        sent_away = Refused(**_reply(desk.answers["flood", f"f-{39 - number}"]), fence=FENCE)
        assert sent_away.reason == "queue_full"
    assert _reply(ask(desk, "modest", "m-20"))["reason"] == "queue_full"
    assert _reply(ask(desk, "flood", "f-41"))["reason"] == "queue_full"
    line = desk.state.budgets["b"].line
    assert {who: queue.count for who, queue in line.queues.items()} == {"flood": 20, "modest": 20}
    desk.check()


def _reply(outcome: Outcome) -> dict[str, Any]:
    assert isinstance(outcome, Refuse), outcome
    return outcome.reply


def test_no_principal_holds_all_reservations_that_a_budget_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reservations of nothing are bounded for each, at once and out of the line, so that the rest is for others."""
    monkeypatch.setattr("bursar_limiter.reserving.MAX_HELD", 3)
    assert budget_module.MAX_HELD * 4 == budget_module.MAX_LIVE
    desk = Desk(CALLS)
    held = [desk.granted(concurrent=0) for _ in range(3)]
    outcome = desk.reserve(concurrent=0)
    assert isinstance(outcome, Reject)
    assert (outcome.code, outcome.facts["held"]) == ("too_many", 3)
    assert isinstance(ask(desk, "another", "a", calls=10), Accept)
    assert isinstance(ask(desk, "agent", "w"), Park)
    assert isinstance(ask(desk, "third", "t"), Park)
    desk.settle(next(key for key, live in desk.state.live.items() if live.principal == "another"), "another")
    desk.settle_due()
    assert isinstance(desk.answers["agent", "w"], Reject)
    assert granted(desk) == ["third"]
    desk.settle(held[0])
    desk.granted(concurrent=0)
    desk.check()


def test_comings_and_goings_behind_a_patient_head_leave_nothing_behind() -> None:
    """What the turns keep is bounded by who stands in line, whatever has come and gone."""
    line = Line()
    line.join(Waiter(Command("patient", "p", None), (0, 0, 0, 1, 0, 0, 0), 1, 0))
    assert line.head() is not None
    for number in range(1, 5_000):
        waiter = Waiter(Command(f"w-{number % 50}", "w", None), (0, 0, 0, 1, 0, 0, 0), 1, number)
        line.join(waiter)
        line.leave(waiter)
    assert len(line.turns._heaps[1]) <= 3 * SPARE
    line.validate()


def test_principals_that_were_served_long_ago_are_forgotten() -> None:
    """Whoever has had no more than the line's own time is as good as new."""
    line, order = Line(), 0
    for number in range(2_000):
        for who, cost in (("steady", 10), (f"once-{number}", 1)):
            order += 1
            line.join(Waiter(Command(who, f"{order}", None), (0, 0, 0, 1, 0, 0, 0), 1, order, cost))
        if number:
            for _ in range(2):
                head = line.head()
                assert head is not None
                line.leave(head, granted=True)
    assert len(line.turns._served_until) <= 2 * SPARE


@pytest.mark.property
@given(st.integers(0, 2**32), st.integers(2, 5))
@settings(max_examples=60, deadline=None)
def test_what_two_waiting_principals_get_differs_by_no_more_than_their_largest_requests(seed: int, count: int) -> None:
    """The bound of start-time fair queueing, over every stretch in which both always have something in line; and the
    line never stands while the one whose turn it is would fit."""
    rng = random.Random(seed)
    desk = Desk(CALLS.model_copy(update={"limits": {"input_tokens": TOKENS}, "max_waiting": 5_000}))
    budget = desk.state.budgets["b"]
    desk.granted(input_tokens=1000)
    names = [f"p-{number}" for number in range(count)]
    largest = {name: rng.choice((60, 200, 900)) for name in names}
    sizes: dict[tuple[str, str], int] = {}
    for _ in range(25):
        for name in names:
            while name not in budget.line.queues or budget.line.queues[name].sums[1] < 1_500:
                key = name, f"x-{len(sizes)}"
                sizes[key] = rng.randint(largest[name] // 4, largest[name])
                assert isinstance(ask(desk, *key, calls=0, tokens=sizes[key], wait_ms=600_000), Park)
        desk.advance(desk.now + rng.randrange(1, 300))
        head = budget.line.head()
        assert head is not None
        assert not desk.state.path_of(budget).fits(desk.now, head.amounts), "it stands though its head fits"
        got = Counter(dict.fromkeys(names, 0))
        for key in desk.answers:
            got[key[0]] += sizes[key]
        for one in names:
            for other in names:
                rounded = 0.001 * len(desk.answers)  # each cost is rounded up to the next millionth
                assert got[one] - got[other] <= largest[one] + largest[other] + rounded
    budget.line.validate()
