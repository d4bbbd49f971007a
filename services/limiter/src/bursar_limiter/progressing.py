"""Usage that is reported while a call goes on: a stream tells what it has used so far, again and again.

Each report says everything up to now, so that one that is lost or comes twice does no harm, and it never shrinks. What
exceeds the reservation counts from the report on, and where the provider counts output as it is produced, what was
produced counts from then, and is no longer feared as in flight. What was reported counts at the end in any case: a
settlement cannot tell less, and a time-out counts the larger of both.
"""

from __future__ import annotations

from bursar.contracts.limiter import DIMENSIONS
from bursar.contracts.limiter_control import Progress
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_limiter import events
from bursar_limiter.dimensions import from_usage
from bursar_limiter.settling import find_live, shrinks
from bursar_limiter.state import State


def decide_progress(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Progress = command.body
    live = find_live(state, body.reservation, command.principal)
    if isinstance(live, Reject):
        return live
    used = from_usage(body.usage)
    fault = shrinks(body.reservation, live, used)
    if fault is not None:
        return fault
    left = {
        name: reserved - so_far
        for name, reserved, so_far in zip(DIMENSIONS, live.amounts, used, strict=True)
        if reserved and name != "concurrent"
    }
    reply = {"ok": True, "reservation": body.reservation, "left": left}
    if used == live.done:
        return Refuse(reply)
    return Accept([(events.PROGRESS, now, body.reservation, *used)], reply)


def apply_progress(state: State, event: Event) -> None:
    _, now, key, r, i, o, c, u, t, b = event
    state.at = now
    live = state.live[key]
    after = state.live[key] = live._replace(done=(r, i, o, c, u, t, b))
    path = state.path_of(state.budgets[live.budget], live.also)
    path.progress(now, live, after)
    state.changed(path)
