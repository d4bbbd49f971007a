"""What must hold of a recorded history, whatever was killed, paused or cut while it was made.

Numbers given out by the counter are a total order of all additions; it has to agree with real time. The checks are
linear in the history, because each operation says where in that order it stands.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TypeVar

from tests.integration.fleet import Operation
from tests.integration.toy_service import Counted

T = TypeVar("T", int, tuple[int, int])


def check(done: Sequence[Operation], final: Counted) -> None:
    """All of the below."""
    nothing_is_lost(done, final)
    order_agrees_with_real_time(done)
    fences_never_go_back(done)
    repeated_requests_get_the_same_answer(done)


def nothing_is_lost(done: Sequence[Operation], final: Counted) -> None:
    """Every acknowledged addition is in the final state, once, under the number that was acknowledged."""
    assert final.twice == [], "counted twice"
    wrong = [o for o in done if o.kind == "add" and final.counted.get(o.name) != o.n]
    assert not wrong, f"{len(wrong)} acknowledged and lost or changed, first {wrong[:2]}"


def order_agrees_with_real_time(done: Sequence[Operation]) -> None:
    """What was sent after an answer had arrived comes after it: no stale decision, and no stale read."""
    adds = [o for o in done if o.kind == "add"]
    assert len({o.n for o in adds}) == len(adds), "one number for two requests"
    answered, highest = _running_highest([(o.answered, o.n) for o in adds])
    for operation in done:
        if operation.kind == "again":
            continue
        before = bisect_left(answered, operation.sent)
        known = highest[before - 1] if before else 0
        fresh = operation.n > known if operation.kind == "add" else operation.n >= known
        assert fresh, f"stale: {operation}, although {known} was known"


def fences_never_go_back(done: Sequence[Operation]) -> None:
    """What was sent after an answer of some (incarnation, epoch) is decided in that one or a later one."""
    answered, highest = _running_highest([(o.answered, o.fence[:2]) for o in done])
    for operation in done:
        before = bisect_left(answered, operation.sent)
        if operation.kind != "again" and before:
            assert operation.fence[:2] >= highest[before - 1], f"old fence: {operation}, after {highest[before - 1]}"


def repeated_requests_get_the_same_answer(done: Sequence[Operation]) -> None:
    """The same id gets the same number under the same fence."""
    first = {o.name: o for o in done if o.kind == "add"}
    changed = [o for o in done if o.kind == "again" and (o.n, o.fence) != (first[o.name].n, first[o.name].fence)]
    assert not changed, f"{len(changed)} other answers to a repeated request, first {changed[:2]}"


def _running_highest(rows: list[tuple[float, T]]) -> tuple[list[float], list[T]]:
    """Moments in order, and the highest value up to and including each."""
    rows.sort()
    highest: list[T] = []
    for _, value in rows:
        highest.append(max(value, highest[-1]) if highest else value)
    return [moment for moment, _ in rows], highest
