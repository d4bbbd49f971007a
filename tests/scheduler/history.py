"""What must hold of a whole journal of the scheduler, and of any state that it may lead to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bursar.contracts import scheduler as wire
from bursar.kernel.decider import Event
from bursar_scheduler import events
from bursar_scheduler.lifecycle import ENDS, LIVE, TRANSITIONS
from bursar_scheduler.state import State
from bursar_scheduler.task import Task
from tests.scheduler.desk import Desk
from tests.scheduler.truth import Key, key_of

ROUNDS = 400
MAX_KILLS = 2
"""The default; histories that are judged keep to it."""


class Lives:
    """Where each task stands, as the events tell: ``states``; ``unmet``: what it still waits for."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.after: dict[str, dict[str, Any]] = {}
        self.unmet: dict[str, set[str]] = {}
        self.lanes: dict[str, Any] = {}
        self.bands: dict[str, int] = {}
        self.draining: set[str] = set()
        self.workers: dict[str, str] = {}
        self.killed: dict[str, set[str]] = {}
        self.sessions: dict[str, str] = {}
        self.has_moves = False

    def follow(self, event: Event) -> None:
        """Move a task along the table; KeyError when there is no such move."""
        kind, name, states = event[0], event[2] if len(event) > 2 else "", self.states
        if kind in {events.ACCEPTED, events.SET_ASIDE}:
            self.after[name] = rest = event[15]
            self.bands[name] = event[6]
            self.lanes[name] = rest.get("demands", ())
            self.unmet[name] = set(rest.get("unmet", ()))
            states[name] = "dead" if kind == events.SET_ASIDE else "submitted" if self.unmet[name] else "ready"
        elif kind == events.LOST:
            states.update({name: "dead" for name, where in states.items() if where in LIVE})
        elif kind == events.CONFIGURED:
            self.has_moves |= event[3].get("background", "none") != "none"
        elif kind == events.MET:
            self.met(name, event[3])
        else:
            what = self.what_of(event)
            if what is not None:
                self.judge(name, kind, what)
                states[name] = TRANSITIONS[states[name], what]
            if kind in {events.ASSIGNED, events.GANGED}:
                assert not self.unmet[name], f"{name} was assigned before {self.unmet[name]}"
                self.workers[name] = event[3] if kind == events.ASSIGNED else event[3][0]
            elif kind == events.PARTED:
                self.workers[name] = event[3]
            elif kind in {events.DRAINS, events.REGISTERED}:
                if kind == events.REGISTERED:
                    self.sessions[name] = event[3]
                (self.draining.add if kind == events.DRAINS else self.draining.discard)(name)

    def judge(self, name: str, kind: str, what: str) -> None:
        """Who is preempted for whom, and how often workers die with the same task."""
        if kind == events.PREEMPTING and self.workers[name] not in self.draining and not self.has_moves:
            above = any(
                where == "ready" and self.bands[other] < self.bands[name] for other, where in self.states.items()
            )
            assert above, f"{name} yields for nobody above it"
        if what == "worker gone" and self.states[name] in {"running", "preempting"}:
            killed = self.killed.setdefault(name, set())
            killed.add(f"{self.workers[name]} {self.sessions[self.workers[name]]}")
            assert len(killed) < MAX_KILLS, f"{len(killed)} workers died with it: {name}"
        elif what == "requeue":
            self.killed[name] = set()

    def met(self, name: str, other: str) -> None:
        """What it comes after is over, and was done unless it is to run all the same."""
        end = self.states.get(other)
        assert end == "done" or self.after[name].get("runs_anyway"), f"{name} runs though {other} is {end}"
        assert end not in LIVE, f"{name} does not wait for {other}, which is {end}"
        self.unmet[name].remove(other)
        if not self.unmet[name]:
            self.states[name] = TRANSITIONS[self.states[name], "the tasks before it have ended"]

    def what_of(self, event: Event) -> str | None:
        kind = event[0]
        if kind == events.REQUEUED:
            return "requeue, after other tasks" if self.unmet[event[2]] else "requeue"
        if kind in {events.WAITS, events.DEAD}:
            return str(event[3])
        return str(event[6]) if kind == events.ENDED else _WHAT.get(kind)


