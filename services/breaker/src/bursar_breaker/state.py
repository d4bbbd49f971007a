"""The registry's state: circuits, probe permits and rules, which the journal rebuilds; and beside them what is
volatile: the windows of reports, and what they have made due.

A closed circuit that was never open needs no entry. `MAX_CIRCUITS` bounds the others: the one that has been closed for
longest makes room. Circuits stand in the order of their last change.

Permits outlive a change of their circuit: the call that they were given for may still be under way, so they take their
place among the ``probes`` until they are reported or their time is over.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from bursar.contracts.breaker import CircuitName, path_of
from bursar_breaker.evidence import Windows
from bursar_breaker.judging import Evidence
from bursar_breaker.lifecycle import CLOSED, HALF_OPEN, OPEN
from bursar_breaker.rules import Rules, load_rules

MAX_CIRCUITS: Final = 4_096


class Circuit(NamedTuple):
    """One circuit. ``since``, ``until``: decider time (ms) of its last change of state, and the end of its open time.
    ``opened``: how often in a row it has opened; ``successes``: probes that succeeded since it is half-open;
    ``evidence``: what it opened on, as in `bursar_breaker.judging.Evidence`."""

    state: CircuitName
    since: int
    until: int
    revision: int
    generation: int
    reason: str
    opened: int = 0
    successes: int = 0
    note: str = ""
    evidence: tuple[int, ...] = ()


class Lease(NamedTuple):
    """A probe permit: whose, until when (ms), and for which circuits in which generation."""

    principal: str
    expires_at: int
    circuits: tuple[tuple[str, int], ...]


class State:
    """All that the decider knows. Durable: ``at`` (time of the last event) to ``quiet_until`` (no probes before, after
    a loss); the rest is volatile or made from the durable part."""

    __slots__ = ("agenda", "at", "circuits", "leases", "lost_at", "out", "pending", "postponed", "quiet_until",
                 "revision", "rules", "shown", "source", "windows")  # fmt: skip

    def __init__(self) -> None:
        self.at = 0
        self.revision = 0
        self.source = ""
        self.rules = Rules()
        self.circuits: dict[str, Circuit] = {}
        self.leases: dict[str, Lease] = {}
        self.lost_at = -1
        self.quiet_until = 0
        self.out: dict[str, int] = {}
        self.agenda: list[tuple[int, str, str]] = []
        self.windows = Windows()
        self.pending: dict[str, tuple[str, Evidence, int]] = {}
        self.postponed: dict[str, int] = {}
        self.shown: tuple[int, str] | None = None

    def state_of(self, target: str) -> CircuitName:
        circuit = self.circuits.get(target)
        return CLOSED if circuit is None else circuit.state

    def put(self, target: str, circuit: Circuit) -> None:
        """Store a circuit that has changed; what was reported before counts no more."""
        self.circuits.pop(target, None)
        if len(self.circuits) >= MAX_CIRCUITS:
            oldest = next(name for name, other in self.circuits.items() if other.state == CLOSED)
            del self.circuits[oldest]
        self.circuits[target] = circuit
        self.revision = circuit.revision
        self.windows.forget(target)
        self.pending.pop(target, None)
        if circuit.state == OPEN:
            heappush(self.agenda, (circuit.until, "circuit", target))
        else:
            self.postponed.pop(target, None)

    @property
    def is_full(self) -> bool:
        """Whether no other circuit can be stored, because none of those that are is closed."""
        if len(self.circuits) < MAX_CIRCUITS:
            return False
        return all(circuit.state != CLOSED for circuit in self.circuits.values())

    def drop_first(self) -> None:
        """The first entry of the agenda has been seen to."""
        heappop(self.agenda)

    def lend(self, key: str, lease: Lease) -> None:
        self.leases[key] = lease
        for target, _ in lease.circuits:
            self.out[target] = self.out.get(target, 0) + 1
        heappush(self.agenda, (lease.expires_at, "lease", key))

    def give_back(self, key: str) -> Lease:
        lease = self.leases.pop(key)
        for target, _ in lease.circuits:
            self.out[target] -= 1
            if not self.out[target]:
                del self.out[target]
        return lease

    def on_the_way(self, target: str) -> list[tuple[str, Circuit]]:
        """The circuits that are not closed in the way of a call, from the top."""
        circuits = self.circuits
        return [(name, circuits[name]) for name in path_of(target) if name in circuits and _stops(circuits[name])]


def _stops(circuit: Circuit) -> bool:
    return circuit.state != CLOSED


def dump(state: State) -> dict[str, Any]:
    return {
        "at": state.at,
        "revision": state.revision,
        "source": state.source,
        "rules": state.rules.dump(),
        "circuits": [[target, *circuit[:-1], list(circuit.evidence)] for target, circuit in state.circuits.items()],
        "leases": [
            [key, lease.principal, lease.expires_at, [list(pair) for pair in lease.circuits]]
            for key, lease in state.leases.items()
        ],
        "lost_at": state.lost_at,
        "quiet_until": state.quiet_until,
    }


def load(value: Any) -> State:
    state = State()
    state.rules = load_rules(value["rules"])
    for target, *fields, evidence in value["circuits"]:
        state.put(target, Circuit._make([*fields, tuple(evidence)]))
    for key, principal, expires_at, circuits in value["leases"]:
        state.lend(key, Lease(principal, expires_at, tuple((target, generation) for target, generation in circuits)))
    state.at, state.revision, state.source = value["at"], value["revision"], value["source"]
    state.lost_at, state.quiet_until = value["lost_at"], value["quiet_until"]
    return state


def validate(state: State, now: int) -> None:
    """Raise AssertionError unless the parts of the state agree with one another."""
    out: dict[str, int] = {}
    for key, lease in state.leases.items():
        assert lease.circuits, f"{key} covers nothing"
        for target, _ in lease.circuits:
            out[target] = out.get(target, 0) + 1
    assert out == state.out, "count of permits"
    assert len(state.circuits) <= MAX_CIRCUITS
    agenda = {(kind, key) for _, kind, key in state.agenda}
    for target, circuit in state.circuits.items():
        assert 0 < circuit.generation <= circuit.revision <= state.revision, f"{target}: revision"
        assert circuit.since <= state.at, f"{target}: since"
        if circuit.state == OPEN:
            assert ("circuit", target) in agenda, f"{target}: nothing will end its open time"
        assert circuit.successes == 0 or circuit.state == HALF_OPEN, f"{target}: successes"
    for key in state.leases:
        assert ("lease", key) in agenda, f"{key}: nothing will end it"
    state.windows.validate(now)
