"""What happens to workers, applied: a part of `evolve`; the rules are in `workers`."""

from __future__ import annotations

from bursar.kernel.decider import Event
from bursar_scheduler.state import State
from bursar_scheduler.task import Worker


def apply_registered(state: State, event: Event) -> None:
    _, now, name, session, kind, slots, classes, labels, versions, kept, void, room, place = event
    state.at = now
    worker = state.workers.get(name)
    if worker is None:
        worker = state.workers[name] = Worker(name, state.ordinal)
        state.ordinal += 1
    elif state.board is not None:
        state.board.unseat(worker)
    worker.session, worker.kind, worker.slots, worker.draining, worker.gone_at = session, kind, slots, False, 0
    worker.classes, worker.kept_at = tuple(classes), now
    worker.labels, worker.versions = dict(labels), dict(versions)
    worker.room, worker.place = dict(room), dict(place)
    for token in [token for token in worker.attempts if token not in kept]:
        state.give_back(worker, token)
    worker.keep_only(kept, void)
    state.ledger.set_capacity(sum(other.slots for other in state.workers.values()))
    state.counts["registered"] += 1
    if state.board is not None:
        state.board.heard_from(name, now)
        state.board.seat(worker)


def apply_heard(state: State, event: Event) -> None:
    _, now, name = event
    state.at = now
    state.workers[name].kept_at = now


def apply_freed(state: State, event: Event) -> None:
    _, now, name, token = event
    state.at = now
    worker = state.workers[name]
    state.give_back(worker, token)
    if state.board is not None:
        state.board.note(worker)


def apply_drains(state: State, event: Event) -> None:
    _, now, name, until = event
    state.at = now
    worker = state.workers[name]
    worker.draining, worker.gone_at = True, until
    if state.board is not None:
        state.board.leaves(worker)
        state.board.note(worker)


def apply_gone(state: State, event: Event) -> None:
    _, now, name, why = event
    state.at = now
    worker = state.workers.pop(name)
    for token in list(worker.attempts):
        state.give_back(worker, token)
    state.speeds.forget(name)
    state.ledger.set_capacity(sum(other.slots for other in state.workers.values()))
    state.counts[f"workers_{why}"] += 1
    if state.board is not None:
        state.board.gone(worker)
