"""What a lease does to a path: lend, count what was spent, take back; every object of the path alike.

An advance counts on every meter from before its holder hears of it until it is accounted for, without a date: it has
not been spent yet. What was spent is charged to the windows at the time of the report, which is never before the call
it paid for and so never leaves a window too early; a refund is taken out of the window in which that was.
"""

from __future__ import annotations

from bursar.kernel.bugs import seeded
from bursar_limiter import leasing_bugs as bugs
from bursar_limiter.dimensions import Quantities
from bursar_limiter.leasing_records import Charge
from bursar_limiter.meter import Admission, Level, Meter, Production, Spent
from bursar_limiter.path import Path

Meters = tuple[tuple[int, Meter], ...]


def meters_of(path: Path) -> Meters:
    if seeded(bugs.ONE_LEVEL_ONLY):
        return tuple((meter.index, meter) for meter in path.leaf.meters)
    return path.meters


def masks(path: Path) -> tuple[int, int]:
    """Which dimensions are limited on a path, and which of them count until calls end."""
    limited = held = 0
    for index, meter in path.meters:
        limited |= 1 << index
        if isinstance(meter, Production | Level):
            held |= 1 << index
    return limited, held


def lend(path: Path, now: int, amounts: Quantities) -> None:
    """Charge an advance."""
    for index, meter in meters_of(path):
        amount = amounts[index]
        if amount:
            if isinstance(meter, Admission) and not isinstance(meter, Production):
                meter.age(now)
                meter.in_flight += amount
                meter.set_aside(amount)
                if meter.unit:
                    meter.pay(now, amount)
            else:
                meter.take(now, amount)


def account(path: Path, now: int, before: Quantities, spent: Quantities, after: Quantities) -> None:
    """What counted as lent was ``before`` and is ``after``; so much of it was ``spent`` (and more, where the holder has
    used more than it had), and the rest has come back. Later credit is lent separately."""
    for index, meter in meters_of(path):
        less, used = before[index] - after[index], spent[index]
        if less or used:
            _account(meter, now, less, used)


def _account(meter: Meter, now: int, less: int, used: int) -> None:
    """So much less is lent, of which so much was used; what was used beyond that is charged, too."""
    back = less - used
    if isinstance(meter, Production):
        meter.adopt(-less)
    elif isinstance(meter, Admission):
        meter.age(now)
        meter.in_flight -= less
        meter.set_aside(-less)
    elif isinstance(meter, Level):
        meter.adopt(-less)
        return
    elif isinstance(meter, Spent):
        meter.in_flight -= less
        meter.correct(now, -back)
        return
    assert isinstance(meter, Admission)
    if used:
        meter.add_excess(now, used)
    if not meter.unit:
        return
    if back > 0:
        meter.refund_pace(now, back)
    elif back < 0:
        meter.owe(now, -back, meter.limit)


def refund(path: Path, now: int, charge: Charge, held: int) -> None:
    """Take refunds out of the windows that they were charged to."""
    for index, meter in meters_of(path):
        amount = charge.amounts[index]
        if not amount or held >> index & 1 or charge.ordinal < meter.since:
            continue
        if isinstance(meter, Admission):
            meter.take_back(now if seeded(bugs.REFUND_IN_OTHER_WINDOW) else charge.at, now, amount)
            if meter.unit:
                meter.refund_pace(now, amount)
        elif isinstance(meter, Spent):
            meter.correct(now, -amount)


def set_aside(path: Path, amounts: Quantities) -> None:
    """Count what is lent where it has no date; on meters that were loaded or made anew it is in flight already."""
    for index, meter in meters_of(path):
        if amounts[index] and isinstance(meter, Admission) and not isinstance(meter, Production):
            meter.set_aside(amounts[index])


def hold(path: Path, amounts: Quantities) -> None:
    """Count a slice, or (below zero) no longer; it is not paced."""
    for index, meter in path.meters:
        if amounts[index]:
            meter.adopt(amounts[index])
    set_aside(path, amounts)
