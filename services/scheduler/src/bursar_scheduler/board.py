"""The board: who waits, who is free, what is due when. Volatile; made from the durable state by the owner only.

`Board.of` makes it from nothing (after a start or a take-over, or in a test), and `evolve` keeps it up to date while it
is there; a standby has none and pays nothing. It is only an index, but for the signs of life: who was heard when. A new
owner has heard nobody yet, so everybody has a whole lease from the take-over on.

Costs: a decision touches a few heaps, never a list of tasks. Waiting tasks stand in *lanes*, one for each combination
of class and needs; a lane knows the workers that serve it and have room, and a worker knows its lanes. A lane is *hot*
while it may have both a task and a worker for it. All workers stand in the arrays of `fleet`, too, for the placement.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from bursar.kernel.bugs import seeded
from bursar_scheduler import bugs
from bursar_scheduler.fairness import Ledger
from bursar_scheduler.fleet import Fleet, Load, Offer, Region
from bursar_scheduler.gathering import Gathering
from bursar_scheduler.lifecycle import READY
from bursar_scheduler.living import heard_at
from bursar_scheduler.moving import is_planned
from bursar_scheduler.ordering import Line, choose
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.prefixes import Prefixes
from bursar_scheduler.regions import Regions
from bursar_scheduler.resources import BATCH_TOKENS, UNBOUNDED
from bursar_scheduler.scoring import LONG_US, Ask, Verdict
from bursar_scheduler.shadowing import Shadow
from bursar_scheduler.speeds import Speeds
from bursar_scheduler.task import ALL_SLOTS, Config, LaneKey, Task, Worker
from bursar_scheduler.timing import next_moment
from bursar_scheduler.watched import Watched

if TYPE_CHECKING:
    from bursar_scheduler.planning import Planner

MAX_IDLE_LANES: Final = 512
"""Lanes without tasks that are kept, so that a lane which empties and fills costs nothing."""

MAX_VERDICTS: Final = 10_000
"""Placements that are remembered with the alternatives, the latest ones."""


class Durable(Protocol):
    """The parts of the state that the board is made from."""

    config: Config
    tasks: dict[str, Task]
    workers: dict[str, Worker]
    ledger: Ledger
    speeds: Speeds


class Lane:
    """Tasks that the same workers may have, in their order (`ordering`). ``room``: names of those that have room."""

    __slots__ = ("key", "line", "room")

    def __init__(self, key: LaneKey, ledger: Ledger) -> None:
        self.key = key
        self.line: Line[Task] = Line(ledger)
        self.room: set[str] = set()

    @property
    def count(self) -> int:
        return self.line.count

    def join(self, task: Task, now: int) -> None:
        task.listed = True
        self.line.join(task, now)

    def leave(self, task: Task) -> None:
        task.listed = False
        self.line.leave(task)


class Board:
    """See the module's text. ``heard``: when each worker gave its last sign of life, the longest silence first;
    ``tell``: notices that are to be repeated; ``free``: void attempts that their workers have ended; ``alive``: whose
    sign of life is to be journaled; ``strangers``: who sent heartbeats without being registered, and when that was
    noted; ``settled``: tasks that are over, and others come after them; ``leaving``: when the hosts of workers are
    taken away; ``watched``: see `watched`; ``long``: tokens of long attempts by worker; ``planner``: see `planning`;
    ``gangs``: those that wait; ``gathering``: room for one of them; ``prefixes``: who has what in its cache;
    ``regions``: how far and how well each is; ``verdicts``: the latest placements by task."""

    __slots__ = (
        "agenda", "alive", "config", "fleet", "free", "gangs", "gathering", "heard", "hot", "is_planned", "lanes",
        "last_heard", "leaving", "ledger", "long", "planner", "prefixes", "regions", "settled", "shadow", "speeds",
        "strangers", "tasks", "tell", "verdicts", "watched", "workers",
    )  # fmt: skip

    def __init__(self, of: Durable) -> None:
        self.planner: Planner | None = None
        self.is_planned = False
        self.configure(of.config)
        self.tasks = of.tasks
        self.workers = of.workers
        self.ledger = of.ledger
        self.speeds = of.speeds
        self.lanes: dict[LaneKey, Lane] = {}
        self.hot: dict[LaneKey, Lane] = {}
        self.agenda: list[tuple[int, int, Task]] = []
        self.heard: OrderedDict[str, int] = OrderedDict()
        self.last_heard = 0
        self.tell: dict[str, dict[str, str]] = {}
        self.free: dict[tuple[str, str], None] = {}
        self.alive: dict[str, None] = {}
        self.strangers: dict[str, int] = {}
        self.settled: dict[str, None] = {}
        self.leaving: dict[str, int] = {}
        self.watched = Watched()
        self.fleet = Fleet(of.speeds)
        self.shadow: Shadow | None = None
        self.long: dict[str, dict[str, None]] = {}
        self.gangs: dict[str, Task] = {}
        self.gathering = Gathering()
        self.prefixes = Prefixes()
        self.regions = Regions()
        self.verdicts: OrderedDict[str, Verdict] = OrderedDict()

    @classmethod
    def of(cls, durable: Durable, now: int) -> Board:
        board = cls(durable)
        tasks, workers = durable.tasks, durable.workers
        board.last_heard = now
        board.heard.update(heard_at(workers.values(), durable.config, now))
        for worker in workers.values():
            board.prefixes.seat(worker.name, worker.session)
        for task in tasks.values():
            task.alarm = 0
            task.listed = False
            task.heard = {}
            task.heard_until = now + task.lease_ms if task.token else 0
            board.begins(task)
            board.place(task, now)
        for worker in workers.values():
            board.seat(worker)
        return board

    def configure(self, config: Config) -> None:
        """These rules hold from now on."""
        self.config = config
        self.is_planned = is_planned(config.tick, config.background, config.slot_policy, config.shadow)

    # ---- tasks

    def place(self, task: Task, now: int) -> None:
        """A task is new here or in another state: into its lane or out of it, and into the agenda."""
        waits = task.state == READY and (task.not_before <= now or seeded(bugs.BACKOFF_IGNORED))
        if waits != task.listed:
            lane = self.lane(task.lane)
            if waits:
                task.expected_ms = self.speeds.expect_us(task.lane[0]) // 1_000
                lane.join(task, now)
                if lane.room:
                    self.hot[lane.key] = lane
            else:
                lane.leave(task)
            if lane.key[4] > 1:
                self._gang(task)
        if self.planner is not None:
            self.planner.touch(task.id)
        self.watched.note(task, now, self.config.min_run_ms)
        if task.id in self.tasks:
            self.watch(task)

    def _gang(self, task: Task) -> None:
        """A gang waits, or waits no more."""
        if task.listed:
            self.gangs[task.id] = task
            self.gathering.waits(task)
        else:
            self.gangs.pop(task.id, None)

    def watch(self, task: Task) -> None:
        """See to it that the agenda has this task's next moment."""
        at = next_moment(task, self.config)
        if at and (not task.alarm or at < task.alarm):
            task.alarm = at
            heappush(self.agenda, (at, task.order, task))
            if len(self.agenda) > 2 * len(self.tasks) + 1_024:
                self.agenda = [entry for entry in self.agenda if self._is_current(entry)]
                heapify(self.agenda)

    def _is_current(self, entry: tuple[int, int, Task]) -> bool:
        return entry[2].alarm == entry[0] and self.tasks.get(entry[2].id) is entry[2]

    def next_due(self, now: int) -> Task | None:
        """A task whose moment has come, maybe for nothing; each is handed out once, and has to be watched again."""
        agenda = self.agenda
        while agenda and agenda[0][0] <= now:
            entry = heappop(agenda)
            if self._is_current(entry):
                entry[2].alarm = 0
                return entry[2]
        return None

    def lane(self, key: LaneKey) -> Lane:
        lane = self.lanes.get(key)
        if lane is None:
            if len(self.lanes) >= MAX_IDLE_LANES:
                self._drop_idle_lanes()
            lane = self.lanes[key] = Lane(key, self.ledger)
            for worker in self.workers.values():
                if worker.serves(key):
                    worker.lanes.append(lane)
                    if worker.fits(key):
                        lane.room.add(worker.name)
            self.fleet.lane(key, lambda name: self.workers[name].serves(key))
        return lane

    def _drop_idle_lanes(self) -> None:
        """Make room: the oldest half of those that nobody waits in."""
        idle = [lane for lane in self.lanes.values() if not lane.count]
        for lane in islice(idle, (len(idle) + 1) // 2):
            lane.line.close()
            del self.lanes[lane.key]
            self.hot.pop(lane.key, None)
            self.fleet.drop_lane(lane.key)
        for worker in self.workers.values():
            worker.lanes = [lane for lane in worker.lanes if lane.key in self.lanes]

    # ---- workers

    def seat(self, worker: Worker) -> None:
        """A worker is new or can do other things now."""
        self.unseat(worker)
        worker.lanes = [lane for lane in self.lanes.values() if worker.serves(lane.key)]
        self.leaves(worker)
        self.gathering.drop(worker)
        worker.cap = ALL_SLOTS
        self.prefixes.seat(worker.name, worker.session)
        self.fleet.join(offer_of(worker))
        self.note(worker)

    def leaves(self, worker: Worker) -> None:
        """It is known, or not any more, when its host is taken away."""
        self.leaving.pop(worker.name, None)
        self._changed(worker)
        if worker.gone_at:
            self.leaving[worker.name] = worker.gone_at

    def _changed(self, worker: Worker) -> None:
        """It can do other things, or will be gone."""
        self.gathering.workers_changed()
        if self.planner is not None:
            self.planner.touch(worker.name)

    def unseat(self, worker: Worker) -> None:
        """It gets nothing any more."""
        for lane in worker.lanes:
            lane.room.discard(worker.name)
        worker.lanes = []

    def note(self, worker: Worker) -> None:
        """What it has free has changed."""
        if self.gathering.task is not None:
            self.gathering.offer(self, worker)
        for lane in worker.lanes:
            if not worker.fits(lane.key):
                lane.room.discard(worker.name)
            elif worker.name not in lane.room:
                lane.room.add(worker.name)
                if lane.count:
                    self.hot[lane.key] = lane
        self.fleet.note(worker.name, self._load_of(worker))

    def placed(self, task: Task, ask: Ask, number: int, verdict: Verdict) -> None:
        """Where it was placed, and by the way what the shadow would have done."""
        self.verdicts[task.id] = verdict
        if len(self.verdicts) > MAX_VERDICTS:
            self.verdicts.popitem(last=False)
        name = self.config.shadow
        if name not in POLICIES:
            self.shadow = None
            return
        if self.shadow is None or self.shadow.policy != name:
            self.shadow = Shadow(name)
        self.shadow.watch(self.fleet, ask, number, verdict)

    def begins(self, task: Task) -> None:
        """It has an attempt; long ones are kept apart from short ones, and its prompt will be in the worker's cache."""
        if not task.token:
            return
        hints = task.hints
        expected_us = 0 if hints is None else 1_000 * hints.expected_ms
        if (expected_us or self.speeds.expect_us(task.lane[0])) >= LONG_US:
            for name in task.members:
                self.long.setdefault(name, {})[task.token] = None
        if hints is not None and hints.prefix:
            for name in task.members:
                self.prefixes.take(name, hints.prefix)

    def told(self, worker: Worker, latency_us: int | None, wait_ms: int) -> None:
        """What it has measured and has queued itself."""
        if wait_ms != worker.wait_ms:
            worker.wait_ms = wait_ms
            self.note(worker)
        if latency_us is not None:
            self._weigh(worker, self.regions.measured(region_of(worker), latency_us))

    def judged(self, worker: Worker, is_well: bool) -> None:
        """An attempt has ended there, well or by a fault that may be its region's."""
        self._weigh(worker, self.regions.ended(region_of(worker), is_well))

    def _weigh(self, worker: Worker, region: Region | None) -> None:
        if region is not None:
            self.fleet.set_region(region_of(worker), region)

    def _load_of(self, worker: Worker) -> Load:
        taken = len(worker.attempts)
        used = worker.used
        if "" in worker.attempts.values():  # a void attempt that runs on, of which nobody knows what it takes
            used = worker.room
        long = 0
        if worker.name in self.long:
            kept = {token: None for token in self.long[worker.name] if token in worker.attempts}
            self.long[worker.name], long = kept, len(kept)
        is_open = not (worker.draining or worker.suspect or worker.held) and taken < worker.cap
        tokens = used.get(BATCH_TOKENS, 0) if used else 0
        return Load(taken, is_open, 1_000 * worker.wait_ms, taken - long, long, tokens, tuple(used.items()))

    def gone(self, worker: Worker) -> None:
        self.unseat(worker)
        self.gathering.drop(worker)
        self._changed(worker)
        self.fleet.leave(worker.name)
        self.long.pop(worker.name, None)
        self.leaving.pop(worker.name, None)
        self.prefixes.forget(worker.name)
        self.heard.pop(worker.name, None)
        self.tell.pop(worker.name, None)

    def heard_from(self, name: str, now: int) -> None:
        self.heard[name] = self.last_heard = now
        self.heard.move_to_end(name)
        worker = self.workers.get(name)
        if worker is not None and worker.suspect:
            self.suspect(worker, False)

    def suspect(self, worker: Worker, is_suspect: bool) -> None:
        worker.suspect = is_suspect
        self.note(worker)

    def everybody_is_heard(self, now: int) -> None:
        """After a silence of all: whoever lives has as much time as after a take-over."""
        for worker in self.workers.values():
            self.heard[worker.name] = now
            if worker.suspect:
                self.suspect(worker, False)
            for name in worker.attempts.values():
                task = self.tasks.get(name)
                if task is not None:
                    task.heard_until = max(task.heard_until, now + task.lease_ms)

    def most_silent(self) -> tuple[str, int] | None:
        """Who has been silent for longest, and when it was last heard."""
        return next(iter(self.heard.items()), None)

    # ---- lanes

    def next_task(self, now: int) -> Task | None:
        """The task that goes first among those for which there is a worker; quotas may keep all of them."""
        if self.gathering.is_ready and (gathered := self.gathering.next(self)) is not None:
            return gathered
        for lane in list(self.hot.values()):
            if not lane.count or len(lane.room) < lane.key[4]:
                del self.hot[lane.key]
        return choose((lane.line for lane in self.hot.values()), now) if self.hot else None

    def best_for(self, worker: Worker, ending: str, now: int) -> Task | None:
        """The task that goes first among those that this worker may have when this attempt is over."""
        lanes = (lane for lane in worker.lanes if lane.count and lane.key[4] == 1)
        return choose((lane.line for lane in lanes if worker.fits_after(lane.key, ending)), now)


def offer_of(worker: Worker) -> Offer:
    """What it is for the placement."""
    place = worker.place
    return Offer(
        worker.name, worker.slots, place.get("price", 0), place.get("host") or "", place.get("numa") or 0,
        region_of(worker), frozenset(place.get("models", ())), tuple(worker.room.items()),
        worker.room.get(BATCH_TOKENS, UNBOUNDED),
    )  # fmt: skip


def region_of(worker: Worker) -> str:
    """ "" for those that tell none, which are taken together."""
    region: str = worker.place.get("region", "")
    return region
