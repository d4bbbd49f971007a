"""Why not, until when, in numbers and in words."""

from __future__ import annotations

from typing import Any, NamedTuple

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter import DIMENSIONS
from bursar_limiter.budget import MAX_LIVE, Budget
from bursar_limiter.dimensions import CONCURRENT, NOTHING, WORDS, Quantities
from bursar_limiter.meter import Meter, Spent
from bursar_limiter.path import Path


class Obstacle(NamedTuple):
    """What stands in the way, and where. ``retry_at`` None: time alone does not help. ``meter`` None: not a limit."""

    retry_at: int | None
    meter: Meter | None
    node: Budget | None


def obstacle(path: Path, amounts: Quantities, now: int, ahead: Quantities) -> Obstacle:
    """The obstacle that lasts longest, for a request behind those who ask for ``ahead`` together."""
    closed = max(path.nodes, key=lambda node: node.recovering_until)
    worst, binding, where = max(now, path.closed_until), None, closed if path.closed_until > now else None
    if path.leaf.count >= MAX_LIVE:
        worst = max(worst, path.leaf.next_end(now))
    for node in path.nodes:
        for meter in node.meters:
            amount = amounts[meter.index]
            if amount:
                at = meter.earliest(now, amount, ahead[meter.index], node)
                if at is None:
                    return Obstacle(None, meter, node)
                if at > worst or (at == worst and binding is None and at > now and at > path.closed_until):
                    worst, binding, where = at, meter, node
    return Obstacle(worst, binding, where)


def waits_for(node: Budget, amounts: Quantities, now: int) -> Obstacle:
    """What the first in line at an object waits for; what it asks for there, when it is about to be granted."""
    asked = [meter for meter in node.meters if amounts[meter.index]]
    worst, binding = now + 1, asked[0] if asked else None
    for meter in asked:
        at = meter.earliest(now, amounts[meter.index], 0, node)
        if at is None:
            return Obstacle(None, meter, node)
        if at > worst:
            worst, binding = at, meter
    return Obstacle(worst, binding, node)


def fits_at(path: Path, amounts: Quantities, now: int) -> int | None:
    """When it will fit if nothing else happens; None: no time helps."""
    return obstacle(path, amounts, now, NOTHING).retry_at


def soonest(path: Path, amounts: Quantities, now: int) -> int | None:
    """A time before which nothing can let this request in, not even the refund of all that is in flight."""
    first = max(now, path.closed_until)
    for index, meter in path.meters:
        if amounts[index]:
            at = meter.soonest(now, amounts[index])
            if at is None:
                return None
            first = max(first, at)
    return first


def too_large(path: Path, amounts: Quantities) -> Obstacle | None:
    """The first limit that the request exceeds by itself: there will never be so much."""
    for node in path.nodes:
        for meter in node.meters:
            if amounts[meter.index] > meter.most:
                return Obstacle(None, meter, node)
    return None


def refused(
    path: Path, reason: str, amounts: Quantities, now: int, ahead: tuple[int, Quantities], what: Obstacle
) -> dict[str, Any]:
    """The reply `Refused`, without the fence. ``ahead``: how many stand in line before it, and what those ask for that
    are certain to go first."""
    meter, retry_at, node = what.meter, what.retry_at, what.node
    before, asked = ahead
    return {
        "ok": False,
        "reason": reason,
        "budget": path.leaf.name,
        "object": None if node is None else node.name,
        "depth": None if node is None else path.nodes.index(node),
        "dimension": None if meter is None else DIMENSIONS[meter.index],
        "window_ms": None if meter is None else meter.window_ms,
        "limit": None if meter is None else meter.limit,
        "level": None if meter is None else min(MAX_INT, meter.counted(now)),
        "ahead": before,
        "ahead_amount": 0 if meter is None else min(MAX_INT, asked[meter.index]),
        "now_ms": now,
        "retry_at_ms": retry_at,
        "retry_in_ms": None if retry_at is None else retry_at - now,
        "text": _sentence(path, reason, amounts, now, before, what),
    }


def sentence(path: Path, amounts: Quantities, now: int, what: Obstacle) -> str:
    """Why such a request does not fit now; empty if it does."""
    if what.retry_at is not None and what.retry_at <= now:
        return ""
    closed = what.meter is None and path.closed_until > now
    never = what.retry_at is None and what.meter is not None and amounts[what.meter.index] > what.meter.most
    reason = "recovering" if closed else "never_fits" if never else "over_limit"
    return _sentence(path, reason, amounts, now, 0, what)


def _sentence(path: Path, reason: str, amounts: Quantities, now: int, ahead: int, what: Obstacle) -> str:
    why = _why(path, reason, amounts, now, what)
    line = f" Requests in line: {ahead}." if ahead else ""
    if reason == "never_fits":
        return f"{why}{line} Ask for less, or have the limit raised."
    if what.retry_at is None:
        return f"{why}{line} No waiting helps; a refund or a higher limit would."
    return f"{why}{line} Try again in {what.retry_at - now} ms."


def _why(path: Path, reason: str, amounts: Quantities, now: int, what: Obstacle) -> str:
    meter, name = what.meter, (what.node or path.leaf).name
    if reason == "recovering":
        return f"Budget {name} is recovering: the log lost entries, so all that they may have granted counts."
    if reason == "withdrawn":
        return "The request was withdrawn."
    if reason == "queue_full":
        return f"The line of budget {path.leaf.name} is full ({path.leaf.max_waiting})."
    if meter is None:
        return f"Budget {name} is busy."
    words, amount, counted = WORDS[meter.index], amounts[meter.index], meter.counted(now)
    if reason == "never_fits":
        return f"{amount} {words} are more than budget {name} ever has ({meter.most})."
    if now < meter.frozen_until:
        return f"The provider refuses {words} of budget {name} for {meter.frozen_until - now} ms more."
    if counted + amount > meter.limit:
        used = f"{counted} of {meter.limit} {words} of budget {name} are used{_within(meter)}"
        return f"{used}, and {amount} more do not fit."
    if not amount or meter.fits(now, amount):
        return f"Others stand in line for the {words} of budget {name}, and may not be overtaken."
    return f"The {words} of budget {name} are spread over time, and {amount} more would come too early."


def _within(meter: Meter) -> str:
    if not meter.window_ms:
        return "" if isinstance(meter, Spent) or meter.index == CONCURRENT else " by what is in flight"
    return f" in the last {meter.window_ms / 1000:.12g} s"
