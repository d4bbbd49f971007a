"""Plans of policies: which of their moves are used; a policy beside the live one."""

from __future__ import annotations

import random

import pytest

from bursar.contracts import scheduler as wire
from bursar_scheduler.fleet import Load, Offer
from bursar_scheduler.moving import Move, Now, Plan, Snapshot, TaskView, WorkerView, earliest, usable
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.scoring import Ask
from bursar_scheduler.shadowing import KEPT, Shadow
from bursar_scheduler.speeds import Speeds
from tests.scheduler.desk import Desk
from tests.scheduler.test_scoring import LANE, fleet_of


def test_moves_are_used_only_if_nothing_has_changed() -> None:
    """Another token, a task that is gone, a worker that is full or gone: each is told."""
    now = Now({"a": "1.1.5", "b": "", "c": "", "d": "1.1.9"}, {"a": 100}, {"w": 1, "x": 9, "full": 0})
    plan = Plan(1, (
        Move("a", "1.1.5", "w", 200), Move("b", "", "w", 150), Move("c", "1.1.1", "x", 999), Move("gone", "", "x", 9),
        Move("d", "1.1.9", "full", 9), Move("d", "1.1.9", "nobody", 8), Move("a", "1.1.5", "x", 199),
    ))  # fmt: skip
    moves, dropped = usable(plan, now)
    assert [move.task for move in moves] == ["a"]
    assert dropped == {"full": 3, "changed": 1, "gone": 1, "twice": 1}


def test_a_move_has_to_gain_more_than_it_costs() -> None:
    """By a tenth at least, so that nothing is moved to and fro; what waits costs nothing but has to gain something."""
    now = Now({"a": "t", "b": ""}, {"a": 1_000}, {"w": 9})
    for gain, used in ((1_000, False), (1_100, False), (1_101, True)):
        assert bool(usable(Plan(1, (Move("a", "t", "w", gain),)), now)[0]) == used
    assert usable(Plan(1, (Move("b", "", "w", 0),)), now)[1] == {"no gain": 1}
    assert usable(Plan(1, (Move("b", "", "w", 1),)), now)[0]


@pytest.mark.property
@pytest.mark.parametrize("seed", range(5))
def test_a_plan_never_overfills_a_worker(seed: int) -> None:
    """Whatever is proposed, each task moves once at most, and no worker gets more than it has room for."""
    rng = random.Random(seed)
    for _ in range(100):
        tokens = {f"t{number}": rng.choice(["", "x"]) for number in range(8)}
        free = {f"w{number}": rng.randrange(3) for number in range(4)}
        moves = [
            Move(f"t{rng.randrange(10)}", rng.choice(["", "x"]), f"w{rng.randrange(5)}", rng.randrange(-5, 100))
            for _ in range(20)
        ]
        used, dropped = usable(Plan(1, tuple(moves)), Now(tokens, dict.fromkeys(tokens, rng.randrange(50)), free))
        assert len(used) + sum(dropped.values()) == len(moves)
        assert len({move.task for move in used}) == len(used)
        assert all(sum(move.worker == name for move in used) <= free.get(name, 0) for name in free)
        assert all(tokens[move.task] == move.token for move in used)


def test_the_earliest_end_is_a_policy_per_tick() -> None:
    """The longest first, each where it ends earliest; bands before that; nobody where it may not be."""
    workers = (WorkerView("fast", "gpu", 1, 0, 0, 0), WorkerView("slow", "cpu", 2, 1, 0, 0))
    both = {"fast": 100, "slow": 300}
    tasks = (
        TaskView("short", 1, "", "", 0, 0, {"fast": 10, "slow": 30}),
        TaskView("long", 1, "", "", 0, 0, both),
        TaskView("runs", 1, "1.1.1", "slow", 0, 0, both),
        TaskView("nowhere", 1, "", "", 0, 0, {}),
    )
    plan = earliest(Snapshot(7, 0, workers, tasks))
    assert [(move.task, move.worker) for move in plan.moves] == [("long", "fast"), ("short", "slow")]
    assert plan.sequence == 7
    moves, _ = usable(plan, Now({"short": "", "long": ""}, {}, {"fast": 1, "slow": 1}))
    assert len(moves) == 2


def test_a_shadow_tells_its_regret() -> None:
    """Round robin loses against the score what the score says; the score loses nothing against itself."""
    speeds = Speeds()
    speeds.learn("call", "fast", 1_000)
    speeds.learn("call", "slow", 9_000)
    fleet = fleet_of(Offer("slow", slots=9), Offer("fast", slots=9), speeds=speeds)
    ask, shadow, same = Ask(LANE, "call"), Shadow("score"), Shadow("round_robin")
    first = POLICIES["round_robin"](fleet, ask, 0)
    assert first is not None
    for number in range(80):
        live = POLICIES["round_robin"](fleet, ask, number) or first
        regret = shadow.watch(fleet, ask, number, live)
        assert regret == (8_000 if live.chosen.worker == "slow" else 0)
        assert same.watch(fleet, ask, number, live) == 0
        fleet.last[LANE] = live.chosen.worker
    told = shadow.told()
    assert told == {"policy": "score", "decisions": 80, "agreed_permille": 500, "regret_us": 4_000, "gap_us": 0}
    assert same.told()["agreed_permille"] == 1_000
    assert same.told()["gap_us"] == 4_000
    assert 0 < len(shadow.differences) <= KEPT
    fleet.note("slow", Load(9))
    fleet.note("fast", Load(9))
    assert shadow.watch(fleet, ask, 99, first) == 0


def test_an_operator_sees_the_regret_of_the_live_policy() -> None:
    """A shadow is switched on and off live, is told in the status, and changes no choice."""
    desk = Desk(policy="round_robin", shadow="score")
    for name, slots in (("w1", 1), ("w2", 8)):
        desk.register(name, slots=slots)
    chosen = [desk.worker(desk.submit()) for _ in range(4)]
    assert chosen == ["w1", "w2", "w2", "w2"]
    told = desk.hears(wire.Status())["shadow"]
    assert (told["policy"], told["decisions"]) == ("score", 4)
    assert told["regret_us"] > 0
    assert told["gap_us"] == 0
    desk.must(wire.Configure(id="c-9", shadow="none"), "ops")
    desk.submit()
    assert desk.hears(wire.Status())["shadow"] is None
    desk.check()