_WHAT = {events.ASSIGNED: "assign", events.GANGED: "assign", events.STARTED: "start", events.PREEMPTING: "preempt"}


def check_history(happened: Iterable[Event], posted: int = 0) -> dict[str, str]:
    """Every task follows the table and is accepted once, tokens grow, pauses are kept, each message of the inbox is
    decided once and in order (``posted``: so many at the end, with no gap). Returns where each task stands."""
    lives = Lives()
    states = lives.states
    tokens: dict[str, Key] = {}
    pauses: dict[str, int] = {}
    position = 0
    for event in happened:
        kind, at = event[0], event[1]
        if kind in {events.ACCEPTED, events.SET_ASIDE}:
            assert event[2] not in states, f"{event[2]} was accepted twice"
        elif kind == events.POSTED:
            assert event[2] > position, f"inbox message {event[2]} after {position}"
            assert event[2] == position + 1 or not posted, f"inbox message {position + 1} was passed over"
            position = event[2]
        elif kind in {events.ASSIGNED, events.GANGED}:
            token = key_of(event[4])
            assert token > tokens.get(event[2], (0,)), f"{event[2]}: token {token} after {tokens[event[2]]}"
            assert at >= pauses.get(event[2], 0), f"{event[2]} was assigned {pauses[event[2]] - at} ms too early"
            tokens[event[2]] = token
        elif kind == events.WAITS:
            pauses[event[2]] = event[5]
        try:
            lives.follow(event)
        except KeyError as error:
            raise AssertionError(f"{event} is not in the table: {error}") from error
    assert position >= posted, f"{posted - position} messages of the inbox are not decided"
    return states


def finish_everything(state: State, now: int) -> None:
    """Faultless workers take over whatever there is: all tasks end, without anybody's help."""
    desk = Desk(now)
    desk.state = desk.decider.load(desk.decider.dump(state))
    desk.incarnation, desk.number = 1_000_000, 0  # above every token
    for name in ("fresh1", "fresh2"):
        desk.register(name, 4, classes=("work", "other"))
    for _ in range(ROUNDS):
        if all(is_stuck(desk.state, task) for task in desk.state.tasks.values()):
            return
        desk.advance(500)
        for name in ("fresh1", "fresh2"):
            desk.beat(name, *[t.token for t in desk.state.tasks.values() if name in t.members])
        for task in list(desk.state.tasks.values()):
            if task.worker.startswith("fresh") and task.state == "assigned":
                token, members = task.token, task.members
                for name in members:
                    desk.must(wire.Start(id=desk.new_id(), task=task.id, token=token), name)
                for name in members:
                    desk.finish(task.id, token, name)
    left = {task.id: (task.state, task.worker) for task in desk.state.tasks.values()}
    raise AssertionError(f"with faultless workers these do not end: {left}")


def serves(task: Task) -> bool:
    """Whether the fresh workers may have a task."""
    task_class, kind, labels, demands, gang = task.lane
    return task_class in {"work", "other"} and kind in {"", "cpu"} and not labels and not demands and gang <= 2


def is_stuck(state: State, task: Task) -> bool:
    """Whether nobody serves it, or something that it comes after; or that waits for an operator."""
    before = [state.tasks[name] for name in task.unmet if name in state.tasks]
    return not serves(task) or any(name in state.dead for name in task.unmet) or any(is_stuck(state, t) for t in before)


def accepted_ends(happened: Iterable[Event]) -> dict[str, int]:
    """How many ends of each task stand in the journal."""
    counts: dict[str, int] = {}
    for event in happened:
        if event[0] == events.ENDED and event[3] in ENDS:
            counts[event[2]] = counts.get(event[2], 0) + 1
    return counts
