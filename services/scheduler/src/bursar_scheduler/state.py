"""The scheduler's state: what the journal rebuilds, indexes that follow from it, and the volatile board.

`dump` tells the durable part, the same for equal histories; `load` is its inverse; `validate` (in `validate.py`) checks
what must hold between the parts.

What is kept of tasks that have ended is a function of the events alone: each end drops the results that are too old or
too many, and remembers their names in two generations, so that a name is known for at least an hour (or 100,000 ends)
after its result is gone: a repeated submission is not run again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from bursar.kernel.rights import Rights
from bursar.kernel.rights import load as load_rights
from bursar_scheduler.admission import Drain
from bursar_scheduler.blobs import Blobs
from bursar_scheduler.board import Board
from bursar_scheduler.dependants import Dependants
from bursar_scheduler.fairness import Ledger
from bursar_scheduler.speeds import Speeds
from bursar_scheduler.task import Config, Ended, LaneKey, Task, Worker

KEEP_COUNT: Final = 50_000
KEEP_BYTES: Final = 67_108_864
"""Ends that are kept with their results, and bytes of results, at most."""

REMEMBER_MS: Final = 3_600_000
REMEMBER_COUNT: Final = 100_000
MAX_DEAD: Final = 100_000
MAX_DEAD_BYTES: Final = 536_870_912
"""Dead letters and their payloads; of more the oldest end as failed."""


class Owner:
    """What one principal has that has not ended: its tasks in their order, and how many have which needs."""

    __slots__ = ("needs", "tasks")

    def __init__(self) -> None:
        self.tasks: dict[str, None] = {}
        self.needs: Counter[LaneKey] = Counter()


class State:
    """Durable: ``at`` (time of the last event), ``config`` and ``source`` (what settings it came from), ``tasks`` that
    are live, ``dead`` letters, ``ended`` with results, ``names`` of ended ones (two generations), ``workers``,
    ``position`` in the inbox, ``order`` (of the next task), ``ordinal`` (of the next worker), ``drawn`` (assignments so
    far), ``lost_at`` (-1: nothing was ever lost), ``counts``, ``ledger`` (what each has had), ``teams`` of agents,
    ``speeds`` (how long calls take), ``drain`` (how many end), ``blobs`` (large values), ``ending`` (programs that are
    being cancelled, with the order of the first task that is not), and in ``links.held`` results that others need.
    Derived: ``owners``, ``bytes``, ``dead_bytes``, ``kept_bytes``, ``census``, ``gangs`` (how many workers hold a
    token of a gang), the rest of ``links`` (who comes after whom).
    Volatile: ``board``, ``refused``.
    """

    __slots__ = (
        "at", "blobs", "board", "bytes", "census", "config", "counts", "dead", "dead_bytes", "drain", "drawn", "ended",
        "ending", "gangs",
        "kept_bytes", "ledger", "links", "lost_at", "names", "names_before", "names_since", "order", "ordinal",
        "owners", "position", "refused", "rights", "source", "speeds", "tasks", "teams", "workers",
    )  # fmt: skip

    def __init__(self) -> None:
        self.at = 0
        self.config = Config()
        self.source = ""
        self.rights: Rights | None = None
        self.tasks: dict[str, Task] = {}
        self.dead: dict[str, Task] = {}
        self.ended: dict[str, Ended] = {}
        self.names: dict[str, tuple[bytes, str]] = {}
        self.names_before: dict[str, tuple[bytes, str]] = {}
        self.names_since = 0
        self.workers: dict[str, Worker] = {}
        self.position = 0
        self.order = 1
        self.ordinal = 1
        self.drawn = 0
        self.lost_at = -1
        self.counts: Counter[str] = Counter()
        self.owners: dict[str, Owner] = {}
        self.bytes = 0
        self.dead_bytes = 0
        self.kept_bytes = 0
        self.census: Counter[tuple[str, int, str]] = Counter()
        self.links = Dependants()
        self.ledger = Ledger()
        self.speeds = Speeds()
        self.drain = Drain()
        self.blobs = Blobs()
        self.ending: dict[tuple[str, str], int] = {}
        self.teams: dict[str, str] = {}
        self.gangs: dict[str, int] = {}
        self.board: Board | None = None
        self.refused = 0

    # ---- looking

    def awake(self, now: int) -> Board:
        """The board; made now if this instance has just become owner."""
        if self.board is None:
            self.board = Board.of(self, now)
            over = (name for name in self.links.waiting if self.find(name) is None)
            self.board.settled = dict.fromkeys(over)
        return self.board

    def find(self, task: str) -> Task | None:
        """A task that has not ended: live, or a dead letter."""
        return self.tasks.get(task) or self.dead.get(task)

    def how_it_ended(self, task: str) -> Ended | None:
        """The end of a task, while its result is kept; for those after it too."""
        return self.ended.get(task) or self.links.held.get(task)

    def known(self, task: str) -> tuple[bytes, str] | None:
        """The digest of what was submitted under this name, and where it stands; None when it is not known."""
        there = self.find(task)
        if there is not None:
            return there.digest, there.state
        ended = self.how_it_ended(task)
        if ended is not None:
            return ended.digest, ended.state
        return self.names.get(task) or self.names_before.get(task)

    # ---- changing; only `evolve` calls these

    def add(self, task: Task) -> None:
        """A task that is live from now on."""
        self.tasks[task.id] = task
        owner = self.owners.get(task.who.agent)
        if owner is None:
            owner = self.owners[task.who.agent] = Owner()
        owner.tasks[task.id] = None
        owner.needs[task.lane] += 1
        self.bytes += task.size
        self.blobs.hold(task.payload)
        self.census[task.lane[0], task.band, task.state] += 1
        if task.unmet:
            self.links.wait(task)
        task.path = self.ledger.admit(task.who)

    def remove(self, task: Task) -> None:
        """It is live no more."""
        del self.tasks[task.id]
        name = task.who.agent
        owner = self.owners[name]
        del owner.tasks[task.id]
        _less(owner.needs, task.lane)
        if not owner.tasks:
            del self.owners[name]
        self.bytes -= task.size
        self.blobs.let_go(task.payload, self.at)
        _less(self.census, (task.lane[0], task.band, task.state))
        if task.unmet:
            self.links.wait_no_more(task)
        self.ledger.retire(task.who)

    def move(self, task: Task, state: str) -> None:
        """It is in another state, live before and after."""
        _less(self.census, (task.lane[0], task.band, task.state))
        task.state = state
        self.census[task.lane[0], task.band, state] += 1

    def bury(self, task: Task) -> None:
        """It is a dead letter from now on; the oldest one makes room."""
        self.dead[task.id] = task
        self.dead_bytes += task.size
        self.blobs.hold(task.payload)
        while len(self.dead) > MAX_DEAD or self.dead_bytes > MAX_DEAD_BYTES:
            oldest = self.unbury(next(iter(self.dead)))
            self.remember(oldest.id, oldest.digest, "failed", self.at)
            self.settle(oldest)

    def unbury(self, task: str) -> Task:
        """It is a dead letter no more."""
        found = self.dead.pop(task)
        self.dead_bytes -= found.size
        self.blobs.let_go(found.payload, self.at)
        return found

    def give_back(self, worker: Worker, token: str) -> None:
        """Nothing of an attempt runs there any more: its slot is free, and with the last one of a gang's all of them
        are charged no longer."""
        name = worker.attempts.get(token)
        worker.give_back(token)
        if self.gangs and name and self.gangs.get(token, 1) > 1:
            self.gangs[token] -= 1
        elif name:
            self.gangs.pop(token, None)
            self.ledger.end(token, self.at)

    def settle(self, task: Task) -> None:
        """It is over: it needs no results any more, and those after it can go on."""
        if task.after:
            for ended in self.links.forget(task):
                self.blobs.let_go(ended.result, self.at)
        if self.board is not None and task.id in self.links.waiting:
            self.board.settled[task.id] = None

    def keep(self, task: str, ended: Ended) -> None:
        """Keep how it ended, and forget what is too old or too much."""
        self.ended[task] = ended
        self.kept_bytes += ended.size
        self.blobs.hold(ended.result)
        oldest_kept = ended.at - self.config.keep_results_ms
        while self.ended:
            first = next(iter(self.ended))
            old = self.ended[first]
            if old.at > oldest_kept and len(self.ended) <= KEEP_COUNT and self.kept_bytes <= KEEP_BYTES:
                return
            del self.ended[first]
            self.kept_bytes -= old.size
            if not self.links.hold(first, old):
                self.blobs.let_go(old.result, self.at)
            self.remember(first, old.digest, old.state, ended.at)

    def remember(self, task: str, digest: bytes, state: str, now: int) -> None:
        if now - self.names_since >= REMEMBER_MS or len(self.names) >= REMEMBER_COUNT:
            self.names_before, self.names, self.names_since = self.names, {}, now
        self.names[task] = (digest, state)


def _less(counts: Counter[Any], key: Any) -> None:
    """One less of them; none is no entry."""
    left = counts[key] - 1
    if left > 0:
        counts[key] = left
    else:
        counts.pop(key)


def dump(state: State) -> dict[str, Any]:
    return {
        "at": state.at,
        "config": list(state.config),
        "source": state.source,
        "rights": None if state.rights is None else state.rights.dump(),
        "tasks": [task.dump() for task in state.tasks.values()],
        "dead": [task.dump() for task in state.dead.values()],
        "ended": [[name, *ended] for name, ended in state.ended.items()],
        "names": [[name, *known] for name, known in state.names.items()],
        "names_before": [[name, *known] for name, known in state.names_before.items()],
        "names_since": state.names_since,
        "held": [[name, *ended] for name, ended in state.links.held.items()],
        "ledger": state.ledger.dump(),
        "speeds": state.speeds.dump(),
        "drain": state.drain.dump(),
        "blobs": state.blobs.dump(),
        "ending": [[*program, order] for program, order in state.ending.items()],
        "teams": list(state.teams.items()),
        "workers": [worker.dump() for worker in state.workers.values()],
        "position": state.position,
        "order": state.order,
        "ordinal": state.ordinal,
        "drawn": state.drawn,
        "lost_at": state.lost_at,
        "counts": sorted(state.counts.items()),
    }


def load(value: Any) -> State:
    state = State()
    state.config = Config(*value["config"])
    state.rights = load_rights(value["rights"])
    for name in ("at", "source", "names_since", "position", "order", "ordinal", "drawn", "lost_at"):
        setattr(state, name, value[name])
    state.blobs = Blobs.load(value["blobs"])
    state.ending = {(agent, program): order for agent, program, order in value["ending"]}
    for row in value["tasks"]:
        task = Task.load(row)
        path = task.path
        state.add(task)
        task.path = path
        if task.gang is not None:
            state.blobs.hold(task.gang.result)
    state.ledger = Ledger.load(value["ledger"], state.config.fairness)
    state.speeds = Speeds.load(value["speeds"])
    state.drain = Drain(*value["drain"])
    state.teams = dict(value["teams"])
    for row in value["dead"]:
        task = Task.load(row)
        state.dead[task.id] = task
        state.dead_bytes += task.size
        state.blobs.hold(task.payload)
    for task in (*state.tasks.values(), *state.dead.values()):
        state.links.need(task)
    for name, end, at, digest, *rest in value["held"]:
        held = Ended(end, at, bytes(digest), *rest)
        state.links.hold(name, held)
        state.blobs.hold(held.result)
    for name, end, at, digest, *rest in value["ended"]:
        ended = Ended(end, at, bytes(digest), *rest)
        state.ended[name] = ended
        state.kept_bytes += ended.size
        state.blobs.hold(ended.result)
    for generation, rows in ((state.names, value["names"]), (state.names_before, value["names_before"])):
        generation.update((name, (bytes(digest), end)) for name, digest, end in rows)
    for row in value["workers"]:
        worker = Worker.load_from(row)
        state.workers[worker.name] = worker
    holders = Counter(token for worker in state.workers.values() for token, task in worker.attempts.items() if task)
    state.gangs = {token: count for token, count in holders.items() if count > 1}
    state.counts.update(dict(value["counts"]))
    return state
