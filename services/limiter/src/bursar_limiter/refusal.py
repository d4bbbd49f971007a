"""Why not, until when, in numbers and in words."""

from __future__ import annotations

from typing import Any, NamedTuple

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import DIMENSIONS
from bursar_limiter.budget import MAX_LIVE, Budget
from bursar_limiter.dimensions import CONCURRENT, WORDS, Quantities
from bursar_limiter.meter import Meter


class Obstacle(NamedTuple):
    """What stands in the way. ``retry_at`` None: time alone does not help. ``meter`` None: not a limit."""

    retry_at: int | None
    meter: Meter | None


def obstacle(budget: Budget, amounts: Quantities, now: int, ahead: Quantities) -> Obstacle:
    """The obstacle that lasts longest, for a request behind those who ask for ``ahead`` together."""
    worst, binding = max(now, budget.recovering_until), None
    if budget.count >= MAX_LIVE:
        expiry = budget.next_expiry()
        worst = max(worst, expiry[0] if expiry else now)
    for meter in budget.meters:
        amount = amounts[meter.index]
        if amount:
            at = meter.earliest(now, amount, ahead[meter.index], budget)
            if at is None:
                return Obstacle(None, meter)
            if at > worst or (at == worst and binding is None and at > now and at > budget.recovering_until):
                worst, binding = at, meter
    return Obstacle(worst, binding)


def soonest(budget: Budget, amounts: Quantities, now: int) -> int | None:
    """A time before which nothing can let this request in, not even the refund of all that is in flight."""
    first = max(now, budget.recovering_until)
    for meter in budget.meters:
        amount = amounts[meter.index]
        if amount:
            at = meter.soonest(now, amount)
            if at is None:
                return None
            first = max(first, at)
    return first


def too_large(budget: Budget, amounts: Quantities) -> Meter | None:
    """The first dimension of which the request asks for more than there will ever be."""
    return next((meter for meter in budget.meters if amounts[meter.index] > meter.most), None)


def refused(budget: Budget, reason: str, amounts: Quantities, now: int, ahead: int, what: Obstacle) -> dict[str, Any]:
    """The reply `Refused`, without the fence."""
    meter, retry_at = what.meter, what.retry_at
    return {
        "ok": False,
        "reason": reason,
        "budget": budget.name,
        "dimension": None if meter is None else DIMENSIONS[meter.index],
        "limit": None if meter is None else meter.limit,
        "level": None if meter is None else min(MAX_INT, meter.counted(now)),
        "ahead": ahead,
        "now_ms": now,
        "retry_at_ms": retry_at,
        "retry_in_ms": None if retry_at is None else retry_at - now,
        "text": _sentence(budget, reason, amounts, now, ahead, what),
    }


def _sentence(budget: Budget, reason: str, amounts: Quantities, now: int, ahead: int, what: Obstacle) -> str:
    why = _why(budget, reason, amounts, now, what)
    line = f" Requests in line: {ahead}." if ahead else ""
    if reason == "never_fits":
        return f"{why}{line} Ask for less, or have the limit raised."
    if what.retry_at is None:
        return f"{why}{line} No waiting helps; a refund or a higher limit would."
    return f"{why}{line} Try again in {what.retry_at - now} ms."


def _why(budget: Budget, reason: str, amounts: Quantities, now: int, what: Obstacle) -> str:
    meter = what.meter
    if reason == "recovering":
        return f"Budget {budget.name} is recovering: the log lost entries, so all that they may have granted counts."
    if reason == "withdrawn":
        return "The request was withdrawn."
    if reason == "queue_full":
        return f"The line of budget {budget.name} is full ({budget.spec.max_waiting})."
    if meter is None:
        return f"Budget {budget.name} is busy."
    words, amount, counted = WORDS[meter.index], amounts[meter.index], meter.counted(now)
    if reason == "never_fits":
        return f"{amount} {words} are more than budget {budget.name} ever has ({meter.most})."
    if counted + amount > meter.limit:
        used = f"{counted} of {meter.limit} {words} of budget {budget.name} are used{_within(meter)}"
        return f"{used}, and {amount} more do not fit."
    return f"The {words} of budget {budget.name} are spread over time, and {amount} more would come too early."


def _within(meter: Meter) -> str:
    if meter.index == CONCURRENT or not meter.spec.window_ms:
        return ""
    return f" in the last {meter.spec.window_ms / 1000:.12g} s"
