"""After a loss: the journal has come back without entries that were acknowledged.

- What is open stays open: what may have been lost is that it opened for longer, and evidence will tell. What is ramping
  goes on from the step that is known: a relapse that was lost shows again.
- Probe permits may have been given that nobody knows of. They are over when the longest time of a permit has passed,
  so no circuit is half-open before that: those that are open again, the others wait.
- Permits that are known keep their places, but count for nothing: their circuits are of another generation.
- Orders of operators may be lost too; the audit shows what is left, and clients hear of it: a higher incarnation makes
  them ask for everything anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Event
from bursar_breaker import events
from bursar_breaker.bugs import LOSS_IGNORED
from bursar_breaker.lifecycle import ENTRIES_LOST, HALF_OPEN, OPEN
from bursar_breaker.state import Circuit, State


def recover(state: State, now: int) -> Sequence[Event]:
    """The events that make the state safe after a loss."""
    quiet_until = max(state.quiet_until, now + state.rules.longest_probe_ms)
    told: list[Event] = [(events.LOST, now, quiet_until)]
    revision = state.revision
    for target, circuit in state.circuits.items():
        is_early = circuit.state == HALF_OPEN or (circuit.state == OPEN and circuit.until < quiet_until)
        if is_early and not seeded(LOSS_IGNORED):
            revision += 1
            told.append((events.KEPT_OPEN, now, revision, target, quiet_until))
    return told


def apply_lost(state: State, event: Event) -> None:
    _, now, quiet_until = event
    state.at = state.lost_at = now
    state.quiet_until = quiet_until


def apply_kept_open(state: State, event: Event) -> None:
    _, now, revision, target, until = event
    before = state.circuits[target]
    state.at = now
    kept = (now, 0, before.opened, 0, before.note, before.evidence)
    state.put(target, Circuit(OPEN, now, until, revision, revision, ENTRIES_LOST, *kept))
