"""A placement worked out again from the journal: who was chosen, the next best three, the terms of each score, and what
the others lacked, at the moment of the decision.

The state before the event is what the journal rebuilds, and the arrays of the workers are made from it anew; policy,
task and number of the draw are as they were. What is not in the journal (loads, latencies and suspicions that only the
owner of that time knew) may have made the difference: then the record says that it does not agree.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from bursar.kernel.decider import Event
from bursar_scheduler import events
from bursar_scheduler.asking import ask_of
from bursar_scheduler.explaining import lack, rated_in_words
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.state import State

MAX_HOLDS: Final = 16


def explain(state: State, event: Event) -> dict[str, Any] | None:
    """The record of an assignment, from the state just before its event; None for other events. Makes the state's
    board anew."""
    if event[0] != events.ASSIGNED:
        return None
    _, now, name, worker, token = event
    task = state.tasks[name]
    state.board = None
    board = state.awake(now)
    board.lane(task.lane)
    verdict = POLICIES[state.config.policy](board.fleet, ask_of(board, task), state.drawn)
    known = [other for other in state.workers.values() if task.lane[0] in other.classes]
    holds = ((other.name, lack(other, task)) for other in known if other.name != worker and lack(other, task))
    return {
        "task": name, "at_ms": now, "token": token, "policy": state.config.policy, "worker": worker,
        "agrees": verdict is not None and verdict.worker == worker,
        "chosen": None if verdict is None else rated_in_words(verdict.chosen),
        "rejected": [] if verdict is None else [rated_in_words(rated) for rated in verdict.rejected],
        "holds": [list(hold) for hold in islice(holds, MAX_HOLDS)],
    }  # fmt: skip
