"""Plans that are carried out with the owners' consent."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.errors import CallerError
from bursar_gpu_manager.defrag import Movable, plan
from bursar_gpu_manager.moving import ANSWER_MS, ASK_AGAIN_MS, LOAD_MS, Moved, Moving
from bursar_gpu_manager.pools import LARGE

GIB = 1 << 30
FREE = {"a": 7 * GIB // 2, "b": 5 * GIB, "c": 9 * GIB, "d": 3 * GIB}
LEASES = [Movable("x", "a", GIB // 2), Movable("y", "d", GIB)]


def begun() -> Moving:
    """A plan of two moves, the first one proposed."""
    moving = Moving()
    for event in moving.begin(plan(FREE, LEASES, LARGE), 100):
        moving.apply(event)
    for step in moving.propose(FREE, 100):
        moving.apply(step)
    return moving


def test_moves_are_made_one_after_the_other() -> None:
    """Proposed, agreed, loaded; then the next."""
    moving = begun()
    assert moving.current is not None
    assert [move.lease for move in moving.waiting] == ["y"]
    assert moving.wake_at == 100 + ANSWER_MS
    assert moving.propose(FREE, 101) == []
    moving.apply(moving.answer("x", "agreed", 200))
    assert moving.lapse(199 + LOAD_MS) == []
    moving.apply(moving.answer("x", "loaded", 300))
    assert "loaded" in moving.done
    free = {"a": 4 * GIB, "b": 9 * GIB // 2, "c": 9 * GIB, "d": 3 * GIB}
    [step] = moving.propose(free, 300)
    assert (step.lease, step.step) == ("y", "proposed")
    moving.apply(step)
    moving.apply(moving.answer("y", "declined", 400))
    assert moving.done == {"loaded": 1, "declined": 1}
    assert not moving.may_ask("y", 400 + ASK_AGAIN_MS - 1)
    assert moving.may_ask("y", 400 + ASK_AGAIN_MS)
    assert moving.may_ask("x", 400)


def test_what_gains_no_more_is_left_out() -> None:
    """Somebody took the room meanwhile, or a device is gone."""
    moving = Moving()
    for event in moving.begin(plan(FREE, LEASES, LARGE), 0):
        moving.apply(event)
    steps = moving.propose({"a": 7 * GIB // 2, "b": 0, "c": 8 * GIB}, 5)
    assert steps == [Moved("x", "skipped", 5, 0), Moved("y", "skipped", 5, 0)]
    for step in steps:
        moving.apply(step)
    assert not moving.is_busy


def test_an_owner_that_says_nothing_is_not_waited_for() -> None:
    """Before it agreed, and after."""
    moving = begun()
    assert moving.lapse(100 + ANSWER_MS - 1) == []
    [step] = moving.lapse(100 + ANSWER_MS)
    moving.apply(step)
    assert moving.done == {"lapsed": 1}
    assert not moving.may_ask("x", 200 + ANSWER_MS)
    other = begun()
    other.apply(other.answer("x", "agreed", 200))
    assert other.lapse(100 + ANSWER_MS) == []
    [step] = other.lapse(200 + LOAD_MS)
    assert step.step == "lapsed"
    assert Moving().lapse(0) == []
    assert Moving().wake_at is None


def test_a_step_that_does_not_follow_is_refused() -> None:
    """Loaded before agreed, twice agreed, somebody else's lease, nothing asked."""
    moving = begun()
    for lease, step in (("x", "loaded"), ("y", "agreed")):
        with pytest.raises(CallerError) as error:
            moving.answer(lease, step, 200)  # type: ignore[arg-type]
        assert error.value.code == "conflict"
    moving.apply(moving.answer("x", "agreed", 200))
    with pytest.raises(CallerError):
        moving.answer("x", "agreed", 201)
    with pytest.raises(CallerError):
        Moving().answer("x", "agreed", 0)


def test_a_second_plan_waits_for_the_first() -> None:
    """And an empty one is none."""
    moving = begun()
    assert moving.begin(plan(FREE, LEASES, LARGE), 200) == []
    assert Moving().begin(plan({}, [], LARGE), 0) == []


def test_dump_and_load_are_inverse() -> None:
    """In the middle of a move, through the journal's encoding."""
    moving = begun()
    moving.apply(moving.answer("x", "agreed", 200))
    moving.quiet["z"] = 9
    again = Moving.load(msgpack.unpackb(msgpack.packb(moving.dump())))
    assert again.dump() == moving.dump()
    again.apply(again.answer("x", "failed", 300))
    assert again.done == {"failed": 1}
    assert "z" not in again.quiet
