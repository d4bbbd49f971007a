"""Workers: they register, give signs of life, drain, leave, or fall silent.

A worker's name is its principal, and a session is one life of its process. Heartbeats are observations: they extend the
leases of what they list, are journaled at half of a worker's time to live only (`living`), and are forgotten by a
take-over, after which everybody has a whole time to be heard from again. Who has been silent for two thirds of its time
to live, while others are heard, is *suspect*: it gets nothing new until it is heard. What follows from them is decided
by commands that `due` hands out: silence for longer than the time to live and a tenth more, or a host that is taken
away (`Gone`), notices that seem to have been lost (`Tell`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar.contracts.scheduler import Drain, Heartbeat, Leave, Register
from bursar.kernel.decider import Accept, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_scheduler import events, gangs, telling, yielding
from bursar_scheduler.board import Board
from bursar_scheduler.lifecycle import DEAD, PREEMPTING, RELEASE, WORKER_GONE
from bursar_scheduler.living import is_due, silence
from bursar_scheduler.moments import loss
from bursar_scheduler.resources import labels_of, room_of
from bursar_scheduler.state import State
from bursar_scheduler.task import Worker

TELL_AGAIN_MS: Final = 700
"""An assignment that a heartbeat does not list so long after it was sent is sent again."""

MAX_STRANGERS: Final = 1_000

LAPSED: Final = "lapsed"
LEFT: Final = "left"
TAKEN: Final = "taken"


class Gone(NamedTuple):
    """A worker has been silent for too long."""

    worker: str


class Alive(NamedTuple):
    """It was heard, and that is to be in the journal."""

    worker: str


class Tell(NamedTuple):
    """Notices to send (again): by token what; under "" that it should register."""

    worker: str
    what: dict[str, str]


def decide_register(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """What the same session goes on with stays its own; what another session had, or this one does not know of any
    more, goes to others."""
    body: Register = command.body
    worker = state.workers.get(command.principal)
    kept, lost = _sort_out(state, worker, body)
    void = [token for token in dict.fromkeys(body.running) if token not in kept]
    found: list[Event] = []
    told: list[Notice] = []
    for name in lost:
        _give_away(state, name, now, WORKER_GONE, found, told, command.principal)
    found.append(
        (events.REGISTERED, now, command.principal, body.session, body.kind, body.slots, body.classes,
         sorted(labels_of(body).items()), sorted(body.versions.items()), kept, void, room_of(body), place_of(body))
    )  # fmt: skip
    ttl = state.config.worker_ttl_ms
    state.awake(now).heard_from(command.principal, now)
    reply = {"ok": True, "worker": command.principal, "ttl_ms": ttl, "heartbeat_ms": ttl // 3, "void": void}
    return Accept(found, reply, told)


def place_of(body: Register) -> list[tuple[str, Any]]:
    """Where it is, what it costs, what it has loaded; only what it has said."""
    told = {
        "host": body.host, "numa": body.numa_node, "region": body.region, "preemptible": body.preemptible or None,
        "price": body.price or None, "models": body.models or None,
    }  # fmt: skip
    return [(name, value) for name, value in told.items() if value is not None]


def _sort_out(state: State, worker: Worker | None, body: Register) -> tuple[list[str], list[str]]:
    """Tokens that stay the worker's, and tasks that it has lost."""
    kept: list[str] = []
    lost: list[str] = []
    for token, name in {} if worker is None else worker.attempts.items():
        task = state.tasks.get(name)
        if task is None or task.token != token:
            continue
        assert worker is not None
        same = worker.session == body.session
        is_over = task.gang is not None and worker.name in task.gang.over
        if same and (token in body.running or is_over or task.is_awaited(worker.name)):
            kept.append(token)
        elif not is_over:
            lost.append(name)
    return kept, lost


