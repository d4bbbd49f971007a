"""Granting: at once, after a while in line, or not."""

from __future__ import annotations

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Park, Refuse
from bursar_gpu_manager import events
from bursar_gpu_manager.claiming import own
from bursar_gpu_manager.device import Choice
from bursar_gpu_manager.fitting import before_of, is_urgent, matching, place, refreshed
from bursar_gpu_manager.refusal import Obstacle, obstacle, refused
from bursar_gpu_manager.state import State
from bursar_gpu_manager.waiting import Kind, Waiter

HOPELESS = frozenset({"never_fits"})
"""Reasons that no place in line can change."""


def decide_lease(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    handed = state.line.take_handed(command)
    waiter = state.line.find(command)
    if waiter is None:
        return _decide_new(state, command, now, fence)
    if handed is None:
        return Park()
    chosen: tuple[str, ...] | None = handed[1]
    if chosen is not None:
        state.line.leave(waiter)
        return grant(state, command, chosen, now, fence)
    if now < waiter.deadline:
        return Park()
    state.line.leave(waiter)
    what = obstacle(state, command.body, now)
    return _refuse(state, what._replace(reason="recovering" if what.reason == "recovering" else "wait_too_long"), now)


def _decide_new(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Lease = command.body
    urgent = is_urgent(body)
    chosen = place(state, body, now, set() if urgent else wanted(state))
    if chosen is not None:
        return grant(state, command, chosen, now, fence)
    what = obstacle(state, body, now)
    if not body.wait_ms or what.reason in HOPELESS or urgent:
        return _refuse(state, what, now)
    if len(state.line) >= state.settings.max_waiting:
        return _refuse(state, what._replace(reason="queue_full"), now)
    state.line.join(command, now + body.wait_ms)
    if now < state.recovering_until:
        state.line.look_at = state.recovering_until
    return Park()


def grant(state: State, command: Command, chosen: tuple[str, ...], now: int, fence: Fence) -> Accept:
    body: wire.Lease = command.body
    lease = f"{fence[0]}.{fence[1]}.{fence[2]}"
    ttl = min(body.ttl_ms, state.settings.max_ttl_ms)
    expires_at = now + ttl
    shares = [(name, body.memory) for name in chosen]
    processes = own(state, command.principal, shares, ((process.pid, process.started) for process in body.processes))
    there = [row for name in chosen for row in before_of(state, name)]
    held = [
        {"device": name, "host": device.host, "uuid": device.uuid, "index": device.index, "memory": body.memory}
        for name in chosen
        for device in (state.devices[name],)
    ]
    reply = {"ok": True, "lease": lease, "devices": held, "ttl_ms": ttl, "expires_at_ms": expires_at}
    more = (body.purpose, body.note, is_urgent(body), body.group, _choice(body), there)
    return Accept([(events.GRANTED, now, lease, command.principal, ttl, expires_at, shares, processes, *more)], reply)


def _choice(body: wire.Wanted) -> Choice | tuple[()]:
    found = Choice(tuple(sorted(body.labels.items())), body.apart if body.group else "no", body.strictly)
    return () if found == Choice() else found


def _refuse(state: State, what: Obstacle, now: int) -> Refuse:
    state.refused += 1
    return Refuse(refused(state, what, now))


# ---- the line


def wanted(state: State) -> set[str]:
    """Devices that somebody in line could use."""
    found: set[str] = set()
    for kind in state.line.kinds:
        found.update(matching(state, kind))
        if len(found) == len(state.devices):
            break
    return found


def next_waiter(state: State, now: int) -> Command | None:
    """Who in line is to be decided now: somebody who fits, or whose deadline has come."""
    line = state.line
    if not line.waiters:
        return None
    if line.look_at is not None and line.look_at <= now:
        line.changed, line.look_at = True, None
    if refreshed(state, now).improved:
        line.changed, state.sheet.improved = True, False
    if line.changed:
        found = _next_that_fits(state, now)
        if found is not None:
            line.handed = found
            return found[0].command
        line.changed = False
    overdue = line.overdue(now)
    if overdue is None:
        return None
    line.handed = (overdue, None)
    return overdue.command


def _next_that_fits(state: State, now: int) -> tuple[Waiter, tuple[str, ...]] | None:
    if now < state.recovering_until:
        return None
    taken: set[str] = set()
    kinds: set[Kind] = set()
    for waiter in state.line:
        if waiter.kind in kinds:
            continue  # somebody before it could use all that it could
        chosen = place(state, waiter.command.body, now, taken)
        if chosen is not None:
            return (waiter, chosen)
        kinds.add(waiter.kind)
        taken.update(matching(state, waiter.kind))
        if len(taken) == len(state.devices):
            break
    return None


def look_again_at(state: State) -> int | None:
    """When somebody in line is to be looked at next, even if nothing happens."""
    line = state.line
    times = [at for at in (line.look_at, line.next_deadline()) if at is not None]
    return min(times) if times and line.waiters else None
