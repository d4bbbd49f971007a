"""What others are told: broadcasts of changes, the pulse, snapshots for who joins late, settings, the status.

A change is told at once; the pulse repeats the latest ones, often for two seconds and then every second, so that who
has lost messages has them from the next pulse that arrives, and knows by revision and digest whether that was all. A
probe permit that comes back is told at once, too: whoever waits for one need not guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from bursar.contracts.breaker import (
    ALL,
    CHANGED,
    MAX_FREE,
    MAX_RECENT,
    PULSE,
    PULSE_MS,
    REGISTRY,
    SHARE,
    Settings,
    Snapshot,
    Status,
    digest_of,
    token_of,
)
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Broadcast, Command, Fence, Outcome, Refuse
from bursar_breaker import window
from bursar_breaker.bugs import FREED_UNTOLD, SHARE_UNTOLD, UNREPEATED
from bursar_breaker.counting import window_of
from bursar_breaker.judging import excluded
from bursar_breaker.lifecycle import CLOSED, HALF_OPEN, OPEN
from bursar_breaker.state import LIVELY_MS, Circuit, Lease, State
from bursar_breaker.window import FAILING, SLOW, permille

LIVELY_PULSE_MS: Final = 100
LIVELY_PULSES: Final = 8
LIVELY_REST_MS: Final = 500
"""From one pulse to the next after a change; so many in a row, and then one more each half second: a single change is
repeated soon and often, and a registry in which something changes all the time says no more than three in a second.
Each goes to all, and stands in the way of the next change."""

NEVER: Final = Circuit(CLOSED, -1, 0, 0, 0, "", -1)


def described(target: str, circuit: Circuit, now: int) -> dict[str, Any]:
    """A circuit as it stands in messages."""
    return {
        "target": target,
        "state": circuit.state,
        "revision": circuit.revision,
        "generation": circuit.generation,
        "reason": circuit.reason,
        "remaining_ms": max(0, circuit.until - now) if circuit.until or circuit.state == OPEN else None,
        "share": circuit.share,
    }


def changed(state: State, target: str, circuit: Circuit, now: int) -> list[Broadcast]:
    """What is told of a circuit that is now like this; with its share for the budget that is linked to it."""
    told = [Broadcast(CHANGED, token_of(target), {"v": 1, **described(target, circuit, now)})]
    budget = state.rules.budget_of(target)
    if budget is not None and not seeded(SHARE_UNTOLD):
        body = {"v": 1, "budget": budget, "target": target, "share": circuit.share, "revision": circuit.revision}
        told.append(Broadcast(SHARE, token_of(budget), body))
    return told


def pulse(state: State, now: int) -> Broadcast | None:
    """How far the registry is; None when it was said a moment ago."""
    rested = min(LIVELY_PULSES * LIVELY_REST_MS, state.rested + max(0, now - state.rested_at))
    state.rested, state.rested_at = rested, now
    since = now - state.pulsed_at
    is_early = 0 <= since < PULSE_MS - LIVELY_PULSE_MS // 2
    if is_early:
        if now > state.lively_until or rested < LIVELY_REST_MS or since < LIVELY_PULSE_MS // 2:
            return None
        state.rested -= LIVELY_REST_MS
    state.pulsed_at = now
    return _pulse(state, now, frozenset())


def freed(state: State, lease: Lease, now: int) -> list[Broadcast]:
    """The pulse that says that this permit is about to come back; nothing when nobody can use it."""
    back = frozenset(name for name, _ in lease.circuits)
    if seeded(FREED_UNTOLD) or not any(state.state_of(name) == HALF_OPEN for name in back):
        return []
    return [_pulse(state, now, back)]


def _pulse(state: State, now: int, back: frozenset[str]) -> Broadcast:
    half_open = (name for name, circuit in state.circuits.items() if circuit.state == HALF_OPEN)
    body = {
        "v": 1,
        "now_ms": now,
        "revision": state.revision,
        "digest": _digest(state),
        "edition": state.edition,
        "recent": [described(name, circuit, now) for name, circuit in islice(_recent(state, now), MAX_RECENT)],
        "free": list(islice((name for name in half_open if _is_free(state, name, back)), MAX_FREE)),
    }
    return Broadcast(PULSE, REGISTRY, body)


def _recent(state: State, now: int) -> Iterator[tuple[str, Circuit]]:
    """The latest changes, the newest first."""
    for name, circuit in reversed(state.circuits.items()):
        if circuit.changed + LIVELY_MS < now or seeded(UNREPEATED):
            return
        yield name, circuit


def _is_free(state: State, target: str, back: frozenset[str]) -> bool:
    """Whether a permit to try this target would be given: one is taken of all that stand in the way. ``back``: the
    targets of a permit that is about to come back."""
    stopped = [(name, circuit) for name, circuit in state.on_the_way(target) if circuit.share < ALL]
    return all(
        c.state == HALF_OPEN and state.out.get(n, 0) - (n in back) < state.rules.of(n).probes for n, c in stopped
    )


def on_the_way(state: State, target: str, now: int) -> list[dict[str, Any]]:
    return [described(name, circuit, now) for name, circuit in state.on_the_way(target)]


def _digest(state: State) -> str:
    """Made once per revision."""
    if state.shown is None or state.shown[0] != state.revision:
        told = ((name, c.state, c.revision) for name, c in state.circuits.items() if c.state != CLOSED)
        state.shown = (state.revision, digest_of(told))
    return state.shown[1]


def decide_snapshot(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Snapshot = command.body
    digest = _digest(state)
    same = body.revision == state.revision and body.digest == digest
    rows = [] if same else [described(n, c, now) for n, c in state.circuits.items() if c.state != CLOSED]
    told = {"ok": True, "revision": state.revision, "digest": digest, "same": same, "circuits": rows}
    return Refuse({**told, "edition": state.edition})


def decide_settings(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Settings = command.body
    same = body.edition == state.edition
    rules = [] if same else state.rules.all
    groups = {} if same else state.rules.groups
    return Refuse(
        {
            "ok": True,
            "edition": state.edition,
            "same": same,
            "rules": [
                {
                    "target": rule.target,
                    "probe_ttl_ms": rule.probe_ttl_ms,
                    "consecutive": rule.consecutive,
                    "guard": rule.guard.model_dump(),
                    "fallbacks": [step.model_dump() for step in rule.fallbacks],
                }
                for rule in rules
            ],
            "groups": [{"name": name, "members": list(members)} for name, members in groups.items()],
        }
    )


def decide_status(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Status = command.body
    names = [name for name in _in_order(state) if body.target is None or _is_below(name, body.target)]
    rows = [_status(state, name, now) for name in islice(names, body.limit)]
    return Refuse(
        {
            "ok": True,
            "now_ms": now,
            "revision": state.revision,
            "circuits": rows,
            "more": len(names) - len(rows),
            "dropped": state.windows.dropped,
        }
    )


def _in_order(state: State) -> list[str]:
    """Circuits that are not closed, the latest change first; then targets, the latest report first."""
    stopped = [name for name, circuit in reversed(state.circuits.items()) if circuit.state != CLOSED]
    shown = set(stopped)
    others = [*reversed(state.windows.windows), *reversed(state.circuits)]
    return [*stopped, *dict.fromkeys(name for name in others if name not in shown)]


def _is_below(name: str, target: str) -> bool:
    return name == target or name.startswith(target + "/")


def _status(state: State, target: str, now: int) -> dict[str, Any]:
    circuit = state.circuits.get(target, NEVER)
    seen = state.windows.look(target, now) or window_of(state.rules.of(target))
    made, alone = window.calls(seen.total), excluded(seen)
    return {
        **described(target, circuit, now),
        "for_ms": now - circuit.since if circuit.since >= 0 else 0,
        "opened": circuit.opened,
        "calls": made,
        "counts": seen.named(),
        "failure_permille": permille(window.failed(seen.total), made),
        "slow_permille": permille(seen.total[SLOW], made),
        "reporters": seen.active,
        "failing": seen.voices[FAILING],
        "excluded": [] if alone is None else [alone.name],
        "probes": state.out.get(target, 0),
        "evidence": circuit.evidence.get("counts", {}),
        "would_open": state.shadows.get(target, ""),
        "note": circuit.note,
    }
