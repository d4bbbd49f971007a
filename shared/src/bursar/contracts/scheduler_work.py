"""The scheduler and its workers: what they ask, what is observed of them, what they and the submitters are told.

The order of an attempt: `Assign` (a notice), `Start`, heartbeats and `Progress`, then `Finish` or `Fail`; `Stop` (a
notice) and `Release` when it is void or given back. While work waits the end of one attempt may bring the `Next`, which
has started then: half the messages for a worker that is never idle. `bursar.contracts.scheduler` tells the rest.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message, Query, Request
from bursar.contracts.scheduler_takes import MAX_WHY
from bursar.contracts.scheduler_words import (
    MAX_SLOTS,
    BatchTokens,
    Host,
    Labels,
    LabelValue,
    Mebibytes,
    MicroUsd,
    Millicores,
    ModelName,
    Region,
    SessionName,
    TaskClass,
    TaskId,
    TaskState,
    Token,
    Tokens,
    Trace,
    Value,
    WorkerKind,
)


class Register(Request):
    """A worker says what it can do; its name is its principal. ``session`` names this life of its process: another
    one ends the attempts of the one before. ``running``: tokens that it is working on now.

    Where it is: ``host``, ``numa_node``, ``region``. What it costs: ``price`` of a second of one slot. Whether its host
    may be taken away: ``preemptible`` (spot). What it has loaded: ``models``. What its tasks share beside the slots:
    memory of its GPU, CPU, RAM, and tokens in flight by provider; what it does not name, it has none of.
    ``batch_tokens``: the token budget of its batch, if it has a bound."""

    session: SessionName
    kind: WorkerKind = "cpu"
    slots: Annotated[int, Field(ge=1, le=MAX_SLOTS)] = 1
    classes: Annotated[tuple[TaskClass, ...], Field(min_length=1, max_length=64)]
    labels: Labels = Field(default_factory=dict)
    versions: Labels = Field(default_factory=dict)
    host: Host | None = None
    numa_node: Annotated[int, Field(ge=0, le=1_023)] | None = None
    region: Region | None = None
    preemptible: bool = False
    price: MicroUsd = 0
    models: Annotated[tuple[ModelName, ...], Field(max_length=64)] = ()
    gpu_model: LabelValue | None = None
    gpu_memory_mib: Mebibytes | None = None
    cpu_millis: Millicores | None = None
    ram_mib: Mebibytes | None = None
    tokens: Tokens = Field(default_factory=dict)
    batch_tokens: BatchTokens | None = None
    running: Annotated[tuple[Token, ...], Field(max_length=MAX_SLOTS)] = ()


class Registered(Message):
    """``void``: those of ``running`` that are not to go on: stop them, then release them."""

    ok: Literal[True] = True
    worker: str
    ttl_ms: int
    heartbeat_ms: int
    void: list[str]
    fence: str


class Heartbeat(Message):
    """An observation, once a second: the worker lives, and works on these tokens (those it is starting included).

    ``latency_us``: the way to what it works with, or to the scheduler, as it has measured it lately; regions are
    weighed by it. ``wait_ms``: what is given to it now begins so much later, because of what it has queued itself."""

    session: SessionName
    running: Annotated[tuple[Token, ...], Field(max_length=MAX_SLOTS)] = ()
    load_permille: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    latency_us: Annotated[int, Field(ge=0, le=60_000_000)] | None = None
    wait_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 0


class Start(Request):
    """The assignment has arrived and a slot is free: may it run? Answered by `Started` or the error ``stale_attempt``
    (do not run it)."""

    task: TaskId
    token: Token


class Started(Message):
    ok: Literal[True] = True
    task: TaskId
    token: Token
    lease_ms: int
    fence: str


class Progress(Query):
    """A sign of life of one attempt, and how far it is; it extends the lease. Not durable."""

    task: TaskId
    token: Token
    permille: Annotated[int, Field(ge=0, le=1000)] | None = None
    note: Annotated[str, Field(max_length=200)] | None = None


class Progressed(Message):
    ok: Literal[True] = True
    lease_ms: int
    fence: str


class Finish(Request):
    """The attempt has ended well. Answered by `AttemptEnded`; ``stale_attempt`` or ``already_ended``: the result does
    not count. ``next``: whatever is assigned to the slot by this is begun at once, and stands in the answer."""

    task: TaskId
    token: Token
    result: Value = None
    next: bool = False


class Fail(Request):
    """The attempt has failed; not ``retryable``: the task ends as ``failed``. ``next``: as in `Finish`."""

    task: TaskId
    token: Token
    error: Annotated[str, Field(max_length=2_000)] = ""
    retryable: bool = True
    next: bool = False


class Release(Request):
    """The worker has stopped an attempt: one that it gives back without counting, or one that had become void. Its
    slot is free from now on. ``after_ms``: until then it is not tried again, for a ``reason`` such as a limit that is
    reached. (Without it the slot of a void attempt stays taken, since it may still run.)"""

    task: TaskId | None = None
    token: Token
    after_ms: Annotated[int, Field(ge=0, le=3_600_000)] | None = None
    reason: Annotated[str, Field(max_length=MAX_WHY)] = ""


class Checkpoint(Request):
    """Keep this of a running attempt: the next one begins with it. It replaces the one before."""

    task: TaskId
    token: Token
    checkpoint: Value


class Checkpointed(Message):
    ok: Literal[True] = True
    lease_ms: int
    fence: str


class Yield(Request):
    """The worker has stopped an attempt at the end of a chunk, because it was asked to or will end: the task waits
    again, and goes on from the checkpoint (None: from the last one). It does not count as a failure. ``next``: as in
    `Finish`."""

    task: TaskId
    token: Token
    checkpoint: Value = None
    next: bool = False


class Next(Message):
    """The worker's next attempt. It runs already, as far as the scheduler is concerned: no `Start` is to be sent."""

    task: TaskId
    token: Token
    task_class: TaskClass
    payload: bytes | str | dict[str, Any] | None
    attempt: int
    lease_ms: Amount
    deadline_in_ms: int | None
    after: list[TaskId] = Field(default_factory=list)
    checkpoint: bytes | str | dict[str, Any] | None = None
    waited_ms: Amount
    trace: Trace | None = None


