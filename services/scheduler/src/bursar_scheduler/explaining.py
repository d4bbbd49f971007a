"""Why a task stands where it stands: what would have to change for it to run.

Computed when somebody asks, from what is there: the task, the workers that know its class, the line that it stands in,
and the accounts of its submitter. It changes nothing.
"""

from __future__ import annotations

from typing import Any, Final

from bursar.contracts.scheduler_explain import Why
from bursar.kernel.decider import Command, Fence, Outcome, Refuse, Reject
from bursar_scheduler.lifecycle import ASSIGNED, DEAD, PREEMPTING, RUNNING, SUBMITTED
from bursar_scheduler.ordering import choose
from bursar_scheduler.resources import HOST, MODEL, REGION
from bursar_scheduler.scoring import TERMS, Rated, Verdict
from bursar_scheduler.state import State
from bursar_scheduler.task import Task, Worker

SHOWN: Final = 16

TEXTS: Final = {
    "dependencies": "it waits for {waits} other tasks to end, {after} first",
    "pause": "it pauses for {pause_ms} ms more after: {reason}",
    "no_worker": "no worker is registered that knows {task_class} and has the kind and the labels that it needs",
    "draining": "all workers that may have it drain, or have fallen silent",
    "too_little": "no worker has as much of a resource as it needs: {demands}",
    "no_room": "all {serving} workers that may have it are busy; {in_line} tasks like it wait, {first} goes next",
    "quota": "its submitter has {running} slots and may have no more now",
    "gang": "it takes {gang} workers at once; {serving} may have it, {with_room} of them have room",
    "order": "there is room, and {first} goes first",
    "start": "{worker} was told, and has not started it yet",
    "works": "{worker} works on it",
    "yields": "{worker} was asked to stop it at the end of a chunk",
    "dead_letter": "it is a dead letter until an operator requeues it: {reason}",
    "ended": "it has ended: {state}",
}


class WhyAny(Why):
    """The same question by an operator, of any task."""


def decide_why(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.task
    if name.partition(".")[0] != command.principal:
        return Reject("not_yours", "only who submitted a task may ask for it", {"task": name})
    return _why(state, name, now)


def decide_why_any(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    return _why(state, command.body.task, now)


def _why(state: State, name: str, now: int) -> Outcome:
    task = state.find(name)
    if task is not None:
        return Refuse(_in_words(_facts(state, task, now), task))
    known = state.known(name)
    if known is None:
        return Reject("unknown_task", "no such task", {"task": name})
    ended = state.how_it_ended(name)
    facts = _blank(name) | {"state": known[1], "cause": "ended"}
    if ended is not None:
        facts |= {
            "worker": ended.worker or None, "attempts": ended.attempts, "reason": ended.reason, "error": ended.error,
        }  # fmt: skip
    return Refuse(facts | {"text": TEXTS["ended"].format(**facts)})


def _blank(name: str) -> dict[str, Any]:
    return {
        "ok": True, "task": name, "state": "", "cause": "", "text": "", "priority": None, "age_ms": None, "after": [],
        "pause_ms": None, "serving": 0, "with_room": 0, "holds": [], "in_line": 0, "first": None, "has_had_ms": None,
        "running": 0, "yields": None, "decision": None, "worker": None, "attempts": 0, "reason": "", "error": "",
    }  # fmt: skip


def _facts(state: State, task: Task, now: int) -> dict[str, Any]:
    board = state.awake(now)
    workers = [worker for worker in state.workers.values() if task.lane[0] in worker.classes]
    serving = [worker for worker in workers if worker.serves(task.lane)]
    held = [(worker, lacks) for worker in workers if (lacks := lack(worker, task))]
    lane = board.lanes.get(task.lane)
    line = [] if lane is None or not task.listed else [lane.line]
    first = choose(line, now) if line else None
    account = state.ledger.agents.get(task.who[:2])
    facts = _blank(task.id) | {
        "state": task.state, "priority": task.priority, "age_ms": now - task.submitted_at,
        "after": list(task.unmet[:SHOWN]), "pause_ms": max(0, task.not_before - now) or None,
        "serving": len(serving), "with_room": sum(worker.fits(task.lane) for worker in serving),
        "holds": [{"v": 1, "worker": worker.name, "kind": worker.kind, "lacks": lacks}
                  for worker, lacks in held[:SHOWN]],
        "in_line": 0 if lane is None else lane.count, "first": None if first is None else first.id,
        "has_had_ms": state.ledger.attained(task.who, now) if task.id in state.tasks else None,
        "running": 0 if account is None else account.running, "yields": board.watched.served.get(task.id),
        "decision": _decision(board.verdicts.get(task.id), task),
        "worker": task.worker or None, "attempts": task.attempts, "reason": task.reason, "error": task.error,
    }  # fmt: skip
    return facts | {"cause": cause_of(state, task, facts, workers)}


def _decision(verdict: Verdict | None, task: Task) -> dict[str, Any] | None:
    """The latest placement; not the one of an attempt before the present one."""
    if verdict is None or task.worker not in {"", verdict.chosen.worker}:
        return None
    return {
        "v": 1,
        "chosen": rated_in_words(verdict.chosen),
        "rejected": [rated_in_words(rated) for rated in verdict.rejected],
    }


def rated_in_words(rated: Rated) -> dict[str, Any]:
    """A candidate with its score and what that is made of."""
    return {
        "v": 1,
        "worker": rated.worker,
        "score_us": rated.score,
        "terms": dict(zip(TERMS, rated.terms, strict=True)),
    }


def cause_of(state: State, task: Task, facts: dict[str, Any], workers: list[Worker]) -> str:
    there = {
        SUBMITTED: "dependencies", ASSIGNED: "start", RUNNING: "works", PREEMPTING: "yields", DEAD: "dead_letter",
    }  # fmt: skip
    if task.state in there:
        return there[task.state]
    if facts["pause_ms"]:
        return "pause"
    if not facts["serving"]:
        lacking = {lack(worker, task) for worker in workers}
        return "too_little" if lacking & {"resources"} else "no_worker"
    if state.ledger.held(task.who):
        return "quota"
    if facts["with_room"] >= task.lane[4]:
        return "order"
    ending = [worker for worker in workers if worker.serves(task.lane) and not (worker.draining or worker.suspect)]
    if not ending:
        return "draining"
    return "gang" if task.lane[4] > 1 else "no_room"


def lack(worker: Worker, task: Task) -> str:
    """What keeps a worker that knows the class from having the task now; "": nothing."""
    _, kind, labels, demands, _ = task.lane
    if kind and kind != worker.kind:
        return "kind"
    other = next((name for name, value in labels if worker.labels.get(name) != value), None)
    if other is not None:
        return "locality" if other in {HOST, REGION} else "model" if other.startswith(MODEL) else "labels"
    if any(worker.room.get(name, 0) < amount for name, amount in demands):
        return "resources"
    if worker.draining:
        return "draining"
    if worker.suspect:
        return "suspect"
    if worker.held:
        return "gang"
    return "" if worker.fits(task.lane) else "room"


def _in_words(facts: dict[str, Any], task: Task) -> dict[str, Any]:
    demands = ", ".join(f"{name} {amount}" for name, amount in task.lane[3])
    after = facts["after"][0] if facts["after"] else ""
    more = {
        "task_class": task.lane[0],
        "gang": task.lane[4],
        "demands": demands,
        "waits": len(task.unmet),
        "after": after,
    }
    text = TEXTS[facts["cause"]].format(**{**facts, **more})
    if facts["yields"]:
        text += f"; {facts['yields']} was asked to yield to it"
    return facts | {"text": text}
