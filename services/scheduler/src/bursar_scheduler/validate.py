"""What must hold between the parts of the state, and between the state and its board; for tests and audits."""

from __future__ import annotations

from collections import Counter

from bursar_scheduler.asking import lane_ask
from bursar_scheduler.blobs import key_of
from bursar_scheduler.board import Board
from bursar_scheduler.lifecycle import ASSIGNED, AT_WORK, DEAD, ENDS, LIVE, PREEMPTING, READY, SUBMITTED
from bursar_scheduler.placing import candidates
from bursar_scheduler.state import State
from bursar_scheduler.task import Task, Worker


def validate(state: State, now: int) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    _names(state)
    for task in state.tasks.values():
        _task(state, task)
    for task in state.dead.values():
        assert (task.state, task.token) == (DEAD, ""), f"{task.id}: a dead letter with an attempt"
    for name, ended in state.ended.items():
        assert ended.state in ENDS, f"{name} ended as {ended.state}"
    census = Counter((task.lane[0], task.band, task.state) for task in state.tasks.values())
    assert census == state.census, "the census"
    assert state.bytes == sum(task.size for task in state.tasks.values()), "bytes of live tasks"
    assert state.dead_bytes == sum(task.size for task in state.dead.values()), "bytes of dead letters"
    assert state.kept_bytes == sum(ended.size for ended in state.ended.values()), "bytes of results"
    _blobs(state)
    for worker in state.workers.values():
        _worker(worker)
    _owners(state)
    _links(state)
    _ledger(state)
    if state.board is not None:
        _board(state, state.board, now)


def _names(state: State) -> None:
    live, dead, ended = state.tasks.keys(), state.dead.keys(), state.ended.keys()
    assert not live & dead, "live and a dead letter"
    assert not (live | dead) & (ended | state.names.keys() | state.names_before.keys()), "there and ended"


def _task(state: State, task: Task) -> None:
    assert task.state in LIVE, f"{task.id} is {task.state}"
    assert bool(task.unmet) == (task.state == SUBMITTED), f"{task.id} is {task.state} and waits for {task.unmet}"
    has_attempt = task.state == ASSIGNED or task.state in AT_WORK
    assert bool(task.yield_by) == (task.state == PREEMPTING), (
        f"{task.id} is {task.state} and to yield by {task.yield_by}"
    )
    assert bool(task.token) == bool(task.worker) == has_attempt, f"{task.id}: {task.state} with token {task.token!r}"
    if has_attempt:
        over = () if task.gang is None else task.gang.over
        for name in task.members:
            worker = state.workers.get(name)
            assert worker is not None or name in over, f"{task.id} is with {name}, who is not there"
            held = None if worker is None else worker.attempts.get(task.token)
            assert held == task.id or name in over, f"{task.id}: its attempt takes no slot of {name}"
    assert (task.gang is None) or (has_attempt and len(set(task.members)) == task.lane[4]), f"{task.id}: {task.gang}"


def _worker(worker: Worker) -> None:
    used = Counter[str]()
    for demands in worker.taken.values():
        used.update(dict(demands))
    assert worker.taken.keys() <= worker.attempts.keys(), f"{worker.name}: room is taken by nobody"
    assert used == Counter(worker.used), f"{worker.name}: used {worker.used}, taken {dict(used)}"


def _blobs(state: State) -> None:
    """Who is held by whom, and what nobody holds is known to be idle."""
    values = [task.payload for task in (*state.tasks.values(), *state.dead.values())]
    values += [ended.result for ended in (*state.ended.values(), *state.links.held.values())]
    values += [task.gang.result for task in state.tasks.values() if task.gang is not None]
    blobs = state.blobs
    held = Counter(key for value in values if (key := key_of(value)) is not None)
    assert held == blobs.held, f"blobs are held {dict(blobs.held)}, not {dict(held)}"
    assert blobs.idle.keys() == blobs.there.keys() - held.keys(), "blobs that nobody needs"
    assert blobs.bytes == sum(blob.size for blob in blobs.there.values()) == blobs.of.total(), "bytes of blobs"


