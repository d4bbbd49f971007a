"""A deterministic stand-in for the kernel: decides, applies, hands out what is due, keeps the journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.contracts.base import Request
from bursar.contracts.breaker import (
    PULSE,
    SHARE,
    Configure,
    Delta,
    Disable,
    Explain,
    Explained,
    ForceClose,
    ForceOpen,
    Group,
    MetricsOnly,
    Probe,
    Probed,
    Pulse,
    Release,
    Report,
    Reset,
    Rule,
    Snapshot,
    Status,
    StatusReply,
)
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Outcome, Refuse
from bursar_breaker.core import BreakerDecider
from bursar_breaker.evidence import STRANGE_MS
from bursar_breaker.state import State, validate


def rule(target: str | None = None, **fields: Any) -> Rule:
    """A rule that tests can reckon with: 1 s window, 4 calls, half of them, 500 ms open, no jitter, no ramp."""
    usual = {
        "window_ms": 1_000,
        "minimum_calls": 4,
        "consecutive": 0,
        "open_ms": 500,
        "max_open_ms": 4_000,
        "calm_ms": 2_000,
        "max_retry_after_ms": 20_000,
        "probe_ttl_ms": 300,
        "successes": 1,
        "jitter_permille": 0,
        "ramp": (),
    }
    return Rule(target=target, **{**usual, **fields})


ORDERS: dict[str, Any] = {
    "open": ForceOpen,
    "closed": ForceClose,
    "disabled": Disable,
    "metrics": MetricsOnly,
    "release": Release,
    "reset": Reset,
}


class Desk:
    """``now`` is the decider's clock; ``told`` are the broadcasts in order. Its registry has heard reports for a while:
    whoever is alone is a fleet of one."""

    def __init__(
        self, *rules: Rule, groups: Mapping[str, Sequence[str]] = MappingProxyType({}), now: int = 1_000,
        incarnation: int = 1,
    ) -> None:  # fmt: skip
        self.decider = BreakerDecider()
        self.state: State = self.decider.initial()
        self.state.windows.began = now - STRANGE_MS
        self.now = now
        self.incarnation = incarnation
        self.number = 0
        self.serial = 0
        self.journal: list[Event] = []
        self.told: list[dict[str, Any]] = []
        self.pulses: list[Pulse] = []
        self.shares: list[tuple[str, int]] = []
        named = tuple(Group(name=name, members=tuple(members)) for name, members in groups.items())
        self.must(Configure(id=self.new_id(), rules=rules or (rule(),), groups=named), "ops")

    def new_id(self) -> str:
        self.serial += 1
        return f"t-{self.serial}"

    def ask(self, body: Any, principal: str = "ann") -> Outcome:
        """Decide one command, and then what is due."""
        request_id = body.id if isinstance(body, Request) else ""
        before = self.dump()
        outcome = self._decide(Command(principal, request_id, body))
        if not isinstance(outcome, Accept):
            assert self.dump() == before, "what was not accepted has changed the state"
        self.settle()
        return outcome

    def must(self, body: Any, principal: str = "ann") -> dict[str, Any]:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Accept), outcome
        return outcome.reply

    def refused(self, body: Any, principal: str = "ann") -> dict[str, Any]:
        outcome = self.ask(body, principal)
        assert isinstance(outcome, Refuse), outcome
        return outcome.reply

    def _decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now, (self.incarnation, 1, self.number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                stored = msgpack.unpackb(msgpack.packb(event), use_list=False)
                self.decider.evolve(self.state, stored)
                self.journal.append(stored)
            for told in outcome.broadcasts:
                assert isinstance(told, Broadcast)
                self._hear(told)
        return outcome

    def _hear(self, told: Broadcast) -> None:
        if told.kind == PULSE:
            self.pulses.append(Pulse.model_validate({**told.body, "fence": "1.1.1.0"}))
        elif told.kind == SHARE:
            self.shares.append((told.body["budget"], told.body["share"]))
        else:
            self.told.append(told.body)

    def settle(self) -> None:
        """Hand out everything that is due now."""
        for _ in range(10_000):
            command = self.decider.due(self.state, self.now)
            if command is None:
                break
            self._decide(command)
        else:
            raise AssertionError("due hands out commands for ever")
        wake = self.decider.wake_at(self.state)
        assert wake is None or wake > self.now, "due has nothing, but asks to be woken at once"

    def advance(self, ms: int) -> None:
        """Let time pass, stopping wherever something is due."""
        to = self.now + ms
        while (wake := self.decider.wake_at(self.state)) is not None and wake <= to:
            self.now = max(self.now, wake)
            self.settle()
        self.now = to
        self.settle()

    # ---- short forms

    def report(self, target: str = "p", who: str = "ann", retry_after_ms: int | None = None, **counts: int) -> None:
        self.saw(counts, target, who, retry_after_ms)

    def saw(
        self, counts: dict[str, int], target: str = "p", who: str = "ann", retry_after_ms: int | None = None
    ) -> None:
        delta = Delta.model_validate({"target": target, "retry_after_ms": retry_after_ms, **counts})
        assert isinstance(self.ask(Report(deltas=(delta,)), who), Refuse)

    def probe(self, target: str = "p", who: str = "ann") -> str:
        """The permit that must be given."""
        return str(self.must(Probe(id=self.new_id(), target=target), who)["lease"])

    def no_probe(self, target: str = "p", who: str = "ann") -> dict[str, Any]:
        return self.refused(Probe(id=self.new_id(), target=target), who)

    def probed(self, lease: str, outcome: Any = "ok", who: str = "ann", retry_after_ms: int | None = None) -> Any:
        body = Probed(id=self.new_id(), lease=lease, outcome=outcome, retry_after_ms=retry_after_ms)
        found = self.ask(body, who)
        return found.reply if isinstance(found, Accept | Refuse) else found

    def force(self, target: str, to: str, note: str = "", who: str = "ops") -> dict[str, Any]:
        return self.must(ORDERS[to](id=self.new_id(), target=target, note=note), who)

    def order(self, kind: type[Request], target: str = "p", who: str = "ops", **fields: Any) -> dict[str, Any]:
        """An order with all that it may have."""
        return self.must(kind.model_validate({"id": self.new_id(), "target": target, **fields}), who)

    def configure(self, *rules: Rule) -> None:
        self.must(Configure(id=self.new_id(), rules=rules), "ops")

    def state_of(self, target: str = "p") -> str:
        return self.state.state_of(target)

    def until(self, target: str = "p") -> int:
        return self.state.circuits[target].until

    def status(self, target: str | None = None, limit: int = 200) -> StatusReply:
        reply = self.refused(Status(target=target, limit=limit), "ops")
        return StatusReply.model_validate({**reply, "fence": "1.1.1.x"})

    def explain(self, target: str = "p", history: int = 16) -> Explained:
        reply = self.refused(Explain(target=target, history=history), "ops")
        return Explained.model_validate({**reply, "fence": "1.1.1.x"})

    def snapshot(self, revision: int = 0, digest: str = "") -> dict[str, Any]:
        return self.refused(Snapshot(revision=revision, digest=digest), "late")

    def open(self, target: str = "p", who: str = "ann") -> None:
        """Let a fleet of one see it down."""
        self.report(target, who, error=4)
        assert self.state_of(target) == "open"

    def half_open(self, target: str = "p") -> None:
        self.open(target)
        self.advance(self.until(target) - self.now)
        assert self.state_of(target) == "half_open"

    # ---- what must hold

    def dump(self) -> Any:
        return self.decider.dump(self.state)

    def check(self) -> None:
        """The parts agree, a replay of the journal ends in this state, and dump and load are inverse."""
        validate(self.state, self.now)
        replayed = self.decider.initial()
        for event in self.journal:
            self.decider.evolve(replayed, event)
            assert self.decider.describe(event)
        assert self.decider.dump(replayed) == self.dump()
        stored = msgpack.unpackb(msgpack.packb(self.dump()), use_list=False)
        loaded = self.decider.load(stored)
        assert self.decider.dump(loaded) == self.dump()
        validate(loaded, self.now)

    def restarted(self) -> Desk:
        """Another owner at the same time, with the durable state only."""
        other = Desk(now=self.now, incarnation=self.incarnation)
        other.state = other.decider.load(msgpack.unpackb(msgpack.packb(self.dump()), use_list=False))
        other.state.windows.began = self.now - STRANGE_MS
        other.number, other.journal, other.serial = self.number, list(self.journal), self.serial + 1_000
        other.told = []
        return other
