"""The scheduler on the wire: agents submit tasks, workers take them, exactly one end of each is accepted.

A task is named ``<principal>.<name>``: the name is the idempotency key, or else the id of the request that submitted
it; a posted task brings its name along. Whoever submits the same name with the same content again means the same task.

A *token* ``incarnation.epoch.number`` stands for one assignment of one task to one worker. It grows with every
assignment, through crashes and loss of data, and only the task's current one may start, progress, finish, fail or
release. Times that end in ``_at_ms`` are milliseconds of the scheduler's own clock; other ``_ms`` are spans.

Values (payloads and results) are opaque to the scheduler: bytes, a text, or a map. Bytes hold one msgpack value by
convention (the Python client packs whatever it is given), so that no limit of the wire's shape applies to it. For one
of more than 32 KB a reference stands (`bursar.contracts.scheduler_blobs`).

Notices are sent on ``bursar.assign.<principal>``, after the commit; they may be lost, and each has a way that repairs
it (`Ended` queries; heartbeats); each has ``what`` and the ``fence`` of the decision. They and what workers say stand
in `bursar.contracts.scheduler_work`, the words of both in `bursar.contracts.scheduler_words`; all are found here.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from bursar.contracts.base import Fence, Message, Query, Request
from bursar.contracts.scheduler_control import Configure, Configured, Requeue, Requeued, Share, Shared
from bursar.contracts.scheduler_needs import Data, Hints, Needs
from bursar.contracts.scheduler_takes import Takes
from bursar.contracts.scheduler_words import (
    BANDS,
    LIVE,
    MAX_AFTER,
    MAX_SLOTS,
    MAX_VALUE_BYTES,
    AfterFailure,
    BackgroundName,
    Band,
    Label,
    Labels,
    LabelValue,
    PolicyName,
    Principal,
    SessionName,
    SlotsName,
    TaskClass,
    TaskId,
    TaskName,
    TaskRef,
    TaskState,
    TickName,
    Token,
    Trace,
    Value,
    WorkerKind,
    size_of,
)
from bursar.contracts.scheduler_work import (
    Assign,
    AttemptEnded,
    Checkpoint,
    Checkpointed,
    Drain,
    Fail,
    Finish,
    Heartbeat,
    Leave,
    Progress,
    Progressed,
    Register,
    RegisterAgain,
    Registered,
    Release,
    Start,
    Started,
    Stop,
    TaskEnded,
    WorkerReply,
    Yield,
)

__all__ = [
    "BANDS",
    "LIVE",
    "MAX_SLOTS",
    "MAX_VALUE_BYTES",
    "SERVICE",
    "Assign",
    "AttemptEnded",
    "Band",
    "Cancel",
    "Cancelled",
    "Checkpoint",
    "Checkpointed",
    "Configure",
    "Configured",
    "Data",
    "Drain",
    "Ended",
    "EndedReply",
    "Fail",
    "Find",
    "Finish",
    "Found",
    "Heartbeat",
    "Hints",
    "Label",
    "LabelValue",
    "Labels",
    "Leave",
    "List",
    "ListReply",
    "Listed",
    "Needs",
    "PolicyName",
    "Post",
    "Principal",
    "Progress",
    "Progressed",
    "Refused",
    "Register",
    "RegisterAgain",
    "Registered",
    "Release",
    "Requeue",
    "Requeued",
    "SessionName",
    "ShadowStatus",
    "Share",
    "Shared",
    "Start",
    "Started",
    "Status",
    "StatusReply",
    "Stop",
    "Submit",
    "Submitted",
    "Task",
    "TaskClass",
    "TaskEnded",
    "TaskId",
    "TaskName",
    "TaskState",
    "Token",
    "Value",
    "WorkerKind",
    "WorkerReply",
    "WorkerStatus",
    "Yield",
    "size_of",
]  # fmt: skip

SERVICE: Final = "scheduler"


NO_NEEDS: Final = Needs()
"""One for all tasks that need nothing: a default is copied, whole, for each message."""


class Task(Message):
    """What both `Submit` and `Post` say of a task.

    ``deadline_ms``: span from the acceptance after which the task ends as ``expired`` wherever it stands.
    ``retries``: how often it is tried again after a failure that its worker calls retryable; the first pause is
    ``backoff_ms``, doubled each time up to five minutes, with a jitter of 20 %. (An attempt that is lost with its
    worker does not count as one: see ``max_losses`` of `Configure`.) ``lease_ms``: how long an attempt is kept without
    a sign of life from its worker. ``timeout_ms``: the longest that one attempt may run.

    ``after``: own tasks that have to end before it is ready; they must be known, so there are no cycles.
    ``after_failure``: what becomes of it when one of them ends other than ``done``: it is cancelled (and so are those
    after it), or it runs all the same. A dead letter has not ended: an operator may requeue it.

    ``takes``: what its worker takes before it starts, all or nothing: of a budget, a circuit, memory of a GPU.

    ``preemptible``: its worker can stop it at the end of a chunk (within 100 ms) and go on from its last checkpoint,
    here or elsewhere, so that a task of a higher band need not wait for its end. ``program``: the agent's run that it
    belongs to; of an agent's programs the one that has had least goes first.
    """

    task_class: TaskClass
    payload: Value = None
    priority: Band = "standard"
    deadline_ms: Annotated[int, Field(ge=1, le=2_592_000_000)] | None = None
    retries: Annotated[int, Field(ge=0, le=100)] = 2
    backoff_ms: Annotated[int, Field(ge=0, le=300_000)] = 1_000
    lease_ms: Annotated[int, Field(ge=1_000, le=3_600_000)] = 10_000
    timeout_ms: Annotated[int, Field(ge=1, le=604_800_000)] | None = None
    needs: Needs = Field(default_factory=lambda: NO_NEEDS)
    hints: Hints | None = None
    takes: Takes | None = None
    after: Annotated[tuple[TaskRef, ...], Field(max_length=MAX_AFTER)] = ()
    after_failure: AfterFailure = "cancel"
    preemptible: bool = False
    program: TaskName | None = None


class Submit(Task, Request):
    """Accept a task durably; answered by `Submitted` or `Refused`. ``key``: an idempotency key of the caller's own."""

    key: TaskName | None = None
    trace: Trace | None = None


