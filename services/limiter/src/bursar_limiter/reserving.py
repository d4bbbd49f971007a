"""Reserving: grant at once, stand in line, or refuse; and who in line is next."""

from __future__ import annotations

from heapq import heappop

from bursar.contracts.limiter import Reserve
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Park, Refuse
from bursar_limiter import events
from bursar_limiter.budget import Budget
from bursar_limiter.dimensions import Quantities, from_amounts
from bursar_limiter.refusal import Obstacle, obstacle, refused, soonest, too_large
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import NOTHING, State
from bursar_limiter.waiting import NEVER, UNKNOWN, Waiter


def decide_reserve(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Reserve = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or budget.retired or _is_orphan(state, command):
        return unknown_budget(state, body.budget)
    amounts = from_amounts(body.amounts)
    if budget.line.waiters:
        return _in_line(state, budget, command, amounts, now, fence)
    if budget.fits(now, amounts):
        return _grant(budget, command, amounts, now, fence)
    return _stand_in_line(state, budget, command, amounts, now)


def _is_orphan(state: State, command: Command) -> bool:
    """Whether `due` has handed out one whose budget was removed; it is told so even if the budget is there again,
    since it may have been asked again and granted meanwhile."""
    handed = state.handed
    if handed is None or not handed.gone or handed.command[:2] != command[:2]:
        return False
    state.handed = None
    return True


def _grant(budget: Budget, command: Command, amounts: Quantities, now: int, fence: Fence) -> Accept:
    """The permit is good for the send time, or for J or the time to live if one of these is shorter."""
    reservation = f"{fence[0]}.{fence[1]}.{fence[2]}"
    ttl, good_for = command.body.ttl_ms, budget.good_for
    if ttl > budget.max_ttl:  # noqa: PLR1730 - the hot path
        ttl = budget.max_ttl
    if good_for > ttl:  # noqa: PLR1730
        good_for = ttl
    expires_at = now + ttl
    reply = {
        "ok": True,
        "reservation": reservation,
        "granted_at_ms": now,
        "send_by_at_ms": now + good_for,
        "expires_at_ms": expires_at,
    }
    return Accept([(events.GRANTED, now, budget.name, reservation, command.principal, expires_at, *amounts)], reply)


def _in_line(state: State, budget: Budget, command: Command, amounts: Quantities, now: int, fence: Fence) -> Outcome:
    """A reserve while somebody waits: somebody new, a re-sent one, or one that `due` has handed out."""
    waiter = budget.line.find(command)
    if waiter is None:
        return _stand_in_line(state, budget, command, amounts, now)
    if state.handed is not waiter:
        return Park()
    state.handed = None
    head = budget.line.head() is waiter
    if head and budget.fits(now, waiter.amounts):
        _leave(state, budget, waiter)
        return _grant(budget, command, waiter.amounts, now, fence)
    hopeless = too_large(budget, waiter.amounts) is not None
    if now >= waiter.deadline or hopeless:
        ahead, sums = budget.line.ahead_of(waiter)
        _leave(state, budget, waiter)
        return _refuse(budget, command, waiter.amounts, now, ahead, sums)
    if head:
        budget.line.head_at = max(_head_at(budget, now), now + 1)
    return Park()


def _stand_in_line(state: State, budget: Budget, command: Command, amounts: Quantities, now: int) -> Outcome:
    """Join the end of the line, unless that is full, or certain to be in vain."""
    ahead, sums = budget.line.ahead_of(None)
    wait = command.body.wait_ms
    if not wait or too_large(budget, amounts) is not None or ahead >= budget.spec.max_waiting:
        return _refuse(budget, command, amounts, now, ahead, sums)
    first = soonest(budget, amounts, now)
    if first is None or first > now + wait:
        return _refuse(budget, command, amounts, now, ahead, sums)
    state.order += 1
    waiter = Waiter(command, amounts, now + wait, state.order)
    budget.line.join(waiter)
    state.wait(budget, waiter)
    return Park()


def _leave(state: State, budget: Budget, waiter: Waiter) -> None:
    budget.line.leave(waiter)
    if not budget.line.waiters:
        del state.standing[budget.name]


def _refuse(budget: Budget, command: Command, amounts: Quantities, now: int, ahead: int, sums: Quantities) -> Refuse:
    budget.refused += 1
    large = too_large(budget, amounts)
    if large is not None:
        return Refuse(refused(budget, "never_fits", amounts, now, ahead, Obstacle(None, large)))
    reason = _reason(budget, command, now, ahead)
    return Refuse(refused(budget, reason, amounts, now, ahead, obstacle(budget, amounts, now, sums)))


def _reason(budget: Budget, command: Command, now: int, ahead: int) -> str:
    if now < budget.recovering_until:
        return "recovering"
    if not command.body.wait_ms:
        return "over_limit"
    return "queue_full" if ahead >= budget.spec.max_waiting else "wait_too_long"


def next_waiter(state: State, now: int) -> Waiter | None:
    """Who in any line is to be decided now: waiters of a removed budget, heads that fit, waiters past the deadline."""
    if state.orphans:
        return state.orphans.popleft()
    for budget in state.standing.values():
        line = budget.line
        if line.head_at == UNKNOWN:
            line.head_at = _head_at(budget, now)
        if line.head_at <= now:
            return line.head()
    deadlines = state.deadlines
    while deadlines and (deadlines[0][0] <= now or deadlines[0][2].gone):
        waiter = heappop(deadlines)[2]
        if not waiter.gone:
            return waiter
    return None


def _head_at(budget: Budget, now: int) -> int:
    """When the head of the line is to be decided: when it fits, or at once if it never will."""
    head = budget.line.head()
    if head is None or too_large(budget, head.amounts) is not None:
        return now
    retry_at = obstacle(budget, head.amounts, now, NOTHING).retry_at
    return NEVER if retry_at is None else retry_at
