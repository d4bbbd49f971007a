"""The arithmetic of the Kubernetes HorizontalPodAutoscaler, in integers.

After "Horizontal Pod Autoscaling" (kubernetes.io) and the controller's own ``replica_calculator.go`` and
``horizontal.go``: ``desired = ceil(current * metric / target)``; no change within the tolerance; replicas of which
nothing is known count as idle when that would add some and as exactly busy enough when it would take some away; the
largest proposal of all metrics counts, and when one metric cannot be read nothing is taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from bursar.contracts.monitor_scaling import StepPolicy
from bursar_monitor.bugs import SCALES_DOWN_BLIND, WINDOW_IGNORED, seeded

SECOND = 1_000


def ceil_div(value: int, by: int) -> int:
    return -(-value // by)


def is_close(value: int, target: int, tolerance_permille: int) -> bool:
    """Whether a metric is so near to its target that nothing is to be done."""
    return abs(value - target) * 1_000 <= target * tolerance_permille


def for_values(values: Sequence[int | None], target: int, tolerance_permille: int) -> int | None:
    """Replicas for a metric that each replica has, on average ``target``. None in ``values``: not known of this
    replica; the answer is None when nothing is known of any."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    count, missing = len(values), len(values) - len(known)
    total, wanted = sum(known), target * len(known)
    if is_close(total, wanted, tolerance_permille) and not missing:
        return count
    if not missing:
        return ceil_div(total, target)
    is_down = total < wanted
    total, wanted = (total + missing * target, target * count) if is_down else (total, target * count)
    if is_close(total, wanted, tolerance_permille) or (total < wanted) != is_down:
        return count
    found = ceil_div(total, target)
    return min(found, count) if is_down else max(found, count)


def for_total(total: int, each: int, current: int, tolerance_permille: int) -> int:
    """Replicas for a metric that all share, of which each may have ``each``."""
    if current and is_close(total, each * current, tolerance_permille):
        return current
    return ceil_div(total, each)


def largest(current: int, proposals: Iterable[int | None]) -> int | None:
    """Of several metrics' proposals the largest; None when nothing is known. One that cannot be read forbids to scale
    down, not up."""
    found = list(proposals)
    known = [proposal for proposal in found if proposal is not None]
    if not known:
        return None
    best = max(known)
    if len(known) < len(found) and best < current and not seeded(SCALES_DOWN_BLIND):
        return current
    return best


class Change(NamedTuple):
    """At ``at`` ms the number of replicas was set higher (or, negative, lower) by ``by``."""

    at: int
    by: int


class Recommended(NamedTuple):
    at: int
    replicas: int


def stabilised(
    current: int, desired: int, past: Iterable[Recommended], now: int, up_window_s: int, down_window_s: int
) -> int:
    """A rise only as far as everything in the up window wants it, a fall only as far as all in the down window."""
    if seeded(WINDOW_IGNORED):
        return desired
    up = down = desired
    for recommended in past:
        if now - recommended.at < up_window_s * SECOND:
            up = min(up, recommended.replicas)
        if now - recommended.at < down_window_s * SECOND:
            down = max(down, recommended.replicas)
    return min(max(current, up), down)


def limited(
    current: int, desired: int, changes: Sequence[Change], now: int, up: Sequence[StepPolicy],
    down: Sequence[StepPolicy],
) -> int:  # fmt: skip
    """As far as the steps allow from the number at the beginning of their periods; the one that allows most counts,
    and without any there is no limit."""
    if desired > current and up:
        return min(desired, max(current, *(_up_to(step, _before(current, changes, step, now)) for step in up)))
    if desired < current and down:
        return max(desired, min(current, *(_down_to(step, _before(current, changes, step, now)) for step in down)))
    return desired


def _before(current: int, changes: Sequence[Change], step: StepPolicy, now: int) -> int:
    """How many there were when the period began."""
    return current - sum(change.by for change in changes if now - change.at < step.period_s * SECOND)


def _up_to(step: StepPolicy, start: int) -> int:
    return start + step.value if step.unit == "replicas" else ceil_div(start * (100 + step.value), 100)


def _down_to(step: StepPolicy, start: int) -> int:
    return start - step.value if step.unit == "replicas" else start * (100 - step.value) // 100
