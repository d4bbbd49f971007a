"""Clients: they ask, ask again, ask twice, give up, and take what answers them as `bursar.client` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import msgpack  # type: ignore[import-untyped]

from bursar.kernel.decider import Decider, Fence, Refuse, Reject
from bursar.kernel.effects import Answer
from tests.simulation.checks import TRANSIENT

if TYPE_CHECKING:
    from tests.simulation.world import World


FORGOTTEN = frozenset({"already_acked"})
"""Codes that say that the request is over and its answer forgotten."""


class Workload(Protocol):
    """What a decider is asked, and what must hold of it besides what holds of all."""

    name: str

    def decider(self) -> Decider[Any]: ...

    def start(self) -> list[Any]:
        """Bodies that an instance decides when it becomes owner."""
        ...

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        """What a client asks next: how to make the body, its fields, and whether it is a query."""
        ...

    def last(self) -> tuple[Any, dict[str, Any]]:
        """A query, for after the healing."""
        ...

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        """The field that says what the client has seen."""
        ...

    def changed(self, body: Any) -> Any:
        """The same request with other content; None if it cannot be changed."""
        ...

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        """A client has taken this reply."""
        ...

    def check_state(self, state: Any, now: int) -> None:
        """Raise AssertionError when a state cannot be."""
        ...

    def check_end(self, world: World) -> None:
        """Raise AssertionError when the whole history cannot be. The world is healed and idle."""
        ...


@runtime_checkable
class Lively(Protocol):
    """A workload in whose world things happen that no client asks for: hosts that report, say."""

    def begin(self, world: World) -> None:
        """The world is made; nothing has happened yet."""
        ...


class Call:
    """One copy of a request on its way. ``floor``: the latest epoch that had answered anybody when it was sent.
    ``again``: asked once more though the answer has been taken: with the "same" or "other" content."""

    __slots__ = ("again", "body", "floor", "question")

    def __init__(self, question: Question, floor: tuple[int, int], again: str = "") -> None:
        self.question = question
        self.body = question.body
        self.floor = floor
        self.again = again

    @property
    def principal(self) -> str:
        return self.question.client.name

    @property
    def request_id(self) -> str:
        return self.question.request_id

    def __str__(self) -> str:
        return f"{self.principal}/{self.request_id or 'query'}"


class Question:
    """One request until it is answered."""

    __slots__ = ("asked_at", "body", "client", "fields", "is_over", "number", "request_id", "tries", "until")

    def __init__(self, client: Client, body: Any, fields: dict[str, Any], number: int, request_id: str) -> None:
        self.client = client
        self.body = body
        self.fields = fields
        self.number = number
        self.request_id = request_id
        self.tries = 0
        self.is_over = False
        self.asked_at = 0
        self.until = 0


class Taken(NamedTuple):
    question: Question
    fence: Fence
    reply: dict[str, Any] | None


class Client:
    """One agent. ``seen``: the highest fence it was answered with; ``acked``: its watermark, told if it ``acks``."""

    def __init__(self, name: str, width: int, acks: bool) -> None:
        self.name = name
        self.acks = acks
        self.width = width
        self.session = f"s{name}"
        self.number = 0
        self.seen: Fence | None = None
        self.open: dict[int, Question] = {}
        self.todo: list[Any] = []
        self.queries = 0

    @property
    def acked(self) -> int:
        return min(self.open, default=self.number + 1) - 1


def _packed(outcome: Any) -> bytes | None:
    """The reply of an accepted decision; None for anything else."""
    if isinstance(outcome, bytes):
        return outcome
    return msgpack.packb(outcome) if isinstance(outcome, dict) else None


class Clients:
    """All clients of a world."""

    def __init__(self, world: World, count: int) -> None:
        self.world = world
        self.simulator = world.simulator
        self.is_asking = True
        self.taken: list[Taken] = []
        self.given_up: list[Question] = []
        self.pace = self.simulator.random.choice((10, 40, 150))
        self.all = [Client(f"agent{i}", self.simulator.between(1, 3), i % 2 == 0) for i in range(count)]
        for client in self.all:
            self.simulator.at(self.simulator.between(0, 500), self._turn, client)

    def _turn(self, client: Client) -> None:
        if not self.is_asking:
            return
        self.simulator.at(self.simulator.between(1, 2 * self.pace), self._turn, client)
        if len(client.open) < client.width:
            make, fields, is_query = self.world.workload.next(client)
            self.ask(client, make, fields, is_query)

    def ask(self, client: Client, make: Any, fields: dict[str, Any], is_query: bool) -> Question:
        """Have a client ask; it goes on until it is answered, or (while all goes wrong) gives up."""
        simulator = self.simulator
        seen = client.seen if simulator.random.random() < 0.9 or not self.is_asking else None
        request_id = ""
        if is_query:
            client.queries -= 1
            number = client.queries
            body = make(**fields, **self.world.workload.seen_field(seen))
        else:
            client.number += 1
            number = client.number
            request_id = f"{client.session}-{number}"
            acked = client.acked if client.acks and simulator.random.random() < 0.7 else 0
            body = make(id=request_id, acked=min(acked, number - 1), **fields, **self.world.workload.seen_field(seen))
        question = Question(client, body, fields, number, request_id)
        question.asked_at = simulator.now
        question.until = simulator.now + simulator.between(2_000, 30_000)
        if not is_query:
            client.open[number] = question
        self._send(question)
        return question

    def _send(self, question: Question) -> None:
        if question.is_over:
            return
        simulator, faults = self.simulator, self.world.faults
        if self.is_asking and simulator.now > question.until:
            self._end(question)
            self.given_up.append(question)
            return
        question.tries += 1
        simulator.at(simulator.between(300, 1_500), self._send, question)
        copies = 1 + simulator.chance(faults.repeated_message)
        floor = self.world.checker.latest
        for _ in range(copies):
            self._carry(Call(question, floor))

    def _carry(self, call: Call) -> None:
        """Each instance that listens gets the message, late or early or not at all."""
        simulator, faults = self.simulator, self.world.faults
        for process in self.world.alive():
            if process.listening and not simulator.chance(faults.lost_message):
                delay = simulator.between(0, faults.slow)
                if simulator.chance(faults.late_message):
                    delay += simulator.between(0, 4_000)
                simulator.at(delay, process.deliver, process.request, call)

    def ask_again_some(self) -> None:
        """A few answers that have been taken are asked for once more, by those who never acknowledge."""
        accepted = [
            taken.question for taken in self.taken if taken.reply is not None and not taken.question.client.acks
        ]
        for question in accepted[-12:]:
            self._ask_again(question, "same")

    def _ask_again(self, question: Question, how: str) -> None:
        """The answer was taken, and yet the request comes once more."""
        call = Call(question, self.world.checker.latest, how)
        if how == "other":
            body = self.world.workload.changed(question.body)
            if body is None:
                return
            call.body = body
        self._carry(call)

    def unheard(self, call: Call) -> None:
        """The endpoint was closed when the message came; the client asks again when its patience ends."""

    def reply(self, call: Call | None, answer: Answer) -> None:
        """An answer sets out to a client."""
        if call is None:
            return
        simulator, faults = self.simulator, self.world.faults
        if not simulator.chance(faults.lost_message):
            simulator.at(simulator.between(0, faults.slow), self._arrive, call, answer)

    def _arrive(self, call: Call, answer: Answer) -> None:
        question = call.question
        client = question.client
        outcome, fence = answer.outcome, answer.fence
        if isinstance(outcome, Reject) and outcome.code in TRANSIENT:
            if not question.is_over:
                simulator = self.simulator
                simulator.at(simulator.between(20, 200), self._send_again, question, question.tries)
            return
        accepted = isinstance(outcome, dict | bytes)
        if client.seen is not None and fence[:2] < client.seen[:2] and not accepted:
            self.world.checker.count("ignored_stale")
            return
        if call.again:
            self._check_again(call, fence, outcome)
        else:
            self._take(question, fence, outcome)

    def _check_again(self, call: Call, fence: Fence, outcome: Any) -> None:
        """What was accepted is answered the same way, or not at all any more; other content is refused."""
        if isinstance(outcome, Reject) and outcome.code in FORGOTTEN:
            return
        if isinstance(outcome, Reject) and outcome.code == "id_reused" and call.again == "other":
            return
        packed = _packed(outcome) if call.again == "same" else None
        self.world.checker.taken(call.principal, call.request_id, fence, packed)

    def _send_again(self, question: Question, tries: int) -> None:
        if question.tries == tries:
            self._send(question)

    def _take(self, question: Question, fence: Fence, outcome: Any) -> None:
        client = question.client
        packed = _packed(outcome)
        was_open = not question.is_over
        if was_open or packed is not None:
            self.world.checker.taken(client.name, question.request_id, fence, packed)
        if client.seen is None or fence > client.seen:
            client.seen = fence
        if not was_open:
            return
        self._end(question)
        if packed is not None:
            reply = msgpack.unpackb(packed)
            if self.simulator.chance(0.15):
                how = "other" if self.simulator.chance(0.3) else "same"
                self.simulator.at(self.simulator.between(0, 4_000), self._ask_again, question, how)
        else:
            reply = outcome.reply if isinstance(outcome, Refuse) else None
        self.taken.append(Taken(question, fence, reply if packed is not None else None))
        if reply is not None and packed is not None:
            self.world.workload.took(self.world, client, question, reply)

    def _end(self, question: Question) -> None:
        question.is_over = True
        question.client.open.pop(question.number, None)
