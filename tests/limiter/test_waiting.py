"""Standing in line."""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import Amounts, BudgetSpec, LimitSpec, Refused, Reserve
from bursar.contracts.limiter_control import Adjust
from bursar.contracts.limiter_observed import Headroom, RateLimited, Seen
from bursar.kernel.decider import Accept, Command, Outcome, Park, Refuse, Reject
from tests.limiter.fleet import Desk

FENCE = "1.1.1.0123456789abcdef"
SPEC = BudgetSpec(
    name="b",
    limits={
        "input_tokens": LimitSpec(limit=1000, window_ms=1000, paced=False),
        "concurrent": LimitSpec(limit=2, window_ms=0),
    },
    jitter_ms=0,
    max_waiting=3,
)


def wait(desk: Desk, name: str, ms: int, tokens: int = 0, calls: int = 0, who: str = "agent") -> Outcome:
    amounts = Amounts(requests=0, concurrent=calls, input_tokens=tokens)
    return desk.ask(Reserve(id=name, budget="b", amounts=amounts, wait_ms=ms), who)


def parked(outcome: Outcome) -> None:
    assert isinstance(outcome, Park), outcome


def answer(desk: Desk, name: str, who: str = "agent") -> Outcome:
    return desk.answers[who, name]


def test_who_waits_is_granted_when_it_fits() -> None:
    """At the first moment, without asking again."""
    desk = Desk(SPEC)
    desk.granted(input_tokens=900)
    at = desk.refused(input_tokens=200)["retry_at_ms"]
    parked(wait(desk, "w", 5000, 200))
    desk.advance(at - 1)
    assert not desk.answers
    desk.advance(at)
    granted = answer(desk, "w")
    assert isinstance(granted, Accept)
    assert granted.reply["granted_at_ms"] == at


def test_a_settlement_lets_the_next_one_in_at_once() -> None:
    """No time need pass."""
    desk = Desk(SPEC)
    calls = [desk.granted(concurrent=1) for _ in range(2)]
    parked(wait(desk, "w", 5000, calls=1))
    desk.settle_due()
    assert not desk.answers
    desk.settle(calls[0])
    desk.settle_due()
    assert isinstance(answer(desk, "w"), Accept)


def test_first_come_first_served() -> None:
    """Three wait; each settlement lets in the one that came first."""
    desk = Desk(SPEC)
    calls = [desk.granted(concurrent=1) for _ in range(2)]
    for name in ("one", "two", "three"):
        parked(wait(desk, name, 5000, calls=1))
    for call, name in zip(calls, ("one", "two"), strict=True):
        desk.settle(call)
        desk.settle_due()
        assert list(desk.answers) == [("agent", "one"), ("agent", "two")][: len(desk.answers)]
        assert isinstance(answer(desk, name), Accept)


def test_nobody_overtakes_the_line() -> None:
    """A small request that would fit stands behind a large one that does not."""
    desk = Desk(SPEC)
    desk.granted(input_tokens=900)
    parked(wait(desk, "large", 5000, 500))
    refused = Refused(**desk.refused(input_tokens=1), fence=FENCE)
    assert (refused.reason, refused.ahead) == ("over_limit", 1)
    assert "Requests in line: 1." in refused.text
    parked(wait(desk, "small", 5000, 1))
    desk.advance(2000)
    assert list(desk.answers) == [("agent", "large"), ("agent", "small")]


def test_a_large_request_does_not_starve() -> None:
    """Small ones come without end; the large one at the head still gets its turn."""
    desk = Desk(SPEC.model_copy(update={"max_waiting": 1000}))
    desk.granted(input_tokens=900)
    parked(wait(desk, "large", 60_000, 1000))
    for at in range(0, 3000, 10):
        desk.advance(at)
        wait(desk, f"small-{at}", 60_000, 5)
    assert isinstance(answer(desk, "large"), Accept)


