"""The scheduler's administration: the rules, and dead letters. `bursar.contracts.scheduler` has these messages too."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Request
from bursar.contracts.scheduler_words import BackgroundName, PolicyName, Principal, SlotsName, TaskId, TickName


class Configure(Request):
    """Administration: change some of the rules; what is None stays. Answered by `Configured`.

    ``max_tasks``, ``max_tasks_per_principal``, ``max_bytes`` (of payloads): how much may wait and run at once.
    ``max_blob_bytes``: of values that are too large for a message; half of them of one principal.
    ``start_within_ms``: an assignment that was not started by then goes to another worker. ``worker_ttl_ms``: silence
    after which a worker counts as gone (a tenth more is waited, for the drift of clocks). ``keep_results_ms``: how long
    ends are kept with their results. ``max_losses``: a task that is lost so often becomes a dead letter.
    ``max_kills``: a task that runs while so many different workers die is quarantined: a dead letter, too.
    ``min_run_ms``: an attempt is preempted only after so long; ``yield_within_ms``: and is taken away when its worker
    has not yielded by then. ``fairness``: what counts as the service of a program, the sum over its calls (plas) or the
    longest path of calls that waited for each other (atlas). ``shadow``: a policy that is asked beside the live one
    without being followed; `Status` tells the regret. Policies that look at more than one task, none by default:
    ``tick`` says where several that wait should go, ``background`` moves what runs and may be preempted, and
    ``slot_policy`` says how many slots are in use.
    """

    policy: PolicyName | None = None
    shadow: PolicyName | TickName | BackgroundName | SlotsName | Literal["none"] | None = None
    tick: TickName | Literal["none"] | None = None
    background: BackgroundName | Literal["none"] | None = None
    slot_policy: SlotsName | Literal["none"] | None = None
    max_tasks: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_tasks_per_principal: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_bytes: Annotated[int, Field(ge=1, le=4_294_967_296)] | None = None
    max_blob_bytes: Annotated[int, Field(ge=1, le=4_294_967_296)] | None = None
    start_within_ms: Annotated[int, Field(ge=100, le=600_000)] | None = None
    worker_ttl_ms: Annotated[int, Field(ge=500, le=600_000)] | None = None
    keep_results_ms: Annotated[int, Field(ge=1_000, le=86_400_000)] | None = None
    max_losses: Annotated[int, Field(ge=1, le=100)] | None = None
    max_kills: Annotated[int, Field(ge=1, le=100)] | None = None
    min_run_ms: Annotated[int, Field(ge=0, le=600_000)] | None = None
    fairness: Literal["plas", "atlas"] | None = None
    yield_within_ms: Annotated[int, Field(ge=100, le=600_000)] | None = None


class Configured(Message):
    ok: Literal[True] = True
    config: dict[str, int | str]
    fence: str


class Share(Request):
    """Administration: what a team, or an agent in it, gets of the slots; it holds at once, also for what runs.

    ``weight``: its share of what all want. ``slots``: its own, which it gets before others borrow them; beyond them it
    borrows ``borrow`` at most (None: any number), and of those that it does not use it lends ``lend`` (None: all). With
    no own slots and no bound the weight alone counts. ``agent`` None: the team itself; ``team`` None: the agents that
    are in no team. An agent is in the team of its last `Share`, with the tasks that it submits from then on."""

    team: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$", max_length=64)] | None = None
    agent: Principal | None = None
    weight: Annotated[int, Field(ge=1, le=1_000)] = 1
    slots: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    borrow: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    lend: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


class Shared(Message):
    """``running``: slots that it has now."""

    ok: Literal[True] = True
    team: str | None
    agent: str | None
    running: int
    fence: str


class Requeue(Request):
    """Administration: a dead letter waits again, with all of its retries."""

    task: TaskId


class Requeued(Message):
    ok: Literal[True] = True
    task: TaskId
    state: Literal["ready", "submitted"]
    fence: str
