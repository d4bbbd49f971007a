"""Changes that are recommended, tried, and kept or taken back."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.errors import CallerError
from bursar_gpu_manager.rollout import (
    ANSWER_MS,
    APPLY_MS,
    CANARY_MS,
    CANARY_WINDOWS,
    QUIET_MS,
    Measured,
    Recommendation,
    Rollouts,
)

WHAT = Recommendation("w1", "batch", 256, 96, 830, 14_000, "96 is the largest batch within the bounds")
GOOD = Measured(900, 13_000, 0)


def tell(rollouts: Rollouts, events: Any) -> None:
    for event in events if isinstance(events, list) else [events]:
        rollouts.apply(event)


def trying(what: Recommendation = WHAT) -> Rollouts:
    """A canary with a baseline of 1000 tokens per second."""
    rollouts = Rollouts()
    tell(rollouts, rollouts.recommend(what, 0))
    tell(rollouts, rollouts.measured("w1", Measured(1_100, 20_000, 0), 10))
    tell(rollouts, rollouts.measured("w1", Measured(900, 20_000, 0), 20))
    tell(rollouts, rollouts.answer("w1", agrees=True, now=30))
    tell(rollouts, rollouts.applied("w1", 40))
    return rollouts


def test_what_keeps_its_promise_is_kept() -> None:
    """A smaller batch may cost 17 % of throughput; six windows are looked at."""
    rollouts = trying()
    for number in range(CANARY_WINDOWS):
        assert rollouts.open["w1"].step == "canary"
        tell(rollouts, rollouts.measured("w1", GOOD, 100 + number))
    assert not rollouts.open
    assert rollouts.done == {"kept": 1}
    assert rollouts.recommend(WHAT, 200)


@pytest.mark.parametrize(
    "windows",
    [
        [Measured(900, 13_000, 1)],
        [GOOD, Measured(900, 14_001, 0), Measured(900, 14_001, 0)],
        [Measured(829, 13_000, 0)] * CANARY_WINDOWS,
        [Measured(900, 14_001, 0), Measured(900, 14_000, 0)] * 3,
    ],
)
def test_what_breaks_it_is_taken_back(windows: list[Measured]) -> None:
    """A preemption at once, two slow windows running, too little throughput, or too slow on the whole."""
    rollouts = trying()
    for number, window in enumerate(windows):
        assert "w1" in rollouts.open
        tell(rollouts, rollouts.measured("w1", window, 100 + number))
    assert not rollouts.open
    assert rollouts.done == {"rolled_back": 1}


def test_what_was_taken_back_is_not_recommended_again_soon() -> None:
    """Twice as long each time; another number may be."""
    rollouts = trying()
    tell(rollouts, rollouts.measured("w1", Measured(900, 1, 1), 100))
    assert rollouts.recommend(WHAT, 99 + QUIET_MS) == []
    assert rollouts.recommend(WHAT._replace(then=128), 101)
    tell(rollouts, rollouts.recommend(WHAT, 100 + QUIET_MS))
    tell(rollouts, rollouts.answer("w1", agrees=False, now=200 + QUIET_MS))
    assert rollouts.recommend(WHAT, 199 + 3 * QUIET_MS) == []
    assert rollouts.recommend(WHAT, 200 + 3 * QUIET_MS)


def test_without_a_baseline_nothing_is_kept() -> None:
    """A worker that measured nothing before cannot tell whether it is better."""
    rollouts = Rollouts()
    tell(rollouts, rollouts.recommend(WHAT, 0))
    tell(rollouts, rollouts.answer("w1", agrees=True, now=1))
    tell(rollouts, rollouts.applied("w1", 2))
    for number in range(CANARY_WINDOWS):
        tell(rollouts, rollouts.measured("w1", GOOD, 3 + number))
    assert rollouts.done == {"rolled_back": 1}


def test_every_step_has_its_time() -> None:
    """Who does not answer or apply is not waited for; a canary that is not decided goes back."""
    assert Rollouts().wake_at is None
    rollouts = Rollouts()
    tell(rollouts, rollouts.recommend(WHAT, 0))
    assert rollouts.wake_at == ANSWER_MS
    assert rollouts.lapse(ANSWER_MS - 1) == []
    assert [event.step for event in rollouts.lapse(ANSWER_MS)] == ["lapsed"]
    tell(rollouts, rollouts.answer("w1", agrees=True, now=5))
    assert rollouts.wake_at == 5 + APPLY_MS
    tell(rollouts, rollouts.applied("w1", 9))
    assert [event.step for event in rollouts.lapse(9 + CANARY_MS)] == ["rolled_back"]
    tell(rollouts, rollouts.lapse(9 + CANARY_MS))
    assert not rollouts.open


def test_what_was_kept_is_not_taken_back_for_a_while() -> None:
    """Nor kept again the other way at once: each time it takes twice as long."""
    rollouts, now, what = Rollouts(), 0, WHAT
    waited = []
    for _ in range(3):
        before = now
        while not (told := rollouts.recommend(what, now)):
            now += QUIET_MS // 2
        waited.append((now - before) // QUIET_MS)
        tell(rollouts, told)
        tell(rollouts, rollouts.measured(what.worker, GOOD, now))
        tell(rollouts, rollouts.answer(what.worker, agrees=True, now=now))
        tell(rollouts, rollouts.applied(what.worker, now))
        for _ in range(CANARY_WINDOWS):
            tell(rollouts, rollouts.measured(what.worker, GOOD, now))
        assert rollouts.done["kept"]
        what = what._replace(now=what.then, then=what.now)
    assert waited == [0, 1, 2]


def test_one_change_at_a_time() -> None:
    """And none that changes nothing."""
    rollouts = trying()
    assert rollouts.recommend(WHAT._replace(kind="replicas"), 50) == []
    assert Rollouts().recommend(WHAT._replace(then=256), 0) == []


def test_a_step_that_does_not_follow_is_refused() -> None:
    """Nothing recommended, applied before agreed, answered twice."""
    rollouts = Rollouts()
    with pytest.raises(CallerError):
        rollouts.answer("w1", agrees=True, now=0)
    with pytest.raises(CallerError):
        rollouts.measured("w1", GOOD, 0)
    tell(rollouts, rollouts.recommend(WHAT, 0))
    with pytest.raises(CallerError) as error:
        rollouts.applied("w1", 1)
    assert error.value.code == "conflict"
    with pytest.raises(CallerError):
        trying().answer("w1", agrees=True, now=50)


def test_a_worker_may_take_its_consent_back() -> None:
    """Until the change is kept; it then counts as taken back, and is not recommended again soon."""
    rollouts = trying()
    tell(rollouts, [rollouts.answer("w1", agrees=False, now=50)])
    assert (rollouts.open, rollouts.done) == ({}, {"rolled_back": 1})
    assert rollouts.recommend(WHAT, 60) == []


def test_dump_and_load_are_inverse() -> None:
    """In the middle of a canary, with something quiet."""
    rollouts = trying()
    tell(rollouts, rollouts.measured("w1", GOOD, 50))
    tell(rollouts, rollouts.recommend(WHAT._replace(worker="w2"), 60))
    tell(rollouts, rollouts.answer("w2", agrees=False, now=61))
    again = Rollouts.load(msgpack.unpackb(msgpack.packb(rollouts.dump())))
    assert again.dump() == rollouts.dump()
    assert again.open == rollouts.open
    assert again.quiet == rollouts.quiet
