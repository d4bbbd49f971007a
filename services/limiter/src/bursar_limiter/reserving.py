"""Reserving: grant at once, stand in line, or refuse; and who in line is next."""

from __future__ import annotations

from heapq import heappop
from typing import Final

from bursar.contracts.limiter import PRIORITIES, Reserve
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Park, Refuse, Reject
from bursar_limiter import bugs, events, lining
from bursar_limiter.asking import find_path
from bursar_limiter.budget import MAX_HELD
from bursar_limiter.dimensions import NOTHING, Quantities, as_quantities, from_amounts, made
from bursar_limiter.parts import PARTS
from bursar_limiter.path import Path
from bursar_limiter.refusal import Obstacle, obstacle, refused, soonest, too_large, waits_for
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import WITHDRAWN, State
from bursar_limiter.waiting import Waiter

MAX_STANDING: Final = 200_000
"""Most requests that may wait, in all lines together."""


def decide_reserve(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Reserve = command.body
    budget = state.budgets.get(body.budget)
    sent_away = state.handed is not None and _handed_out(state, command)
    if budget is None or budget.retired or budget.base is not None or (sent_away and not sent_away.why):
        return unknown_budget(state, body.budget)
    path = budget.path
    if path is None or budget.gives or body.also:
        found = find_path(state, budget, command.principal, body.run, body.also)
        if isinstance(found, Reject):
            return _give_up(state, command, now, found)
        path = found
    amounts = from_amounts(body.amounts)
    if sent_away:
        return _refuse(state, path, command, amounts, now, sent_away.why)
    if state.standing:
        waiter = state.parked.get((command.principal, command.request_id))
        if waiter is not None:
            return _in_line(state, path, waiter, now, fence)
        if lining.must_wait(state, path) and not (seeded(bugs.OVERTAKEN) and path.fits(now, amounts)):
            return _stand_in_line(state, path, command, amounts, now)
    if path.fits(now, amounts):
        return _grant(path, command, amounts, now, fence)
    return _stand_in_line(state, path, command, amounts, now)


def _give_up(state: State, command: Command, now: int, why: Reject) -> Reject:
    """What it names is not there (any more): it does not stand in line any more either."""
    waiter = state.parked.get(command[:2])
    if waiter is not None:
        lining.leave(state, state.path_of(state.budgets[waiter.leaf], waiter.also), waiter, now)
    state.handed = None
    return why


def _handed_out(state: State, command: Command) -> Waiter | None:
    """Whom `due` has handed out because he was sent away from a line. He is told so even if the removed budget that he
    waited for is there again, since he may have asked again and been granted meanwhile."""
    handed = state.handed
    if handed is None or not handed.gone or handed.command[:2] != command[:2]:
        return None
    state.handed = None
    return handed


def _grant(path: Path, command: Command, amounts: Quantities, now: int, fence: Fence) -> Accept | Reject:
    """The permit is good for the send time, or for J or the time to live if one of these is shorter."""
    leaf = path.leaf
    if leaf.held.get(command.principal, 0) >= MAX_HELD:
        facts = {"budget": leaf.name, "held": MAX_HELD}
        return Reject("too_many", f"{MAX_HELD} reservations of {leaf.name} are yours and have not ended.", facts)
    reservation = "%d.%d.%d" % fence  # noqa: UP031 - the hot path
    ttl, good_for = command.body.ttl_ms, path.good_for
    if ttl > path.max_ttl:  # noqa: PLR1730 - the hot path
        ttl = path.max_ttl
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
    event = (events.GRANTED, now, leaf.name, reservation, command.principal, expires_at) + amounts + path.also  # noqa: RUF005
    return made(Accept, ([event], reply, ()))


def _in_line(state: State, path: Path, waiter: Waiter, now: int, fence: Fence) -> Outcome:
    """Who stands in line was sent again, or handed out by `due`."""
    if state.handed is not waiter:
        return Park()
    state.handed = None
    command = waiter.command
    if lining.is_turn(path, waiter, now) and path.fits(now, waiter.amounts):
        outcome = _grant(path, command, waiter.amounts, now, fence)
        lining.leave(state, path, waiter, now, granted=isinstance(outcome, Accept))
        if isinstance(outcome, Accept):
            state.note(command[:2], outcome.reply["reservation"])
        return outcome
    hopeless = too_large(path, waiter.amounts) is not None
    if now >= waiter.deadline or hopeless:
        others = path.leaf.line.before(command.principal, waiter, now)
        lining.leave(state, path, waiter, now)
        return _refuse(state, path, command, waiter.amounts, now, "wait_too_long", others)
    lining.put_off(state, path, waiter, now)
    return Park()


def _stand_in_line(state: State, path: Path, command: Command, amounts: Quantities, now: int) -> Outcome:
    """Join the line, unless that is full, or certain to be in vain."""
    principal, request_id, body = command
    leaf = path.leaf
    if state.decided.get((principal, request_id)) == WITHDRAWN:
        return _refuse(state, path, command, amounts, now, "withdrawn")
    if not body.wait_ms or too_large(path, amounts) is not None:
        return _refuse(state, path, command, amounts, now, "over_limit")
    first = soonest(path, amounts, now)
    if first is None or first > now + body.wait_ms:
        return _refuse(state, path, command, amounts, now, "wait_too_long")
    if leaf.waiting >= leaf.max_waiting:
        last = leaf.line.makes_place(principal)
        if last is None:
            return _refuse(state, path, command, amounts, now, "queue_full")
        lining.send_away(state, leaf, last, "queue_full", now)
    if len(state.parked) >= MAX_STANDING:
        return _refuse(state, path, command, amounts, now, "queue_full")
    state.order += 1
    rank = max(PRIORITIES.index(body.priority), *(node.highest for node in path.nodes))
    deadline = now + body.wait_ms
    waiter = Waiter(command, amounts, deadline, state.order, _cost(path, amounts), path.also, rank, now, leaf.name)
    lining.stand(state, path, waiter, now)
    return Park()


def _cost(path: Path, amounts: Quantities) -> int:
    """The largest share of a limit, in parts of `lining.WHOLE`; at least one."""
    return max((amounts[index] * lining.WHOLE // meter.limit for index, meter in path.meters), default=0) + 1


def _refuse(
    state: State,
    path: Path,
    command: Command,
    amounts: Quantities,
    now: int,
    reason: str,
    others: Quantities | None = None,
) -> Refuse:
    """``others``: what is certain to go before it, if it stood in line until now."""
    path.leaf.refused += 1
    ahead = path.leaf.waiting + sum(len(node.line.offers) for node in path.tree[1:] if node.has_line)
    large = too_large(path, amounts)
    if large is not None:
        return Refuse(refused(path, "never_fits", amounts, now, (ahead, NOTHING), large))
    if now < path.closed_until and reason != "withdrawn":
        reason = "recovering"
    for part in PARTS:
        part.refused(state, path.leaf.name)
    others = others or _ahead(path, command.principal, now)
    what = obstacle(path, amounts, now, others)
    if what.node is None and state.standing and reason != "withdrawn":
        what = _behind(state, path, now) or what
    return Refuse(refused(path, reason, amounts, now, (ahead, others), what))


def _behind(state: State, path: Path, now: int) -> Obstacle | None:
    """It would fit, but for those who may not be overtaken: what the first of them waits for."""
    for node in path.nodes:
        first = lining.first_at(state, node, now)
        if first is not None:
            return waits_for(node, first.amounts, now)
    return None


def _ahead(path: Path, principal: str, now: int) -> Quantities:
    """What is certain to go before a request that would join now: in its own line, and the heads of those above."""
    if not any(node.has_line for node in path.tree):
        return NOTHING
    asked = [path.leaf.line.before(principal, now=now)]
    for node in path.tree[1:]:
        head = node.line.head(now) if node.has_line else None
        if head is not None and head.leaf != path.leaf.name:
            asked.append(head.amounts)
    return as_quantities(sum(column) for column in zip(*asked, strict=True))


def next_waiter(state: State, now: int) -> Waiter | None:
    """Who in any line is to be decided now: those sent away, heads that fit, waiters past the deadline."""
    while state.orphans:
        waiter = state.orphans.popleft()
        if not waiter.why or waiter.command[:2] not in state.parked:
            return waiter  # and otherwise he has asked again meanwhile, and got another place
    head = lining.next_head(state, now)
    if head is not None:
        return head
    deadlines = state.deadlines
    while deadlines and (deadlines[0][0] <= now or deadlines[0][2].gone):
        waiter = heappop(deadlines)[2]
        if not waiter.gone:
            return waiter
    return None
