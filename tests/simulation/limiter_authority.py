"""The limiter's side of the fleet simulation: its decider at the kernel's desk, an owner that dies, a network that
fails.

What the kernel guarantees is taken as given here, since its own simulation tries it: what was answered is committed,
and what is committed is what the next owner has. What was decided and not yet committed is lost with the owner, and so
is all that is volatile. Everything runs on the virtual loop, on one seed.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import Handler, Message, NotConnected
from bursar.bus.codec import decode
from bursar.bus.signing import Signer
from bursar.contracts.base import event_subject, notice_subject
from bursar.errors import BursarError
from bursar.kernel.decider import Broadcast, Command, Fence, Notice, Refuse, Reject
from bursar.kernel.desk import Batch, Desk, Request, digest_of
from bursar.kernel.effects import Answer
from bursar.kernel.entry import BATCH, Entry, decode_plain, encode
from bursar.kernel.fold import Folded
from bursar.kernel.replies import whole
from bursar_limiter.service import SPEC

SEAL: Final = "0" * 16
VERBS: Final[Mapping[str, Mapping[str, Any]]] = {
    "req": SPEC.verbs,
    "adm": SPEC.admin,
    "work": SPEC.work,
    "obs": SPEC.observations,
}


class Net:
    """Carries messages between the agents' connections and the limiter. ``lost``: the part that never arrives;
    ``slow``: longest ordinary delay (s); ``late``: the part that takes a second or two."""

    def __init__(self, chance: random.Random, lost: float = 0.0, slow: float = 0.01, late: float = 0.0) -> None:
        self.chance = chance
        self.lost, self.slow, self.late = lost, slow, late
        self.limiter: Authority | None = None
        self.ears: dict[str, list[Ear]] = {}
        self.carried = 0

    def carry(self, arrive: Any, *arguments: Any) -> None:
        chance = self.chance
        self.carried += 1
        if chance.random() < self.lost:
            return
        delay = chance.random() * self.slow
        if chance.random() < self.late:
            delay += 1.0 + chance.random()
        asyncio.get_running_loop().call_later(delay, arrive, *arguments)

    def tell_all(self, subject: str, payload: bytes) -> None:
        """A broadcast: each connection gets it by itself, or does not."""
        for ears in list(self.ears.values()):
            for ear in ears:
                if ear.hears(subject):
                    self.carry(ear.connection.deliver, ear, Message(subject, "", payload))

    def tell(self, principal: str, message: Message) -> None:
        for ear in self.ears.get(principal, []):
            if ear.hears(message.subject):
                self.carry(ear.connection.deliver, ear, message)


class Ear:
    """One subscription."""

    def __init__(self, connection: Connection, subject: str, handler: Handler) -> None:
        self.connection, self.handler = connection, handler
        self._whole, self._begin = subject, subject.rstrip("*>") if subject[-1] in "*>" else None

    def hears(self, subject: str) -> bool:
        return subject == self._whole or (self._begin is not None and subject.startswith(self._begin))

    async def unsubscribe(self) -> None:
        ears = self.connection.net.ears.get(self.connection.principal, [])
        if self in ears:
            ears.remove(self)

    async def drain(self) -> None:
        await self.unsubscribe()


class Connection:
    """An agent's bus. ``cut``: nothing passes, and nobody notices. ``stopped``: the process stands still, and what
    comes and goes waits until it goes on. ``dead``: it was killed."""

    def __init__(self, net: Net, principal: str) -> None:
        self.net = net
        self.principal = principal
        self.is_connected = True
        self.cut = self.stopped = self.dead = False
        self._waiting: list[tuple[Any, ...]] = []
        self._inboxes = 0

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_R.{self.principal}.x{self._inboxes}"

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        if not self.is_connected:
            raise NotConnected
        if self.dead or self.cut:
            return
        if self.stopped:
            self._waiting.append((self.publish, subject, payload, reply, headers))
        else:
            self.net.carry(self._arrive, Message(subject, reply, payload, headers))

    def _arrive(self, message: Message) -> None:
        limiter = self.net.limiter
        assert limiter is not None
        limiter.hear(self, message)

    def deliver(self, ear: Ear, message: Message) -> None:
        if self.dead or self.cut:
            return
        if self.stopped:
            self._waiting.append((self.deliver, ear, message))
        else:
            ear.handler(message)

    def go_on(self) -> None:
        """End a stop: what has waited happens now."""
        self.stopped = False
        waiting, self._waiting = self._waiting, []
        for call, *arguments in waiting:
            call(*arguments)

    async def request(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the client brings its own answers home")

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Ear:
        ear = Ear(self, subject, handler)
        self.net.ears.setdefault(self.principal, []).append(ear)
        return ear

    async def flush(self, timeout: float = 2.0) -> None:
        return None

    async def close(self) -> None:
        self.is_connected = False


class Authority:
    """The owner of the moment and what its successor would know. ``drift``: how much its clock runs fast.

    ``append``: seconds that an append takes at most."""

    def __init__(self, net: Net, signer: Signer | None = None, drift: float = 0.0, append: float = 0.004) -> None:
        self.net = net
        net.limiter = self
        self._signer = signer
        self._drift = drift
        self._append = append
        self._standby = Folded(SPEC.decider())
        self.is_up = False
        self.reigns = 0
        self.faults: list[Exception] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._in_flight: Batch | None = None

    # ---- life

    def take_over(self, first: Sequence[Any] = ()) -> None:
        """A new owner, with what is committed; ``first`` are commands that it begins with."""
        self.reigns += 1
        folded = Folded.load(self._standby.decider, self._standby.dump())
        folded.epoch += 1
        self._standby.epoch += 1
        for one in (folded, self._standby):
            one.offices.begin(one.epoch, one.number)
        self.desk = Desk(folded)
        self._zero = folded.time - asyncio.get_running_loop().time() * 1000.0 * (1.0 + self._drift)
        self.is_up = True
        self._in_flight = None
        for body in first:
            self._offer(Request(None, Command("ops", "", body), b"", 0))

    def die(self) -> None:
        """What is not committed never happened."""
        self.is_up = False
        self._in_flight = None
        if self._timer is not None:
            self._timer.cancel()

    @property
    def now(self) -> int:
        return int(self._zero + asyncio.get_running_loop().time() * 1000.0 * (1.0 + self._drift))

    @property
    def committed(self) -> Folded:
        return self._standby

    # ---- requests

    def hear(self, connection: Connection, message: Message) -> None:
        reply = message.reply
        if not self.is_up:
            if reply:
                self.net.tell(connection.principal, Message(reply, "", b"", {"Status": "503"}))
            return
        _, kind, _, verb, *_ = message.subject.split(".")
        rule = VERBS[kind][verb]
        ticket = (connection.principal, reply) if reply else None
        try:
            body, _ = decode(rule.message, message.data)
        except BursarError as error:
            self._say(ticket, {"v": 1, "error": {"code": error.code, "text": error.text, "facts": error.facts}})
            return
        if kind == "obs" or rule.query:
            self._offer(Request(ticket, Command(connection.principal, "", body), b"", 0))
        else:
            command = Command(connection.principal, body.id, body)
            self._offer(Request(ticket, command, digest_of(body), body.acked))

    def _offer(self, request: Request) -> None:
        self.desk.decide(request, self.now)
        if self.desk.faults:
            raise self.desk.faults[0].error
        self._pump_soon()

    def _pump_soon(self) -> None:
        if not self._pumping:
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = False
        if not self.is_up:
            return
        while self.desk.decide_due(self.now):
            pass
        if self._in_flight is None:
            self._start_append()
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wake = self.desk.folded.decider.wake_at(self.desk.folded.state)
        if wake is not None:
            ahead = max(0.0, (wake - self.now) / 1000.0)
            self._timer = asyncio.get_running_loop().call_later(ahead + 0.0005, self._pump)

    # ---- the journal

    def _start_append(self) -> None:
        batch = self.desk.take()
        if batch is None or batch.is_empty:
            return
        if not batch.packed:
            self._commit(batch, None, self.reigns)
            return
        folded = self.desk.folded
        fence = (folded.incarnation, folded.epoch, batch.number)
        entry = decode_plain(encode(BATCH, fence, b"", batch.time, b"", batch.packed))
        self._in_flight = batch
        delay = self._append * (0.3 + 0.7 * self.net.chance.random())
        asyncio.get_running_loop().call_later(delay, self._commit, batch, entry, self.reigns)

    def _commit(self, batch: Batch, entry: Entry | None, reign: int) -> None:
        """The journal has it. An owner that has died meanwhile answers nobody; its last append may have landed."""
        if reign != self.reigns or (not self.is_up and self.net.chance.random() < 0.5):
            return
        if entry is not None:
            self._standby.apply(entry)
        if not self.is_up:
            return
        self._in_flight = None
        for answer in batch.answers:
            self._answer(answer)
        for broadcasts, fence in batch.broadcasts:
            for broadcast in broadcasts:
                self._announce(broadcast, fence)
        self._pump_soon()

    # ---- what leaves

    def _answer(self, answer: Answer) -> None:
        outcome: Any = answer.outcome
        if isinstance(outcome, Reject):
            error = {"code": outcome.code, "text": outcome.text, "facts": dict(outcome.facts or {})}
            self._say(answer.ticket, {"v": 1, "error": error})
            return
        if isinstance(outcome, bytes):
            outcome = msgpack.unpackb(outcome)
        reply = outcome.reply if isinstance(outcome, Refuse) else outcome
        self._say(answer.ticket, whole(reply, sealed(answer.fence)))

    def _say(self, ticket: tuple[str, str] | None, body: Mapping[str, Any]) -> None:
        if ticket is not None:
            principal, reply = ticket
            self.net.tell(principal, Message(reply, "", msgpack.packb(body)))

    def _announce(self, broadcast: Broadcast | Notice, fence: Fence) -> None:
        body = {**broadcast.body, "fence": sealed(fence)}
        if isinstance(broadcast, Notice):
            subject = notice_subject(broadcast.principal)
            self.net.tell(broadcast.principal, Message(subject, "", msgpack.packb({"v": 1, **body})))
            return
        subject = event_subject(SPEC.name, broadcast.kind, broadcast.name)
        if self._signer is None:
            raise BursarError("not_signed", "this history has no key for broadcasts")
        self.net.tell_all(subject, self._signer.sign(subject, body))


def sealed(fence: Fence) -> str:
    return ".".join((*map(str, fence), SEAL))
