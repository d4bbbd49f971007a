"""The real breaker registry as a workload: agents report at random, probe, and die as probers.

A target is well or ill by true time, which nobody is told; reporters see it through their calls. What a prober does is
on true time, too: its permit is good for its time from the moment at which it *asked*, as `bursar.client` reckons, so
that no pause and no late answer lets it probe longer than the registry believes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.contracts.breaker import (
    Annotate,
    Disable,
    Explain,
    ForceClose,
    ForceOpen,
    Group,
    MetricsOnly,
    Probe,
    Probed,
    Release,
    Report,
    Reset,
    Rule,
    Snapshot,
    Status,
)
from bursar.kernel.decider import Command, Decider, Fence, Outcome
from bursar_breaker.configuring import LoadFile
from bursar_breaker.core import BreakerDecider
from bursar_breaker.rules import mixed
from bursar_breaker.state import State, validate
from tests.breaker.history import check_history
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.world import World

TARGETS = ("p", "p/m", "p/m/key", "q", "q", "q", "p/m")
PROBES = {"p": 2, "p/m": 1, "p/m/key": 1, "q": 1, "group/all": 1}
TTL_MS = 1_500
RULES = tuple(
    Rule(
        target=target,
        window_ms=1_000,
        minimum_calls=4,
        consecutive=6,
        open_ms=250,
        max_open_ms=2_000,
        max_retry_after_ms=3_000,
        probes=probes,
        probe_ttl_ms=TTL_MS,
        ramp=(100, 400),
        ramp_step_ms=60,
    )
    for target, probes in PROBES.items()
)


class Told(Report):
    """A report as the simulator's clients can send it: they ask, though nobody answers anything that counts."""

    seen: str | None = None


class Registry(BreakerDecider):
    """The decider, to which a `Told` is a `Report`."""

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        if isinstance(command.body, Told):
            command = command._replace(body=Report(deltas=command.body.deltas))
        return super().decide(state, command, now, fence)


class Live(NamedTuple):
    """A probe under way, by true time, at a target whose circuit was half-open."""

    target: str
    since: int
    until: int


class BreakerWorkload:
    name = "breaker"

    def __init__(self) -> None:
        self.live: list[Live] = []
        self.died = 0

    def decider(self) -> Decider[Any]:
        return Registry()

    def start(self) -> list[Any]:
        return [LoadFile(rules=RULES, groups=(Group(name="all", members=("p/m", "q")),))]

    # ---- what clients ask

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        if client.todo:
            return Probed, client.todo.pop(0), False
        client.queries -= 1
        number = client.number - client.queries
        pick = mixed(number, len(client.name), ord(client.name[-1]))
        target = TARGETS[pick % len(TARGETS)]
        pick //= len(TARGETS)
        if pick % 40 == 0:
            return self._order(pick // 40, target)
        if pick % 40 < 4:
            make, fields = ((Status, {}), (Snapshot, {}), (Explain, {"target": target}))[pick % 3]
            return make, dict(fields), True
        if pick % 40 < 16:
            return Probe, {"target": target}, False
        return Told, {"deltas": ({"target": target, **self._seen(number, pick // 40)},)}, True

    @staticmethod
    def _order(number: int, target: str) -> tuple[Any, dict[str, Any], bool]:
        """Operators force, release and annotate; half of the orders end by themselves."""
        orders = (ForceOpen, Reset, ForceClose, Reset, Annotate, Disable, Release, MetricsOnly, Release)
        order = orders[number % len(orders)]
        fields: dict[str, Any] = {"target": "group/all" if number % 5 == 0 else target, "note": f"n{number % 100}"}
        if order in {ForceOpen, ForceClose, Disable, MetricsOnly} and number % 2:
            fields["for_ms"] = 100 + number % 700
        return order, fields, False

    @staticmethod
    def _seen(number: int, pick: int) -> dict[str, Any]:
        """What a reporter has seen: illness comes in stretches."""
        if number // 12 % 2:
            return {"error": 2 + pick % 3, "timeout": pick % 2}
        if pick % 29 == 0:
            return {"overload": 1, "retry_after_ms": pick % 900}
        return {"ok": 1 + pick % 4, "rate_limited": pick % 3}

    def last(self) -> tuple[Any, dict[str, Any]]:
        return Snapshot, {}

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        return {} if fence is None else {"seen": f"{fence[0]}.{fence[1]}.{fence[2]}.{'0' * 16}"}

    def changed(self, body: Any) -> Any:
        return body.model_copy(update={"target": "other"}) if isinstance(body, Probe) else None

    # ---- what they do with the answers

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        if not isinstance(question.body, Probe) or not reply.get("ok"):
            return
        simulator = world.simulator
        begins, void = simulator.now, question.asked_at + reply["ttl_ms"]
        if begins >= void:
            return
        dies = simulator.chance(0.4)
        ends = void if dies else min(void, begins + simulator.between(20, 900))
        self.live += [Live(row["target"], begins, ends) for row in reply["circuits"] if row["state"] == "half_open"]
        self.died += dies
        if not dies:
            outcome = "ok" if simulator.chance(0.6) else "error"
            simulator.at(ends - begins, client.todo.append, {"lease": reply["lease"], "outcome": outcome})

    # ---- what must hold

    def check_state(self, state: State, now: int) -> None:
        validate(state, now)

    def check_end(self, world: World) -> None:
        """The journal keeps the table and its revisions; never more than k probes were under way, by true time."""
        checker = world.checker
        checker.counts["probes"] = len(self.live)
        checker.counts["probers_died"] = self.died
        if checker.lossy:
            return
        events = [event for entry in checker.log for row in entry.decisions for event in row.events]
        for kind in "olhrcfpde":
            checker.counts[f"events_{kind}"] = sum(event[0] == kind for event in events)
        check_history(events, PROBES)
        for probe in self.live:
            others = [o for o in self.live if o.target == probe.target and o.since <= probe.since < o.until]
            assert len(others) <= PROBES[probe.target], f"{len(others)} probes under way at {probe.target}"
