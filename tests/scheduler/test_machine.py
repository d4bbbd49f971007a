"""The scheduler under any history: a state machine that plays agents, workers, operators, time, and loss of data.

Beside it stands `Truth`, which knows what those who took part were told.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_graph import Graph
from bursar.kernel.decider import Accept, Refuse, Reject
from bursar.kernel.inbox import Delivered
from bursar_scheduler import events
from bursar_scheduler.lifecycle import ENDS, LIVE
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.validate import is_conserving, validate
from tests.scheduler.desk import Desk
from tests.scheduler.history import Lives, check_history
from tests.scheduler.strategies import BATCH, RAM, RULES, WORKERS, labels, task_fields, workers
from tests.scheduler.truth import Truth

pytestmark = pytest.mark.property


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(**RULES)
        self.truth = Truth(slots=dict(WORKERS))
        self.sessions = dict.fromkeys(WORKERS, "s0")
        self.notices: list[dict[str, Any]] = []
        self.posts: list[Delivered] = []
        self.heard = 0
        self.lossy = self.may_lose = False
        self.checked = 0
        self.lives = Lives()
        self.signs: dict[str, int] = {}
        self.checkpoints: dict[str, str] = {}
        self.began = self.last_beat = 0

    @initialize(may_lose=st.sampled_from([False, False, True]))
    def begin(self, may_lose: bool) -> None:
        """Workers that can do all; most histories lose nothing."""
        self.may_lose = may_lose
        for worker in WORKERS:
            self.register(worker, ("work", "other"), {}, False)

    # ---- agents

    @rule(
        fields=task_fields,
        who=st.sampled_from(["ann", "bob"]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        data=st.data(),
        number=st.sampled_from([0, 0, 1, 2]),
    )
    def submit(self, fields: dict[str, Any], who: str, key: str | None, data: st.DataObject, number: int) -> None:
        desk = self.desk
        seen = f"{desk.incarnation}.1.1.0123456789abcdef"
        fields = {**fields, **self.links(who, data, number)}
        body = wire.Submit.model_validate({"id": desk.new_id(), "key": key, "seen": seen, **fields})
        before = desk.dump()
        desk.settle()
        outcome = desk.ask(body, who)
        if isinstance(outcome, Accept):
            assert outcome.reply["task"] not in self.truth.accepted or self.lossy
            self.truth.accepted.add(outcome.reply["task"])
        elif isinstance(outcome, Refuse) and outcome.reply["ok"]:
            assert outcome.reply["task"] in self.truth.accepted, "known, and was never accepted"
        else:
            assert desk.dump() == before or isinstance(outcome, Refuse | Reject)
        self.note()

    def links(self, who: str, data: st.DataObject, number: int) -> dict[str, Any]:
        """So many own tasks that it comes after, whatever has become of them."""
        own = sorted(task for task in self.truth.accepted if task.startswith(who))
        if not own or not number:
            return {}
        after = tuple(data.draw(st.sampled_from(own[-6:])) for _ in range(number))
        return {"after": after, "after_failure": data.draw(st.sampled_from(["cancel", "cancel", "run"]))}

    @rule(
        fields=task_fields,
        name=st.sampled_from(["g1", "g2", "g3", "g4"]),
        shape=st.sampled_from([((), ("i0",)), ((), ("i0",), ("i1",), ("i0", "i2")), ((), (), ("i0", "i1"))]),
        data=st.data(),
    )
    def graph(self, fields: dict[str, Any], name: str, shape: tuple[tuple[str, ...], ...], data: st.DataObject) -> None:
        """Several tasks at once: chains, a diamond, a gather; all or none."""
        desk = self.desk
        seen = f"{desk.incarnation}.1.1.0123456789abcdef"
        items = [{"name": f"i{number}", "after": after} for number, after in enumerate(shape)]
        items[0] |= {"after": self.links("ann", data, 1).get("after", ())}
        body = {"id": desk.new_id(), "name": name, "seen": seen, "template": fields, "items": tuple(items)}
        before = self.truth.accepted.copy()
        outcome = desk.ask(Graph.model_validate(body), "ann")
        if isinstance(outcome, Accept):
            self.truth.accepted.update(outcome.reply["tasks"])
            assert len(self.truth.accepted) - len(before) == len(shape) - outcome.reply["known"] or self.lossy
        self.note()

    @rule(fields=task_fields, name=st.sampled_from(["p1", "p2", "p3"]), gap=st.integers(1, 2))
    def post(self, fields: dict[str, Any], name: str, gap: int) -> None:
        self.desk.sequence += gap
        message = wire.Post.model_validate({"name": name, **fields})
        self.deliver(Delivered(self.desk.sequence, message))

    @precondition(lambda self: self.posts)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """The reader begins again at the state's position or before it."""
        again = data.draw(st.sampled_from(self.posts))
        if again.sequence <= self.desk.state.position:
            before = self.desk.dump()
            assert isinstance(self.desk.decide_only(again, "ann"), Refuse)
            assert self.desk.dump() == before
        elif again.sequence == self.desk.state.position + 1:
            self.deliver(again)

    def deliver(self, message: Delivered) -> None:
        outcome = self.desk.ask(message, "ann")
        assert isinstance(outcome, Accept), "a message that was not decided must be decided"
        assert self.desk.state.position == message.sequence
        self.posts.append(message)
        for event in outcome.events:
            if event[0] in {events.ACCEPTED, events.SET_ASIDE}:
                assert event[2] not in self.truth.accepted or self.lossy, f"{event[2]} was accepted twice"
                self.truth.accepted.add(event[2])
        self.note()

    @precondition(lambda self: self.truth.accepted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.truth.accepted)))
        if task in self.desk.state.dead and task in self.truth.ends:
            return  # in doubt after a loss: whoever knows that it has ended leaves it alone
        outcome = self.desk.ask(wire.Cancel(id=self.desk.new_id(), task=task), task.partition(".")[0])
        if isinstance(outcome, Accept):
            self.truth.ended(task, "cancelled")
        self.note()

    @precondition(lambda self: self.desk.state.dead)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.desk.state.dead)))
        if not (self.lossy and task in self.truth.ends):  # an operator who knows
            self.desk.must(wire.Requeue(id=self.desk.new_id(), task=task), "ops")
            self.note()

    # ---- workers

    @rule(worker=workers, classes=st.sampled_from([("work",), ("work", "other")]), zone=labels, anew=st.booleans())
    def register(self, worker: str, classes: tuple[str, ...], zone: dict[str, str], anew: bool) -> None:
        """A new process, or the same once more with all that it really runs."""
        if anew:
            self.sessions[worker] = f"s{self.desk.serial}"
            self.truth.died(worker)
        running = tuple(self.truth.running.get(worker, ()))
        self.last_beat = self.desk.now
        place = {"region": "eu" if worker == "w2" else None, "models": ("m",) if zone else (), "host": f"h{worker[1]}"}
        reply = self.desk.register(
            worker, WORKERS[worker], session=self.sessions[worker], classes=classes, labels=zone, running=running,
            ram_mib=RAM, batch_tokens=BATCH, **place,
        )  # fmt: skip
        assert set(reply["void"]) <= set(running)
        self.note()

    @rule(worker=workers, hides=st.booleans())
    def beat(self, worker: str, hides: bool) -> None:
        running = tuple(self.truth.running.get(worker, ()))
        listed = running[:-1] if hides else running
        self.sign(worker, listed)
        self.desk.beat(worker, *listed, session=self.sessions[worker])
        self.note()

    @precondition(lambda self: self.notices)
    @rule(data=st.data())
    def start_an_old_one(self, data: st.DataObject) -> None:
        """Any assignment ever sent to the session that a worker is in now."""
        self.begin_attempt(data.draw(st.sampled_from(self.notices[-12:])))

    @precondition(lambda self: self.notices)
    @rule()
    def start(self) -> None:
        """Whatever is new, by those that it was sent to."""
        for told in self.notices[-6:]:
            self.begin_attempt(told)

    def begin_attempt(self, told: dict[str, Any]) -> None:
        worker, task, token = told["worker"], told["task"], told["token"]
        mine = self.truth.running.get(worker, {})
        if told["session"] != self.sessions[worker] or token in mine:
            return
        outcome = self.desk.ask(wire.Start(id=self.desk.new_id(), task=task, token=token), worker)
        if isinstance(outcome, Accept):
            self.truth.started(worker, token, task)
            self.signs[token] = self.desk.now
        self.note()

    @precondition(lambda self: self.truth.tokens)
    @rule(
        data=st.data(),
        how=st.sampled_from(
            ["finish", "finish", "fail", "fail for good", "release", "progress", "yield", "checkpoint"]
        ),
        brings=st.booleans(),
    )
    def end(self, data: st.DataObject, how: str, brings: bool) -> None:
        """An attempt that runs, or any old one by its worker, or by another."""
        going = sorted({task for held in self.truth.running.values() for task in held.values()})
        task = data.draw(st.sampled_from(going * 4 + sorted(self.truth.tokens)))
        token = data.draw(st.sampled_from(self.truth.tokens[task][-2:]))
        owners = [n["worker"] for n in self.notices if n["token"] == token] or ["w1"]
        owner = data.draw(st.sampled_from(owners))
        worker = data.draw(st.sampled_from([owner, owner, owner, "w1", "w3"]))
        fields: dict[str, Any] = {"task": task, "token": token}
        body: Any
        if how in {"yield", "checkpoint"}:
            kind = wire.Yield if how == "yield" else wire.Checkpoint
            body = kind.model_validate({"id": self.desk.new_id(), "checkpoint": f"c {token}", **fields})
        elif how == "progress":
            body = wire.Progress.model_validate(fields)
        elif how == "release":
            body = wire.Release.model_validate({"id": self.desk.new_id(), **fields})
        elif how == "finish":
            body = wire.Finish.model_validate({"id": self.desk.new_id(), "result": b"r", "next": brings, **fields})
        else:
            fields |= {"retryable": how == "fail", "next": brings}
            body = wire.Fail.model_validate({"id": self.desk.new_id(), **fields})
        runs = token in self.truth.running.get(worker, {})
        if worker in owners and how not in {"progress", "checkpoint"}:
            self.truth.stopped(worker, token)  # the process itself has ended it, whatever the answer
        outcome = self.desk.ask(body, worker)
        if how == "progress" and isinstance(outcome, Refuse):
            self.signs[token] = self.desk.now
        if how in {"yield", "checkpoint"} and isinstance(outcome, Accept):
            assert runs, f"{token} has told of a checkpoint and did not run"
            self.signs[token] = self.desk.now
            self.checkpoints[task] = f"c {token}"
        if how in {"finish", "fail", "fail for good"} and isinstance(outcome, Accept):
            assert runs, f"{token} was ended and did not run"
            assert worker in owners
            if outcome.reply["state"] in ENDS:
                self.truth.ended(task, outcome.reply["state"])
            if "next" in outcome.reply:
                assert brings
                self.go_on(worker, outcome.reply["next"])
        self.note()

    def go_on(self, worker: str, begun: dict[str, Any]) -> None:
        """The answer has brought the next attempt: it runs."""
        self.truth.assigned(begun)
        self.notices.append({**begun, "worker": worker, "session": self.sessions[worker]})
        self.truth.started(worker, begun["token"], begun["task"])
        self.signs[begun["token"]] = self.desk.now

    @rule(worker=workers, verb=st.sampled_from([wire.Drain, wire.Leave]))
    def go(self, worker: str, verb: type[wire.Drain]) -> None:
        if worker in self.desk.state.workers and not self.truth.running.get(worker):
            self.desk.ask(verb(id=self.desk.new_id(), session=self.sessions[worker]), worker)
            self.note()

    @rule(worker=workers)
    def is_taken_away(self, worker: str) -> None:
        """A spot notice: the process lives until its host goes, and comes back as another one."""
        if worker in self.desk.state.workers:
            body = wire.Drain(id=self.desk.new_id(), session=self.sessions[worker], within_ms=800)
            self.desk.must(body, worker)
            self.note()

    # ---- the world

    @rule(ms=st.one_of(st.integers(1, 300), st.integers(1, 3_000)))
    def time_passes(self, ms: int) -> None:
        self.desk.advance(ms)
        self.note()

    @rule(
        policy=st.sampled_from(sorted(POLICIES)),
        tick=st.sampled_from(["none", "earliest"]),
        background=st.sampled_from(["none", "rebalance"]),
        slots=st.sampled_from(["none", "demand"]),
        shadow=st.sampled_from(["none", "earliest", "rebalance", "demand", "score"]),
    )
    def configure(self, policy: Any, tick: Any, background: Any, slots: Any, shadow: Any) -> None:
        body = wire.Configure(
            id=self.desk.new_id(), policy=policy, tick=tick, background=background, slot_policy=slots, shadow=shadow
        )
        self.desk.must(body, "ops")
        self.note()

    @rule(agent=st.sampled_from(["ann", "bob"]), slots=st.integers(0, 3), borrow=st.sampled_from([None, 0, 2]))
    def share(self, agent: str, slots: int, borrow: int | None) -> None:
        body = wire.Share(id=self.desk.new_id(), agent=agent, weight=1 + slots, slots=slots, borrow=borrow)
        self.desk.must(body, "ops")
        self.note()

    @rule()
    def take_over(self) -> None:
        self.desk.take_over()
        self.began = self.desk.now
        self.desk.settle()
        self.note()

    @precondition(lambda self: self.may_lose)
    @rule(decisions=st.integers(0, 6))
    def lose(self, decisions: int) -> None:
        """The journal comes back without its last decisions."""
        desk = self.desk
        desk.lose(sum(desk.sizes[len(desk.sizes) - decisions :]) if decisions else 0)
        self.lossy = True
        self.lives, self.checked = Lives(), 0
        self.heard = len(desk.told)
        desk.settle()
        self.note()

    # ---- what must hold

    def note(self) -> None:
        """Read what everybody was told since, and what expired."""
        for notice in self.desk.told[self.heard :]:
            if notice.body["what"] == "assign":
                self.truth.assigned(notice.body)
                kept = self.checkpoints.get(notice.body["task"])
                assert notice.body["checkpoint"] == kept or self.lossy, f"{notice.body['task']} goes on without {kept}"
                self.notices.append({**notice.body, "worker": notice.principal})
            elif notice.body["what"] == "ended" and notice.body["state"] == "expired":
                self.truth.ended(notice.body["task"], "expired")
            elif notice.body["what"] == "ended" and notice.body["reason"] == "dependency failed":
                self.truth.ended(notice.body["task"], "cancelled")
        self.heard = len(self.desk.told)

    @invariant()
    def nothing_accepted_is_lost(self) -> None:
        """Everything accepted is live, a dead letter, or has ended; after a loss it may be unknown."""
        state = self.desk.state
        for task in self.truth.accepted:
            assert state.known(task) is not None or self.lossy, f"{task} is lost"
        for task in self.truth.ends:
            assert task not in state.tasks, f"{task} has ended and is worked on"

    @invariant()
    def work_is_conserved(self) -> None:
        assert is_conserving(self.desk.state)

    @invariant()
    def parts_agree(self) -> None:
        validate(self.desk.state, self.desk.now)

    @invariant()
    def resources_are_not_exceeded(self) -> None:
        """Whatever truly runs on a worker."""
        for worker, attempts in self.truth.running.items():
            lanes = [self.lives.lanes[task] for task in attempts.values() if task in self.lives.lanes]
            assert sum(dict(lane).get("ram_mib", 0) for lane in lanes) <= RAM, f"{worker} runs more than fits"
            assert sum(dict(lane).get("batch_tokens", 0) for lane in lanes) <= BATCH, f"the batch of {worker}"

    @invariant()
    def every_change_stands_in_the_table(self) -> None:
        """The events, replayed by the names of what happened, follow the life of a task."""
        journal = self.desk.journal
        for event in journal[self.checked :]:
            self.lives.follow(event)
        self.checked = len(journal)
        live = {name: task.state for name, task in self.desk.state.tasks.items()}
        assert {name: where for name, where in self.lives.states.items() if where in LIVE} == live

    @invariant()
    def no_attempt_outlives_its_lease(self) -> None:
        """A lease lasts from the last sign of life, or from the last take-over."""
        for task in self.desk.state.tasks.values():
            if task.state == "running":
                alive = max(self.signs.get(task.token, 0), self.began)
                assert self.desk.now < alive + task.lease_ms, f"{task.id} runs on without a sign of life"

    def sign(self, worker: str, tokens: tuple[str, ...]) -> None:
        """A heartbeat; after a silence of all it speaks for everybody."""
        self.signs.update(dict.fromkeys(tokens, self.desk.now))
        if self.desk.now - self.last_beat > RULES["worker_ttl_ms"] // 2:
            self.began = self.desk.now
        self.last_beat = self.desk.now

    def teardown(self) -> None:
        self.desk.check()
        if not self.lossy:
            check_history(self.desk.journal[1:])


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
