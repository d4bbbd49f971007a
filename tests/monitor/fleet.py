"""A deterministic stand-in for the kernel and a fleet: drives the monitor's decider through time, without IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from bursar.contracts.base import Message, Request
from bursar.contracts.monitor import (
    AlertChanged,
    CpuSample,
    DiskSample,
    GpuSample,
    HostSample,
    IncidentChanged,
    MemorySample,
    NetworkSample,
)
from bursar.contracts.monitor_picture import InstanceRow, Status, StatusReply
from bursar.contracts.monitor_policy import Rule
from bursar.contracts.monitor_quota import QuotaChanged
from bursar.contracts.monitor_scaling import Policy, ScaleWanted
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Notice, Outcome, Refuse, Reject
from bursar_monitor.core import MonitorDecider
from bursar_monitor.observing import Polled, Swept
from bursar_monitor.operating import LoadRules
from bursar_monitor.state import State, validate

GB = 10**9
BOOT = "00000000000000aa"
FENCE = "1.1.1.0123456789abcdef"

SILENT = Rule(name="host-silent", signal="host_silence_ms", at_least=5_000, hold_ms=2_000, clear_ms=3_000)
BUSY = Rule(
    name="cpu-high", signal="cpu_permille", at_least=900, clear_below=800, hold_ms=3_000, clear_ms=4_000,
    severity="critical",
)  # fmt: skip
OPEN = Rule(name="circuit-open", signal="circuit_open", at_least=1, clear_ms=2_000)
OWNERLESS = Rule(name="no-owner", signal="owner_missing", at_least=1, hold_ms=2_000, clear_ms=1_000)
GONE = Rule(name="instance-gone", signal="instance_missing", at_least=1, hold_ms=3_000, clear_ms=1_000)


class Desk:
    """Decides and applies at once. ``now`` is the decider's clock; ``told`` collects what is broadcast about alerts,
    ``notified`` about incidents, ``scaled`` about pools, ``planned`` about leases of hosts."""

    def __init__(self, *rules: Rule, now: int = 1_000) -> None:
        self.decider = MonitorDecider()
        self.state: State = self.decider.initial()
        self.now = now
        self.number = 0
        self.serial = 0
        self.seqs: dict[tuple[str, str], int] = {}
        self.journal: list[Event] = []
        self.told: list[dict[str, Any]] = []
        self.notified: list[dict[str, Any]] = []
        self.scaled: list[dict[str, Any]] = []
        self.planned: list[dict[str, Any]] = []
        if rules:
            self.observe(LoadRules(policy=Policy(rules=rules)), "ops")

    # ---- decisions

    def ask(self, body: Any, principal: str = "ops") -> Outcome:
        outcome = self._decide(Command(principal, body.id if isinstance(body, Request) else "", body))
        self.settle_due()
        return outcome

    observe = ask

    def must(self, body: Any, principal: str = "ops") -> dict[str, Any]:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Accept), outcome
        return outcome.reply

    def rejected(self, body: Any, principal: str = "ops") -> str:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Reject), outcome
        return outcome.code

    def _decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now, (1, 1, self.number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
                self.journal.append(event)
            for broadcast in outcome.broadcasts:
                body = body_of(broadcast)
                assert isinstance(broadcast, Broadcast)
                others = {"alert": self.told, "scale": self.scaled, "quota": self.planned}
                others.get(broadcast.kind, self.notified).append(body)
        return outcome

    def settle_due(self) -> None:
        for _ in range(10_000):
            command = self.decider.due(self.state, self.now)
            if command is None:
                break
            self._decide(command)
        else:
            raise AssertionError("due hands out commands for ever")
        wake = self.decider.wake_at(self.state)
        assert wake is not None
        assert wake > self.now, "due has nothing, but asks to be woken at once"

    def advance(self, ms: int) -> None:
        """Let time pass, stopping wherever something is due."""
        until = self.now + ms
        while True:
            wake = self.decider.wake_at(self.state)
            if wake is None or wake > until:
                break
            self.now = max(self.now, wake)
            self.settle_due()
        self.now = until
        self.settle_due()

    def id(self) -> str:
        self.serial += 1
        return f"t-{self.serial}"

    # ---- observations

    def sample(self, host: str = "alpha", boot: str = BOOT, seq: int | None = None, **fields: Any) -> HostSample:
        """Send one sample; the next number unless one is given."""
        number = seq if seq is not None else self.seqs.get((host, boot), 0) + 1
        self.seqs[host, boot] = max(number, self.seqs.get((host, boot), 0))
        made = sample(number, boot, uptime_ms=number * 1_000, **fields)
        self.observe(made, host)
        return made

    def samples(self, count: int, host: str = "alpha", **fields: Any) -> None:
        """One a second; time goes on after each."""
        for _ in range(count):
            self.sample(host, **fields)
            self.advance(1_000)

    def sweep(self, *rows: InstanceRow) -> None:
        self.observe(Swept(rows))

    def page(self, service: str, **rows: Sequence[Message]) -> None:
        self.observe(Polled(service, rows))

    # ---- looking

    @property
    def firing(self) -> set[tuple[str, str]]:
        return set(self.state.firing)

    def status(self, **asked: Any) -> StatusReply:
        outcome = self.ask(Status(**asked))
        assert isinstance(outcome, Refuse)
        return StatusReply(**outcome.reply, fence=FENCE)

    def stories(self) -> list[tuple[str, str, str]]:
        """What was told: (state, rule, subject)."""
        return [(told["state"], told["rule"], told["subject"]) for told in self.told]

    def notifications(self) -> list[tuple[str, str, str]]:
        """What people were notified of: (why, rule of the cause, its subject)."""
        return [(told["why"], told["cause"]["rule"], told["cause"]["subject"]) for told in self.notified]

    def take_over(self, after_ms: int = 1_000) -> None:
        """Another instance goes on with the durable state alone."""
        self.state = self.decider.load(self.decider.dump(self.state))
        self.now += after_ms
        self.settle_due()

    def check(self) -> None:
        """The parts agree, replay gives the same state, and so does dump and load."""
        validate(self.state)
        replayed = self.decider.initial()
        for event in self.journal:
            self.decider.evolve(replayed, event)
            assert self.decider.describe(event)
        assert self.decider.dump(replayed) == self.decider.dump(self.state)
        loaded = self.decider.load(self.decider.dump(self.state))
        assert self.decider.dump(loaded) == self.decider.dump(self.state)


def body_of(broadcast: Broadcast | Notice) -> dict[str, Any]:
    assert isinstance(broadcast, Broadcast)
    kinds: dict[str, type[Message]] = {
        "alert": AlertChanged,
        "incident": IncidentChanged,
        "scale": ScaleWanted,
        "quota": QuotaChanged,
    }
    kinds[broadcast.kind].model_validate({**broadcast.body, "fence": FENCE})
    body = broadcast.body
    assert broadcast.name == (body.get("rule") or body.get("pool") or body.get("host") or body["cause"]["rule"])
    return broadcast.body


def sample(seq: int, boot: str = BOOT, cpu: int | None = 100, uptime_ms: int = 0, **fields: Any) -> HostSample:
    return HostSample(
        boot=boot, seq=seq, uptime_ms=uptime_ms, cpu=None if cpu is None else CpuSample(used_permille=cpu, cores=4),
        **fields,
    )  # fmt: skip


def full(seq: int, uptime_ms: int = 0) -> HostSample:
    """A sample that knows everything."""
    return sample(
        seq,
        uptime_ms=uptime_ms,
        memory=MemorySample(total_bytes=100 * GB, available_bytes=25 * GB),
        disk=DiskSample(total_bytes=1_000, used_bytes=930, read_bytes=seq * 5_000, written_bytes=seq * 1_000),
        network=NetworkSample(received_bytes=seq * 2_000, sent_bytes=seq * 3_000, errors=0, dropped=1),
        gpus=(GpuSample(index=0, uuid="GPU-1", name="Card", memory_total_bytes=12 * GB, memory_used_bytes=3 * GB),),
    )


def instance(service: str = "limiter", name: str = "limiter-1", owner: bool = True, **fields: Any) -> InstanceRow:
    numbers = {"requests": 10, "errors": 1, "open": 0, "p50_us": 300, "p99_us": 900, "rss_bytes": 50_000, "cpu_ms": 70}
    return InstanceRow(service=service, instance=name, version="0.1.0", owner=owner, **{**numbers, **fields})


def seconds(desk: Desk, count: int) -> Iterator[int]:
    for second in range(count):
        yield second
        desk.advance(1_000)
