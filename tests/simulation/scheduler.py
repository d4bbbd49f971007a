"""The real scheduler as a workload: every client submits, posts, cancels, and is a worker too.

Workers hear notices that may be lost, late or doubled; they die and come back as another session, hang, end late, and
register again. What they truly run is kept by `Truth`, on true time. The inbox is a list that an owner reads from its
state's position on, as `bursar.kernel.inbox_reader` does.

At the end, whatever state the history has led to, faultless workers take it over: all tasks have to end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_graph import Graph, Item
from bursar.kernel.decider import Broadcast, Command, Decider, Fence, Notice, Outcome
from bursar.kernel.inbox import Delivered
from bursar_scheduler import events
from bursar_scheduler.configuring import ConfigureFromSettings
from bursar_scheduler.core import SchedulerDecider
from bursar_scheduler.lifecycle import ENDS
from bursar_scheduler.state import State
from bursar_scheduler.validate import is_conserving, validate
from tests.scheduler.history import check_history, finish_everything
from tests.scheduler.truth import Truth
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.world import World

SLOTS = 2
RULES: dict[str, int | str] = {
    "worker_ttl_ms": 1_500,
    "start_within_ms": 1_200,
    "max_tasks": 60,
    "max_losses": 4,
    "min_run_ms": 50,
    "yield_within_ms": 700,
}


class Beat(wire.Heartbeat):
    """A heartbeat as the simulator's clients can send it."""

    seen: str | None = None


class Letter(NamedTuple):
    """The next message of the inbox, and from whom it is."""

    principal: str
    sequence: int
    post: wire.Post


class InboxScheduler(SchedulerDecider):
    """The decider, with a reader of the inbox: what lies behind the position is due. When nothing is, no worker may
    stand idle while work waits that it may have."""

    def __init__(self, inbox: list[tuple[str, wire.Post]]) -> None:
        super().__init__()
        self._inbox = inbox

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        body = command.body
        if isinstance(body, Beat):
            beat = wire.Heartbeat(session=body.session, running=body.running)
            command = command._replace(body=beat)
        elif isinstance(body, Letter):
            command = Command(body.principal, "", Delivered(body.sequence, body.post))
        return super().decide(state, command, now, fence)

    def due(self, state: State, now: int) -> Command | None:
        command = super().due(state, now)
        assert command is not None or is_conserving(state), "a worker stands idle while work waits that it may have"
        if command is None and state.position < len(self._inbox):
            sequence = state.position + 1
            return Command("", "", Letter(self._inbox[sequence - 1][0], sequence, self._inbox[sequence - 1][1]))
        return command


class Hand:
    """A client's process as a worker. ``held``: tokens that it is starting, runs or ends, with their tasks."""

    def __init__(self, number: int) -> None:
        self.session = f"s{number}"
        self.is_registering = False
        self.held: dict[str, str] = {}


