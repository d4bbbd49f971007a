"""What others are told: broadcasts of changes, snapshots for who joins late, the status for people."""

from __future__ import annotations

from itertools import islice
from typing import Any

from bursar.contracts.breaker import CHANGED, MAX_FREE, PULSE, REGISTRY, Snapshot, Status, digest_of, token_of
from bursar.kernel.decider import Broadcast, Command, Fence, Outcome, Refuse
from bursar_breaker import window
from bursar_breaker.judging import Evidence
from bursar_breaker.lifecycle import CLOSED, FORCED_CLOSED, HALF_OPEN, OPEN
from bursar_breaker.state import Circuit, State
from bursar_breaker.window import FAILING, SLOW, Window, permille

_NEVER = Circuit(CLOSED, -1, 0, 0, 0, "")


def described(target: str, circuit: Circuit, now: int) -> dict[str, Any]:
    """A circuit as it stands in messages."""
    return {
        "target": target,
        "state": circuit.state,
        "revision": circuit.revision,
        "generation": circuit.generation,
        "reason": circuit.reason,
        "remaining_ms": max(0, circuit.until - now) if circuit.state == OPEN else None,
    }


def changed(target: str, circuit: Circuit, now: int) -> Broadcast:
    return Broadcast(CHANGED, token_of(target), {"v": 1, **described(target, circuit, now)})


def pulse(state: State, now: int) -> Broadcast:
    """How far the registry is, and which half-open targets nobody tries at the moment."""
    half_open = (name for name, circuit in state.circuits.items() if circuit.state == HALF_OPEN)
    free = list(islice((name for name in half_open if _is_free(state, name)), MAX_FREE))
    body = {"v": 1, "now_ms": now, "revision": state.revision, "digest": _digest(state), "free": free}
    return Broadcast(PULSE, REGISTRY, body)


def _is_free(state: State, target: str) -> bool:
    """Whether a permit to try this target would be given: one is taken of all that stand in the way."""
    stopped = [(name, circuit) for name, circuit in state.on_the_way(target) if circuit.state != FORCED_CLOSED]
    return all(c.state == HALF_OPEN and state.out.get(n, 0) < state.rules.of(n).probes for n, c in stopped)


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
    return Refuse({"ok": True, "revision": state.revision, "digest": digest, "same": same, "circuits": rows})


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
    circuit = state.circuits.get(target, _NEVER)
    seen = state.windows.look(target, now) or Window(state.rules.of(target))
    made = window.calls(seen.total)
    return {
        **described(target, circuit, now),
        "for_ms": now - circuit.since if circuit.since >= 0 else 0,
        "opened": circuit.opened,
        "calls": made,
        "counts": seen.named(),
        "failure_permille": permille(window.failed(seen.total), made),
        "slow_permille": permille(seen.total[SLOW], made),
        "reporters": seen.active,
        "failing": seen.counts[FAILING],
        "probes": state.out.get(target, 0),
        "evidence": Evidence._make(circuit.evidence)._asdict() if circuit.evidence else {},
        "note": circuit.note,
    }