def _give_away(
    state: State, name: str, now: int, why: str, found: list[Event], told: list[Notice], worker: str
) -> None:
    """This worker does not go on with it; nor do the others of a gang."""
    task = state.tasks[name]
    if task.gang is not None:
        told += gangs.stops(task, worker)
        found.append((events.PARTED, now, name, worker, None, 0))
    event = (events.WAITS, now, name, why, "", 0) if why == RELEASE else loss(state, task, now, why, worker)
    found.append(event)
    if event[0] == events.DEAD:
        told.append(telling.ended(name, DEAD, event[3], event[4]))


def decide_heartbeat(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Volatile, but for a sign of life now and then (`living`)."""
    body: Heartbeat = command.body
    board = state.awake(now)
    worker = state.workers.get(command.principal)
    if worker is None:
        _note_stranger(board, command.principal, now)
        return Refuse({})
    if worker.session != body.session:
        void = {token: "stop" for token in body.running if token not in worker.attempts}
        if void:  # a process that was replaced still works on these
            board.tell.setdefault(worker.name, {}).update(void)
        return Refuse({})
    if now - board.last_heard > state.config.worker_ttl_ms // 2:
        board.everybody_is_heard(now)
    board.heard_from(worker.name, now)
    worker.load = body.load_permille
    board.told(worker, body.latency_us, body.wait_ms)
    again = _extend(state, worker, body.running, now) | _unheard(state, worker, body.running, now)
    if again:
        board.tell.setdefault(worker.name, {}).update(again)
    if is_due(worker, state.config, now):
        board.alive[worker.name] = None
    return Refuse({})


def next_alive(board: Board) -> Alive | None:
    return Alive(board.alive.popitem()[0]) if board.alive else None


def decide_alive(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.worker
    return Accept([(events.HEARD, now, name)], {}) if name in state.workers else Refuse({})


def _extend(state: State, worker: Worker, running: tuple[str, ...], now: int) -> dict[str, str]:
    """The leases of what it works on; and which of it is void, or is to yield."""
    void = {}
    for token in running:
        name = worker.attempts.get(token, "")
        task = state.tasks.get(name)
        if task is not None and task.token == token:
            task.heard_from(worker.name, now + task.lease_ms)
            if task.state == PREEMPTING:
                void[token] = "yield"
        else:
            void[token] = "stop"
    return void


def _unheard(state: State, worker: Worker, running: tuple[str, ...], now: int) -> dict[str, str]:
    """What was assigned to it, and it seems not to know of."""
    unheard = {}
    for token, name in worker.attempts.items():
        task = state.tasks.get(name)
        if task is None or task.token != token or not task.is_awaited(worker.name) or token in running:
            continue
        if now - task.told_at >= TELL_AGAIN_MS:
            task.told_at = now
            unheard[token] = "assign"
    return unheard


def _note_stranger(board: Board, name: str, now: int) -> None:
    """It will be told to register, once a second at most."""
    if now - board.strangers.get(name, -1_000) < 1_000:
        return
    if len(board.strangers) >= MAX_STRANGERS:
        del board.strangers[next(iter(board.strangers))]
    board.strangers[name] = now
    board.tell[name] = {"": "register"}


def next_tell(board: Board) -> Tell | None:
    if not board.tell:
        return None
    name = next(iter(board.tell))
    return Tell(name, board.tell.pop(name))


def decide_tell(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Tell = command.body
    if "" in body.what:
        known = body.worker in state.workers
        return Refuse({}) if known else Accept([], {}, [telling.register(body.worker)])
    worker = state.workers.get(body.worker)
    notices: list[Notice] = []
    for token, what in body.what.items() if worker is not None else ():
        assert worker is not None
        name = worker.attempts.get(token, "")
        task = state.tasks.get(name)
        current = task is not None and task.token == token
        if what == "stop" and not current:
            notices.append(telling.stop(worker.name, name, token))
        elif what == "yield" and current and task is not None and task.state == PREEMPTING:
            notices.append(telling.yields(task, max(1, task.yield_by - now)))
        elif what == "assign" and current and task is not None and task.is_awaited(worker.name):
            members = task.members if task.gang is not None else ()
            notices.append(telling.assign(worker, task, token, task.attempts, state.config, now, members))
    return Accept([], {}, notices) if notices else Refuse({})


def decide_drain(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Drain = command.body
    worker = _own(state, command.principal, body.session)
    if isinstance(worker, Reject):
        return worker
    reply = {"ok": True, "worker": worker.name, "returned": 0}
    if body.within_ms is None:
        return Accept([(events.DRAINS, now, worker.name, 0)], reply)
    found, told = yielding.ask_all(state, worker, now, body.within_ms)
    drains = (events.DRAINS, now, worker.name, now + spare(body.within_ms))
    return Accept([drains, *found], reply, told)


def spare(within_ms: int) -> int:
    """What is left a second before its host goes, or after three quarters of a short time, goes to others."""
    return max(within_ms - 1_000, within_ms * 3 // 4)


def decide_leave(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """What it still has is given back without counting."""
    body: Leave = command.body
    worker = _own(state, command.principal, body.session)
    if isinstance(worker, Reject):
        return worker
    found, told = _empty(state, worker, now, RELEASE)
    reply = {"ok": True, "worker": worker.name, "returned": sum(event[0] != events.PARTED for event in found)}
    return Accept([*found, (events.GONE, now, worker.name, LEFT)], reply, told)


def _own(state: State, name: str, session: str) -> Worker | Reject:
    worker = state.workers.get(name)
    if worker is None or worker.session != session:
        return Reject("not_registered", "this session of the worker is not registered", {"worker": name})
    return worker


def next_gone(state: State, board: Board, now: int) -> Gone | None:
    taken = next((name for name, at in board.leaving.items() if now >= at), None)
    if taken is not None:
        return Gone(taken)
    at = silent_until(state, board)
    silent = board.most_silent()
    _suspect(state, board, now)
    return Gone(silent[0]) if at is not None and now >= at and silent is not None else None


def _suspect(state: State, board: Board, now: int) -> None:
    """Who has been silent for long, while somebody else was heard since."""
    ttl = state.config.worker_ttl_ms
    for name, heard in board.heard.items():
        if now - heard < ttl * 2 // 3 or board.last_heard - heard < ttl // 3:
            return
        worker = state.workers[name]
        if not worker.suspect:
            board.suspect(worker, True)


def gone_at(state: State, board: Board) -> int | None:
    """When the next worker is gone: silent for too long, or its host is taken away."""
    silent = silent_until(state, board)
    times = [*board.leaving.values()] if silent is None else [silent, *board.leaving.values()]
    return min(times, default=None)


def silent_until(state: State, board: Board) -> int | None:
    """When the most silent worker counts as gone, unless it is heard.

    When all are silent at once it is rather the network, or this service, that was away: then three times as long is
    waited, and the first heartbeat that comes counts for everybody.
    """
    silent = board.most_silent()
    if silent is None:
        return None
    wait = silence(state.config)
    others_live = silent[1] + wait <= board.last_heard + state.config.worker_ttl_ms // 2
    return silent[1] + (wait if others_live else 3 * wait)


def decide_gone(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Its attempts are void; they go to others at once. When its host was taken away, that is not held against them."""
    worker = state.workers[command.body.worker]
    found, told = _empty(state, worker, now, RELEASE if worker.gone_at else WORKER_GONE)
    return Accept([*found, (events.GONE, now, worker.name, TAKEN if worker.gone_at else LAPSED)], {}, told)


def _empty(state: State, worker: Worker, now: int, why: str) -> tuple[list[Event], list[Notice]]:
    found: list[Event] = []
    told: list[Notice] = []
    for token, name in worker.attempts.items():
        task = state.tasks.get(name)
        is_over = task is not None and task.gang is not None and worker.name in task.gang.over
        if task is not None and task.token == token and not is_over:
            _give_away(state, name, now, why, found, told, worker.name)
    return found, told
