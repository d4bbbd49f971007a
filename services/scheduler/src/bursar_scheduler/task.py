"""A task, how one ended, a worker, the rules: the records that the state is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any, Final, NamedTuple

from bursar.contracts.scheduler import BANDS
from bursar_scheduler.accounts import Who
from bursar_scheduler.lifecycle import ASSIGNED, READY

NOBODY: Final = Who("", "", "")

Demands = tuple[tuple[str, int], ...]
"""Sorted (resource, amount)."""

LaneKey = tuple[str, str, tuple[tuple[str, str], ...], Demands, int]
"""(class, kind or "", sorted labels, demands, gang): what decides which workers may have a task, and how many of them
it takes."""


ALL_SLOTS: Final = 1 << 30
"""No policy gives a worker fewer slots than it has."""


class Gang(NamedTuple):
    """The attempt of a task that takes several workers: its ``members`` by rank, those that have ``begun``, those whose
    part is ``over`` (nothing of it runs there any more), and the result of rank 0 with its size, once that is over."""

    members: tuple[str, ...]
    begun: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    result: Any = None
    size: int = 0


class Hint(NamedTuple):
    """What makes one worker better than another, as `bursar.contracts.scheduler.Hints` says it: where its data is (""
    and -1: not told) and how many bytes, the model that it calls, hashes of its prompt's blocks, tokens of a block and
    of the whole prompt (0: not told), how long it runs (0: as its class)."""

    host: str = ""
    numa: int = -1
    region: str = ""
    size: int = 0
    model: str = ""
    prefix: tuple[str, ...] = ()
    block: int = 0
    prompt: int = 0
    expected_ms: int = 0


_SAVED: Final = (
    "id", "lane", "band", "payload", "size", "digest", "retries", "backoff_ms", "lease_ms", "timeout_ms",
    "deadline_at", "order", "submitted_at", "state", "not_before", "attempts", "failures", "losses", "token",
    "worker", "since", "reason", "error", "after", "unmet", "runs_anyway",
    "preemptible", "checkpoint", "checkpoint_size", "killed", "yield_by", "who",
    "path", "hints", "gang", "trace", "takes",
)  # fmt: skip


class Task:
    """One task that has not ended.

    Durable: the fields of `_SAVED`. ``band`` counts from 0; times are absolute ms; 0 stands for "none" in
    ``timeout_ms`` and ``deadline_at``. ``order`` grows with every task. ``not_before``: the end of its pause.
    ``attempts`` counts assignments, ``failures`` and ``losses`` what is held against it. ``token`` and ``worker`` are
    those of the present attempt, "" when there is none; ``since``: when it was assigned, or started. ``after``: the
    tasks that it comes after; ``unmet``: those of them that have not ended; ``runs_anyway``: though one fails.
    ``checkpoint``: what the last attempt has kept, its size counted in ``size``; ``killed``: workers that died while it
    ran; ``yield_by``: when its attempt is taken away, if it is asked to yield. ``who``: team, agent, program; ``path``:
    ms of the calls before it in its program. ``hints``: for its placement, if any. ``gang``: of an
    attempt on several workers; ``worker`` is the first of them then. ``trace``: the context of who submitted it, for
    its worker; "": none. ``takes``: what its worker takes before it starts.

    Volatile: ``alarm`` (its entry in the agenda, 0: none), ``heard_until`` (its lease by signs of life), ``heard``
    (the same by member of a gang), ``told_at`` (when its worker was last told), ``listed`` (stands in its lane),
    ``expected_ms`` (its run time, when it was listed), ``kept_at`` (its last
    checkpoint), ``permille`` and ``note``.
    """

    __slots__ = (
        *_SAVED,
        "alarm",
        "expected_ms",
        "heard",
        "heard_until",
        "kept_at",
        "listed",
        "note",
        "permille",
        "told_at",
    )

    def __init__(self) -> None:
        self.id = ""
        self.lane: LaneKey = ("", "", (), (), 1)
        self.band = 1
        self.payload: Any = None
        self.size = 0
        self.digest = b""
        self.retries = 0
        self.backoff_ms = 0
        self.lease_ms = 0
        self.timeout_ms = 0
        self.deadline_at = 0
        self.order = 0
        self.submitted_at = 0
        self.state = READY
        self.not_before = 0
        self.attempts = 0
        self.failures = 0
        self.losses = 0
        self.token = ""
        self.worker = ""
        self.since = 0
        self.reason = ""
        self.error = ""
        self.after: tuple[str, ...] = ()
        self.unmet: tuple[str, ...] = ()
        self.runs_anyway = False
        self.preemptible = False
        self.checkpoint: Any = None
        self.checkpoint_size = 0
        self.killed: tuple[str, ...] = ()
        self.yield_by = 0
        self.who = NOBODY
        self.path = 0
        self.takes: dict[str, Any] | None = None
        self.trace = ""
        self.hints: Hint | None = None
        self.gang: Gang | None = None
        self.expected_ms = 0
        self.alarm = 0
        self.heard_until = 0
        self.heard: dict[str, int] = {}
        self.kept_at = 0
        self.told_at = 0
        self.listed = False
        self.permille: int | None = None
        self.note: str | None = None

    @property
    def principal(self) -> str:
        return self.id.partition(".")[0]

    @property
    def priority(self) -> str:
        return BANDS[self.band]

    @property
    def members(self) -> tuple[str, ...]:
        """The workers of its attempt."""
        if self.gang is not None:
            return self.gang.members
        return (self.worker,) if self.token else ()

    def is_awaited(self, worker: str) -> bool:
        """Whether this worker was told of its attempt and has not started it."""
        if self.gang is None or self.state == ASSIGNED:
            return self.state == ASSIGNED
        return worker not in self.gang.begun and worker not in self.gang.over

    def heard_from(self, worker: str, until: int) -> None:
        """A sign of life of its attempt; of a gang all members that work on it have to give one."""
        if self.gang is None:
            self.heard_until = max(self.heard_until, until)
            return
        self.heard[worker] = until
        at_work = [name for name in self.gang.begun if name not in self.gang.over]
        if at_work and all(name in self.heard for name in at_work):
            self.heard_until = max(self.heard_until, min(self.heard[name] for name in at_work))

    def dump(self) -> list[Any]:
        return [getattr(self, name) for name in _SAVED]

    @classmethod
    def load(cls, values: Any) -> Task:
        task = cls()
        for name, value in zip(_SAVED, values, strict=True):
            setattr(task, name, value)
        task.lane = lane_of(*task.lane)
        task.digest = bytes(task.digest)
        task.who = Who(*task.who)
        task.hints = hint_of(task.hints)
        if task.gang is not None:
            members, begun, over, *rest = task.gang
            task.gang = Gang(tuple(members), tuple(begun), tuple(over), *rest)
        task.after, task.unmet, task.killed = tuple(task.after), tuple(task.unmet), tuple(task.killed)
        return task


def lane_of(task_class: str, kind: str, labels: Any, demands: Any, gang: int = 1) -> LaneKey:
    """From what was in the journal, with lists for tuples."""
    named, amounts = tuple((name, value) for name, value in labels), tuple((name, n) for name, n in demands)
    return task_class, kind, named, amounts, gang


def hint_of(values: Any) -> Hint | None:
    """The same."""
    if values is None:
        return None
    hint = Hint(*values)
    return hint._replace(prefix=tuple(hint.prefix))


class Ended(NamedTuple):
    """How a task ended. ``token``: of the attempt whose end was accepted, or that was running then."""

    state: str
    at: int
    digest: bytes
    task_class: str
    token: str
    worker: str
    attempts: int
    result: Any
    reason: str
    error: str
    size: int


class Worker:
    """One worker that is registered. ``attempts``: the tokens that take its slots, with their tasks; a void one stays
    there until the worker has released it, because it may still run. ``room``: what it has of each resource, ``taken``
    by token, ``used`` in all. ``place``: where it is and what it costs, as it said. ``gone_at``: when its host is taken
    away, if that is known; ``kept_at``: its last sign of life in the journal (`living`). Volatile: ``lanes``, ``load``,
    ``suspect`` (silent for too long to get anything new), ``wait_ms`` (what it has queued itself), ``held`` (for a
    gang that is gathered), ``cap`` (slots that a policy gives it)."""

    __slots__ = (
        "attempts", "cap", "classes", "draining", "ended", "gone_at", "held", "kept_at", "kind", "labels", "lanes",
        "load", "name", "ordinal", "place", "room", "session", "slots", "suspect", "taken", "used", "versions",
        "wait_ms",
    )  # fmt: skip

    def __init__(self, name: str, ordinal: int) -> None:
        self.name = name
        self.ordinal = ordinal
        self.session = ""
        self.kind = "cpu"
        self.slots = 1
        self.classes: tuple[str, ...] = ()
        self.labels: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.draining = False
        self.ended = 0
        self.gone_at = 0
        self.kept_at = 0
        self.suspect = False
        self.attempts: dict[str, str] = {}
        self.place: dict[str, Any] = {}
        self.room: dict[str, int] = {}
        self.taken: dict[str, Demands] = {}
        self.used: dict[str, int] = {}
        self.lanes: list[Any] = []
        self.load: int | None = None
        self.wait_ms = 0
        self.held = False
        self.cap = ALL_SLOTS

    @property
    def has_room(self) -> bool:
        taken = len(self.attempts)
        return taken < self.slots and taken < self.cap and not (self.draining or self.suspect or self.held)

    @property
    def fill(self) -> int:
        """Taken slots, in millionths."""
        return len(self.attempts) * 1_000_000 // self.slots

    def serves(self, lane: LaneKey) -> bool:
        """Whether it may have such a task when it has nothing else."""
        task_class, kind, labels, demands, _ = lane
        if kind and kind != self.kind:
            return False
        mine, room = self.labels, self.room
        return (
            task_class in self.classes
            and all(mine.get(name) == value for name, value in labels)
            and all(room.get(name, 0) >= amount for name, amount in demands)
        )

    def fits(self, lane: LaneKey) -> bool:
        """Whether it has room for one more task that it serves."""
        return self.has_room and (not lane[3] or self._has(lane[3], ()))

    def fits_after(self, lane: LaneKey, token: str) -> bool:
        """The same when this attempt is over."""
        return not lane[3] or self._has(lane[3], self.taken.get(token, ()))

    def fits_without(self, lane: LaneKey, tokens: Collection[str]) -> bool:
        """Whether it has room for one more when these attempts are over, and though it is held."""
        left = len(self.attempts) - len(tokens)
        if left >= self.slots or left >= self.cap or self.draining or self.suspect:
            return False
        if not lane[3]:
            return True
        back = Counter[str]()
        for token in tokens:
            back.update(dict(self.taken.get(token, ())))
        return self._has(lane[3], tuple(back.items()))

    def _has(self, demands: Demands, back: Demands) -> bool:
        if "" in self.attempts.values():
            return False  # a void attempt that runs on, of which nobody knows what it takes
        free = dict(back)
        return all(
            self.room.get(name, 0) - self.used.get(name, 0) + free.get(name, 0) >= amount for name, amount in demands
        )

    def take(self, token: str, task: str, demands: Demands) -> None:
        self.attempts[token] = task
        if demands:
            self.taken[token] = demands
            for name, amount in demands:
                self.used[name] = self.used.get(name, 0) + amount

    def give_back(self, token: str) -> None:
        """Nothing of the attempt runs any more."""
        if self.attempts.pop(token, None) is None:
            return
        for name, amount in self.taken.pop(token, ()):
            self.used[name] -= amount

    def keep_only(self, kept: list[str], void: list[str]) -> None:
        """It has registered: these attempts go on, those run though they are void; the others were given back."""
        self.attempts = {token: self.attempts[token] for token in kept} | dict.fromkeys(void, "")

    def dump(self) -> list[Any]:
        return [
            self.name, self.ordinal, self.session, self.kind, self.slots, list(self.classes),
            list(self.labels.items()), list(self.versions.items()), self.draining, self.ended,
            [[token, task, self.taken.get(token, ())] for token, task in self.attempts.items()],
            list(self.room.items()), list(self.place.items()), self.gone_at, self.kept_at,
        ]  # fmt: skip

    @classmethod
    def load_from(cls, values: Any) -> Worker:
        (
            name,
            ordinal,
            session,
            kind,
            slots,
            classes,
            labels,
            versions,
            draining,
            ended,
            attempts,
            room,
            place,
            gone_at,
            kept_at,
        ) = values
        worker = cls(name, ordinal)
        worker.session, worker.kind, worker.slots, worker.draining, worker.ended = session, kind, slots, draining, ended
        worker.classes = tuple(classes)
        worker.labels, worker.versions = dict(labels), dict(versions)
        worker.room, worker.place, worker.gone_at = dict(room), dict(place), gone_at
        for token, task, demands in attempts:
            worker.take(token, task, tuple((name, amount) for name, amount in demands))
        worker.kept_at = kept_at
        return worker


class Config(NamedTuple):
    """The rules that an operator may change; `bursar.contracts.scheduler.Configure` says what they mean."""

    policy: str = "score"
    max_tasks: int = 100_000
    max_tasks_per_principal: int = 20_000
    max_bytes: int = 268_435_456
    start_within_ms: int = 5_000
    worker_ttl_ms: int = 3_000
    keep_results_ms: int = 600_000
    max_losses: int = 3
    max_kills: int = 2
    min_run_ms: int = 1_000
    yield_within_ms: int = 2_000
    fairness: str = "plas"
    shadow: str = "none"
    tick: str = "none"
    background: str = "none"
    slot_policy: str = "none"
    max_blob_bytes: int = 134_217_728
