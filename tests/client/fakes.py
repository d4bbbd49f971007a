"""A small network and a small limiter, which say what the contract says and fail when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgpack  # type: ignore[import-untyped]
from pydantic import BaseModel

from bursar.bus.base import Bus, Handler, Msg, NotConnected
from bursar.client.fleet import Fleet
from bursar.client.limiter import Limiter
from bursar.contracts import limiter as wire
from bursar.contracts import limiter_control as control
from bursar.contracts import limiter_lease as lease
from bursar.contracts import limiter_observed as observed
from tests.client.virtual import LoopClock


@dataclass
class Message:
    subject: str
    reply: str
    data: bytes
    headers: Mapping[str, str] | None = None


@dataclass
class Sub:
    bus: FakeBus
    subject: str
    handler: Handler

    async def unsubscribe(self) -> None:
        if self in self.bus.subs:
            self.bus.subs.remove(self)

    async def drain(self) -> None:
        await self.unsubscribe()


class FakeBus:
    """One agent's connection. ``server`` hears what is published; ``delay`` (s) there and as long back."""

    def __init__(self, principal: str = "agent-1", delay: float = 0.0005) -> None:
        self._principal = principal
        self.is_connected = True
        self.delay = delay
        self.server: Callable[[Message], None] | None = None
        self.subs: list[Sub] = []
        self.published: list[Message] = []
        self.lose: Callable[[Message], bool] = lambda _: False
        self._inboxes = 0

    @property
    def principal(self) -> str:
        return self._principal

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_R.{self._principal}.x{self._inboxes}"

    def publish(self, subject: str, payload: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        if not self.is_connected:
            raise NotConnected
        message = Message(subject, reply, payload, headers)
        self.published.append(message)
        if not self.lose(message):
            asyncio.get_running_loop().call_later(self.delay, self._arrive, message)

    def _arrive(self, message: Message) -> None:
        if self.server is None:
            self.answer(Message(message.reply, "", b"", {"Status": "503"}))
        else:
            self.server(message)

    def answer(self, message: Message) -> None:
        asyncio.get_running_loop().call_later(self.delay, self._deliver, message)

    def _deliver(self, message: Message) -> None:
        for sub in list(self.subs):
            if message.subject == sub.subject or (
                sub.subject.endswith(".*") and message.subject.rpartition(".")[0] == sub.subject[:-2]
            ):
                sub.handler(message)

    async def request(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("the client brings its own answers home")

    async def subscribe(self, subject: str, handler: Handler, queue: str = "") -> Sub:
        sub = Sub(self, subject, handler)
        self.subs.append(sub)
        return sub

    async def flush(self, timeout: float = 2.0) -> None:
        return None

    async def close(self) -> None:
        self.is_connected = False


class Link:
    """A small limiter's side of a real bus: hears one agent's requests, answers them."""

    def __init__(self, bus: Bus, principal: str) -> None:
        self.bus = bus
        self.principal = principal
        self.server: Callable[[Message], None] | None = None

    async def listen(self) -> None:
        await self.bus.subscribe(f"bursar.req.limiter.*.{self.principal}", self._hear)
        await self.bus.flush()

    def _hear(self, msg: Msg) -> None:
        assert self.server is not None
        self.server(Message(msg.subject, msg.reply, msg.data))

    def answer(self, message: Message) -> None:
        self.bus.publish(message.subject, message.data, headers=message.headers)


@dataclass
class Line:
    request: wire.Reserve
    reply: str


def plain(amounts: BaseModel) -> dict[str, int]:
    """Amounts as a map; of what is told only where it is not zero, that."""
    told: dict[str, int] = amounts.model_dump(exclude={"v"})
    return {name: amount for name, amount in told.items() if amount or name not in ("total_tokens", "network_bytes")}


def without_bytes(settled: Iterable[tuple[str, dict[str, int] | None]]) -> list[tuple[str, dict[str, int] | None]]:
    """How calls were settled, but for their bytes on the network, which differ with every header."""

    def kept(usage: dict[str, int]) -> dict[str, int]:
        return {name: amount for name, amount in usage.items() if name != "network_bytes"}

    return [(outcome, None if usage is None else kept(usage)) for outcome, usage in settled]


REQUESTS: dict[str, type[BaseModel]] = {
    "reserve": wire.Reserve,
    "settle": wire.Settle,
    "redeclare": wire.Redeclare,
    "withdraw": wire.Withdraw,
    "status": wire.Status,
    "clock": wire.Clock,
    "rate-limited": observed.RateLimited,
    "progress": control.Progress,
}


BESIDE: dict[str, type[BaseModel]] = {"terms": lease.Terms, "lease": lease.Lease}
"""What the client asks by itself, and most tests do not want to hear of."""


@dataclass
class FakeLimiter:
    """Grants while fewer than ``slots`` reservations are open. ``zero``: its clock minus the loop's, in ms."""

    bus: FakeBus | Link
    slots: int = 1_000_000
    zero: int = 77_000
    send_within: int = 300
    incarnation: int = 1
    epoch: int = 1
    number: int = 0
    deaf: bool = False
    open: dict[str, dict[str, int]] = field(default_factory=dict)
    settled: dict[str, tuple[str, dict[str, int] | None]] = field(default_factory=dict)
    answered: dict[str, dict[str, Any]] = field(default_factory=dict)
    line: dict[str, Line] = field(default_factory=dict)
    withdrawn: set[str] = field(default_factory=set)
    heard: list[tuple[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seen: list[observed.Seen] = field(default_factory=list)
    refuse_with: str | None = None

    def __post_init__(self) -> None:
        self.bus.server = self.hear

    @property
    def now(self) -> int:
        return self.zero + int(asyncio.get_running_loop().time() * 1000.0)

    def fence(self) -> str:
        return f"{self.incarnation}.{self.epoch}.{self.number}.{'0' * 16}"

    def take_over(self, lost: bool = False) -> None:
        """Another instance continues: later on its clock, the line forgotten; with ``lost`` also the journal's end."""
        self.epoch += 1
        self.zero -= 400
        self.line.clear()
        self.withdrawn.clear()
        if lost:
            self.incarnation += 1
            self.epoch = 1
            self.open.clear()
            self.answered.clear()

    def hear(self, message: Message) -> None:
        verb = message.subject.split(".")[3]
        if message.subject == f"bursar.obs.limiter.seen.{self.bus.principal}":
            self.seen.append(observed.Seen.model_validate(msgpack.unpackb(message.data, use_list=False)))
            return
        assert message.subject == f"bursar.req.limiter.{verb}.{self.bus.principal}"
        assert message.reply.startswith(f"_R.{self.bus.principal}.")
        if verb in BESIDE:
            told = BESIDE[verb].model_validate(msgpack.unpackb(message.data, use_list=False))
            getattr(self, f"_{verb}")(told, message.reply)
            return
        request = REQUESTS[verb].model_validate(msgpack.unpackb(message.data, use_list=False))
        self.heard.append((verb, request))
        if self.deaf:
            return
        if self.errors:
            self.fail(message.reply, self.errors.pop(0))
            return
        request_id = getattr(request, "id", "")
        if request_id in self.answered:
            self.say(message.reply, self.answered[request_id])
        else:
            getattr(self, f"_{verb.replace('-', '_')}")(request, message.reply)

    def say(self, reply: str, body: dict[str, Any]) -> None:
        self.bus.answer(Message(reply, "", msgpack.packb(body)))

    def fail(self, reply: str, code: str) -> None:
        body = {"v": 1, "error": {"code": code, "text": "told to fail", "facts": {"budget": "b"}}}
        self.bus.answer(Message(reply, "", msgpack.packb(body), {"Nats-Service-Error-Code": "500"}))

    def _accept(self, request: Any, reply: str, body: BaseModel) -> None:
        self.answered[request.id] = body.model_dump()
        self.say(reply, self.answered[request.id])

    def _reserve(self, request: wire.Reserve, reply: str) -> None:
        if request.id in self.withdrawn:
            self._refuse(request, reply, "withdrawn")
        elif self.refuse_with is not None or (len(self.open) >= self.slots and request.wait_ms == 0):
            self._refuse(request, reply, self.refuse_with or "over_limit")
        elif len(self.open) >= self.slots:
            self.line[request.id] = Line(request, reply)
        else:
            self._grant(request, reply)

    def _refuse(self, request: wire.Reserve, reply: str, reason: Any) -> None:
        retry = None if reason == "never_fits" else 1500
        body = wire.Refused(
            reason=reason, budget=request.budget, dimension="input_tokens", limit=100, level=90, ahead=2,
            now_ms=self.now, retry_at_ms=retry and self.now + retry, retry_in_ms=retry, text="no room",
            fence=self.fence(),
        )  # fmt: skip
        self.say(reply, body.model_dump())

    def _grant(self, request: wire.Reserve, reply: str) -> None:
        self.number += 1
        reservation = f"{self.incarnation}.{self.epoch}.{self.number}"
        self.open[reservation] = plain(request.amounts)
        granted = wire.Granted(
            reservation=reservation, granted_at_ms=self.now, send_by_at_ms=self.now + self.send_within,
            expires_at_ms=self.now + request.ttl_ms, fence=self.fence(),
        )  # fmt: skip
        self._accept(request, reply, granted)

    def _settle(self, request: wire.Settle, reply: str) -> None:
        if request.reservation not in self.open:
            self.fail(reply, "unknown_reservation")
            return
        self.number += 1
        del self.open[request.reservation]
        usage = plain(request.usage) if request.usage else None
        self.settled[request.reservation] = (request.outcome, usage)
        settled = wire.Settled(
            reservation=request.reservation, outcome=request.outcome, refunded={"input_tokens": 1}, overage={},
            fence=self.fence(),
        )  # fmt: skip
        self._accept(request, reply, settled)
        if self.line:
            waiting = self.line.pop(next(iter(self.line)))
            self._grant(waiting.request, waiting.reply)

    def _withdraw(self, request: wire.Withdraw, reply: str) -> None:
        waiting = self.line.pop(request.request, None)
        self.withdrawn.add(request.request)
        outcome: Any = "unknown" if waiting is None else "withdrawn"
        self.say(reply, wire.Withdrawn(request=request.request, outcome=outcome, fence=self.fence()).model_dump())
        if waiting is not None:
            self._refuse(waiting.request, waiting.reply, "withdrawn")

    def _redeclare(self, request: wire.Redeclare, reply: str) -> None:
        self.number += 1
        self.open[request.reservation] = plain(request.amounts)
        done = wire.Redeclared(reservation=request.reservation, adopted=True, fence=self.fence())
        self._accept(request, reply, done)

    def _progress(self, request: control.Progress, reply: str) -> None:
        if request.reservation not in self.open:
            self.fail(reply, "unknown_reservation")
            return
        used, reserved = plain(request.usage), self.open[request.reservation]
        left = {name: amount - used.get(name, 0) for name, amount in reserved.items() if amount}
        told = control.Progressed(reservation=request.reservation, left=left, fence=self.fence())
        self._accept(request, reply, told)

    def _rate_limited(self, request: observed.RateLimited, reply: str) -> None:
        self.number += 1
        remaining = request.retry_after_ms or 1_000
        noted = observed.FreezeNoted(
            budget=request.budget, dimensions=list(request.dimensions), until_ms=self.now + remaining,
            remaining_ms=remaining, applied=True, fence=self.fence(),
        )  # fmt: skip
        self._accept(request, reply, noted)

    def _terms(self, request: lease.Terms, reply: str) -> None:
        terms = lease.TermsReply(
            budget=request.budget, when_unreachable="closed", lease_ms=0, good_for_ms=300, fence=self.fence()
        )
        self.say(reply, terms.model_dump())

    def _lease(self, request: lease.Lease, reply: str) -> None:
        no = lease.LeaseRefused(
            reason="not_leasable", budget=request.budget, retry_in_ms=None, text="none", fence=self.fence()
        )
        self.say(reply, no.model_dump())

    def _clock(self, _: wire.Clock, reply: str) -> None:
        self.say(reply, wire.ClockReply(now_ms=self.now, fence=self.fence()).model_dump())

    def _status(self, request: wire.Status, reply: str) -> None:
        level = wire.DimensionStatus(limit=100, window_ms=60_000, used=1, in_flight=2, headroom=3, debt=0)
        budget = wire.BudgetStatus(
            name=request.budget or "b", dimensions={"requests": level}, reservations=len(self.open), waiting=0,
            granted=1, refused=0,
        )  # fmt: skip
        status = wire.StatusReply(now_ms=self.now, recovering=False, budgets=[budget], fence=self.fence())
        self.say(reply, status.model_dump())


def network(there: FakeLimiter) -> FakeBus:
    assert isinstance(there.bus, FakeBus)
    return there.bus


@asynccontextmanager
async def fleet_and_limiter(slots: int = 1_000_000) -> AsyncIterator[tuple[Limiter, FakeLimiter, LoopClock]]:
    bus, clock = FakeBus(), LoopClock()
    there = FakeLimiter(bus, slots=slots)
    async with Fleet(None, bus=bus, clock=clock) as fleet:
        yield fleet.limiter, there, clock