class Post(Task):
    """A task in the durable inbox: published without an answer, also while the scheduler is away.

    ``name`` is made by the client and must not be used again for other content. ``seen``: the highest fence that the
    client has seen, which tells after a loss of data whether the message is older than that.
    """

    name: TaskName
    seen: Fence | None = None
    trace: Trace | None = None


class Submitted(Message):
    """``known``: the task was there before. ``state``: where it stands now."""

    ok: Literal[True] = True
    task: TaskId
    state: TaskState
    known: bool
    fence: str


class Refused(Message):
    """Nothing was accepted. ``queue_full``: there are ``level`` of at most ``limit`` (tasks, bytes, kinds of needs, or
    bytes of blobs, as ``dimension`` says) of ``scope`` (all, or this principal). ``in_doubt``: the journal has lost
    entries, and a request from before that may be among them: it may have been accepted, and run."""

    ok: Literal[False] = False
    reason: Literal["queue_full", "in_doubt"]
    dimension: Literal["tasks", "bytes", "needs", "blobs"] | None
    scope: Literal["all", "principal"] | None
    limit: int | None
    level: int | None
    retry_in_ms: int | None
    text: str
    fence: str


class Cancel(Request):
    """End an own task, wherever it stands; answered by `Cancelled`, or the error ``already_ended``. Those that come
    after it are cancelled too, unless they are to run after a failure."""

    task: TaskId


class Cancelled(Message):
    ok: Literal[True] = True
    task: TaskId
    state: Literal["cancelled"] = "cancelled"
    fence: str


class Find(Query):
    """One own task: where it stands, or how it ended with its result; answered by `Found`."""

    task: TaskId


class Found(Message):
    """``kept``: whether the result is still there. ``attempts`` counts assignments. ``reason`` and ``error``: of the
    last attempt that failed, or of the end. ``progress_permille`` and ``note``: as last told by the worker."""

    ok: Literal[True] = True
    task: TaskId
    task_class: str | None
    state: TaskState
    priority: Band | None
    kept: bool
    result: bytes | str | dict[str, Any] | None
    reason: str
    error: str
    attempts: int
    worker: str | None
    progress_permille: int | None
    note: str | None
    fence: str


class Ended(Query):
    """Which of these own tasks nobody works on any more; the safety net below the notices."""

    tasks: Annotated[tuple[TaskId, ...], Field(max_length=256)]


class EndedReply(Message):
    """``ended``: [task, state]; ``unknown``: never accepted, lost with data, or forgotten."""

    ok: Literal[True] = True
    ended: list[list[str]]
    unknown: list[str]
    fence: str


class List(Query):
    """A page of own tasks that have not ended, oldest first, or of dead letters; ``after``: the last of the page
    before. Operators list those of all principals, or of one."""

    dead: bool = False
    principal: Principal | None = None
    after: TaskId | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 100


class Listed(Message):
    task: TaskId
    task_class: str
    priority: Band
    state: TaskState
    attempts: int
    worker: str | None
    age_ms: int
    reason: str
    error: str


class ListReply(Message):
    ok: Literal[True] = True
    tasks: list[Listed]
    more: bool
    fence: str


class Status(Query):
    """The scheduler as a whole, for `bursar top`."""


class WorkerStatus(Message):
    """``heard_ms``: age of its last sign of life. ``used``: slots that are taken. ``suspect``: it has been silent for
    so long that it gets nothing new, while others are heard."""

    name: str
    kind: WorkerKind
    host: str | None = None
    preemptible: bool = False
    slots: int
    used: int
    heard_ms: int
    draining: bool
    suspect: bool = False
    ended: int
    load_permille: int | None


class ShadowStatus(Message):
    """Of all placements since it was switched on: how often it would have chosen alike, and by how much the live policy
    did worse by the common score, in the mean (below 0: better); ``gap_us``: and the shadow, than the best. Of a policy
    in the background or for slots: of its plans; alike is one that changes nothing, the regret what its moves gain."""

    policy: PolicyName | TickName | BackgroundName | SlotsName
    decisions: int
    agreed_permille: int
    regret_us: int
    gap_us: int


class StatusReply(Message):
    """``waiting`` (for a worker), ``delayed`` (after a failure), ``blocked`` (by tasks that they come after),
    ``assigned``, ``running``, ``dead``: tasks that are there now.
    ``shadow``: of the policy that is asked beside the live one, if any.
    ``bands``, ``classes``: waiting and running by band and class (at most 64). ``counts``: since the first start."""

    ok: Literal[True] = True
    now_ms: int
    policy: PolicyName
    shadow: ShadowStatus | None = None
    waiting: int
    delayed: int
    blocked: int
    assigned: int
    running: int
    dead: int
    bytes: int
    bands: dict[str, dict[str, int]]
    classes: dict[str, dict[str, int]]
    workers: list[WorkerStatus]
    more_workers: int
    counts: dict[str, int]
    fence: str
