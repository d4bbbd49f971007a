"""The graph of the fleet: what can be the cause of what.

An edge leads from a signal to one that explains it, with the relation that their subjects must have: a device that is
lost is explained by the silence of its host, a service without an owner by an instance of it that is missing, a queue
that grows by any provider that is down. Both ends of a relation are sets of keys, and an edge holds when they meet; so
a thousand alerts are compared by their keys, not two by two.

An objective whose budget burns is explained by what its signal tells, and by whatever explains that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from bursar.contracts.monitor_scaling import Policy
from bursar_monitor.bugs import ROOT_IS_FIRST, seeded

Keys = Callable[[str], frozenset[str]]


Fact = tuple[str, str]
"""(signal, subject): what an alert says."""


class _Relation(NamedTuple):
    """``effect`` and ``cause``: the keys of a subject on either side."""

    effect: Keys
    cause: Keys


def _same(subject: str) -> frozenset[str]:
    return frozenset((subject,))


def _head(subject: str) -> frozenset[str]:
    return frozenset((subject.partition("/")[0],))


def _any(subject: str) -> frozenset[str]:
    return frozenset(("",))


def _above(subject: str) -> frozenset[str]:
    """The targets that this one is part of: ``p`` and ``p/eu`` of ``p/eu/model``."""
    parts = subject.split("/")
    return frozenset("/".join(parts[:end]) for end in range(1, len(parts)))


def _scheduler(subject: str) -> frozenset[str]:
    return frozenset(("",)) if subject.partition("/")[0] == "scheduler" else frozenset()


def _tail(subject: str) -> frozenset[str]:
    """The group of ``host/group``."""
    return frozenset((subject.rpartition("/")[2],))


SAME: Final = _Relation(_same, _same)
HEAD: Final = _Relation(_head, _head)
ANY: Final = _Relation(_any, _any)
PART: Final = _Relation(_same, _head)
ABOVE: Final = _Relation(_above, _same)
GROUP: Final = _Relation(_head, _tail)
"""A service, and its processes on any host."""
SCHEDULER: Final = _Relation(_any, _scheduler)

_WORK: Final = (
    ("owner_missing", SCHEDULER),
    ("instance_missing", SCHEDULER),
    ("circuit_open", ANY),
    ("budget_permille", ANY),
    ("foreign_permille", ANY),
    ("gpu_lost", ANY),
    ("crashes", ANY),
    ("leak_permille", ANY),
    ("host_silence_ms", ANY),
    ("memory_permille", ANY),
    ("cpu_permille", ANY),
    ("nats_rtt_ms", ANY),
)
"""What may keep tasks from being done."""

EXPLAINED_BY: Final[Mapping[str, tuple[tuple[str, _Relation], ...]]] = {
    "host_silence_ms": (("leak_permille", HEAD), ("memory_permille", SAME), ("nats_rtt_ms", ANY)),
    "memory_permille": (("leak_permille", HEAD),),
    "allocatable_permille": (("leak_permille", HEAD), ("memory_permille", SAME)),
    "pool_permille": (("leak_permille", HEAD),),
    "crashes": (
        ("leak_permille", SAME),
        ("memory_permille", HEAD),
        ("disk_permille", HEAD),
        ("gpu_lost", HEAD),
        ("nats_rtt_ms", ANY),
    ),
    "gpu_lost": (("host_silence_ms", HEAD), ("nats_rtt_ms", ANY)),
    "instance_missing": (("crashes", GROUP), ("leak_permille", GROUP), ("nats_rtt_ms", ANY)),
    "owner_missing": (("instance_missing", PART), ("crashes", GROUP), ("nats_rtt_ms", ANY)),
    "coordination_ms": (
        ("owner_missing", SAME),
        ("instance_missing", PART),
        ("crashes", GROUP),
        ("leak_permille", GROUP),
        ("nats_rtt_ms", ANY),
    ),
    "budget_permille": (("foreign_permille", SAME),),
    "circuit_open": (("circuit_open", ABOVE),),
    "queue_growth": _WORK,
    "spawn_ms": (("crashes", ANY), ("cpu_permille", ANY), ("memory_permille", ANY), ("nats_rtt_ms", ANY)),
    "completion_ms": (("queue_growth", ANY), *_WORK),
}
"""Signal -> (signal that explains it, how their subjects must be related)."""

_BURNS: Final = ("burn_1h", "burn_6h", "burn_1d", "burn_3d")
"""A faster one explains the slower ones of the same budget."""


def edges(policy: Policy, effect: Fact) -> Iterator[tuple[str, frozenset[str], Keys]]:
    """What may explain this: (signal, keys of the effect, keys of a cause)."""
    told, about = effect
    if told not in _BURNS:
        for signal, relation in EXPLAINED_BY.get(told, ()):
            yield signal, relation.effect(about), relation.cause
        return
    for faster in _BURNS[: _BURNS.index(told)]:
        yield faster, _same(about), _same
    name, _, subject = about.partition("/")
    slo = policy.slo(name)
    if slo is None:
        return
    yield slo.signal, *((_same(subject), _same) if slo.each else (_any(""), _any))
    for signal, relation in EXPLAINED_BY.get(slo.signal, ()):
        yield signal, *((relation.effect(subject), relation.cause) if slo.each else (_any(""), _any))


class Graph:
    """Facts that can be asked for what explains them."""

    def __init__(self, policy: Policy, facts: Iterable[Fact]) -> None:
        self._policy = policy
        self._subjects: dict[str, set[str]] = {}
        self._keys: dict[tuple[str, Keys], dict[str, int]] = {}
        for signal, subject in facts:
            self._subjects.setdefault(signal, set()).add(subject)

    def _causes(self, signal: str, keys: Keys) -> dict[str, int]:
        """How many subjects of a signal have each key."""
        found = self._keys.get((signal, keys))
        if found is None:
            found = self._keys[signal, keys] = {}
            for subject in self._subjects.get(signal, ()):
                for key in keys(subject):
                    found[key] = found.get(key, 0) + 1
        return found

    def explanations(self, fact: Fact) -> Iterator[str]:
        """The signals of the facts here that explain this one."""
        for signal, mine, keys in edges(self._policy, fact):
            if signal in self._subjects:
                theirs = self._causes(signal, keys)
                if any(key in theirs for key in mine):
                    yield signal

    def is_explained(self, fact: Fact) -> bool:
        return next(self.explanations(fact), None) is not None


def roots(policy: Policy, facts: Iterable[Fact]) -> list[Fact]:
    """Those that nothing else among them explains; all, when each explains another."""
    facts = list(facts)
    graph = Graph(policy, facts)
    found = facts if seeded(ROOT_IS_FIRST) else [fact for fact in facts if not graph.is_explained(fact)]
    return found or facts


def component(policy: Policy, facts: Iterable[Fact], seed: str) -> set[str]:
    """The signals that belong to one incident with the signal ``seed``: connected by explanations of one another.
    Facts of one signal belong together: fifty machines that fail are one incident."""
    facts = list(facts)
    graph = Graph(policy, facts)
    near: dict[str, set[str]] = {signal: set() for signal, _ in facts}
    for fact in facts:
        for signal in graph.explanations(fact):
            near[fact[0]].add(signal)
            near[signal].add(fact[0])
    found, left = {seed}, [seed]
    while left:
        for signal in near.get(left.pop(), set()) - found:
            found.add(signal)
            left.append(signal)
    return found