def test_a_deadline_is_kept_to_the_millisecond() -> None:
    """Not earlier, and at it, with a reason and a time."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2, ttl_ms=60_000)
    parked(wait(desk, "w", 700, calls=1))
    desk.advance(699)
    assert not desk.answers
    desk.advance(700)
    outcome = answer(desk, "w")
    assert isinstance(outcome, Refuse)
    refused = Refused(**outcome.reply, fence=FENCE)
    assert (refused.reason, refused.ahead, refused.retry_at_ms) == ("wait_too_long", 0, 60_000)


def test_a_deadline_in_the_middle_of_the_line_is_kept_too() -> None:
    """Those behind a patient head do not wait longer than they said."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2, ttl_ms=60_000)
    parked(wait(desk, "patient", 5000, calls=1))
    parked(wait(desk, "hasty", 300, calls=1))
    desk.advance(300)
    outcome = answer(desk, "hasty")
    assert isinstance(outcome, Refuse)
    assert outcome.reply["ahead"] == 1
    assert ("agent", "patient") not in desk.answers
    desk.check()


def test_when_the_head_gives_up_the_next_one_is_looked_at() -> None:
    """A small request stood behind a large one; at the large one's deadline it fits."""
    desk = Desk(SPEC)
    desk.granted(input_tokens=900, ttl_ms=60_000)
    parked(wait(desk, "large", 300, 1000))
    parked(wait(desk, "small", 800, 10))
    desk.advance(300)
    assert isinstance(answer(desk, "large"), Refuse)
    assert isinstance(answer(desk, "small"), Accept)


def test_the_last_moment_is_good_enough() -> None:
    """Who fits at the deadline is granted, not refused."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2, ttl_ms=700)
    parked(wait(desk, "w", 700, calls=1))
    desk.advance(700)
    assert isinstance(answer(desk, "w"), Accept)


def test_waiting_in_vain_is_refused_at_once() -> None:
    """What was settled leaves at a known time; if that is beyond the deadline, waiting cannot help."""
    desk = Desk(SPEC)
    desk.settle(desk.granted(input_tokens=900), input_tokens=900)
    outcome = wait(desk, "w", 500, 200)
    assert isinstance(outcome, Refuse)
    assert outcome.reply["reason"] == "wait_too_long"
    assert 1000 < outcome.reply["retry_at_ms"] < 1010


def test_what_is_in_flight_may_be_refunded_and_is_worth_waiting_for() -> None:
    """The same while the call is in flight: it may turn out smaller."""
    desk = Desk(SPEC)
    call = desk.granted(input_tokens=900)
    parked(wait(desk, "w", 500, 200))
    desk.advance(100)
    desk.settle(call, input_tokens=100)
    desk.settle_due()
    assert isinstance(answer(desk, "w"), Accept)


def test_money_that_only_a_refund_brings_back_is_waited_for_while_some_is_in_flight() -> None:
    """No time helps, a settlement does; without anything in flight nothing does."""
    desk = Desk(BudgetSpec(name="b", limits={"usd_micros": LimitSpec(limit=100, window_ms=0)}))
    call = desk.granted(usd_micros=80)
    parked(desk.reserve(usd_micros=50, wait_ms=900))
    desk.settle(call, usd_micros=10)
    desk.advance(1)
    assert isinstance(next(iter(desk.answers.values())), Accept)
    desk.settle(desk.granted(usd_micros=30), usd_micros=30)
    desk.advance(60_001)
    assert not desk.state.live
    assert desk.refused(usd_micros=50, wait_ms=900)["reason"] == "wait_too_long"
    desk.check()


def test_a_retry_does_not_stand_in_line_twice() -> None:
    """The same principal and id while it waits: it keeps its place. Another principal's is another request."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2)
    parked(wait(desk, "w", 5000, calls=1))
    parked(wait(desk, "w", 5000, calls=1))
    assert len(desk.state.budgets["b"].line) == 1
    parked(wait(desk, "w", 5000, calls=1, who="bob"))
    assert len(desk.state.budgets["b"].line) == 2


def test_the_line_is_bounded() -> None:
    """A full line refuses at once."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2)
    for name in ("one", "two", "three"):
        parked(wait(desk, name, 5000, calls=1))
    outcome = wait(desk, "four", 5000, calls=1)
    assert isinstance(outcome, Refuse)
    refused = Refused(**outcome.reply, fence=FENCE)
    assert (refused.reason, refused.ahead) == ("queue_full", 3)


def test_the_line_is_not_part_of_the_durable_state() -> None:
    """Nobody in it was promised anything: dump and load forget it, and the same id may ask again."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2)
    before = desk.dump()
    parked(wait(desk, "w", 5000, calls=1))
    assert desk.dump() == before
    assert not desk.copy(desk.now).state.budgets["b"].line.waiters


