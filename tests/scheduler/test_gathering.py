"""Workers are held for a gang that has waited, and only as long as that can begin."""

from __future__ import annotations

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_explain import Why
from bursar_scheduler.gathering import HOLD_AFTER_MS
from bursar_scheduler.validate import is_conserving
from tests.scheduler.test_gangs import crew, gang_of, part, start, used


def test_a_gang_that_has_waited_gets_its_workers_one_by_one() -> None:
    """Each that gets free is held for it then, though single tasks wait; before that they go on."""
    desk = crew(3)
    singles = [desk.submit() for _ in range(9)]
    task = gang_of(desk, priority="proactive")

    def end_one() -> None:
        running = next(name for name in singles if desk.where(name) == "assigned")
        desk.run(running)
        assert is_conserving(desk.state)
        desk.check()

    for _ in range(3):
        end_one()
    assert desk.where(task) == "ready"
    assert sum(used(desk).values()) == 3, "single tasks have taken what got free"
    for _ in range(HOLD_AFTER_MS // 500 + 1):
        desk.advance(500)
        for name in desk.state.workers:
            desk.beat(name, *desk.state.workers[name].attempts)
    end_one()
    end_one()
    assert sum(used(desk).values()) == 1
    waiting = next(name for name in singles if desk.where(name) == "ready")
    held = [hold["lacks"] for hold in desk.hears(Why(task=waiting))["holds"]]
    assert sorted(held) == ["gang", "gang", "room"]
    end_one()
    assert desk.where(task) == "assigned"
    assert sum(used(desk).values()) == 3
    token = start(desk, task)
    for name in desk.state.tasks[task].members:
        part(desk, task, token, name)
    assert sum(used(desk).values()) == 3
    desk.check()


def test_nobody_is_held_for_a_gang_that_cannot_begin() -> None:
    """There are too few workers for it, now or after one has gone; a cancelled one is waited for no more."""
    desk = crew(2)
    task = gang_of(desk)
    desk.advance(HOLD_AFTER_MS + 1)
    for name in ("w1", "w2"):
        desk.register(name)
    assert desk.where(desk.submit()) == "assigned"
    desk.register("w3")
    assert desk.where(task) == "ready"
    desk.advance(1)
    assert not desk.state.workers["w3"].has_room, "two are free and held, the third is busy"
    single = desk.submit()
    assert desk.where(single) == "ready"
    desk.must(wire.Leave(id="l-1", session="sw3"), "w3")
    assert desk.where(single) == "assigned"
    desk.check()
    desk.register("w3")
    desk.register("w4")
    for _ in range(3):
        for name in ("w1", "w2", "w3", "w4"):
            desk.beat(name)
        desk.advance(500)
    desk.cancel(task)
    assert desk.where(desk.submit()) == "assigned"
    desk.check()


def test_a_gang_whose_worker_goes_at_the_last_moment_goes_on_gathering() -> None:
    """Enough were held, and one leaves before the gang is given: the others are held again, and it begins later."""
    desk = crew(3)
    singles = [desk.submit(lease_ms=60_000) for _ in range(4)]
    task = gang_of(desk)
    for single in singles[:3]:
        desk.start(single)
    for _ in range(HOLD_AFTER_MS // 500 + 1):
        desk.advance(500)
        for name, known in desk.state.workers.items():
            desk.beat(name, *known.attempts)
    for single in singles[:3]:
        token, worker = desk.token(single), desk.worker(single)
        desk.decide_only(wire.Finish(id=desk.new_id(), task=single, token=token), worker)
    desk.decide_only(wire.Leave(id=desk.new_id(), session="sw1"), "w1")
    desk.settle()
    assert desk.where(task) == "ready"
    assert desk.where(singles[3]) == "assigned", "there are too few workers for the gang now"
    desk.run(singles[3])
    desk.register("w1")
    assert desk.where(task) == "assigned"
    desk.check()


def test_a_quota_keeps_a_gang_from_holding_workers() -> None:
    """They go to others until it may begin."""
    desk = crew(2)
    desk.must(wire.Share(id="s-1", agent="ann", slots=0, borrow=0), "ops")
    task = gang_of(desk, 2)
    for _ in range(HOLD_AFTER_MS // 500 + 1):
        desk.advance(500)
        for name in desk.state.workers:
            desk.beat(name)
    other = desk.submit(principal="bob")
    assert desk.where(other) == "assigned"
    desk.run(other)
    desk.must(wire.Share(id="s-2", agent="ann", slots=2), "ops")
    assert desk.where(task) == "assigned"
    desk.check()