def _owners(state: State) -> None:
    owned = [name for owner in state.owners.values() for name in owner.tasks]
    assert sorted(owned) == sorted(state.tasks), "the owners' tasks"
    for name, owner in state.owners.items():
        assert owner.needs == Counter(state.tasks[task].lane for task in owner.tasks), f"needs of {name}"


def _ledger(state: State) -> None:
    """Every attempt that takes a slot is charged, and all who have tasks have accounts."""
    runs = {token for worker in state.workers.values() for token, task in worker.attempts.items() if task}
    assert state.ledger.runs.keys() == runs, "who is charged"
    live = Counter(task.who for task in state.tasks.values())
    programs = Counter[tuple[str, str]]()
    for who, count in live.items():
        programs[who[1:]] += count
    assert {name: account.live for name, account in state.ledger.programs.items() if account.live} == programs, "live"


def _links(state: State) -> None:
    """Who comes after whom."""
    there = (*state.tasks.values(), *state.dead.values())
    links = state.links
    assert links.needed == Counter(name for task in there for name in task.after), "who is needed"
    waiting = {(name, task.id) for task in state.tasks.values() for name in task.unmet}
    assert {(name, other) for name, others in links.waiting.items() for other in others} == waiting, "who waits"
    assert links.held.keys() <= links.needed.keys(), "an end is held for nobody"
    assert links.held_bytes == sum(ended.size for ended in links.held.values()), "bytes that are held"
    settled = links.waiting if state.board is None else state.board.settled
    for name in links.waiting:
        assert state.find(name) is not None or name in settled, f"nothing will settle what waits for {name}"


def _board(state: State, board: Board, now: int) -> None:
    assert board.tasks is state.tasks
    assert board.heard.keys() == state.workers.keys(), "who is heard"
    for task in state.tasks.values():
        waits = task.state == READY and task.not_before <= now
        assert task.listed <= (task.state == READY), f"{task.id}: listed and {task.state}"
        assert task.listed or not waits or task.alarm, f"{task.id} waits nowhere"
        assert task.state in {SUBMITTED, READY} or task.alarm, f"{task.id} is {task.state} and nothing will look at it"
    for lane in board.lanes.values():
        members = [task for task in state.tasks.values() if task.listed and task.lane == lane.key]
        assert lane.count == len(members), f"{lane.key}: count"
        for band, line in enumerate(lane.line.bands):
            assert line.count == sum(task.band == band for task in members), f"{lane.key}: band {band}"
        room = {worker.name for worker in state.workers.values() if worker.fits(lane.key) and worker.serves(lane.key)}
        assert lane.room == room, f"{lane.key}: room"
        ask = lane_ask(lane.key)
        assert {board.fleet.offers[row].name for row in candidates(board.fleet, ask)} == room, f"{lane.key}: arrays"
        assert not members or len(room) < lane.key[4] or lane.key in board.hot, f"{lane.key}: has both and is not hot"


def is_conserving(state: State) -> bool:
    """Whether no task waits for which there is a worker with a free slot, or enough of them for a gang, but for those
    that a quota keeps. (Workers that are held for a gang have no room for others.)"""
    waiting = [
        task
        for task in state.tasks.values()
        if task.state == READY and task.not_before <= state.at and not state.ledger.held(task.who)
    ]
    idle = [worker for worker in state.workers.values() if len(worker.attempts) < worker.slots]
    gathers = state.board is not None and state.board.gathering.task is not None and state.board.gathering.task.listed
    free = [w for w in idle if not (w.draining or w.suspect or (w.held and gathers))]
    return not any(
        sum(worker.serves(task.lane) and worker.fits_after(task.lane, "") for worker in free) >= task.lane[4]
        for task in waiting
    )
