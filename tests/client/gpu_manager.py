"""The real decider of the GPU manager behind a small network, on virtual time: it answers, hears a probe, tells
holders, and fails when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.codec import decode
from bursar.client.fleet import Fleet
from bursar.client.gpu import Gpu
from bursar.contracts import gpu as wire
from bursar.contracts import gpu_advice as advice
from bursar.contracts import gpu_cache as cache
from bursar.contracts import gpu_kv as kv
from bursar.contracts import gpu_moves as moves
from bursar.kernel.decider import Accept, Notice, Outcome, Park, Refuse, Reject
from bursar_gpu_manager.claiming import Claims
from tests.client.fakes import FakeBus, Message
from tests.client.virtual import LoopClock
from tests.gpu_manager.desk import MAC, Desk

VERBS: dict[str, type[Any]] = {
    "lease": wire.Lease,
    "renew": wire.Renew,
    "release": wire.Release,
    "redeclare": wire.Redeclare,
    "status": wire.Status,
    "explain": wire.Explain,
    "cache-want": cache.CacheWant,
    "cache-keep": cache.CacheKeep,
    "cache-loaded": cache.CacheLoaded,
    "cache-failed": cache.CacheFailed,
    "cache-leave": cache.CacheLeave,
    "cache-gone": cache.CacheGone,
    "cache-where": cache.CacheWhere,
    "kv-open": kv.KvOpen,
    "kv-join": kv.KvJoin,
    "kv-pages": kv.KvPages,
    "kv-leave": kv.KvLeave,
    "kv-status": kv.KvStatus,
    "movable": moves.Movable,
    "move": moves.Move,
    "fragmentation": moves.Fragmentation,
    "startup": advice.Startup,
    "advise": advice.Advise,
    "pace": advice.Pace,
    "tune": advice.Tune,
    "tune-step": advice.TuneStep,
    "tune-window": advice.TuneWindow,
}


class Manager:
    """``deaf``: hears nothing; ``lose_answers``: decides, and says nothing; ``tells``: whether notices arrive;
    ``says``: what every answer is instead."""

    def __init__(self, bus: FakeBus, *hosts: str) -> None:
        self.desk = Desk(*(hosts or ("h1=1x16GiB",)))
        self.bus = bus
        self.deaf = False
        self.lose_answers = False
        self.tells = True
        self.says: dict[str, Any] | None = None
        self.silent: tuple[str, ...] = ()
        self.heard: list[tuple[str, Any]] = []
        self._answered: dict[str, Outcome] = {}
        self._parked: dict[str, str] = {}
        self._told = 0
        self._offset = 0
        bus.server = self.hear

    @property
    def now(self) -> int:
        return self._offset + int(asyncio.get_running_loop().time() * 1000.0)

    async def live(self) -> None:
        """The probes report; what is due happens."""
        while True:
            self._catch_up()
            for host in self.desk.hosts:
                if host not in self.silent:
                    self.desk.observe(host)
            self._say_what_is_due()
            await asyncio.sleep(0.1)

    def _catch_up(self) -> None:
        self.desk.advance(max(0, self.now - self.desk.now))

    def hear(self, message: Message) -> None:
        verb = message.subject.split(".")[3]
        assert message.subject == f"bursar.req.{wire.SERVICE}.{verb}.{self.bus.principal}"
        if self.deaf:
            return
        body, _ = decode(VERBS[verb], message.data)
        self.heard.append((verb, body))
        self._catch_up()
        request_id = getattr(body, "id", "")
        outcome = self._answered.get(request_id) or self.desk.ask(body, self.bus.principal)
        if isinstance(outcome, Accept):
            self._answered[request_id] = outcome
        if isinstance(outcome, Park):
            self._parked[request_id] = message.reply
        else:
            self._answer(message.reply, outcome)
        self._say_what_is_due()

    def _say_what_is_due(self) -> None:
        self.desk.settle_due()
        for (_, request_id), outcome in list(self.desk.answers.items()):
            reply = self._parked.pop(request_id, None)
            if reply is not None:
                self._answered[request_id] = outcome
                self._answer(reply, outcome)
        for told in self.desk.told[self._told :]:
            if isinstance(told, Notice) and self.tells:
                body = msgpack.packb({**told.body, "fence": self.fence()})
                self.bus.answer(Message(f"bursar.assign.{told.principal}", "", body))
        self._told = len(self.desk.told)

    def _answer(self, reply: str, outcome: Outcome) -> None:
        if self.lose_answers:
            return
        if isinstance(outcome, Reject):
            body: dict[str, Any] = {
                "v": 1, "error": {"code": outcome.code, "text": outcome.text, "facts": outcome.facts}
            }  # fmt: skip
        else:
            assert isinstance(outcome, Accept | Refuse)
            body = {"v": 1, **outcome.reply, "fence": f"{outcome.reply.get('lease') or self.fence()[:-17]}.{MAC}"}
            if outcome.reply.get("expires_at_ms") is None:
                body["fence"] = self.fence()
        if self.says is not None:
            body = {**self.says, "fence": self.fence()}
        self.bus.answer(Message(reply, "", msgpack.packb(body)))

    def fence(self) -> str:
        return f"{self.desk.incarnation}.1.{self.desk.number}.{MAC}"

    def lose_log(self, forgotten: bool = True) -> None:
        """A new incarnation; ``forgotten``: the leases are among what was lost."""
        self._catch_up()
        if forgotten:
            self.desk.state.leases.clear()
            self.desk.state.pools.clear()
            self.desk.state.claims, self.desk.state.floors = Claims(), {}
            for device in self.desk.state.devices.values():
                device.leases.clear()
                device.charge = None
        self._answered.clear()
        self.desk.lose_log()

    def asked(self, verb: str) -> int:
        return sum(heard == verb for heard, _ in self.heard)


@asynccontextmanager
async def fleet_and_manager(*hosts: str, patience: float = 10.0) -> AsyncIterator[tuple[Gpu, Manager, LoopClock]]:
    bus, clock = FakeBus(), LoopClock()
    there = Manager(bus, *hosts)
    living = asyncio.create_task(there.live())
    try:
        async with Fleet(None, bus=bus, clock=clock, patience=patience) as fleet:
            yield fleet.gpu, there, clock
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)