class SchedulerWorkload:
    name = "scheduler"

    def __init__(self) -> None:
        self.inbox: list[tuple[str, wire.Post]] = []
        self.truth = Truth()
        self.hands: dict[str, Hand] = {}
        self.mine: dict[str, list[str]] = {}
        self.ends: dict[str, list[str]] = {}
        self.died = self.begun = self.yielded = 0

    def decider(self) -> Decider[Any]:
        return InboxScheduler(self.inbox)

    def start(self) -> list[Any]:
        return [ConfigureFromSettings(rules=RULES)]

    # ---- what clients ask

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        hand = self.hands.get(client.name)
        if hand is None:
            self.hands[client.name] = hand = Hand(len(client.name))
            self.truth.slots[client.name] = SLOTS
            return self._register(client, hand)
        if client.todo:
            make, fields = client.todo.pop(0)
            return make, fields, False
        number = client.number * 7 + client.queries * 3
        client.queries -= 1
        if number % 3 == 0:
            return Beat, {"session": hand.session, "running": tuple(hand.held)}, True
        if number % 23 == 1 and not hand.is_registering:
            return self._register(client, hand)
        return self._ask(client, number)

    def _register(self, client: Client, hand: Hand) -> tuple[Any, dict[str, Any], bool]:
        hand.is_registering = True
        fields = {
            "session": hand.session, "slots": SLOTS, "classes": ("work", "other"), "running": tuple(hand.held),
            "batch_tokens": 1_500, "region": ("us", "eu")[len(client.name) % 2], "models": ("m",),
        }  # fmt: skip
        return wire.Register, fields, False

    def _ask(self, client: Client, number: int) -> tuple[Any, dict[str, Any], bool]:
        fields: dict[str, Any] = {
            "task_class": "other" if number % 5 == 0 else "work",
            "payload": b"x" * (number % 7),
            "priority": wire.BANDS[number % 3],
            "retries": number % 3,
            "backoff_ms": number * 37 % 400,
            "lease_ms": 1_000 + number * 131 % 2_000,
            "deadline_ms": 2_500 if number % 11 == 0 else None,
            "timeout_ms": 1_500,
            "preemptible": number % 2 == 0,
            "program": (None, "p", "q")[number % 3],
            "needs": wire.Needs(gang=1 + (number % 19 == 6), batch_tokens=1_000 if number % 6 == 3 else None),
            "hints": wire.Hints(prefix=("a", "b")[: number % 3], model="m") if number % 9 == 1 else None,
        }
        if number % 8 == 2:
            post = wire.Post.model_validate({"name": f"p{len(self.inbox)}", **fields})
            self.inbox.append((client.name, post))
            return wire.Status, {}, True
        if number % 13 == 4 and self.mine.get(client.name):
            return wire.Cancel, {"task": self.mine[client.name].pop(0)}, False
        if number % 17 == 5:
            items = tuple(Item(name=f"i{n}", after=(f"i{n - 1}",) if n else ()) for n in range(3))
            return Graph, {"name": f"g{number}", "template": wire.Task(**fields), "items": items}, False
        if number % 4 == 1 and self.mine.get(client.name):
            fields["after"] = tuple(self.mine[client.name][-2:])
            fields["after_failure"] = "run" if number % 3 == 0 else "cancel"
        return wire.Submit, fields, False

    def last(self) -> tuple[Any, dict[str, Any]]:
        return wire.Status, {}

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        return {} if fence is None else {"seen": f"{fence[0]}.{fence[1]}.{fence[2]}.{'0' * 16}"}

    def changed(self, body: Any) -> Any:
        return body.model_copy(update={"payload": b"changed"}) if isinstance(body, wire.Submit) else None

    # ---- notices

    def announced(self, world: World, broadcasts: list[Broadcast | Notice]) -> None:
        """After a commit: to each worker, late, twice or not at all."""
        simulator, faults = world.simulator, world.faults
        for notice in broadcasts:
            if not isinstance(notice, Notice) or notice.body["what"] == "ended":
                continue
            if notice.body["what"] == "assign":
                self.truth.assigned(notice.body, late=world.checker.counts["take_overs"] > 1)
            for _ in range(1 + simulator.chance(faults.repeated_message)):
                if not simulator.chance(faults.lost_message):
                    delay = simulator.between(0, faults.slow + 4_000 * simulator.chance(faults.late_message))
                    simulator.at(delay, self._hear, world, notice)

    def _hear(self, world: World, notice: Notice) -> None:
        hand = self.hands.get(notice.principal)
        client = next((client for client in world.clients.all if client.name == notice.principal), None)
        if hand is None or client is None:
            return
        body = notice.body
        if body["what"] == "assign":
            if body["session"] != hand.session or body["token"] in hand.held or hand.is_registering:
                return
            if len(hand.held) < SLOTS:
                hand.held[body["token"]] = body["task"]
                client.todo.append((wire.Start, {"task": body["task"], "token": body["token"]}))
        elif body["what"] == "stop" and body.get("preempt"):
            self._yield(client, hand, body)
        elif body["what"] == "stop":
            self._release(client, hand, body["token"])
        elif not hand.is_registering:
            make, fields, _ = self._register(client, hand)
            client.todo.insert(0, (make, fields))

    def _yield(self, client: Client, hand: Hand, body: dict[str, Any]) -> None:
        """The process has stopped it at the end of a chunk, unless it had ended, or is starting."""
        if body["token"] in self.truth.running.get(client.name, {}):
            self.truth.stopped(client.name, body["token"])
            fields = {"task": body["task"], "token": body["token"], "checkpoint": body["token"]}
            client.todo.append((wire.Yield, fields))
            self.yielded += 1

    def _release(self, client: Client, hand: Hand, token: str) -> None:
        """The process has stopped it."""
        self.truth.stopped(client.name, token)
        hand.held.pop(token, None)
        client.todo.append((wire.Release, {"token": token}))

    # ---- what they do with the answers

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        body, hand = question.body, self.hands.get(client.name)
        if not reply.get("ok") or hand is None:
            return
        if isinstance(body, wire.Submit):
            self.truth.accepted.add(reply["task"])
            self.mine.setdefault(client.name, []).append(reply["task"])
        elif isinstance(body, Graph):
            self.truth.accepted.update(reply["tasks"])
        elif isinstance(body, wire.Cancel):
            self._ended(body.task, "cancelled")
        elif isinstance(body, wire.Register) and body.session == hand.session:
            hand.is_registering = False
            for token in reply["void"]:
                self._release(client, hand, token)
        elif isinstance(body, wire.Start):
            self._started(world, client, hand, body)
        elif isinstance(body, wire.Yield):
            hand.held.pop(body.token, None)
        elif isinstance(body, wire.Finish | wire.Fail):
            is_same_life = hand.held.pop(body.token, None) is not None
            if reply["state"] in ENDS:
                self._ended(body.task, reply["state"])
            if reply.get("next") and is_same_life:
                self._go_on(world, client, hand, reply["next"])

    def _ended(self, task: str, how: str) -> None:
        self.ends.setdefault(task, []).append(how)

    def _go_on(self, world: World, client: Client, hand: Hand, begun: dict[str, Any]) -> None:
        """The answer to an end has brought the next attempt."""
        self.truth.assigned(begun, late=True)
        hand.held[begun["token"]] = begun["task"]
        self.begun += 1
        self._started(world, client, hand, wire.Start(id="begun", task=begun["task"], token=begun["token"]))

    def _started(self, world: World, client: Client, hand: Hand, body: wire.Start) -> None:
        """It runs from now on, unless the process has died or stopped it meanwhile; it ends in one of many ways."""
        if hand.held.get(body.token) != body.task:
            return
        self.truth.started(client.name, body.token, body.task)
        simulator = world.simulator
        what = simulator.between(0, 9)
        if what == 0:
            simulator.at(simulator.between(10, 800), self._die, client, hand.session)
        elif what > 1:  # else it hangs
            late = 3_000 if what == 2 else 300
            simulator.at(simulator.between(5, late), self._end, client, body, what)

    def _end(self, client: Client, body: wire.Start, what: int) -> None:
        """The function has returned; what is told may come late, or be told twice."""
        if body.token not in self.truth.running.get(client.name, {}):
            return
        self.truth.stopped(client.name, body.token)
        fields: dict[str, Any] = {"task": body.task, "token": body.token, "next": what != 9}
        if what in {3, 4}:
            client.todo.append((wire.Fail, {**fields, "retryable": what == 3}))
        else:
            client.todo.extend([(wire.Finish, fields)] * (2 if what == 5 else 1))

    def _die(self, client: Client, session: str) -> None:
        """kill -9, and started again: nothing of the process is left but what is on its way."""
        hand = self.hands[client.name]
        if hand.session != session:
            return
        self.died += 1
        self.truth.died(client.name)
        client.todo.clear()
        self.hands[client.name] = hand = Hand(1_000 + self.died)
        make, fields, _ = self._register(client, hand)
        client.todo.append((make, fields))

    # ---- what must hold

    def check_state(self, state: State, now: int) -> None:
        validate(state, now)

    def check_end(self, world: World) -> None:
        checker = world.checker
        counts = checker.counts
        counts["workers_died"], counts["ends_told"], counts["begun"] = self.died, len(self.ends), self.begun
        counts["yielded"] = self.yielded
        for task, hows in self.ends.items():
            told = [how for how in hows if how != "cancelled" or not checker.lossy]
            assert len(told) <= 1, f"{task} has {len(told)} accepted ends: {told}"
        assert checker.reference is not None
        state: State = checker.reference.folded.state
        if not checker.lossy:
            happened = [event for entry in checker.log for row in entry.decisions for event in row.events]
            counts["retried"] = sum(event[0] == events.WAITS for event in happened)
            final = check_history(happened, len(self.inbox) if world.is_healed else 0)
            for task in self.truth.accepted:
                assert state.known(task) is not None, f"{task} is lost"
            for task, (how, *_) in self.ends.items():
                assert final[task] == how, f"{task}: {how} was told, and it is {final[task]}"
        finish_everything(state, checker.reference.folded.time)
