"""What happens to the members of a gang, applied: a part of `evolve`; the rules are in `gangs`."""

from __future__ import annotations

from bursar.kernel.decider import Event
from bursar_scheduler.accounts import Paid
from bursar_scheduler.lifecycle import ASSIGNED, FINISH
from bursar_scheduler.state import State
from bursar_scheduler.task import Gang, Task, Worker


def apply_ganged(state: State, event: Event) -> None:
    """See `gangs`."""
    _, now, name, members, token = event
    task = state.tasks[name]
    workers = [state.workers[member] for member in members]
    state.at = now
    state.drawn += 1
    task.gang, task.heard = Gang(tuple(members)), {}
    task.token, task.worker, task.since = token, workers[0].name, now
    task.attempts += 1
    task.heard_until, task.told_at = 0, now
    task.permille = task.note = None
    state.move(task, ASSIGNED)
    state.gangs[token] = len(workers)
    expected = state.speeds.expect_us(task.lane[0], task.worker) // 1_000 * len(workers)
    _begin_charge(state, task, workers, now, expected)
    state.counts["assigned"] += 1
    for worker in workers:
        worker.take(token, name, task.lane[3])
        worker.kept_at = now
    board = state.board
    if board is not None:
        board.begins(task)
        for worker in workers:
            board.note(worker)
        board.place(task, now)


def _begin_charge(state: State, task: Task, workers: list[Worker], now: int, expected: int) -> None:
    """From now on its slots are charged."""
    first = workers[0]
    price = sum(worker.place.get("price", 0) for worker in workers)
    paid = Paid(task.lane[0], first.name, first.kind, bool(first.place.get("preemptible")), price // len(workers))
    waited = now - task.submitted_at
    state.ledger.begin(task.who, task.token, now, expected, len(workers), task.path, waited, paid)


def apply_joined(state: State, event: Event) -> None:
    _, now, name, worker = event
    task = state.tasks[name]
    assert task.gang is not None
    state.at = now
    task.gang = task.gang._replace(begun=(*task.gang.begun, worker))
    if state.board is not None:
        state.board.place(task, now)


def apply_parted(state: State, event: Event) -> None:
    _, now, name, worker, result, size = event
    task = state.tasks[name]
    assert task.gang is not None
    state.at = now
    task.gang = task.gang._replace(over=(*task.gang.over, worker))
    if size:
        task.gang = task.gang._replace(result=result, size=size)
        state.blobs.hold(result)
        task.size += size
        state.bytes += size


def disband(state: State, task: Task) -> None:
    """The attempt of a gang is over; what is kept of it goes."""
    if task.gang is not None:
        task.size -= task.gang.size
        state.bytes -= task.gang.size
        state.blobs.let_go(task.gang.result, state.at)
        task.gang = None


def end_gang(state: State, task: Task, gang: Gang, why: str, *, is_judged: bool) -> None:
    """The slots of those that have ended their part, or never began it, are free; the others say when they have
    stopped."""
    for name in gang.members:
        worker = state.workers.get(name)
        if worker is None:
            continue
        if state.board is not None and is_judged:
            state.board.judged(worker, why == FINISH)
        if name in gang.over or name not in gang.begun:
            worker.ended += name in gang.over
            state.give_back(worker, task.token)
            if state.board is not None:
                state.board.note(worker)
    disband(state, task)
    task.token, task.worker = "", ""
