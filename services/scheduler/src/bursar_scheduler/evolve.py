"""Applying events: the only writer of the durable state.

Each change of a task goes through the table of `lifecycle`; the board, if there is one, is told afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Event
from bursar.kernel.rights import RIGHTS, apply_rights
from bursar_scheduler import bugs, events
from bursar_scheduler.accounts import Paid, Quota, Who
from bursar_scheduler.lifecycle import (
    ASSIGNED,
    AT_WORK,
    DEAD,
    FAIL,
    FAIL_FOR_GOOD,
    FAIL_LAST,
    FINISH,
    LOG_LOST,
    LOSSES,
    POST_REFUSED,
    PREEMPTING,
    QUARANTINE,
    READY,
    RELEASE,
    RUNNING,
    SUBMITTED,
    WORKER_GONE,
    YIELD,
)
from bursar_scheduler.lifecycle import FAILURES as COUNTED
from bursar_scheduler.members import apply_ganged, apply_joined, apply_parted, disband, end_gang
from bursar_scheduler.seating import apply_drains, apply_freed, apply_gone, apply_heard, apply_registered
from bursar_scheduler.state import State
from bursar_scheduler.task import Config, Ended, Task, hint_of, lane_of

VOLUNTARY = frozenset({FINISH, FAIL, FAIL_LAST, FAIL_FOR_GOOD, RELEASE, YIELD})
"""The worker itself has ended the attempt: nothing of it runs any more, its slot is free."""

JUDGED = frozenset({FINISH, WORKER_GONE, *COUNTED, *LOSSES})
"""What tells how well a region does."""


def apply_accepted(state: State, event: Event) -> None:
    (
        _, now, name, task_class, kind, labels, band, payload, size, digest, retries, backoff, lease, timeout, deadline,
        more,
    ) = event  # fmt: skip
    task = Task()
    task.id, task.lane = name, lane_of(task_class, kind, labels, more.get("demands", ()), more.get("gang", 1))
    task.band, task.payload, task.size, task.digest = band, payload, size, bytes(digest)
    task.retries, task.backoff_ms, task.lease_ms = retries, backoff, lease
    task.timeout_ms, task.deadline_at = timeout, deadline
    task.after, task.unmet = tuple(more.get("after", ())), tuple(more.get("unmet", ()))
    task.runs_anyway = more.get("runs_anyway", False)
    task.preemptible, task.trace = more.get("preemptible", False), more.get("trace", "")
    task.hints = hint_of(more.get("hints"))
    task.takes = more.get("takes")
    task.who = Who(more.get("team", ""), task.principal, more.get("program", ""))
    task.state = first_state(task)
    task.order, task.submitted_at = state.order, now
    state.at = now
    state.order += 1
    state.counts["accepted"] += 1
    if task.after:
        state.links.need(task)
    _enter(state, task)


def _enter(state: State, task: Task) -> None:
    """It is live from now on."""
    state.add(task)
    if state.board is not None:
        state.board.place(task, state.at)
        state.board.settled.update(dict.fromkeys(name for name in task.unmet if state.find(name) is None))


def first_state(task: Task) -> str:
    return SUBMITTED if task.unmet and not seeded(bugs.RUNS_BEFORE_ITS_DEPENDENCIES) else READY


def apply_met(state: State, event: Event) -> None:
    _, now, name, other = event
    task = state.tasks[name]
    state.at = now
    state.links.met(task, other)
    if not task.unmet:
        state.move(task, READY)
        if state.board is not None:
            state.board.place(task, now)


def apply_posted(state: State, event: Event) -> None:
    _, now, sequence, what = event
    state.at = now
    if not seeded(bugs.INBOX_POSITION_LOST):
        state.position = sequence
    state.counts[f"posts_{what}"] += 1


def apply_assigned(state: State, event: Event) -> None:
    _, now, name, worker_name, token = event
    task, worker = state.tasks[name], state.workers[worker_name]
    state.at = now
    state.drawn += 1
    task.token, task.worker, task.since = token, worker_name, now
    task.attempts += 1
    task.heard_until, task.told_at = 0, now
    task.permille = task.note = None
    if not seeded(bugs.DOUBLE_ASSIGN):
        state.move(task, ASSIGNED)
    worker.take(token, name, task.lane[3])
    worker.kept_at = now
    expected = state.speeds.expect_us(task.lane[0], worker_name) // 1_000
    place = worker.place
    paid = Paid(task.lane[0], worker_name, worker.kind, bool(place.get("preemptible")), place.get("price", 0))
    state.ledger.begin(task.who, token, now, expected, path=task.path, waited=now - task.submitted_at, of=paid)
    state.counts["assigned"] += 1
    board = state.board
    if board is not None:
        board.fleet.last[task.lane] = worker.name
        board.begins(task)
        board.note(worker)
        board.place(task, now)


def apply_started(state: State, event: Event) -> None:
    _, now, name = event
    task = state.tasks[name]
    state.at = task.since = now
    state.move(task, RUNNING)
    if state.board is not None:
        state.board.place(task, now)


def apply_preempting(state: State, event: Event) -> None:
    _, now, name, until = event
    task = state.tasks[name]
    state.at, task.yield_by = now, until
    state.move(task, PREEMPTING)
    state.counts["preempted"] += 1
    if state.board is not None:
        state.board.place(task, now)


def apply_checkpoint(state: State, event: Event) -> None:
    _, now, name, value, size = event
    task = state.tasks[name]
    state.at = now
    state.bytes += size - task.checkpoint_size
    task.size += size - task.checkpoint_size
    task.checkpoint, task.checkpoint_size, task.kept_at = value, size, now


def apply_waits(state: State, event: Event) -> None:
    _, now, name, why, error, not_before = event
    task = state.tasks[name]
    state.at = now
    _hold_against(state, task, why)
    _end_attempt(state, task, why)
    task.reason, task.error = why, error
    task.not_before = not_before
    state.move(task, READY)
    state.counts["retried" if why in COUNTED else "returned"] += 1
    if state.board is not None:
        state.board.place(task, now)


def apply_dead(state: State, event: Event) -> None:
    _, now, name, why, error = event
    task = state.tasks[name]
    state.at = now
    _hold_against(state, task, why)
    _end_attempt(state, task, why)
    _bury(state, task, why, error)


def apply_ended(state: State, event: Event) -> None:
    _, now, name, end, result, size, why, error = event
    state.at = now
    token, worker = "", ""
    task = state.tasks.get(name)
    if task is None:
        task = state.unbury(name)
    else:
        token, worker = task.token, task.worker
        if why == FINISH:
            state.speeds.learn(task.lane[0], worker, 1_000 * (now - task.since))
            if state.board is not None:
                state.board.fleet.learn(task.lane[0], worker)
        _end_attempt(state, task, why)
        state.remove(task)
        state.drain.ended(now)
    task.state = end
    if state.board is not None:
        state.board.place(task, now)
    state.counts[end] += 1
    text = error or ("" if why in VOLUNTARY else task.error)
    ended = Ended(end, now, task.digest, task.lane[0], token, worker, task.attempts, result, why, text, size)
    state.keep(name, ended)
    state.settle(task)


def _end_attempt(state: State, task: Task, why: str) -> None:
    """Its token is void. The slot is free if nothing of the attempt runs: a worker that is to stop it says when."""
    if not task.token:
        return
    if task.gang is not None:
        end_gang(state, task, task.gang, why, is_judged=why in JUDGED)
        return
    worker = state.workers.get(task.worker)
    if worker is not None:
        if state.board is not None and why in JUDGED and (why != FINISH or state.board.regions.health):
            state.board.judged(worker, why == FINISH)
        if why in VOLUNTARY:
            worker.ended += 1
        if why in VOLUNTARY or task.state == ASSIGNED or seeded(bugs.SLOTS_EXCEEDED):
            state.give_back(worker, task.token)
            if state.board is not None:
                state.board.note(worker)
    task.token, task.worker, task.yield_by = "", "", 0


def _hold_against(state: State, task: Task, why: str) -> None:
    if why in COUNTED:
        task.failures += 1
    elif why in LOSSES or (why == WORKER_GONE and task.state in AT_WORK):
        task.losses += 1
        state.counts["lost"] += 1
        if why in {WORKER_GONE, QUARANTINE}:
            gone = task.worker if task.gang is None else task.gang.over[-1]
            task.killed = (*task.killed, life_of(state, gone))


def life_of(state: State, worker: str) -> str:
    """The process that a worker is now."""
    return f"{worker} {state.workers[worker].session}"


def _bury(state: State, task: Task, why: str, error: str) -> None:
    disband(state, task)
    state.remove(task)
    task.state = DEAD
    task.reason, task.error, task.token, task.worker = why, error, "", ""
    if state.board is not None:
        state.board.place(task, state.at)
    state.bury(task)
    state.counts["dead"] += 1


def apply_requeued(state: State, event: Event) -> None:
    """It waits as if it had been submitted at its time, with all its retries; its deadline is over and gone."""
    _, now, name = event
    task = state.unbury(name)
    state.at = now
    task.state, task.not_before, task.failures, task.losses, task.deadline_at = first_state(task), 0, 0, 0, 0
    task.killed = ()
    task.reason = task.error = ""
    state.counts["requeued"] += 1
    _enter(state, task)


def apply_configured(state: State, event: Event) -> None:
    _, now, source, rules = event
    state.at = now
    state.source = source or state.source
    state.config = Config(**rules)
    state.ledger.rule = state.config.fairness
    if state.board is not None:
        state.board.configure(state.config)


def apply_lost(state: State, event: Event) -> None:
    """See `recovery`."""
    _, now = event
    state.at = state.lost_at = now
    if seeded(bugs.LOSS_RUNS_AGAIN):
        for task in state.tasks.values():
            disband(state, task)
            task.token = task.worker = ""
            state.move(task, READY)
    else:
        for task in list(state.tasks.values()):
            _bury(state, task, LOG_LOST, "")
    for worker in state.workers.values():
        for token in list(worker.attempts):
            state.give_back(worker, token)
    state.workers.clear()
    state.ledger.set_capacity(0)
    state.board = None


def apply_shared(state: State, event: Event) -> None:
    _, now, team, agent, *quota = event
    state.at = now
    if agent:
        state.teams[agent] = team
    state.ledger.set_quota(team, agent, Quota(*quota))


def apply_stored(state: State, event: Event) -> None:
    _, now, owner, name, size, part, data = event
    state.at = now
    state.blobs.put((owner, name), size, part, data, now)


def apply_program_ends(state: State, event: Event) -> None:
    _, now, agent, program, order = event
    state.at = now
    if order:
        state.ending[agent, program] = order
    else:
        state.ending.pop((agent, program), None)


def buried_post(state: State, event: Event) -> None:
    """A posted task that could not be accepted is a dead letter, so that it is not lost."""
    name, why = event[2], event[-1]
    apply_accepted(state, event[:-1])
    task = state.tasks[name]
    state.counts["accepted"] -= 1
    _bury(state, task, f"{POST_REFUSED}: {why}", "")


APPLY: dict[str, Callable[[State, Any], None]] = {
    RIGHTS: apply_rights,
    events.ACCEPTED: apply_accepted,
    events.SET_ASIDE: buried_post,
    events.POSTED: apply_posted,
    events.MET: apply_met,
    events.ASSIGNED: apply_assigned,
    events.GANGED: apply_ganged,
    events.STARTED: apply_started,
    events.JOINED: apply_joined,
    events.PARTED: apply_parted,
    events.PREEMPTING: apply_preempting,
    events.CHECKPOINT: apply_checkpoint,
    events.WAITS: apply_waits,
    events.DEAD: apply_dead,
    events.ENDED: apply_ended,
    events.REQUEUED: apply_requeued,
    events.REGISTERED: apply_registered,
    events.FREED: apply_freed,
    events.HEARD: apply_heard,
    events.DRAINS: apply_drains,
    events.GONE: apply_gone,
    events.CONFIGURED: apply_configured,
    events.LOST: apply_lost,
    events.SHARED: apply_shared,
    events.STORED: apply_stored,
    events.PROGRAM_ENDS: apply_program_ends,
}
