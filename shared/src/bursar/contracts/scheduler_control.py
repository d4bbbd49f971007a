"""The scheduler's administration: the rules, and dead letters. `bursar.contracts.scheduler` has these messages too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Request
from bursar.contracts.scheduler_words import PolicyName, TaskId


class Configure(Request):
    """Administration: change some of the rules; what is None stays. Answered by `Configured`.

    ``max_tasks``, ``max_tasks_per_principal``, ``max_bytes`` (of payloads): how much may wait and run at once.
    ``start_within_ms``: an assignment that was not started by then goes to another worker. ``worker_ttl_ms``: silence
    after which a worker counts as gone (a tenth more is waited, for the drift of clocks). ``keep_results_ms``: how long
    ends are kept with their results. ``max_losses``: a task that is lost so often becomes a dead letter.
    ``max_kills``: a task that runs while so many different workers die is quarantined: a dead letter, too.
    ``min_run_ms``: an attempt is preempted only after so long; ``yield_within_ms``: and is taken away when its worker
    has not yielded by then.
    """

    policy: PolicyName | None = None
    max_tasks: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_tasks_per_principal: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_bytes: Annotated[int, Field(ge=1, le=4_294_967_296)] | None = None
    start_within_ms: Annotated[int, Field(ge=100, le=600_000)] | None = None
    worker_ttl_ms: Annotated[int, Field(ge=500, le=600_000)] | None = None
    keep_results_ms: Annotated[int, Field(ge=1_000, le=86_400_000)] | None = None
    max_losses: Annotated[int, Field(ge=1, le=100)] | None = None
    max_kills: Annotated[int, Field(ge=1, le=100)] | None = None
    min_run_ms: Annotated[int, Field(ge=0, le=600_000)] | None = None
    yield_within_ms: Annotated[int, Field(ge=100, le=600_000)] | None = None


class Configured(Message):
    ok: Literal[True] = True
    config: dict[str, int | str]
    fence: str


class Requeue(Request):
    """Administration: a dead letter waits again, with all of its retries."""

    task: TaskId


class Requeued(Message):
    ok: Literal[True] = True
    task: TaskId
    state: Literal["ready", "submitted"]
    fence: str
