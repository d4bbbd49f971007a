"""Policies per tick, in the background and for slots at work: what they may do, what they may not, their shadows."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_moving import Propose, ProposedMove, TakeSnapshot
from bursar.kernel.decider import Accept, Refuse
from bursar_scheduler import planning
from bursar_scheduler.moving import Move, Plan
from bursar_scheduler.planning import BACKGROUND_MS, MAX_TOUCHED, SLOTS_MS, Planner
from bursar_scheduler.validate import is_conserving
from tests.scheduler.desk import Desk


def beat_all(desk: Desk) -> None:
    for name, worker in desk.state.workers.items():
        desk.beat(name, *worker.attempts)


def wait(desk: Desk, ms: int) -> None:
    """Let time pass with heartbeats; nothing that could run waits at any moment."""
    for _ in range(ms // 500):
        desk.advance(500)
        beat_all(desk)
        assert is_conserving(desk.state)


def learned(fast_ms: int = 1_000, slow_ms: int = 20_000, **rules: Any) -> Desk:
    """A fast worker and a slow one, and a scheduler that knows it."""
    desk = Desk(**rules)
    for name, took in (("fast", fast_ms), ("slow", slow_ms)):
        desk.register(name, labels={"name": name}, price=1)
        task = desk.submit(needs={"labels": {"name": name}}, lease_ms=60_000)
        desk.start(task)
        for _ in range(took // 500):
            desk.advance(500)
            beat_all(desk)
        desk.finish(task)
    return desk


def on_slow(desk: Desk, **fields: Any) -> str:
    """A task that runs on the slow worker because the fast one was busy, and is free now."""
    first = desk.submit()
    task = desk.submit(preemptible=True, lease_ms=60_000, **fields)
    assert (desk.worker(first), desk.worker(task)) == ("fast", "slow")
    desk.start(task)
    desk.run(first)
    return task


def counts(desk: Desk) -> dict[str, int]:
    told: dict[str, int] = desk.hears(wire.Status())["counts"]
    return {name: count for name, count in told.items() if name.startswith("moves_")}


def test_what_would_end_earlier_elsewhere_is_moved_at_the_end_of_a_chunk() -> None:
    """By the way of preemption: the worker is asked to yield, and the task goes on where it is faster."""
    desk = learned(background="rebalance")
    task = on_slow(desk)
    wait(desk, BACKGROUND_MS + 1_000)
    assert desk.where(task) == "preempting"
    asked = desk.notices("slow", "stop")[0]
    assert asked["preempt"]
    token = desk.token(task)
    desk.must(wire.Yield(id="y-1", task=task, token=token, checkpoint=b"half"), "slow")
    assert desk.worker(task) == "fast"
    assert desk.notices("fast", "assign")[-1]["checkpoint"] == b"half"
    assert counts(desk)["moves_moved"] == 1
    desk.check()


def test_nothing_is_moved_by_default() -> None:
    """The background is off."""
    desk = learned()
    task = on_slow(desk)
    wait(desk, 5_000)
    assert desk.where(task) == "running"
    assert counts(desk) == {}


@pytest.mark.parametrize(
    ("slow_ms", "rules"),
    [(1_500, {}), (20_000, {"min_run_ms": 60_000})],
    ids=["gains less than it costs", "has not run for long enough"],
)
def test_a_move_has_to_be_worth_it_and_allowed(slow_ms: int, rules: dict[str, int]) -> None:
    """What it has done since its last checkpoint would be done again; and the least run time holds for moves, too."""
    desk = learned(slow_ms=slow_ms, background="rebalance", **rules)
    task = on_slow(desk)
    wait(desk, 4_000)
    assert desk.where(task) == "running"
    assert counts(desk).get("moves_moved", 0) == 0
    desk.check()


def test_a_checkpoint_makes_a_move_cheap_again() -> None:
    """Only what was done since then is lost."""
    desk = learned(fast_ms=4_000, slow_ms=12_000, background="rebalance", min_run_ms=0)
    task = on_slow(desk)
    board = desk.state.awake(desk.now)
    desk.advance(500)
    before = planning.carry_us(board, desk.state.tasks[task], desk.now)
    desk.must(wire.Checkpoint(id="c-1", task=task, token=desk.token(task), checkpoint=b"x"), "slow")
    assert before - planning.carry_us(board, desk.state.tasks[task], desk.now) == 500_000
    desk.check()


def test_a_task_that_cannot_be_stopped_stays_where_it_is() -> None:
    """As with every preemption."""
    desk = learned(background="rebalance")
    first = desk.submit()
    task = desk.submit(lease_ms=60_000)
    desk.start(task)
    desk.run(first)
    wait(desk, 5_000)
    assert desk.where(task) == "running"
    desk.check()


def test_a_plan_per_tick_says_where_several_go() -> None:
    """The longest goes to the fast worker, though a short one is first in line; none idles because of the plan."""
    desk = learned(tick="earliest")
    for name in ("fast", "slow"):
        desk.must(wire.Drain(id=desk.new_id(), session=f"s{name}"), name)
    tasks = [desk.submit() for _ in range(5)]
    for name in ("fast", "slow"):
        desk.register(name, 2, labels={"name": name})
    assert is_conserving(desk.state)
    assert sorted(desk.where(task) for task in tasks) == ["assigned"] * 4 + ["ready"]
    assert counts(desk)["moves_placed"] >= 1
    desk.check()


def test_a_tick_never_overrules_what_a_task_needs() -> None:
    """A mix of needs and policies is worked off; whatever was planned, nothing idles."""
    desk = Desk(tick="earliest", background="rebalance", slot_policy="demand", min_run_ms=0)
    for number in range(4):
        desk.register(f"w{number}", 2, labels={"zone": "ab"[number % 2]}, ram_mib=100, price=number)
    tasks = [
        desk.submit(
            needs=[{}, {"labels": {"zone": "a"}}, {"ram_mib": 60}, {"gang": 2}][number % 4],
            preemptible=number % 3 == 0, lease_ms=60_000,
        )
        for number in range(24)
    ]  # fmt: skip
    for step in range(120):
        for task in [name for name in tasks if name in desk.state.tasks]:
            members, token = desk.state.tasks[task].members, desk.token(task)
            if desk.where(task) == "assigned":
                for name in members:
                    desk.must(wire.Start(id=desk.new_id(), task=task, token=token), name)
            elif desk.where(task) == "preempting":
                desk.must(wire.Yield(id=desk.new_id(), task=task, token=token), desk.worker(task))
            elif desk.where(task) == "running" and (step + len(task)) % 3 == 0:
                for name in members:
                    desk.finish(task, token, name)
            assert is_conserving(desk.state)
        desk.check()
        wait(desk, 500)
    assert {desk.where(task) for task in tasks} == {"done"}


def test_slots_follow_the_demand_and_all_count_as_soon_as_work_waits() -> None:
    """Little work stays on the cheap worker; when there is more than that has room for, the dear one has it at once."""
    desk = Desk(slot_policy="demand")
    desk.register("cheap", 4, price=1)
    desk.register("dear", 4, price=9)
    desk.advance(10)
    beat_all(desk)
    first = desk.submit(lease_ms=60_000)
    assert desk.worker(first) == "cheap"
    wait(desk, SLOTS_MS)
    assert desk.state.workers["dear"].cap == 0
    tasks = [desk.submit() for _ in range(7)]
    assert is_conserving(desk.state)
    assert {desk.where(task) for task in tasks} == {"assigned"}
    assert [desk.worker(task) for task in tasks].count("dear") == 4
    desk.check()


def test_caps_end_with_the_policy() -> None:
    """Switched off, all slots count at the next look."""
    desk = Desk(slot_policy="demand")
    desk.register("cheap", 4, price=1)
    desk.register("dear", 4, price=9)
    wait(desk, SLOTS_MS)
    assert desk.state.workers["dear"].cap == 0
    desk.must(wire.Configure(id="c-1", slot_policy="none"), "ops")
    wait(desk, SLOTS_MS + 500)
    assert desk.state.workers["dear"].has_room
    desk.check()


@pytest.mark.parametrize("policy", ["earliest", "rebalance", "demand"])
def test_a_shadow_of_each_kind_is_told_and_changes_nothing(policy: Any) -> None:
    """Its plans are weighed: the status has how often it would leave all as it is, and what its moves would gain."""
    desk = learned(shadow=policy)
    task = on_slow(desk)
    for name in ("fast", "slow"):
        desk.must(wire.Drain(id=desk.new_id(), session=f"s{name}"), name)
    waiting = [desk.submit() for _ in range(2)]
    wait(desk, 500)
    desk.register("fast", 4, labels={"name": "fast"})
    desk.register("slow", 4, labels={"name": "slow"}, running=(desk.token(task),))
    wait(desk, 2_000)
    told = desk.hears(wire.Status())["shadow"]
    assert told["policy"] == policy
    assert told["decisions"] > 0
    assert (told["regret_us"] > 0) == (policy == "rebalance")
    assert desk.where(task) == "running"
    assert all(desk.worker(name) == "fast" for name in waiting)
    assert desk.state.workers["slow"].has_room
    assert counts(desk).get("moves_moved", 0) == 0
    desk.check()


def test_a_plan_for_slots_passes_over_who_has_changed() -> None:
    """Another process under the same name is not what the policy looked at."""
    desk = Desk(slot_policy="demand")
    desk.register("w1", 4)
    board = desk.state.awake(desk.now)
    planner = planning.planner_of(board, desk.now)
    snapshot = planning.snapshot_of(desk.state, desk.now)
    desk.register("w1", 4, session="another")
    planning.set_slots(desk.state, board, planner, Plan(snapshot.sequence, (), (("w1", 0), ("gone", 0))))
    assert desk.state.workers["w1"].has_room
    planning.set_slots(desk.state, board, planner, Plan(planner.sequence, (), (("w1", 0),)))
    assert not desk.state.workers["w1"].has_room


def test_what_has_changed_is_known_for_a_bounded_number() -> None:
    """Of a snapshot that is too old everything counts as changed."""
    planner = Planner(1_000)
    first = planner.sequence
    planner.touch("a")
    assert "a" in planner.changed_since(first)
    assert "b" not in planner.changed_since(first)
    assert "a" not in planner.changed_since(planner.sequence)
    for number in range(MAX_TOUCHED):
        planner.touch(f"t{number}")
    assert len(planner.touched) <= MAX_TOUCHED
    assert "b" in planner.changed_since(first)


def test_a_move_that_cannot_be_made_any_more_is_dropped() -> None:
    """Its task has another token, or its worker has no room."""
    desk = learned(min_run_ms=0)
    task = on_slow(desk)
    token = desk.token(task)
    assert planning.may_move(desk.state, Move(task, token, "fast", 1), desk.now)
    for move in (Move(task, "1.1.1", "fast", 1), Move(task, token, "slow", 1), Move("gone", token, "fast", 1),
                 Move(task, token, "nobody", 1)):  # fmt: skip
        assert not planning.may_move(desk.state, move, desk.now)
    desk.submit()
    assert not planning.may_move(desk.state, Move(task, token, "fast", 1), desk.now), "it is busy now"


def look(desk: Desk) -> dict[str, Any]:
    return desk.hears(TakeSnapshot(), "ops")


def propose(desk: Desk, sequence: int, *moves: tuple[str, str | None, str, int], **fields: Any) -> dict[str, Any]:
    """The answer, whether anything was journaled for it or not."""
    named = tuple(ProposedMove(task=task, token=token, worker=name, gain_us=gain) for task, token, name, gain in moves)
    outcome = desk.ask(Propose(id=desk.new_id(), sequence=sequence, moves=named, **fields), "ops")
    assert isinstance(outcome, Accept | Refuse)
    return outcome.reply


def test_an_optimiser_from_outside_moves_what_it_has_seen() -> None:
    """It is told what each move would gain and cost; what has changed since stays where it is."""
    desk = learned(min_run_ms=0)
    task = on_slow(desk)
    seen = look(desk)
    (there,) = [view for view in seen["tasks"] if view["task"] == task]
    assert there["worker"] == "slow"
    gain = there["runs_us"]["slow"] - there["runs_us"]["fast"]
    assert gain > there["carry_us"]
    old = seen["sequence"]
    assert propose(desk, old, (task, there["token"], "fast", 1))["dropped"] == {"no gain": 1}
    assert propose(desk, old, (task, there["token"], "nobody", gain))["dropped"] == {"full": 1}
    assert propose(desk, old, (task, "1.1.1", "fast", gain))["dropped"] == {"changed": 1}
    desk.register("fast", labels={"name": "fast"}, session="another")
    assert propose(desk, old, (task, there["token"], "fast", gain))["dropped"] == {"changed": 1}
    assert desk.where(task) == "running"
    told = propose(desk, look(desk)["sequence"], (task, there["token"], "fast", gain))
    assert (told["used"], told["dropped"]) == ([task], {})
    assert desk.where(task) == "preempting"
    desk.must(wire.Yield(id="y-1", task=task, token=there["token"]), "slow")
    assert desk.worker(task) == "fast"
    desk.check()


def test_slots_are_given_from_outside_until_work_waits() -> None:
    """A gang for which there are too few workers anyway changes nothing."""
    desk = Desk()
    desk.register("w1", 4)
    desk.submit()
    desk.submit(needs={"gang": 2})
    assert propose(desk, look(desk)["sequence"], slots={"w1": 1})["used"] == []
    assert not desk.state.workers["w1"].has_room
    more = desk.submit()
    assert desk.worker(more) == "w1"
    assert is_conserving(desk.state)
    desk.check()


def test_what_cannot_be_stopped_is_not_moved_from_outside() -> None:
    """It is told as fixed; and a task that is not there as gone."""
    desk = learned()
    first = desk.submit()
    task = desk.submit(lease_ms=60_000)
    token = desk.start(task)
    desk.run(first)
    told = propose(desk, look(desk)["sequence"], (task, token, "fast", 10**9), ("ann.gone", None, "fast", 10**9))
    assert told["dropped"] == {"fixed": 1, "gone": 1}
    waits = desk.submit(needs={"labels": {"no": "such"}})
    told = propose(desk, look(desk)["sequence"], (waits, None, "fast", 10**9))
    assert told["dropped"] == {"fixed": 1}
    assert desk.where(task) == "running"
    desk.check()
