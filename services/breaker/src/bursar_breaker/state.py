"""The registry's state: circuits, their history, probe permits and rules, which the journal rebuilds; and beside them
what is volatile: the windows of reports, what they have made due, and what would have opened.

A closed circuit that was never open needs no entry. `MAX_CIRCUITS` bounds the others: the one that has been closed for
longest makes room, and its history goes with it. Circuits stand in the order of their last change.

Permits outlive a change of their circuit: the call that they were given for may still be under way, so they take their
place among the ``probes`` until they are reported or their time is over.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

from bursar.contracts.breaker import ALL, MAX_HISTORY, CircuitName
from bursar.kernel.rights import Rights
from bursar.kernel.rights import load as load_rights
from bursar_breaker.evidence import Windows
from bursar_breaker.judging import Found
from bursar_breaker.lifecycle import AUTH, CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, RAMPING
from bursar_breaker.rules import Rules, load_rules, mixed

MAX_CIRCUITS: Final = 4_096
MAX_WAYS: Final = 8_192
LIVELY_MS: Final = 2_000
"""For so long after a change it is told again and again."""


class Circuit(NamedTuple):
    """One circuit. ``since``, ``changed``: decider time (ms) of its last change of state, and of any; ``until``: the
    end of its open time, of the step of its ramp, or of an order (0: none). ``opened``: how often in a row it has
    opened; ``successes``: probes that succeeded since it is half-open; ``share``: the part of calls that may go, in
    thousandths; ``evidence``: what it opened on, as in `bursar_breaker.judging.Found`."""

    state: CircuitName
    since: int
    until: int
    revision: int
    generation: int
    reason: str
    changed: int
    share: int = ALL
    opened: int = 0
    successes: int = 0
    note: str = ""
    evidence: dict[str, Any] = {}  # noqa: RUF012 - never changed


class Lease(NamedTuple):
    """A probe permit: whose, until when (ms), and for which circuits in which generation."""

    principal: str
    expires_at: int
    circuits: tuple[tuple[str, int], ...]


class Past(NamedTuple):
    """One change of a circuit, for its history."""

    at: int
    revision: int
    before: CircuitName
    after: CircuitName
    reason: str
    who: str
    note: str
    counts: dict[str, int]


class State:
    """All that the decider knows. Durable: ``at`` (time of the last event) to ``quiet_until`` (no probes before, after
    a loss); the rest is volatile or made from the durable part. ``refused``: by agent and target, the last request for
    a permit that was refused; ``waiting``: by circuit, who was refused one since its last change."""

    __slots__ = ("_ways", "agenda", "at", "circuits", "down", "edition", "history", "leases", "lively_until", "lost_at",
                 "out", "pending", "postponed", "pulsed_at", "quiet_until", "refused", "rested", "rested_at",
                 "revision", "rights", "rules", "seed", "shadows", "shown", "source", "waiting", "windows")  # fmt: skip

    def __init__(self) -> None:
        self.at = 0
        self.revision = 0
        self.rights: Rights | None = None
        self.edition = 0
        self.seed = 0
        self.source = ""
        self.rules = Rules()
        self.circuits: dict[str, Circuit] = {}
        self.history: dict[str, deque[Past]] = {}
        self.leases: dict[str, Lease] = {}
        self.lost_at = -1
        self.quiet_until = 0
        self.down: dict[str, dict[str, None]] = {}
        self.out: dict[str, int] = {}
        self.agenda: list[tuple[int, str, str]] = []
        self.windows = Windows()
        self.pending: dict[str, Found] = {}
        self.postponed: dict[str, int] = {}
        self.shadows: dict[str, str] = {}
        self.refused: dict[tuple[str, str], str] = {}
        self.waiting: dict[str, set[str]] = {}
        self.shown: tuple[int, str] | None = None
        self.lively_until = 0
        self.pulsed_at = -1
        self.rested = 0
        self.rested_at = 0
        self._ways: dict[str, tuple[str, ...]] = {}

    def state_of(self, target: str) -> CircuitName:
        circuit = self.circuits.get(target)
        return CLOSED if circuit is None else circuit.state

    def way(self, target: str) -> tuple[str, ...]:
        """The targets whose circuits stand in the way of a call: its groups, then from the provider down to itself."""
        way = self._ways.get(target)
        if way is None:
            if len(self._ways) >= MAX_WAYS:
                self._ways.clear()
            way = self._ways[target] = self.rules.way(target)
        return way

    def govern(self, rules: Rules) -> None:
        """Other rules hold from now on; what was counted under the old ones is forgotten."""
        self.rules = rules
        self._ways.clear()
        self.windows.clear()
        self.pending.clear()
        self.shadows.clear()

    def put(self, target: str, circuit: Circuit, *, who: str = "", note: str = "", keeps_window: bool = False) -> None:
        """Store a circuit that has changed, and its change in the history. What was reported before counts no more,
        unless its calls go on as they did (``keeps_window``)."""
        before = self.circuits.pop(target, None)
        if len(self.circuits) >= MAX_CIRCUITS:
            oldest = next(name for name, other in self.circuits.items() if other.state == CLOSED)
            del self.circuits[oldest]
            self.history.pop(oldest, None)
        self.circuits[target] = circuit
        self.revision = circuit.revision
        self._mark(target, is_down=_is_down(circuit))
        self._remember(target, CLOSED if before is None else before.state, circuit, who, note)
        self.seed = mixed(self.seed, circuit.changed, circuit.revision)
        self.lively_until = circuit.changed + LIVELY_MS
        if not keeps_window:
            self.windows.forget(target)
        self.pending.pop(target, None)
        self.waiting.pop(target, None)
        self.shadows.pop(target, None)
        if circuit.until:
            heappush(self.agenda, (circuit.until, "circuit", target))
        if circuit.state != OPEN:
            self.postponed.pop(target, None)

    def _mark(self, target: str, *, is_down: bool) -> None:
        """Keep in mind what is down below something else."""
        above, _, _ = target.rpartition("/")
        if is_down:
            self.down.setdefault(above, {})[target] = None
        elif target in self.down.get(above, ()):
            del self.down[above][target]
            if not self.down[above]:
                del self.down[above]

    def _remember(self, target: str, before: CircuitName, circuit: Circuit, who: str, note: str) -> None:
        counts = circuit.evidence.get("counts", {}) if circuit.state == OPEN and before != OPEN else {}
        past = Past(circuit.changed, circuit.revision, before, circuit.state, circuit.reason, who, note, counts)
        self.history.setdefault(target, deque(maxlen=MAX_HISTORY)).append(past)

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
        self.lively_until = max(self.lively_until, self.at + LIVELY_MS)
        return lease

    def on_the_way(self, target: str) -> list[tuple[str, Circuit]]:
        """The circuits that are not closed in the way of a call, from the top."""
        circuits = self.circuits
        return [(name, circuits[name]) for name in self.way(target) if name in circuits and _stops(circuits[name])]


def _is_down(circuit: Circuit) -> bool:
    """Whether evidence has opened it, and not of its key alone."""
    return circuit.state in {OPEN, HALF_OPEN} and circuit.evidence.get("cause", AUTH) != AUTH


def _stops(circuit: Circuit) -> bool:
    return circuit.state != CLOSED


def dump(state: State) -> dict[str, Any]:
    return {
        "at": state.at,
        "revision": state.revision,
        "edition": state.edition,
        "seed": state.seed,
        "source": state.source,
        "rules": state.rules.dump(),
        "rights": None if state.rights is None else state.rights.dump(),
        "circuits": [[target, *circuit] for target, circuit in state.circuits.items()],
        "history": [[target, [list(past) for past in pasts]] for target, pasts in state.history.items()],
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
    state.rights = load_rights(value["rights"])
    for target, *fields in value["circuits"]:
        state.put(target, Circuit._make(fields))
    state.history = {
        target: deque((Past._make(past) for past in pasts), maxlen=MAX_HISTORY) for target, pasts in value["history"]
    }
    for key, principal, expires_at, circuits in value["leases"]:
        state.lend(key, Lease(principal, expires_at, tuple((target, generation) for target, generation in circuits)))
    state.at, state.revision, state.edition = value["at"], value["revision"], value["edition"]
    state.seed, state.source = value["seed"], value["source"]
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
    assert state.history.keys() == state.circuits.keys(), "history"
    agenda = {(kind, key) for _, kind, key in state.agenda}
    for target, circuit in state.circuits.items():
        _validate_circuit(state, target, circuit)
        if circuit.until:
            assert ("circuit", target) in agenda, f"{target}: nothing will end its time"
        assert (target in state.down.get(target.rpartition("/")[0], ())) == _is_down(circuit), f"{target}: down"
    for key in state.leases:
        assert ("lease", key) in agenda, f"{key}: nothing will end it"
    state.windows.validate(now)


def _validate_circuit(state: State, target: str, circuit: Circuit) -> None:
    assert 0 < circuit.generation <= circuit.revision <= state.revision, f"{target}: revision"
    assert circuit.since <= circuit.changed <= state.at, f"{target}: since"
    assert bool(circuit.until) or circuit.state not in {OPEN, RAMPING}, f"{target}: no time is set"
    assert circuit.successes == 0 or circuit.state == HALF_OPEN, f"{target}: successes"
    stopped = circuit.state in {OPEN, HALF_OPEN, FORCED_OPEN}
    assert (circuit.share == 0) == stopped, f"{target}: share"
    assert (circuit.share < ALL) == (stopped or circuit.state == RAMPING), f"{target}: share"
    past = state.history[target][-1]
    assert (past.after, past.revision) == (circuit.state, circuit.revision), f"{target}: history"
