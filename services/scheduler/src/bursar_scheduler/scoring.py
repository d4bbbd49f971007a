"""How well each worker would suit a task: one number for each, the lowest is the best, and what it is made of.

    score = wait + run + price + variance + numa + transfer + cold + apart - prefix

* wait: until it starts there: what the worker has queued itself, and the way to its region, calls that fail included;
* run: the expected run time of the class on this worker, learned; price: of that run, in time that it is worth;
* variance: how much more uneven the load of all workers becomes: with load u, mean m and one more call d = 1/slots the
  sum of squared differences grows by d(2(u - m) + d), for many workers;
* numa, transfer: another NUMA node or host than where the data is, and the bytes that have to go there;
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
ZEROS: Final = (0,) * RECORDED


class Ask(NamedTuple):
    """What a task wants. ``expected_us``: its expected run time anywhere; ``size``: bytes that have to be brought from
    ``host``; ``prefix``: tokens of its prompt that workers have in their caches; ``needs``: resources."""

    lane: Hashable
    task_class: str = ""
    expected_us: int = 0
    model: str = ""
    host: str = ""
    numa: int = -1
    size: int = 0
    tokens: int = 0
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


class Verdict(NamedTuple):
    """Who gets it, and who came next (three at most)."""

    chosen: Rated
    rejected: tuple[Rated, ...]


def score(fleet: Fleet, ask: Ask) -> Column:
    """The score of each row in ns; who may not have it stands at `FAR` or above. Overwritten by the next call."""
    total = np.add(fleet.base, fleet.costs(ask.task_class)[1], out=fleet.total)
    np.add(total, fleet.closed(ask.lane), out=total)
    np.subtract(total, np.multiply(fleet.spread, fleet.mean_fill, out=fleet.scratch), out=total)
    np.add(total, fleet.long if ask.is_long else fleet.short, out=total)
    if ask.model:
        np.add(total, fleet.cold(ask.model), out=total)
    if ask.host:
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
    """What it costs that the data is on another host, or on another NUMA node of the same one."""
    weights = fleet.weights
    away = fleet.host != fleet.hosts.get(ask.host, -1)
    cost: Column = away * (weights.host + weights.transfer * ask.size)
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
    return verdict(fleet, ask, rows) if rows else None


def verdict(fleet: Fleet, ask: Ask, rows: list[int]) -> Verdict:
    """The record of a choice: the first of the rows was chosen."""
    run, cost = fleet.costs(ask.task_class)
    mean, weights = fleet.mean_fill, fleet.weights
    cold = fleet.cold(ask.model).take(rows).tolist() if ask.model else ZEROS
    prefix = dict(ask.prefix)
    rated = []
    for row, (base, spread, wait, short, long, host, numa), took, paid, load in zip(
        rows, fleet.numbers(rows), run.take(rows).tolist(), cost.take(rows).tolist(), cold, strict=False
    ):
        name = fleet.offers[row].name
        place = _place_of(fleet, ask, host, numa) if ask.host else 0
        known = prefix.get(name, 0) * weights.prefix if prefix else 0
        variance = base - wait - spread * mean
        apart = long if ask.is_long else short
        total = base - spread * mean + paid + place + load + apart - known
        terms = (
            wait // US, took // US, (paid - took) // US, variance // US, place // US, load // US, apart // US,
            -known // US,
        )  # fmt: skip
        rated.append(Rated(name, total // US, terms))
    return Verdict(rated[0], tuple(rated[1:]))


def _place_of(fleet: Fleet, ask: Ask, host: int, numa: int) -> int:
    """`_place` of one worker."""
    if host != fleet.hosts.get(ask.host, -1):
        return fleet.weights.host + fleet.weights.transfer * ask.size
    return fleet.weights.numa if ask.numa >= 0 and numa != ask.numa else 0
