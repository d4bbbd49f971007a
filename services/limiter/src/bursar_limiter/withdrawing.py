"""Taking a request back: whoever asked for a permit does not want it any more.

A request that stands in line leaves it, and one that was granted out of the line meanwhile ends without use. Nothing
of a withdrawn request is durable, as the line is not; but it is remembered for a while, so that one that comes once
more, late, gets no new place.
"""

from __future__ import annotations

from typing import Any

from bursar.contracts.limiter import Withdraw
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Refuse
from bursar_limiter import events, lining
from bursar_limiter.state import WITHDRAWN, State


def decide_withdraw(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Withdraw = command.body
    key = (command.principal, body.request)
    waiter = state.parked.get(key)
    if waiter is not None and waiter.command.body.budget != body.budget:
        waiter = None
    if waiter is not None:
        lining.send_away(state, state.budgets[waiter.leaf], waiter, "withdrawn", now)
    reservation = state.decided.get(key)
    if reservation is None or reservation == WITHDRAWN:
        state.note(key, WITHDRAWN)
        outcome = "withdrawn" if waiter is not None or reservation == WITHDRAWN else "unknown"
        return Refuse(_reply(body.request, outcome))
    if reservation not in state.live:
        return Refuse(_reply(body.request, "over"))
    return Accept([(events.CANCELLED, now, reservation)], _reply(body.request, "cancelled"))


def _reply(request: str, outcome: str) -> dict[str, Any]:
    return {"ok": True, "request": request, "outcome": outcome}
