"""Who gets what: order, needs, policies, slots, work conservation, and how much one decision does."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.kernel.decider import Accept, Command
from bursar_scheduler import events
from bursar_scheduler.dice import draw
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.validate import is_conserving
from tests.scheduler.desk import Desk

POLICY_NAMES = sorted(POLICIES)


def ended_in_order(desk: Desk, count: int) -> list[str]:
    """Run what one worker with one slot gets, one after the other."""
    order = []
    for _ in range(count):
        (task,) = (t for t in desk.state.tasks.values() if t.state == "assigned")
        order.append(task.id)
        desk.run(task.id)
    return order


def test_first_come_first_served_within_a_band() -> None:
    """In the order of acceptance."""
    desk = Desk()
    tasks = [desk.submit() for _ in range(5)]
    desk.register()
    assert ended_in_order(desk, 5) == tasks


def test_bands_are_strict() -> None:
    """Reactive before standard before proactive, whenever they came."""
    desk = Desk()
    proactive, standard, reactive = (desk.submit(priority=band) for band in ("proactive", "standard", "reactive"))
    desk.register()
    assert ended_in_order(desk, 3) == [reactive, standard, proactive]


def test_who_has_waited_long_goes_before_a_higher_band() -> None:
    """A standard task stands a minute behind a reactive one, a proactive one five."""
    desk = Desk()
    proactive = desk.submit(priority="proactive")
    desk.now += 250_000
    standard = desk.submit(priority="standard")
    desk.now += 59_000
    early = desk.submit(priority="reactive")
    desk.now += 2_000
    late = desk.submit(priority="reactive")
    desk.register()
    assert ended_in_order(desk, 4) == [proactive, early, standard, late]


def test_a_task_that_comes_back_keeps_its_place() -> None:
    """After a failure or a loss it stands where its submission put it."""
    desk = Desk()
    first, second, third = desk.submit(backoff_ms=0), desk.submit(), desk.submit()
    desk.register()
    desk.start(first)
    desk.fail(first)
    assert ended_in_order(desk, 3) == [first, second, third]


@pytest.mark.parametrize(
    ("needs", "offer", "fits"),
    [
        ({"kind": "gpu"}, {"kind": "gpu"}, True),
        ({"kind": "gpu"}, {"kind": "cpu"}, False),
        ({"labels": {"zone": "a"}}, {"labels": {"zone": "a", "os": "x"}}, True),
        ({"labels": {"zone": "a", "os": "x"}}, {"labels": {"zone": "a"}}, False),
        ({"labels": {"zone": "a"}}, {"labels": {"zone": "b"}}, False),
        ({}, {"classes": ("other",)}, False),
        ({}, {"classes": ("other", "work")}, True),
    ],
)
def test_a_worker_gets_what_it_serves(needs: dict[str, Any], offer: dict[str, Any], fits: bool) -> None:
    """Class, kind and all labels; whoever comes first, task or worker."""
    for worker_first in (True, False):
        desk = Desk()
        if worker_first:
            desk.register(**offer)
        task = desk.submit(needs=needs)
        if not worker_first:
            desk.register(**offer)
        assert desk.where(task) == ("assigned" if fits else "ready")
        desk.check()


def test_a_worker_with_other_abilities_after_registering_again() -> None:
    """What it serves is what it said last."""
    desk = Desk()
    desk.register(classes=("other",))
    task = desk.submit()
    desk.register(classes=("work",))
    assert desk.where(task) == "assigned"
    desk.check()


def test_a_submission_that_finds_a_free_worker_is_assigned_with_it() -> None:
    """One decision, one entry in the journal."""
    desk = Desk()
    desk.register()
    outcome = desk.decide(Command("ann", "t-9", wire.Submit(id="t-9", task_class="work")))
    assert isinstance(outcome, Accept)
    assert [event[0] for event in outcome.events] == [events.ACCEPTED, events.ASSIGNED]
    assert outcome.reply["state"] == "assigned"


def test_an_end_gives_the_slot_to_the_next_in_line() -> None:
    """In the same decision, to the one that goes first."""
    desk = Desk()
    desk.register()
    task, _, urgent = desk.submit(), desk.submit(), desk.submit(priority="reactive")
    token = desk.start(task)
    outcome = desk.decide(Command("w1", "f-1", wire.Finish(id="f-1", task=task, token=token)))
    assert isinstance(outcome, Accept)
    assert [(event[0], event[2]) for event in outcome.events] == [(events.ENDED, task), (events.ASSIGNED, urgent)]


def test_nobody_new_overtakes_who_is_about_to_be_served() -> None:
    """Between a slot that became free and its assignment, a submission is not assigned at once."""
    desk = Desk()
    desk.register()
    first, second = desk.submit(), desk.submit()
    token = desk.start(first)
    desk.decide(Command("w1", "r-1", wire.Release(id="r-1", task=first, token=token)))
    outcome = desk.decide(Command("ann", "t-9", wire.Submit(id="t-9", task_class="work")))
    assert isinstance(outcome, Accept)
    assert outcome.reply["state"] == "ready"
    desk.settle()
    assert (desk.where(first), desk.where(second)) == ("assigned", "ready")


# ---- policies


def spread(policy: str, tasks: int, slots: tuple[int, ...]) -> list[int]:
    """How many of these long tasks each of some workers gets."""
    desk = Desk(policy=policy)
    for number, count in enumerate(slots):
        desk.register(f"w{number}", slots=count)
    for _ in range(tasks):
        desk.submit()
    desk.check()
    return [len(worker.attempts) for worker in desk.state.workers.values()]


def test_round_robin_gives_one_to_each_in_turn() -> None:
    """Whatever their load is."""
    assert spread("round_robin", 8, (100, 100, 100)) == [3, 3, 2]


def test_least_loaded_fills_in_proportion_to_the_slots() -> None:
    """Load is the part of the slots that is taken."""
    assert spread("least_loaded", 30, (10, 20, 30)) == [5, 10, 15]


def test_the_better_of_two_is_nearly_as_even_as_the_best_of_all() -> None:
    """Well below what a single draw gives, for which the largest of 20 is about twice the mean here."""
    even = spread("least_loaded", 400, (200,) * 20)
    two = spread("power_of_two", 400, (200,) * 20)
    assert max(even) - min(even) == 0
    assert sum(two) == 400
    assert max(two) <= 24
    assert min(two) >= 14


@pytest.mark.parametrize("policy", POLICY_NAMES)
def test_every_policy_conserves_work_and_keeps_to_the_slots(policy: str) -> None:
    """No worker is idle while there is something for it, none has more than its slots."""
    rng = random.Random(policy)
    desk = Desk(policy=policy)
    for number in range(5):
        desk.register(f"w{number}", slots=number + 1, labels={"odd": str(number % 2)})
    for step in range(400):
        running = [task for task in desk.state.tasks.values() if task.token]
        if rng.random() < 0.5 or not running:
            desk.submit(needs={"labels": {"odd": str(rng.randrange(2))}} if rng.random() < 0.5 else {})
        else:
            desk.run(rng.choice(running).id)
        assert is_conserving(desk.state)
        assert all(len(worker.attempts) <= worker.slots for worker in desk.state.workers.values())
        if step % 50 == 0:
            desk.check()


def test_the_policy_can_be_changed_while_tasks_wait() -> None:
    """By an operator; the rest of the rules stays."""
    desk = Desk(max_losses=7)
    desk.must(wire.Configure(id="c-1", policy="round_robin"), "ops")
    assert (desk.state.config.policy, desk.state.config.max_losses) == ("round_robin", 7)
    assert desk.hears(wire.Status())["policy"] == "round_robin"


def test_draws_are_even_and_the_same_for_the_same_number() -> None:
    """Chi-square of 10,000 draws over 10 cells."""
    cells = [0] * 10
    for number in range(10_000):
        cells[draw(number, 10)] += 1
    assert draw(7, 1_000) == draw(7, 1_000)
    assert sum((cell - 1_000) ** 2 / 1_000 for cell in cells) < 27.9


def test_idle_lanes_are_dropped_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody waits in is forgotten; what somebody waits in is not."""
    monkeypatch.setattr("bursar_scheduler.board.MAX_IDLE_LANES", 8)
    desk = Desk()
    desk.register(slots=200)
    waiting = desk.submit(needs={"labels": {"none": "x"}})
    for number in range(40):
        desk.run(desk.submit(task_class="work", needs={"labels": {}} if number % 2 else {"kind": "cpu"}))
        desk.register(slots=200, classes=("work", f"c{number}"), session="sw1")
        desk.run(desk.submit(task_class=f"c{number}"))
    board = desk.state.awake(desk.now)
    assert len(board.lanes) <= 9
    assert board.lanes[desk.state.tasks[waiting].lane].count == 1
    desk.check()


def test_the_agenda_does_not_grow_with_what_has_ended() -> None:
    """A deadline a month away of a task that ended at once is forgotten."""
    desk = Desk()
    desk.register(slots=4)
    for _ in range(3_000):
        desk.run(desk.submit(deadline_ms=2_000_000_000))
    board = desk.state.awake(desk.now)
    assert len(board.agenda) <= 1_030
    assert not any(lane.count for lane in board.lanes.values())