class AttemptEnded(Message):
    """``state``: where the task stands now; ``retry_in_ms``: when it is tried again, if it waits; ``next``: see
    `Finish`. (A release of an attempt that is not known is answered with ``unknown``: nothing has to be done.)"""

    ok: Literal[True] = True
    task: TaskId | None
    state: TaskState | Literal["unknown"]
    retry_in_ms: int | None
    next: Next | None = None
    fence: str


class Drain(Request):
    """Give this worker nothing new; what it has goes on. ``within_ms``: its host will be taken away by then (a spot
    notice): what can be preempted yields at once, and what is left in the end goes to others without counting."""

    session: SessionName
    within_ms: Annotated[int, Field(ge=1, le=3_600_000)] | None = None


class Leave(Request):
    """The worker ends: what it still has goes to others at once."""

    session: SessionName


class WorkerReply(Message):
    ok: Literal[True] = True
    worker: str
    returned: int
    fence: str


# ---- notices


class Assign(Message):
    """To a worker: start this. ``start_within_ms``: after so long it is given to another. ``after``: the tasks that
    have ended before it; `Inputs` asks for their results. ``checkpoint``: what the last attempt has kept.
    ``members``: of a gang all its workers, with one token; ``rank``: which of them this one is. Each of them starts and
    ends its part; the result is that of rank 0, and the task ends with the last part. ``waited_ms``: since the task was
    accepted. ``trace``: see `bursar.telemetry.traces`."""

    what: Literal["assign"] = "assign"
    session: SessionName
    task: TaskId
    token: Token
    task_class: TaskClass
    payload: bytes | str | dict[str, Any] | None
    attempt: int
    lease_ms: Amount
    start_within_ms: Amount
    deadline_in_ms: int | None
    after: list[TaskId] = Field(default_factory=list)
    checkpoint: bytes | str | dict[str, Any] | None = None
    waited_ms: Amount
    trace: Trace | None = None
    members: list[str] = Field(default_factory=list)
    rank: int = 0
    takes: dict[str, Any] | None = None
    fence: str


class Stop(Message):
    """To a worker: this attempt is void; stop it and release it. ``task``: None when the scheduler knows only the
    token. ``preempt``: it is not void yet: stop it at the end of the chunk, and `Yield`; it may also finish before.
    ``within_ms``: the time for that."""

    what: Literal["stop"] = "stop"
    task: TaskId | None
    token: Token
    preempt: bool = False
    within_ms: int | None = None
    fence: str


class RegisterAgain(Message):
    """To somebody who sends heartbeats and is not (or no longer) known as a worker."""

    what: Literal["register"] = "register"
    fence: str


class TaskEnded(Message):
    """To who submitted the task: how it ended, or that it is a dead letter."""

    what: Literal["ended"] = "ended"
    task: TaskId
    state: TaskState
    result: bytes | str | dict[str, Any] | None
    reason: str
    error: str
    fence: str
