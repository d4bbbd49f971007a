"""Programs, agents and teams: who has had least goes first, weights, quotas that lend and borrow, all live."""

from __future__ import annotations

from typing import Any

from bursar.contracts import scheduler as wire
from bursar_scheduler.validate import is_conserving
from tests.scheduler.desk import Desk


def share(desk: Desk, **fields: Any) -> dict[str, Any]:
    return desk.must(wire.Share.model_validate({"id": desk.new_id(), **fields}), "ops")


def served(desk: Desk, count: int, ms: int = 1_000) -> list[str]:
    """Run what one slot gets, one after the other, each for so long."""
    order = []
    for _ in range(count):
        (task,) = (task for task in desk.state.tasks.values() if task.state == "assigned")
        order.append(task.id)
        desk.start(task.id)
        desk.advance(ms)
        desk.beat("w1")
        desk.finish(task.id)
    return order


def test_the_program_that_has_had_least_goes_first() -> None:
    """A long run of an agent does not keep its short ones waiting; what runs is counted while it runs."""
    desk = Desk(worker_ttl_ms=600_000)
    desk.register()
    desk.advance(1)
    long = [desk.submit(program="long", lease_ms=60_000) for _ in range(8)]
    first = served(desk, 4)
    short = [desk.submit(program="short", lease_ms=60_000) for _ in range(2)]
    then = served(desk, 4)
    assert first == long[:4]
    assert then == [long[4], *short, long[5]]
    desk.check()


def test_agents_get_slots_by_their_weights() -> None:
    """Whoever submitted more or earlier."""
    desk = Desk(worker_ttl_ms=600_000)
    share(desk, agent="ann", weight=3)
    desk.register()
    desk.must(wire.Drain(id="d-1", session="sw1"), "w1")
    for _ in range(20):
        desk.submit(principal="bob", lease_ms=60_000)
    for _ in range(20):
        desk.submit(lease_ms=60_000)
    desk.register()
    order = served(desk, 16)
    assert 11 <= sum(task.startswith("ann") for task in order) <= 13
    desk.check()


def running(desk: Desk) -> dict[str, int]:
    counts: dict[str, int] = {}
    for task in desk.state.tasks.values():
        if task.token:
            counts[task.principal] = counts.get(task.principal, 0) + 1
    return counts


def test_a_quota_lends_what_it_does_not_use_and_gets_it_back() -> None:
    """A team's slots go to others while it has nothing to do; they are the next that become free."""
    desk = Desk(worker_ttl_ms=600_000)
    share(desk, team="red", slots=3)
    share(desk, team="red", agent="ann")
    share(desk, team="blue", slots=1)
    share(desk, team="blue", agent="bob")
    desk.register(slots=4)
    for _ in range(8):
        desk.submit(principal="bob", lease_ms=60_000)
    assert running(desk) == {"bob": 4}
    for _ in range(8):
        desk.submit(lease_ms=60_000)
    for _ in range(3):
        task = next(task for task in desk.state.tasks.values() if task.token and task.principal == "bob")
        desk.run(task.id)
    assert running(desk) == {"bob": 1, "ann": 3}
    assert is_conserving(desk.state)
    desk.check()


def test_a_quota_without_borrowing_keeps_slots_free_and_is_adjusted_live() -> None:
    """Those it keeps wait; another rule lets them in at once."""
    desk = Desk()
    share(desk, agent="ann", slots=1, borrow=0)
    desk.register(slots=4)
    tasks = [desk.submit() for _ in range(4)]
    assert [desk.where(task) for task in tasks] == ["assigned", "ready", "ready", "ready"]
    assert is_conserving(desk.state)
    assert share(desk, agent="ann", slots=1, borrow=2)["running"] == 1
    assert running(desk) == {"ann": 3}
    desk.check()
    desk.take_over()
    desk.run(tasks[0])
    assert running(desk) == {"ann": 3}
    desk.check()


def test_slots_that_are_not_lent_stay_free_for_their_owner() -> None:
    """Up to ``lend`` of them are lent."""
    desk = Desk()
    share(desk, agent="ann", slots=3, lend=1)
    desk.register(slots=4)
    for _ in range(6):
        desk.submit(principal="bob")
    assert running(desk) == {"bob": 2}
    for _ in range(4):
        desk.submit()
    assert running(desk) == {"bob": 2, "ann": 2}
    desk.check()


def test_a_share_is_somebodys() -> None:
    """A team's or an agent's."""
    assert Desk().code(wire.Share(id="x-1"), "ops") == "bad_request"


def test_the_rule_for_programs_can_be_changed() -> None:
    """By the sum over calls, or by the longest path of calls that waited for each other."""
    desk = Desk(fairness="atlas", worker_ttl_ms=600_000)
    desk.register(slots=4)
    for _ in range(4):
        desk.submit(program="wide", lease_ms=60_000)
    for task in list(desk.state.tasks.values()):
        desk.start(task.id)
    desk.advance(3_000)
    for task in list(desk.state.tasks.values()):
        desk.finish(task.id)
    who = desk.state.tasks[desk.submit(program="wide")].who
    assert desk.state.ledger.attained(who, desk.now) == 3_000
    desk.must(wire.Configure(id="c-1", fairness="plas"), "ops")
    assert desk.state.ledger.attained(who, desk.now) >= 12_000
    desk.check()
