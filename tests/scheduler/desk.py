"""A deterministic stand-in for the kernel: decides, applies, hands out what is due, keeps journal and notices."""

from __future__ import annotations

from typing import Any

from bursar.contracts import scheduler as wire
from bursar.contracts.base import Request
from bursar.kernel.decider import Accept, Command, Event, Notice, Outcome, Refuse, Reject
from bursar.kernel.inbox import Delivered
from bursar_scheduler.core import SchedulerDecider
from bursar_scheduler.state import State
from bursar_scheduler.validate import validate


class Desk:
    """``now`` is the decider's clock. Workers are principals ``w1``, ``w2``...; the submitter is ``ann`` by default."""

    def __init__(self, now: int = 1_000, **rules: Any) -> None:
        self.decider = SchedulerDecider()
        self.state: State = self.decider.initial()
        self.now = now
        self.incarnation = 1
        self.number = 0
        self.serial = 0
        self.sequence = 0
        self.journal: list[Event] = []
        self.told: list[Notice] = []
        self.sizes: list[int] = []
        if rules:
            self.must(wire.Configure(id=self.new_id(), **rules), "ops")

    def new_id(self) -> str:
        self.serial += 1
        return f"t-{self.serial}"

    # ---- deciding

    def ask(self, body: Any, principal: str = "ann") -> Outcome:
        """Decide one command and apply it, then all that has become due."""
        request_id = body.id if isinstance(body, Request) else ""
        outcome = self.decide(Command(principal, request_id, body))
        self.settle()
        return outcome

    def decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now, (self.incarnation, 1, self.number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
                self.journal.append(event)
            self.sizes.append(len(outcome.events))
            self.told.extend(notice for notice in outcome.broadcasts if isinstance(notice, Notice))
        return outcome

    def decide_only(self, body: Any, principal: str = "ann") -> Outcome:
        """Decide one command, and nothing that is due."""
        return self.decide(Command(principal, body.id if isinstance(body, Request) else "", body))

    def settle(self) -> None:
        """Hand out everything that is due now."""
        for _ in range(10_000):
            command = self.decider.due(self.state, self.now)
            if command is None:
                break
            assert isinstance(self.decide(command), Accept | Refuse)
        else:
            raise AssertionError("due hands out commands for ever")
        wake = self.decider.wake_at(self.state)
        assert wake is None or wake > self.now, "due has nothing, but asks to be woken at once"

    def advance(self, ms: int) -> None:
        """Let time pass, stopping wherever something is due."""
        to = self.now + ms
        self.settle()
        while (wake := self.decider.wake_at(self.state)) is not None and wake <= to:
            self.now = wake
            self.settle()
        self.now = to
        self.settle()

    def must(self, body: Any, principal: str = "ann") -> dict[str, Any]:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Accept), outcome
        return outcome.reply

    def hears(self, body: Any, principal: str = "ann") -> dict[str, Any]:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Refuse), outcome
        return outcome.reply

    def code(self, body: Any, principal: str = "ann") -> str:
        """The code of the error that this meets."""
        before = self.dump()
        outcome = self.decide_only(body, principal)
        assert isinstance(outcome, Reject), outcome
        assert self.dump() == before, "what is rejected changes nothing"
        self.settle()
        return outcome.code

    # ---- agents

    def submit(self, task_class: str = "work", principal: str = "ann", **fields: Any) -> str:
        body = wire.Submit(id=self.new_id(), task_class=task_class, **fields)
        task: str = self.must(body, principal)["task"]
        return task

    def post(self, name: str, principal: str = "ann", **fields: Any) -> str:
        self.sequence += 1
        message = wire.Post(name=name, task_class=fields.pop("task_class", "work"), **fields)
        self.deliver(self.sequence, message, principal)
        return f"{principal}.{name}"

    def deliver(self, sequence: int, message: wire.Post | None, principal: str = "ann") -> Outcome:
        return self.ask(Delivered(sequence, message, "" if message else "bad_shape"), principal)

    def cancel(self, task: str, principal: str = "ann") -> None:
        self.must(wire.Cancel(id=self.new_id(), task=task), principal)

    def find(self, task: str) -> dict[str, Any]:
        return self.hears(wire.Find(task=task), task.partition(".")[0])

    def where(self, task: str) -> str:
        state: str = self.find(task)["state"]
        return state

    # ---- workers

    def register(self, worker: str = "w1", slots: int = 1, **fields: Any) -> dict[str, Any]:
        fields.setdefault("classes", ("work",))
        fields.setdefault("session", f"s{worker}")
        return self.must(wire.Register(id=self.new_id(), slots=slots, **fields), worker)

    def beat(self, worker: str = "w1", *running: str, session: str = "") -> None:
        outcome = self.ask(wire.Heartbeat(session=session or f"s{worker}", running=running), worker)
        assert isinstance(outcome, Accept | Refuse), outcome

    def token(self, task: str) -> str:
        return self.state.tasks[task].token

    def worker(self, task: str) -> str:
        return self.state.tasks[task].worker

    def start(self, task: str) -> str:
        """Start its present attempt; the token."""
        token = self.token(task)
        self.must(wire.Start(id=self.new_id(), task=task, token=token), self.worker(task))
        return token

    def finish(self, task: str, token: str = "", worker: str = "", result: Any = None) -> Outcome:
        token, worker = token or self.token(task), worker or self.worker(task)
        return self.ask(wire.Finish(id=self.new_id(), task=task, token=token, result=result), worker)

    def fail(self, task: str, error: str = "", *, retryable: bool = True) -> dict[str, Any]:
        body = wire.Fail(id=self.new_id(), task=task, token=self.token(task), error=error, retryable=retryable)
        return self.must(body, self.worker(task))

    def run(self, task: str, result: Any = None) -> None:
        """Start it and finish it."""
        self.start(task)
        assert isinstance(self.finish(task, result=result), Accept)

    def release(self, task: str, token: str, worker: str) -> Outcome:
        return self.ask(wire.Release(id=self.new_id(), task=task, token=token), worker)

    def notices(self, principal: str, what: str) -> list[dict[str, Any]]:
        return [notice.body for notice in self.told if notice.principal == principal and notice.body["what"] == what]

    # ---- checking

    def lose(self, entries: int) -> None:
        """The journal comes back without its last events, and a new incarnation begins."""
        kept = self.journal[: max(0, len(self.journal) - entries)]
        self.state, self.journal, self.sizes = self.decider.initial(), [], []
        self.incarnation += 1
        self._replay(kept)
        self._replay(list(self.decider.recover(self.state, self.now)))

    def take_over(self) -> None:
        """Another instance goes on with what is in the journal: nothing volatile is left."""
        self.state = self.decider.load(self.dump())

    def _replay(self, events: list[Event]) -> None:
        for event in events:
            self.decider.evolve(self.state, event)
            self.journal.append(event)

    def dump(self) -> Any:
        return self.decider.dump(self.state)

    def check(self) -> None:
        """What must hold at any time: the parts agree, replay gives the same state, and so does dump and load."""
        validate(self.state, self.now)
        replayed = self.decider.initial()
        for event in self.journal:
            self.decider.evolve(replayed, event)
        assert self.decider.dump(replayed) == self.dump()
        assert self.decider.dump(self.decider.load(self.dump())) == self.dump()
        validate(replayed, self.now)
