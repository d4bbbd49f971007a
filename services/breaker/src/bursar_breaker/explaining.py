"""Why is a circuit as it is? One answer with all of it: what it opened on, who said so, since when, when it is tried
again, what the window says now, what else stands in the way, and how it came to this."""

from __future__ import annotations

from typing import Any

from bursar.contracts.breaker import Explain
from bursar.kernel.decider import Command, Fence, Outcome, Refuse, Reject
from bursar_breaker.judging import counted, witnesses
from bursar_breaker.lifecycle import CLOSED, HALF_OPEN, OPEN, PROBE_FAILED, RAMPING
from bursar_breaker.state import Circuit, Past, State
from bursar_breaker.telling import NEVER, described

_FIELDS = ("reporter", "calls", "failed", "slow", "view")
_CAUSES = {
    "failure_rate": "too many of its calls failed",
    "slow_rate": "too many of its calls were slow",
    "consecutive": "its calls failed one after the other",
    "overload": "it has asked to be left alone",
    "auth": "the key is not accepted",
    "later_deadline": "it has asked for more time",
    "probe_failed": "a probe has failed",
    "entries_lost": "data was lost, and probes of before must be over first",
    "release": "an order to keep it open has ended",
    "order_over": "the time of an order to keep it open is over",
}


def decide_explain(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Explain = command.body
    target = body.target
    if not state.rules.knows(target):
        return Reject("unknown_group", "There is no such group.", {"target": target})
    circuit, seen = state.circuits.get(target, NEVER), state.windows.look(target, now)
    pasts = list(state.history.get(target, ()))
    stopped = [(name, other) for name, other in state.on_the_way(target) if other.share < 1000]
    return Refuse(
        {
            "ok": True,
            "now_ms": now,
            "target": target,
            "state": circuit.state,
            "reason": circuit.reason,
            "why": _why(circuit),
            "since_ms": now - circuit.since if circuit.since >= 0 else 0,
            "next_probe_ms": _next_probe(state, stopped, now),
            "share": circuit.share,
            "opened": circuit.opened,
            "probes": state.out.get(target, 0),
            "note": circuit.note,
            "counts": circuit.evidence.get("counts", {}) | circuit.evidence.get("causes", {}),
            "witnesses": _rows(circuit.evidence.get("witnesses", ())),
            "excluded": list(circuit.evidence.get("excluded", ())),
            "now": {} if seen is None else counted(seen),
            "reporters": [] if seen is None else _rows(witnesses(seen)),
            "would_open": state.shadows.get(target, ""),
            "stopped_by": [described(name, other, now) for name, other in stopped],
            "history": [_past(past, now) for past in reversed(pasts[len(pasts) - body.history :])],
        }
    )


def _rows(found: Any) -> list[dict[str, Any]]:
    return [dict(zip(_FIELDS, row, strict=True)) for row in found]


def _past(past: Past, now: int) -> dict[str, Any]:
    return {"ago_ms": now - past.at, **{field: getattr(past, field) for field in Past._fields if field != "at"}}


def _next_probe(state: State, stopped: list[tuple[str, Circuit]], now: int) -> int | None:
    """When a call may be tried with a permit; None when nothing asks for one, or nobody knows."""
    shut = [circuit for _, circuit in stopped if circuit.share == 0]
    if not shut or any(circuit.state != HALF_OPEN and not circuit.until for circuit in shut):
        return None
    return max(0 if c.state == HALF_OPEN else max(c.until, state.quiet_until) - now for c in shut)


def _why(circuit: Circuit) -> str:
    """One sentence."""
    if circuit.state == CLOSED:
        return "It is closed: calls go."
    if circuit.state == OPEN:
        return f"It is open because {_opened_by(circuit)}."
    if circuit.state == HALF_OPEN:
        return f"Probes find out how it is; it had opened because {_opened_by(circuit)}."
    if circuit.state == RAMPING:
        return f"Probes have succeeded: {circuit.share / 10:g} % of the calls go, and more if they go well."
    return f"By order of {circuit.note}."


def _opened_by(circuit: Circuit) -> str:
    """What has opened it: a later deadline only keeps it open."""
    cause, seen = circuit.evidence.get("cause", circuit.reason), circuit.evidence.get("counts")
    numbers = ""
    if seen is not None and cause != PROBE_FAILED:
        numbers = f" ({seen['failed']} of {seen['calls']} failed, {seen['slow']} were slow; "
        numbers += f"{seen['voices']} of {seen['reporters']} reporters see it"
        numbers += f", {seen['stopped']} have stopped by themselves)" if "stopped" in seen else ")"
    return f"{_CAUSES.get(cause, cause)}{numbers}"