def test_who_waits_for_a_removed_budget_is_told_so() -> None:
    """The operator takes the budget away; nobody waits for ever."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2)
    parked(wait(desk, "w", 5000, calls=1))
    desk.reload()
    desk.settle_due()
    outcome = answer(desk, "w")
    assert isinstance(outcome, Reject)
    assert outcome.code == "unknown_budget"
    desk.check()


def test_who_waits_for_more_than_a_new_limit_is_told_so() -> None:
    """A lowered limit makes a waiting request hopeless."""
    desk = Desk(SPEC)
    desk.granted(input_tokens=900)
    parked(wait(desk, "w", 5000, 800))
    lower = {**SPEC.limits, "input_tokens": LimitSpec(limit=700, window_ms=1000, paced=False)}
    desk.reload(SPEC.model_copy(update={"limits": lower}))
    desk.settle_due()
    outcome = answer(desk, "w")
    assert isinstance(outcome, Refuse)
    assert outcome.reply["reason"] == "never_fits"


def test_a_command_that_was_handed_out_and_does_not_fit_keeps_its_place() -> None:
    """Should the head be decided too early, it stays at the head."""
    desk = Desk(SPEC)
    desk.granted(concurrent=2, ttl_ms=60_000)
    parked(wait(desk, "w", 5000, calls=1))
    line = desk.state.budgets["b"].line
    desk.state.handed = line.head()
    head = line.head()
    assert head is not None
    outcome = desk.decider.decide(desk.state, Command("agent", "w", head.command.body), desk.now, (1, 1, 99))
    parked(outcome)
    assert line.head() is head
    desk.settle_due()
    assert line.head() is head
    assert desk.state.alarms[0][0] == 60_000


def test_waiters_that_left_do_not_pile_up() -> None:
    """Deadlines of answered requests are dropped."""
    desk = Desk(SPEC)
    for number in range(500):
        calls = [desk.granted(concurrent=1) for _ in range(2)]
        parked(wait(desk, f"w-{number}", 600_000, calls=1))
        for call in calls:
            desk.settle(call)
        desk.settle_due()
        granted = answer(desk, f"w-{number}")
        assert isinstance(granted, Accept)
        desk.settle(granted.reply["reservation"])
    assert len(desk.state.deadlines) < 200


def test_who_may_not_overtake_is_told_what_the_first_one_waits_for() -> None:
    """It would fit by itself; asking again at once would be in vain."""
    desk = Desk(SPEC)
    desk.granted(input_tokens=900)
    at = desk.refused(input_tokens=200)["retry_at_ms"]
    parked(wait(desk, "w", 5000, 200))
    reply = desk.refused(concurrent=1)
    assert (reply["object"], reply["dimension"], reply["level"]) == ("b", "input_tokens", 900)
    assert reply["retry_at_ms"] == at
    assert "may not be overtaken" in reply["text"]


def test_who_comes_when_the_first_one_is_about_to_go_tries_again_after_that() -> None:
    """It fits now, and has not been handed out yet."""
    desk = Desk(SPEC)
    calls = [desk.granted(concurrent=1) for _ in range(2)]
    parked(wait(desk, "w", 5000, calls=1))
    desk.settle(calls[0])
    reply = desk.refused(input_tokens=1)
    assert (reply["object"], reply["dimension"], reply["retry_in_ms"]) == ("b", "concurrent", 1)
    assert "may not be overtaken" in reply["text"]


def test_who_may_not_overtake_at_an_object_beside_the_tree_is_told_so() -> None:
    """The host has one place, which the eldest waits for; a transfer that needs none stands behind him."""
    limits = {"concurrent": LimitSpec(limit=1, window_ms=0), "network_bytes": LimitSpec(limit=900, window_ms=1000)}
    host = BudgetSpec.model_validate({"name": "host", "limits": limits, "jitter_ms": 0})
    desk = Desk(SPEC, host)

    def ask(name: str, ms: int, **amounts: int) -> Outcome:
        body = Amounts.model_validate({"requests": 0, "concurrent": 0, **amounts})
        return desk.ask(Reserve(id=name, budget="b", amounts=body, wait_ms=ms, also=("host",)))

    assert isinstance(ask("first", 0, concurrent=1), Accept)
    parked(ask("second", 5000, concurrent=1))
    refused = ask("third", 0, network_bytes=1)
    assert isinstance(refused, Refuse)
    assert (refused.reply["object"], refused.reply["dimension"]) == ("host", "concurrent")
    assert refused.reply["retry_in_ms"] > 0


def test_who_waits_at_an_object_for_more_than_its_new_limit_is_told_so() -> None:
    """At once, beside the tree as in it."""
    host: Any = {"network_bytes": LimitSpec(limit=1_000, window_ms=10_000, paced=False)}
    desk = Desk(
        BudgetSpec(name="host", limits=host),
        BudgetSpec(name="b", limits={"requests": LimitSpec(limit=100, window_ms=1_000)}),
    )

    def ask(name: str, size: int) -> Outcome:
        amounts = Amounts(network_bytes=size, concurrent=0)
        return desk.ask(Reserve(id=name, budget="b", also=("host",), amounts=amounts, wait_ms=60_000))

    assert isinstance(ask("first", 900), Accept)
    assert isinstance(ask("large", 800), Park)
    assert isinstance(ask("small", 50), Park)
    less: Any = {"network_bytes": host["network_bytes"].model_copy(update={"limit": 960})}
    desk.must(Adjust(id="less-1", budget="host", limits=less), "ops")
    desk.settle_due()
    assert not desk.answers
    less = {"network_bytes": host["network_bytes"].model_copy(update={"limit": 500})}
    desk.must(Adjust(id="less-2", budget="host", limits=less), "ops")
    desk.settle_due()
    told = desk.answers["agent", "large"]
    assert isinstance(told, Refuse)
    assert (told.reply["reason"], told.reply["object"]) == ("never_fits", "host")
    desk.advance(desk.now + 20_000)
    assert isinstance(desk.answers["agent", "small"], Accept)


def test_who_waits_lower_down_for_more_than_a_new_limit_above_is_told_so() -> None:
    """At once, wherever on the path it is, and also behind others; and so when the provider tells of a lower limit."""
    window: dict[str, Any] = {"window_ms": 10_000, "paced": False}
    top = BudgetSpec(name="top", limits={"requests": LimitSpec(limit=100, **window)})
    below = BudgetSpec(name="b", parent="top", limits={"requests": LimitSpec(limit=80, **window)})
    desk = Desk(top, below)
    desk.granted(requests=60)
    sizes = {"a": 70, "c": 40, "d": 60}
    for name, size in sizes.items():
        amounts = Amounts(requests=size, concurrent=0)
        parked(desk.ask(Reserve(id=name, budget="b", amounts=amounts, wait_ms=60_000)))
    less: Any = {"requests": LimitSpec(limit=65, **window)}
    desk.must(Adjust(id="less", budget="top", limits=less), "ops")
    desk.settle_due()
    assert {name for _, name in desk.answers} == {"a"}
    row = Headroom(dimension="requests", limit=50)
    desk.ask(Seen(budget="b", window_ms=10_000, age_ms=0, limits=(row,)))
    desk.settle_due()
    assert {name for _, name in desk.answers} == {"a", "d"}
    for told in desk.answers.values():
        assert isinstance(told, Refuse)
        assert (told.reply["reason"], told.reply["object"]) == ("never_fits", "top")
    desk.advance(desk.now + 20_000)
    assert isinstance(answer(desk, "c"), Accept)


def test_a_pace_that_was_cut_may_be_back_in_time() -> None:
    """So a wait is not refused as vain for it: a 429 is no reason to send away who can wait for its recovery."""
    desk = Desk(BudgetSpec(name="b", limits={"requests": LimitSpec(limit=100, window_ms=10_000)}), now=1_000)
    for number in range(30):
        desk.must(RateLimited(id=f"r-{number}", budget="b", retry_after_ms=1), f"agent-{number}")
        desk.advance(desk.now + 300)
    while isinstance(desk.reserve(requests=1), Accept):
        pass
    alone = desk.refused(requests=5)["retry_in_ms"]
    assert isinstance(desk.reserve(requests=5, wait_ms=alone - 100), Park)
    desk.advance(desk.now + alone)
    (answer,) = desk.answers.values()
    assert isinstance(answer, Accept)
    assert answer.reply["granted_at_ms"] < desk.now - 100
