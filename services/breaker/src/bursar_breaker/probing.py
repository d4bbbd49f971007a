"""Half-open: a few calls of the whole fleet may find out whether the target is well again.

A probe permit covers all half-open circuits on the way to its target: one is taken of each, or none. It ends when its
result is reported, or when its time is over, so a prober that dies holds nobody up: the next who asks takes its place.
A permit counts against the ``probes`` of a target until then, whatever happens to the circuit meanwhile, because the
call may still be under way. Its result counts only for circuits that have not changed since it was given (their
generation is the same): anything else is stale.

One fault opens again, for a time that grows. After ``successes`` good results the circuit begins to close, by a ramp
(`bursar_breaker.ramping`) or at once. What says nothing about the target (429, 401, the caller gave up) only gives the
permit back. A permit that comes back without a change of the circuit is told to everybody at once, so that whoever has
traffic takes it: a half-open circuit is never stuck for longer than a permit is good for.

A fleet that asks faster than it can be answered would never be: who is answered late has given up, its permit is
wasted, and all ask again when that is over. So those who are refused are told to spread, the more of them the longer,
and a message that asks again what was refused already (its answer was late) is refused again: nobody waits for that
permit any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from bursar.contracts.breaker import CHANGED, Probe, Probed
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_breaker import events
from bursar_breaker.bugs import LATE_GRANTED, LEASE_NEVER_ENDS, LOSS_IGNORED, PROBE_OVER_K, STALE_ACCEPTED
from bursar_breaker.judging import Found
from bursar_breaker.lifecycle import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, PROBE_FAILED, TIME_OVER
from bursar_breaker.opening import on_a_probe, opening, postponing
from bursar_breaker.ramping import closing
from bursar_breaker.rules import asked_for
from bursar_breaker.state import Circuit, Lease, State
from bursar_breaker.telling import changed, freed, on_the_way

GOOD: Final = frozenset({"ok", "slow"})
BAD: Final = frozenset({"timeout", "error", "overload"})
MAX_LEASES: Final = 50_000
MAX_REFUSED: Final = 16_384
SPREAD_MS: Final = 1_000
EACH_MS: Final = 4
"""Those who wait for a permit ask again within a second, or so long for each of them if that is longer."""


class Expire(NamedTuple):
    """Internal: the time of this permit is over."""

    key: str


class HalfOpen(NamedTuple):
    """Internal: the open time of this target is over."""

    target: str


# ---- a permit


def decide_probe(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Probe = command.body
    stopped = [(name, c) for name, c in state.on_the_way(body.target) if c.share == 0]
    shut = [circuit for _, circuit in stopped if circuit.state in {OPEN, FORCED_OPEN}]
    if shut:
        times = [max(0, circuit.until - now) for circuit in shut if circuit.until]
        return _refuse(state, command, now, "open", max(times) if len(times) == len(shut) else None)
    if not stopped:
        return _refuse(state, command, now, "closed", 0)
    is_late = state.refused.get((command.principal, body.target)) == command.request_id and not seeded(LATE_GRANTED)
    if is_late or any(_is_out(state, name) for name, _ in stopped) or len(state.leases) >= MAX_LEASES:
        spread = _spread(state, stopped[0][0], command.principal)
        return _refuse(state, command, now, "busy", _free_in(state, {name for name, _ in stopped}, now), spread)
    key = f"{fence[0]}.{fence[1]}.{fence[2]}"
    ttl = min(state.rules.of(name).probe_ttl_ms for name, _ in stopped)
    covered = [[name, circuit.generation] for name, circuit in stopped]
    event = (events.LENT, now, key, command.principal, now + ttl, covered)
    return Accept([event], {"ok": True, "lease": key, "ttl_ms": ttl, "circuits": on_the_way(state, body.target, now)})


def _is_out(state: State, target: str) -> bool:
    return state.out.get(target, 0) >= state.rules.of(target).probes + seeded(PROBE_OVER_K)


def _free_in(state: State, targets: set[str], now: int) -> int | None:
    """When the first of these permits runs out."""
    ends = [lease.expires_at for lease in state.leases.values() if any(name in targets for name, _ in lease.circuits)]
    return max(0, min(ends) - now) if ends else None


def _spread(state: State, circuit: str, principal: str) -> int:
    """For so long all who wait for a permit there may come back."""
    waiting = state.waiting.setdefault(circuit, set())
    if len(waiting) < MAX_REFUSED:
        waiting.add(principal)
    return max(SPREAD_MS, EACH_MS * len(waiting))


def _refuse(
    state: State, command: Command, now: int, reason: str, retry_in_ms: int | None, spread_ms: int = SPREAD_MS
) -> Refuse:
    target = command.body.target
    if len(state.refused) >= MAX_REFUSED:
        del state.refused[next(iter(state.refused))]
    state.refused[command.principal, target] = command.request_id
    told = {"ok": False, "reason": reason, "retry_in_ms": retry_in_ms, "spread_ms": spread_ms}
    return Refuse({**told, "circuits": on_the_way(state, target, now)})


def apply_lent(state: State, event: Event) -> None:
    _, now, key, principal, expires_at, circuits = event
    state.at = now
    state.lend(key, Lease(principal, expires_at, tuple((target, generation) for target, generation in circuits)))


# ---- its result


def decide_probed(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Probed = command.body
    lease = state.leases.get(body.lease)
    if lease is None:
        return Refuse({"ok": False, "reason": "unknown", "circuits": []})
    if lease.principal != command.principal:
        return Reject("not_yours", "Only who got the probe permit may report on it.", {"lease": body.lease})
    current = [name for name, generation in lease.circuits if _is_current(state, name, generation)]
    neutral = body.outcome not in GOOD | BAD
    counted = [] if neutral else current
    told: list[Event] = [(events.PROBED, now, body.lease, body.outcome, counted)]
    broadcasts = _consequences(state, command, counted, now, told) or freed(state, lease, now)
    reason = "neutral" if neutral and current else "counted" if counted else "stale"
    reply = {"ok": reason != "stale", "reason": reason, "circuits": _after(lease, state, broadcasts, now)}
    return Accept(told, reply, broadcasts)


def _is_current(state: State, target: str, generation: int) -> bool:
    circuit = state.circuits.get(target)
    if circuit is not None and seeded(STALE_ACCEPTED):
        return True
    return circuit is not None and circuit.state == HALF_OPEN and circuit.generation == generation


def _consequences(
    state: State, command: Command, counted: Sequence[str], now: int, told: list[Event]
) -> list[Broadcast]:
    """Add the changes of circuits that this result brings about; their broadcasts."""
    body: Probed = command.body
    broadcasts: list[Broadcast] = []
    revision = state.revision
    for target in counted:
        circuit, rule = state.circuits[target], state.rules.of(target)
        if body.outcome in BAD:
            evidence = on_a_probe(body.outcome, command.principal)
            found = Found(PROBE_FAILED, evidence, asked_for(rule, now, body.retry_after_ms))
            event, news = opening(state, target, now, revision + 1, found)
        elif circuit.successes + 1 >= rule.successes:
            event, news = closing(state, target, now, revision + 1)
        else:
            continue
        revision += 1
        told.append(event)
        broadcasts += news
    return broadcasts


def _after(lease: Lease, state: State, broadcasts: Sequence[Broadcast], now: int) -> list[dict[str, Any]]:
    """The circuits that the permit covered, as they are after this decision, if they are not closed."""
    changes = [told.body for told in broadcasts if told.kind == CHANGED]
    new = {body["target"]: {key: body[key] for key in body if key != "v"} for body in changes}
    rows = {row["target"]: row for name, _ in lease.circuits for row in on_the_way(state, name, now)} | new
    return [row for row in rows.values() if row["state"] != CLOSED]


def apply_probed(state: State, event: Event) -> None:
    _, now, key, outcome, counted = event
    state.at = now
    state.give_back(key)
    if outcome in GOOD:
        for target in counted:
            circuit = state.circuits[target]
            if circuit.state == HALF_OPEN:
                state.circuits[target] = circuit._replace(successes=circuit.successes + 1)


# ---- time


def ended(state: State, key: str, at: int) -> Expire | None:
    """The permit whose time is over."""
    lease = state.leases.get(key)
    return None if lease is None or lease.expires_at != at or seeded(LEASE_NEVER_ENDS) else Expire(key)


def decide_expire(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key = command.body.key
    return Accept([(events.EXPIRED, now, key)], {}, freed(state, state.leases[key], now))


def apply_expired(state: State, event: Event) -> None:
    state.at = event[1]
    state.give_back(event[2])


def decide_half_open(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Not before a later deadline that has been asked for, nor while probes from before a loss may be under way."""
    target = command.body.target
    later = max(state.postponed.get(target, 0), 0 if seeded(LOSS_IGNORED) else state.quiet_until)
    if later > now:
        state.postponed[target] = later
        return postponing(state, target, now)
    event = (events.HALF_OPENED, now, state.revision + 1, target)
    return Accept([event], {}, changed(state, target, _half_open(state, event), now))


def _half_open(state: State, event: Event) -> Circuit:
    _, now, revision, target = event
    before = state.circuits[target]
    return Circuit(
        HALF_OPEN, now, 0, revision, revision, TIME_OVER, now, 0, before.opened, 0, before.note, before.evidence
    )


def apply_half_opened(state: State, event: Event) -> None:
    circuit = _half_open(state, event)
    state.at = event[1]
    state.put(event[3], circuit)
