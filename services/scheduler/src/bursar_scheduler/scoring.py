"""How well each worker would suit a task: one number for each, the lowest is the best, and what it is made of.

    score = wait + run + price + variance + place + cold + apart - prefix

* wait: until it starts there: what the worker has queued itself, and the way to its region, calls that fail included;
* run: the expected run time of the class on this worker, learned; price: of that run, in time that it is worth;
* variance: how much more uneven the load of all workers becomes: with load u, mean m and one more call d = 1/slots the
  sum of squared differences grows by d(2(u - m) + d), for many workers;
* place: another NUMA node, host or region than where the data is, and the bytes that have to go there;
* cold: a model that has to be loaded first; prefix: tokens of its prompt that are in the worker's cache already;
* apart: calls of the other length that run there (short ones wait behind long ones: Nexus, SOSP 2019; Autellix).

Who does not serve the lane, has no slot, or has too little of a resource is not to be had (`FAR`). The four lowest
scores are kept with their terms: the chosen one and the top three that were not.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, NamedTuple

import numpy as np

from bursar_scheduler.fleet import FAR, US, Column, Fleet

LONG_US: Final = 5_000_000
"""Calls that are expected to take as long as this are long ones."""

TERMS: Final = ("wait", "run", "price", "variance", "place", "cold", "apart", "prefix")
RECORDED: Final = 4
NOTHING: Final[Column] = np.zeros(0, dtype=np.int64)


class Ask(NamedTuple):
    """What a task wants. ``expected_us``: its expected run time anywhere; ``size``: bytes that have to be brought from
    ``host`` in ``region``; ``tokens``: in the worker's batch; ``prompt``: tokens of its prompt, and ``prefix``: those
    of them that workers have in their caches; ``needs``: resources."""

    lane: Hashable
    task_class: str = ""
    expected_us: int = 0
    model: str = ""
    host: str = ""
    numa: int = -1
    region: str = ""
    size: int = 0
    tokens: int = 0
    prompt: int = 0
    prefix: tuple[tuple[str, int], ...] = ()
    needs: tuple[tuple[str, int], ...] = ()

    @property
    def is_long(self) -> bool:
        return self.expected_us >= LONG_US


class Rated(NamedTuple):
    """A worker, its score in us, and the `TERMS` of it in us."""

    worker: str
    score: int
    terms: tuple[int, ...]


class Verdict:
    """Who gets it, and who came next (three at most). What the scores were made of is kept as numbers, and worked out
    when somebody asks."""

    __slots__ = ("_ask", "_away", "_cold", "_mean", "_names", "_numbers", "_paid", "_ran", "_weights", "worker")

    def __init__(self, fleet: Fleet, ask: Ask, rows: list[int]) -> None:
        run, cost = fleet.costs(ask.task_class)
        self._ask = ask
        self._names = [fleet.offers[row].name for row in rows]
        self._numbers = fleet.numbers(rows)
        self._ran, self._paid = run.take(rows), cost.take(rows)
        self._mean, self._weights = fleet.mean_fill, fleet.weights
        self._away = self._cold = NOTHING
        if ask.model:
            self._cold = fleet.cold(ask.model).take(rows)
        if ask.host or ask.region:
            self._away = _place(fleet, ask).take(rows)
        self.worker = self._names[0]

    @property
    def chosen(self) -> Rated:
        return self.rated()[0]

    @property
    def rejected(self) -> tuple[Rated, ...]:
        return tuple(self.rated()[1:])

    def rated(self) -> list[Rated]:
        """All of them, the chosen one first."""
        numbers, ran, paid = self._numbers.tolist(), self._ran.tolist(), self._paid.tolist()
        return [self._rate(place, numbers[place], ran[place], paid[place]) for place in range(len(self._names))]

    def _rate(self, place: int, numbers: list[int], took: int, paid: int) -> Rated:
        base, spread, wait, short, long = numbers
        ask, name = self._ask, self._names[place]
        away = self._away.item(place) if len(self._away) else 0
        cold = self._cold.item(place) if len(self._cold) else 0
        known = dict(ask.prefix).get(name, 0) * self._weights.prefix
        variance = base - wait - spread * self._mean
        apart = long if ask.is_long else short
        ns = (wait, took, paid - took, variance, away, cold, apart, -known)
        return Rated(name, sum(ns) // US, tuple([term // US for term in ns]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Verdict) and self.rated() == other.rated()

    __hash__ = None  # type: ignore[assignment]


def score(fleet: Fleet, ask: Ask) -> Column:
    """The score of each row in ns; who may not have it stands at `FAR` or above. Overwritten by the next call."""
    total = np.add(fleet.base, fleet.costs(ask.task_class)[1], out=fleet.total)
    np.add(total, fleet.closed(ask.lane), out=total)
    np.subtract(total, np.multiply(fleet.spread, fleet.mean_fill, out=fleet.scratch), out=total)
    np.add(total, fleet.long if ask.is_long else fleet.short, out=total)
    if ask.model:
        np.add(total, fleet.cold(ask.model), out=total)
    if ask.host or ask.region:
        np.add(total, _place(fleet, ask), out=total)
    for worker, tokens in ask.prefix:
        row = fleet.rows.get(worker)
        if row is not None:
            total[row] -= tokens * fleet.weights.prefix
    forbid(fleet, ask, total)
    return total


def forbid(fleet: Fleet, ask: Ask, total: Column) -> None:
    """Add `FAR` where a resource or the batch has no room."""
    for resource, amount in ask.needs:
        np.add(total, (fleet.room(resource) < amount) * FAR, out=total)
    if ask.tokens:
        np.add(total, (fleet.tokens < ask.tokens) * FAR, out=total)


def _place(fleet: Fleet, ask: Ask) -> Column:
    """What it costs that the data is in another region, on another host, or on another NUMA node of the same one."""
    weights = fleet.weights
    cost: Column = np.zeros(len(fleet.offers), dtype=np.int64)
    if ask.region:
        cost += (fleet.zone != fleet.zones.get(ask.region, -1)) * (weights.region + weights.carry * ask.size)
    if ask.host:
        away = fleet.host != fleet.hosts.get(ask.host, -1)
        cost += away * (weights.host + weights.transfer * ask.size)
        if ask.numa >= 0:
            cost += (~away & (fleet.numa != ask.numa)) * weights.numa
    return cost


def best(fleet: Fleet, ask: Ask) -> Verdict | None:
    """The worker with the lowest score; None when nobody may have it."""
    return lowest(fleet, ask, score(fleet, ask))


def lowest(fleet: Fleet, ask: Ask, keys: Column) -> Verdict | None:
    """Who has the lowest key, and who comes next. ``keys`` is used up."""
    rows: list[int] = []
    for _ in range(min(RECORDED, len(keys))):
        row = int(keys.argmin())
        if keys.item(row) >= FAR >> 1:
            break
        rows.append(row)
        keys[row] = FAR << 1
    return Verdict(fleet, ask, rows) if rows else None
