"""The life of a task, as a table; the diagram in the README is made from it.

An end is reached once. A dead letter has not ended: nobody works on it until an operator decides.
"""

from __future__ import annotations

from typing import Final

from bursar.kernel.mermaid import START, arrows_of, state_diagram

SUBMITTED: Final = "submitted"
READY: Final = "ready"
ASSIGNED: Final = "assigned"
RUNNING: Final = "running"
PREEMPTING: Final = "preempting"
DEAD: Final = "dead"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"

LIVE: Final = frozenset({SUBMITTED, READY, ASSIGNED, RUNNING, PREEMPTING})
ENDS: Final = frozenset({DONE, FAILED, CANCELLED, EXPIRED})

SUBMIT: Final = "submit"
SUBMIT_AFTER: Final = "submit, after other tasks"
AFTER_ENDED: Final = "the tasks before it have ended"
DEPENDENCY_FAILED: Final = "dependency failed"
ASSIGN: Final = "assign"
BEGIN: Final = "start"
FINISH: Final = "finish"
FAIL: Final = "fail"
FAIL_LAST: Final = "fail, no retries left"
FAIL_FOR_GOOD: Final = "fail, not retryable"
TIME_OUT: Final = "time-out"
TIME_OUT_LAST: Final = "time-out, no retries left"
RELEASE: Final = "release"
NOT_STARTED: Final = "not started in time"
LEASE_LOST: Final = "lease lost"
WORKER_GONE: Final = "worker gone"
LOST_TOO_OFTEN: Final = "lost too often"
QUARANTINE: Final = "quarantined: workers died with it"
PREEMPT: Final = "preempt"
YIELD: Final = "yield"
NOT_YIELDED: Final = "not yielded in time"
CANCEL: Final = "cancel"
DEADLINE: Final = "deadline passes"
REQUEUE: Final = "requeue"
REQUEUE_AFTER: Final = "requeue, after other tasks"
LOG_LOST: Final = "log lost"
POST_REFUSED: Final = "posted, not accepted"

TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (START, SUBMIT): READY,
    (START, SUBMIT_AFTER): SUBMITTED,
    (START, POST_REFUSED): DEAD,
    (SUBMITTED, AFTER_ENDED): READY,
    (SUBMITTED, DEPENDENCY_FAILED): CANCELLED,
    (READY, ASSIGN): ASSIGNED,
    (ASSIGNED, BEGIN): RUNNING,
    (ASSIGNED, NOT_STARTED): READY,
    (ASSIGNED, RELEASE): READY,
    (ASSIGNED, WORKER_GONE): READY,
    (RUNNING, FINISH): DONE,
    (RUNNING, FAIL): READY,
    (RUNNING, FAIL_LAST): DEAD,
    (RUNNING, FAIL_FOR_GOOD): FAILED,
    (RUNNING, TIME_OUT): READY,
    (RUNNING, TIME_OUT_LAST): DEAD,
    (RUNNING, RELEASE): READY,
    (RUNNING, NOT_STARTED): READY,
    (RUNNING, LEASE_LOST): READY,
    (RUNNING, WORKER_GONE): READY,
    (RUNNING, LOST_TOO_OFTEN): DEAD,
    (RUNNING, QUARANTINE): DEAD,
    (RUNNING, YIELD): READY,
    (RUNNING, PREEMPT): PREEMPTING,
    (PREEMPTING, YIELD): READY,
    (PREEMPTING, NOT_YIELDED): READY,
    (PREEMPTING, FINISH): DONE,
    (PREEMPTING, FAIL): READY,
    (PREEMPTING, FAIL_LAST): DEAD,
    (PREEMPTING, FAIL_FOR_GOOD): FAILED,
    (PREEMPTING, TIME_OUT): READY,
    (PREEMPTING, TIME_OUT_LAST): DEAD,
    (PREEMPTING, RELEASE): READY,
    (PREEMPTING, LEASE_LOST): READY,
    (PREEMPTING, WORKER_GONE): READY,
    (PREEMPTING, LOST_TOO_OFTEN): DEAD,
    (PREEMPTING, QUARANTINE): DEAD,
    (SUBMITTED, CANCEL): CANCELLED,
    (READY, CANCEL): CANCELLED,
    (ASSIGNED, CANCEL): CANCELLED,
    (RUNNING, CANCEL): CANCELLED,
    (PREEMPTING, CANCEL): CANCELLED,
    (DEAD, CANCEL): CANCELLED,
    (SUBMITTED, DEADLINE): EXPIRED,
    (READY, DEADLINE): EXPIRED,
    (ASSIGNED, DEADLINE): EXPIRED,
    (RUNNING, DEADLINE): EXPIRED,
    (PREEMPTING, DEADLINE): EXPIRED,
    (DEAD, REQUEUE): READY,
    (DEAD, REQUEUE_AFTER): SUBMITTED,
    (SUBMITTED, LOG_LOST): DEAD,
    (READY, LOG_LOST): DEAD,
    (ASSIGNED, LOG_LOST): DEAD,
    (RUNNING, LOG_LOST): DEAD,
    (PREEMPTING, LOG_LOST): DEAD,
}
"""(state, what happens) -> next state. What is not in the table is refused and changes nothing."""

NOTES: Final = {
    SUBMITTED: "waits for other tasks",
    READY: "waits for a worker, or for the end of a pause",
    ASSIGNED: "a worker has been told, with a token",
    RUNNING: "the worker has started; its lease is kept by heartbeats",
    PREEMPTING: "asked to stop at the end of a chunk, and to go on from its checkpoint",
    DEAD: "a dead letter: an operator decides",
    DONE: "the one accepted end",
    FAILED: "the worker said that trying again is in vain",
    CANCELLED: "by its submitter, or what it comes after has failed",
    EXPIRED: "its deadline has passed",
}

FAILURES: Final = frozenset({FAIL, FAIL_LAST, TIME_OUT, TIME_OUT_LAST})
"""What counts against the retries of a task."""

LOSSES: Final = frozenset({LEASE_LOST, LOST_TOO_OFTEN, QUARANTINE})
"""What counts against ``max_losses``, beside a worker that goes while the task runs."""

AT_WORK: Final = frozenset({RUNNING, PREEMPTING})
"""States in which a worker's function runs."""


def next_state(state: str, what: str) -> str | None:
    return TRANSITIONS.get((state, what))


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    return state_diagram(NOTES, arrows_of(TRANSITIONS, [state for state in NOTES if state in ENDS]))
