"""A deterministic stand-in for the kernel and a fleet of hosts: drives the decider through time, no IO.

`Desk` does what the kernel does around a decider: decides, applies, hands out what is due, keeps the journal. Hosts are
`SimulatedHost`s whose reports it hands in, at its own pace or every half second.
"""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.codec import decode
from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Notice, Outcome, Refuse, Reject
from bursar_gpu_manager.core import GpuDecider
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import SimulatedHost, simulated_host
from bursar_gpu_manager.state import State, validate
from tests.desk import DeskBase

GIB = 1024**3
MAC = "0123456789abcdef"


class Desk(DeskBase):
    """Decides and applies at once. ``now`` is the decider's clock; answers to parked commands go to ``answers``."""

    decider: GpuDecider
    state: State

    def __init__(self, *hosts: str, now: int = 0, incarnation: int = 1) -> None:
        """``hosts``: as ``"h1=2x16GiB"``; each has reported once."""
        self.decider = GpuDecider()
        self.state = self.decider.initial()
        super().__init__(now, incarnation)
        self.journal: list[Event] = []
        self.told: list[Broadcast | Notice] = []
        self.hosts: dict[str, SimulatedHost] = {}
        self.seqs: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        for host in hosts:
            name, _, what = host.partition("=")
            self.hosts[name] = simulated_host(name, what)
            self.observe(name)

    # ---- decisions

    def _decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now, (self.incarnation, 1, self.number))
        if isinstance(outcome, Accept):
            assert outcome.events, "accepted without an event"
            for event in outcome.events:
                self.journal.append(msgpack.unpackb(msgpack.packb(event), use_list=False))
                self.decider.evolve(self.state, event)
            self.told += outcome.broadcasts
        return outcome

    # ---- time

    def advance(self, ms: int) -> None:
        """Time passes, and no probe says anything."""
        for _ in self.moments(self.now + ms):
            pass

    def live(self, ms: int, silent: tuple[str, ...] = ()) -> None:
        """Time passes, and every host but the ``silent`` ones reports each half second."""
        until = self.now + ms
        while self.now < until:
            self.advance(min(500, until - self.now))
            for name in self.hosts:
                if name not in silent:
                    self.observe(name)

    # ---- probes

    def observe(self, host: str, boot: str = "b0", seq: int | None = None) -> wire.Report:
        """The host's probe reports, through the wire's own checks."""
        if seq is None:
            seq = self.seqs[boot] = self.seqs.get(boot, 0) + 1
        fields = report(self.hosts[host], boot, seq, self.totals, {"zone": host[-1]})
        said, _ = decode(wire.Report, msgpack.packb(fields))
        self.say(host, said)
        return said

    def say(self, host: str, said: wire.Report) -> None:
        outcome = self.ask(said, host)
        assert isinstance(outcome, Refuse)
        self.settle_due()

    # ---- agents

    def lease(self, memory: int = GIB, principal: str = "agent", **more: Any) -> Outcome:
        return self.ask(wire.Lease(id=self.new_id(), memory=memory, **more), principal)

    def granted(self, memory: int = GIB, principal: str = "agent", **more: Any) -> dict[str, Any]:
        outcome = self.lease(memory, principal, **more)
        assert isinstance(outcome, Accept), outcome
        return outcome.reply

    def refused(self, memory: int = GIB, principal: str = "agent", **more: Any) -> dict[str, Any]:
        outcome = self.lease(memory, principal, **more)
        assert isinstance(outcome, Refuse), outcome
        wire.Refused(**outcome.reply, fence=f"1.1.1.{MAC}")
        return outcome.reply

    def renew(self, lease: str, principal: str = "agent", fence: str = "", **more: Any) -> Outcome:
        body = wire.Renew(id=self.new_id(), lease=lease, fence=fence or f"{lease}.{MAC}", **more)
        return self.ask(body, principal)

    def release(self, lease: str, principal: str = "agent", fence: str = "") -> Outcome:
        body = wire.Release(id=self.new_id(), lease=lease, fence=fence or f"{lease}.{MAC}")
        return self.ask(body, principal)

    def redeclare(self, lease: str, device: str, memory: int, principal: str = "agent", **more: Any) -> Outcome:
        body = wire.Redeclare(
            id=self.new_id(), lease=lease, fence=more.pop("fence", f"{lease}.{MAC}"),
            devices=(wire.Share(device=device, memory=memory),), ttl_ms=more.pop("ttl_ms", 10_000), **more,
        )  # fmt: skip
        return self.ask(body, principal)

    def process(self, host: str) -> tuple[int, wire.Process]:
        """A new process on a host: its pid, and how a holder names it."""
        pid, started = self.hosts[host].start()
        return pid, wire.Process(pid=pid, started=started)

    # ---- operators

    def configure(self, **settings: int) -> Outcome:
        return self.ask(wire.Configure.model_validate({"id": self.new_id(), **settings}), "ops")

    def status(self, host: str | None = None) -> wire.StatusReply:
        outcome = self.ask(wire.Status(host=host), "ops")
        assert isinstance(outcome, Refuse), outcome
        return wire.StatusReply.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})

    def device(self, name: str) -> wire.DeviceStatus:
        return next(device for device in self.status().devices if device.device == name)

    # ---- checks

    def notices(self) -> list[tuple[str, str, str]]:
        """(principal, lease, reason) of all that holders were told."""
        said = [told for told in self.told if isinstance(told, Notice) and told.body["what"] == "lease_lost"]
        bodies = [wire.Lost.model_validate({**told.body, "fence": f"1.1.1.{MAC}"}) for told in said]
        return [(told.principal, body.lease, body.reason) for told, body in zip(said, bodies, strict=True)]

    def dump(self) -> Any:
        return msgpack.packb(self.decider.dump(self.state))

    def take_over(self) -> None:
        """Another instance goes on: what was volatile is gone."""
        self.state = self.decider.load(msgpack.unpackb(self.dump(), use_list=False))

    def lose_log(self) -> None:
        """The service starts a new incarnation on the present state."""
        self.incarnation += 1
        for event in self.decider.recover(self.state, self.now):
            self.decider.evolve(self.state, event)
            self.journal.append(event)

    def check(self) -> None:
        """What must hold at any time: the parts agree, replay gives the same state, and so does dump and load."""
        validate(self.state, self.now)
        replayed = self.decider.initial()
        for event in self.journal:
            self.decider.evolve(replayed, event)
            assert self.decider.describe(event)
        assert msgpack.packb(self.decider.dump(replayed)) == self.dump()
        loaded = self.decider.load(msgpack.unpackb(self.dump(), use_list=False))
        assert msgpack.packb(self.decider.dump(loaded)) == self.dump()
        validate(loaded, self.now)


def code(outcome: Outcome) -> str:
    assert isinstance(outcome, Reject), outcome
    return outcome.code
