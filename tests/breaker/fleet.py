"""A whole fleet on a bad network, driven by one seed: agents with the client's own `View`, a registry that crashes and
sometimes comes back with less than it had, messages that are lost, late, doubled or cut off, probers that die, one
reporter that lies, and an operator. Targets are well or ill by true time, which nobody is told.

The network carries reports, broadcasts, questions and answers; all of it may be lost. What must hold at every moment is
asserted where it happens; what must hold at the end, in `Fleet.settle`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from typing import Any, NamedTuple

from bursar.client.breaker_view import View
from bursar.contracts.breaker import Delta, Outcome, Probe, Probed, Report, Rule, Snapshot
from bursar.kernel.decider import Accept, Refuse
from bursar_breaker.telling import LIVELY_PULSE_MS, pulse
from tests.breaker.desk import Desk, rule
from tests.breaker.history import check_history

TTL_MS = 800
TARGETS = ("p/m1", "p/m2")
RULES: tuple[Rule, ...] = (
    rule(open_ms=400, max_open_ms=1_500, probe_ttl_ms=TTL_MS, successes=2, jitter_permille=100, ramp=(100, 500),
         ramp_step_ms=200, consecutive=5, minimum_calls=6),
)  # fmt: skip


@dataclass
class Net:
    """What may happen to a message: the part lost, doubled; the longest delay (ms); who is cut off."""

    lost: float = 0.0
    doubled: float = 0.0
    delay: int = 5
    cut: set[str] = field(default_factory=set)


class Live(NamedTuple):
    """A probe under way, by true time."""

    target: str
    since: int
    until: int


class Agent:
    """One process: it calls, reports, looks circuits up in its own view, and asks when it has missed something."""

    def __init__(self, fleet: Fleet, name: str, *, lies: bool = False) -> None:
        self.fleet = fleet
        self.name = name
        self.lies = lies
        self.view = View()
        self.heard_at = 0
        self.asked_at = -10_000
        self.calls = 0
        self.seen = (0, 0)

    # ---- calls

    def call(self, target: str) -> None:
        fleet = self.fleet
        rows = [self.view.known[name] for name in (target.partition("/")[0], target) if name in self.view.known]
        if any(row.state == "forced_open" or (row.state == "open" and fleet.now < row.until) for row in rows):
            return
        if any(row.state in {"open", "half_open"} for row in rows):
            self._probe(target)
        elif all(row.state != "ramping" or fleet.random.random() * 1000 < row.share for row in rows):
            self.calls += 1
            self._report(target, fleet.is_ill(target))

    def _report(self, target: str, is_ill: bool) -> None:
        fleet = self.fleet
        counts: dict[str, Any] = {"timeout": 1} if is_ill else {"ok": 1}
        if self.lies:
            counts = {"ok": 10_000} if is_ill else {"timeout": 10_000}
        body = Report(deltas=(Delta(target=target, **counts),))
        fleet.to_registry(self, lambda: self.fleet.desk.ask(body, self.name))

    # ---- probes

    def _probe(self, target: str) -> None:
        fleet, asked = self.fleet, self.fleet.now
        body = Probe(id=fleet.desk.new_id(), target=target)

        def decide() -> None:
            outcome = fleet.desk.ask(body, self.name)
            assert isinstance(outcome, Accept | Refuse)
            fleet.to_agent(self, lambda: self._granted(target, asked, outcome.reply))

        fleet.to_registry(self, decide, may_double=False)

    def _granted(self, target: str, asked: int, reply: dict[str, Any]) -> None:
        fleet = self.fleet
        if not reply["ok"] or fleet.now >= asked + reply["ttl_ms"]:
            return
        ends = min(asked + reply["ttl_ms"], fleet.now + fleet.random.randint(5, 60))
        dies = fleet.random.random() < fleet.prober_dies
        for row in reply["circuits"]:
            if row["state"] == "half_open":
                fleet.probing(Live(row["target"], fleet.now, asked + reply["ttl_ms"] if dies else ends))
        if dies:
            return
        outcome: Outcome = "timeout" if fleet.is_ill(target) else "ok"
        body = Probed(id=fleet.desk.new_id(), lease=reply["lease"], outcome=outcome)
        fleet.at(ends, lambda: fleet.to_registry(self, lambda: fleet.desk.ask(body, self.name), may_double=False))

    # ---- what it is told

    def hear(self, body: dict[str, Any]) -> None:
        self.heard_at = self.fleet.now
        if "digest" in body:
            for row in reversed(body["recent"]):
                self.view.hear({**row, "fence": body["fence"]}, self.fleet.now)
            incarnation = int(body["fence"].split(".")[0])
            if self.view.is_behind(incarnation, body["revision"], body["digest"]):
                self._ask()
        else:
            self.view.hear(body, self.fleet.now)
        self._check()

    def tick(self) -> None:
        """Something is missing, or nothing is heard any more."""
        if self.view.has_gap or self.fleet.now - self.heard_at > 1_200:
            self._ask()

    def _ask(self) -> None:
        fleet = self.fleet
        if fleet.now - self.asked_at < 100:
            return
        self.asked_at = fleet.now
        body = Snapshot(revision=self.view.revision, digest=self.view.digest)

        def decide() -> None:
            outcome = fleet.desk.ask(body, self.name)
            assert isinstance(outcome, Refuse)
            told = {**outcome.reply, "fence": fleet.fence}
            fleet.to_agent(self, lambda: self._loaded(told))

        fleet.to_registry(self, decide, may_double=False)

    def _loaded(self, body: dict[str, Any]) -> None:
        self.heard_at = self.fleet.now
        self.view.load(body, self.fleet.now)
        self._check()

    def _check(self) -> None:
        seen = (self.view.incarnation, self.view.revision)
        assert seen >= self.seen, f"{self.name}: revision {seen} after {self.seen}"
        self.seen = seen


class Fleet:
    """``prober_dies``: the part of probers that is killed before they report."""

    def __init__(self, seed: int, agents: int = 12, *, liar: bool = True, prober_dies: float = 0.3) -> None:
        self.random = random.Random(seed)
        self.now = 1_000
        self.net = Net()
        self.desk = Desk(*RULES)
        self.desk.state.windows.began = None
        self.is_up = True
        self.told = 0
        self.pulses = 0
        self.prober_dies = prober_dies
        self.live: list[Live] = []
        self.ill: dict[str, list[tuple[int, int]]] = {target: [] for target in TARGETS}
        self.lost_data = False
        self.kept: list[Any] = []
        self._queue: list[tuple[int, int, Callable[[], Any]]] = []
        self._serial = 0
        self.agents = [Agent(self, f"a{n}", lies=liar and n == 0) for n in range(agents)]
        for agent in self.agents:
            self._again(30, 120, partial(self._call, agent))
            self._again(40, 60, agent.tick)
        self._again(LIVELY_PULSE_MS, LIVELY_PULSE_MS, self._pulse)

    def _call(self, agent: Agent) -> None:
        agent.call(self.random.choice(TARGETS))

    # ---- time

    def at(self, moment: int, what: Callable[[], Any]) -> None:
        self._serial += 1
        heappush(self._queue, (moment, self._serial, what))

    def _again(self, least: int, most: int, what: Callable[[], Any]) -> None:
        def turn() -> None:
            what()
            self.at(self.now + self.random.randint(least, most), turn)

        self.at(self.now + self.random.randint(1, most), turn)

    def run(self, ms: int) -> None:
        until = self.now + ms
        while self._queue and self._queue[0][0] <= until:
            self._pass(max(self.now, self._queue[0][0]))
            heappop(self._queue)[2]()
            self._send()
        self._pass(until)

    def _pass(self, to: int) -> None:
        """Time goes on; the registry wakes up by itself where something is due."""
        while self.is_up and (wake := self.desk.decider.wake_at(self.desk.state)) is not None and wake <= to:
            self.now = self.desk.now = max(self.desk.now, wake)
            self.desk.settle()
            self._send()
        self.now = to
        if self.is_up:
            self.desk.now = to

    # ---- truth

    def falls_ill(self, target: str, ms: int) -> None:
        self.ill[target].append((self.now, self.now + ms))

    def is_ill(self, target: str, since: int | None = None) -> bool:
        """Now, or at any time since then."""
        begin = self.now if since is None else since
        return any(start <= self.now and end > begin for start, end in self.ill[target])

    def probing(self, probe: Live) -> None:
        """Never more than k by true time, through crashes; asserted as long as no data was lost and given back."""
        self.live.append(probe)
        others = [one for one in self.live if one.target == probe.target and one.since <= probe.since < one.until]
        assert len(others) <= self.desk.state.rules.of(probe.target).probes, others

    # ---- the network

    @property
    def fence(self) -> str:
        return f"{self.desk.incarnation}.1.{self.desk.number}.0"

    def to_registry(self, agent: Agent, what: Callable[[], Any], *, may_double: bool = True) -> None:
        self._carry(agent, lambda: what() if self.is_up else None, may_double)

    def to_agent(self, agent: Agent, what: Callable[[], Any], *, may_double: bool = False) -> None:
        self._carry(agent, what, may_double)

    def _carry(self, agent: Agent, what: Callable[[], Any], may_double: bool) -> None:
        copies = 1 + (may_double and self.random.random() < self.net.doubled)
        for _ in range(copies):
            if agent.name not in self.net.cut and self.random.random() >= self.net.lost:
                self.at(self.now + self.random.randint(0, self.net.delay), what)

    def _send(self) -> None:
        """What the registry has told since the last time goes to everybody."""
        changes, self.told = self.desk.told[self.told :], len(self.desk.told)
        pulses, self.pulses = self.desk.pulses[self.pulses :], len(self.desk.pulses)
        bodies = [*changes, *(told.model_dump() for told in pulses)]
        for body in bodies:
            self._broadcast({**body, "fence": self.fence})

    def _broadcast(self, body: dict[str, Any]) -> None:
        for agent in self.agents:
            self.to_agent(agent, partial(agent.hear, body), may_double=True)

    def _pulse(self) -> None:
        told = pulse(self.desk.state, self.now) if self.is_up else None
        if told is not None:
            self._broadcast({**told.body, "fence": self.fence})

    # ---- disasters

    def crash(self, ms: int, *, loses: bool = False) -> None:
        """The registry is gone for so long; ``loses``: and then comes back as it was when `keep` was called last."""
        self.is_up = False

        def back() -> None:
            before = self.desk
            self.desk = before.restarted()
            self.desk.state.windows.began = None
            if loses:
                self._lose()
            self.told = self.pulses = 0
            self.is_up = True
            self.desk.now = max(self.now, self.desk.now)
            self.desk.settle()

        self.at(self.now + ms, back)

    def keep(self) -> None:
        self.kept = [self.desk.dump(), list(self.desk.journal)]

    def _lose(self) -> None:
        state, journal = self.kept
        self.desk.state, self.desk.journal = self.desk.decider.load(state), list(journal)
        self.desk.incarnation += 1
        self.desk.now = self.now
        for event in self.desk.decider.recover(self.desk.state, self.now):
            self.desk.decider.evolve(self.desk.state, event)
            self.desk.journal.append(event)

    # ---- what must hold

    def settle(self) -> None:
        """The network is well again: soon all know the same, and it is what the registry says; its journal keeps the
        rules."""
        self.net = Net()
        while not self.is_up:
            self.run(100)
        self.run(2_000)
        for _ in range(10):  # there may have been a change just now
            self.run(20 if self._wrong() else 0)
        assert not self._wrong(), self._wrong()
        check_history(self.desk.journal)
        self.desk.check()

    def _wrong(self) -> dict[str, tuple[int, str]]:
        """Whose view is not the registry's."""
        right = (self.desk.state.revision, self.desk.snapshot()["digest"])
        views = {agent.name: (agent.view.revision, agent.view.digest) for agent in self.agents}
        return {name: view for name, view in views.items() if view != right}

    def know(self, revision: int) -> bool:
        return all(agent.view.revision >= revision for agent in self.agents)

    def states(self, targets: Sequence[str] = TARGETS) -> list[str]:
        return [self.desk.state_of(target) for target in targets]
