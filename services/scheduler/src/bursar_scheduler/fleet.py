"""The workers as a struct of arrays, so that all of them are scored at once. Volatile; `scoring` and `placing` read it.

A row per worker in the order of registration, so that ties go to who registered first, whatever has happened since. All
numbers are whole (nanoseconds, millionths), so that no sum depends on its order and a replay decides alike. Upkeep is a
few numbers per change. Who has left leaves a closed row; when half of the rows are closed all are packed.

Columns that belong to a lane (who serves it), a class (run time and its price) or a model (who has to load it) are made
when they are first asked for, and kept up from then on; of too many the one made first goes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bursar_scheduler.speeds import Speeds

Column: TypeAlias = NDArray[np.int64]

FAR: Final = 1 << 58
"""Added to the score of who must not have it. Thirty of them still fit into 64 bits."""

PPM: Final = 1_000_000
US: Final = 1_000
MAX_KEPT: Final = 512
"""Columns of lanes, of classes and of models that are kept, each."""

_NUMBERS: Final = (
    "base", "spread", "wait", "short", "long", "host", "numa", "zone", "fill", "tokens", "price",
)  # fmt: skip


class Weights(NamedTuple):
    """What the score gives for what, in ns: ``price`` for a micro-dollar, ``variance`` for a squared difference of
    load of one, ``apart`` for each call of the other length on the worker, ``numa``, ``host`` and ``region`` for
    another NUMA node, host and region, ``transfer`` and ``carry`` for a byte to another host and to another region,
    ``cold`` for a model that has to be loaded, ``prefix`` for a token that is in the worker's cache already."""

    price: int = 1_000_000
    variance: int = 100_000_000
    apart: int = 20_000_000
    numa: int = 1_000_000
    host: int = 2_000_000
    region: int = 20_000_000
    transfer: int = 10
    carry: int = 80
    cold: int = 5_000_000_000
    prefix: int = 200_000


class Offer(NamedTuple):
    """A worker as it registers. ``price``: micro-dollars per second of run; ``room``: what it has of each resource
    beside slots (bytes, millicores); ``tokens``: budget of its batch, 0: no bound."""

    name: str
    slots: int = 1
    price: int = 0
    host: str = ""
    numa: int = 0
    region: str = ""
    models: frozenset[str] = frozenset()
    room: tuple[tuple[str, int], ...] = ()
    tokens: int = 0


class Load(NamedTuple):
    """What a worker has. ``open``: it takes work at all; ``wait_us``: until what it is given starts, by what it has
    queued itself; ``short``, ``long``: calls that run; ``tokens``: of its batch that are used; ``used``: resources."""

    taken: int = 0
    open: bool = True
    wait_us: int = 0
    short: int = 0
    long: int = 0
    tokens: int = 0
    used: tuple[tuple[str, int], ...] = ()


IDLE: Final = Load()


AGAIN_US: Final = 1_000_000
"""What a call that fails takes beside the way: the pause before it is tried again."""


class Region(NamedTuple):
    """``latency_us`` of the way there; ``health_permille``: calls that succeed."""

    latency_us: int = 0
    health_permille: int = 1_000

    @property
    def reach_us(self) -> int:
        """Expected time on the way and between tries: with a share h of calls that succeed, one takes 1/h tries."""
        health = max(10, self.health_permille)
        return (self.latency_us * 1_000 + AGAIN_US * (1_000 - health)) // health


class _Costs:
    """Of one class: ``run`` in ns and ``cost``, with its price, by row; ``known``: who has run it. The others are
    expected to take what the class takes."""

    __slots__ = ("cost", "known", "run", "unknown")

    def __init__(self, capacity: int) -> None:
        self.run = np.zeros(capacity, dtype=np.int64)
        self.cost = np.zeros(capacity, dtype=np.int64)
        self.known = np.zeros(capacity, dtype=np.bool_)
        self.unknown = 0


class Fleet:
    """The columns are arrays with a number per row: ``base`` is the wait and the worker's own part of the variance, or
    `FAR` without a free slot; ``spread`` the part of the variance that goes with the mean load; ``fill`` taken slots in
    millionths; ``short`` and ``long`` what the calls there add to the score of the other kind; ``tokens`` free ones;
    ``price`` ns for a microsecond of run; ``host`` and ``zone`` numbers of its host and its region."""

    last: dict[Hashable, str]
    """Who was chosen last in a lane; its keeper sets it."""

    base: Column
    fill: Column
    host: Column
    long: Column
    numa: Column
    price: Column
    short: Column
    spread: Column
    tokens: Column
    wait: Column
    zone: Column

    def __init__(self, speeds: Speeds, weights: Weights | None = None) -> None:
        self._speeds = speeds
        self.weights = weights or Weights()
        self.rows: dict[str, int] = {}
        self.offers: list[Offer] = []
        self.loads: list[Load] = []
        self._steps: list[tuple[int, int]] = []
        self.regions: dict[str, Region] = {}
        self.last = {}
        self.hosts: dict[str, int] = {"": 0}
        self.zones: dict[str, int] = {"": 0}
        self.fills = 0
        self._serves: dict[Hashable, Callable[[str], bool]] = {}
        self._lanes: dict[Hashable, Column] = {}
        self._costs: dict[str, _Costs] = {}
        self._models: dict[str, Column] = {}
        self._room: dict[str, Column] = {}
        self._store = np.zeros((len(_NUMBERS) + 1, 64), dtype=np.int64)
        self._resize(64)

    def __len__(self) -> int:
        return len(self.rows)

    # ---- who is there

    def join(self, offer: Offer, load: Load = IDLE) -> None:
        """A worker is new, or offers something else from now on; in that case it keeps its row."""
        row = self.rows.get(offer.name)
        if row is None:
            row = self.rows[offer.name] = len(self.offers)
            self.offers.append(offer)
            self.loads.append(IDLE)
            self._steps.append((0, 0))
            if row >= self._store.shape[1]:
                self._resize(2 * row)
            self._view()
        else:
            self.fills -= self.fill.item(row)
            self.offers[row] = offer
        self.fill[row] = 0
        self.numa[row] = offer.numa
        self.price[row] = offer.price * self.weights.price // PPM
        self.host[row] = self.hosts.setdefault(offer.host, len(self.hosts))
        self.zone[row] = self.zones.setdefault(offer.region, len(self.zones))
        step = PPM // offer.slots
        self._steps[row] = step, self.weights.variance * step // PPM
        self.spread[row] = 2 * self.weights.variance * step // PPM // PPM
        self._fill_row(row)
        self.short[row], self.long[row] = self.weights.apart * load.long, self.weights.apart * load.short
        self.note(offer.name, load)
        self._note_rest(row, load)

    def leave(self, name: str) -> None:
        row = self.rows.pop(name, None)
        if row is None:
            return
        self.fills -= self.fill.item(row)
        self.fill[row] = 0
        self.base[row] = FAR
        self.offers[row] = Offer("")
        if len(self.offers) > 64 and 2 * len(self.rows) < len(self.offers):
            self._pack()

    def note(self, name: str, load: Load) -> None:
        """What a worker has now."""
        row = self.rows.get(name)
        if row is None:
            return
        before, self.loads[row] = self.loads[row], load
        offer = self.offers[row]
        fill = load.taken * PPM // offer.slots
        self.fills += fill - self.fill.item(row)
        self.fill[row] = fill
        step, own = self._steps[row]
        has_room = load.open and load.taken < offer.slots
        self.base[row] = self.wait.item(row) + own * (2 * fill + step) // PPM if has_room else FAR
        if load.long != before.long or load.short != before.short:
            self.short[row], self.long[row] = self.weights.apart * load.long, self.weights.apart * load.short
        if load.wait_us != before.wait_us or load.tokens != before.tokens or load.used != before.used:
            self._note_rest(row, load)

    def _note_rest(self, row: int, load: Load) -> None:
        """What changes less often than the slots."""
        offer = self.offers[row]
        wait = (load.wait_us + self.regions.get(offer.region, Region()).reach_us) * US
        if self.base.item(row) < FAR:
            self.base[row] += wait - self.wait.item(row)
        self.wait[row] = wait
        self.tokens[row] = offer.tokens - load.tokens if offer.tokens else FAR
        used = dict(load.used)
        for resource, amount in offer.room:
            if resource in self._room:
                self._room[resource][row] = amount - used.get(resource, 0)

    def learn(self, task_class: str, name: str) -> None:
        """`Speeds` has learned what a class takes on a worker."""
        costs, row = self._costs.get(task_class), self.rows.get(name)
        if costs is None:
            return
        if row is not None:
            self._fill_cost(task_class, costs, row)
        if costs.unknown:
            self._fill_unknown(task_class, costs)

    def set_region(self, region: str, state: Region) -> None:
        """Its latency or health has been measured."""
        self.regions[region] = state
        for row, offer in enumerate(self.offers):
            if offer.name and offer.region == region:
                self._note_rest(row, self.loads[row])

    # ---- columns

    def lane(self, key: Hashable, serves: Callable[[str], bool]) -> None:
        """From now on there is a lane with this key."""
        self._serves[key] = serves
        self._lanes.pop(key, None)

    def drop_lane(self, key: Hashable) -> None:
        self._serves.pop(key, None)
        self._lanes.pop(key, None)
        self.last.pop(key, None)

    def closed(self, key: Hashable) -> Column:
        """`FAR` for who does not serve the lane; 0 for all when there is no such lane."""
        column = self._lanes.get(key)
        if column is None:
            column = self._keep(self._lanes, key)
            serves = self._serves.get(key)
            for name, row in self.rows.items():
                column[row] = 0 if serves is None or serves(name) else FAR
        return column[: len(self.offers)]

    def costs(self, task_class: str) -> tuple[Column, Column]:
        """Run time, and run time with its price, in ns."""
        costs = self._costs.get(task_class)
        if costs is None:
            while len(self._costs) >= MAX_KEPT:
                del self._costs[next(iter(self._costs))]
            costs = self._costs[task_class] = _Costs(self._store.shape[1])
            for name in self._speeds.workers.get(task_class, {}):
                if name in self.rows:
                    self._fill_cost(task_class, costs, self.rows[name])
            self._fill_unknown(task_class, costs)
        n = len(self.offers)
        return costs.run[:n], costs.cost[:n]

    def cold(self, model: str) -> Column:
        """What it takes to load a model where it is not."""
        column = self._models.get(model)
        if column is None:
            column = self._keep(self._models, model)
            for row in self.rows.values():
                column[row] = 0 if model in self.offers[row].models else self.weights.cold
        return column[: len(self.offers)]

    def room(self, resource: str) -> Column:
        """What is free of a resource; a worker that says nothing of it has none."""
        column = self._room.get(resource)
        if column is None:
            column = self._keep(self._room, resource)
            for row in self.rows.values():
                have, used = dict(self.offers[row].room), dict(self.loads[row].used)
                column[row] = have.get(resource, 0) - used.get(resource, 0)
        return column[: len(self.offers)]

    @property
    def mean_fill(self) -> int:
        """Of all workers, in millionths."""
        return self.fills // max(1, len(self.rows))

    def numbers(self, rows: list[int]) -> Column:
        """Base, spread, wait, short and long of some rows, a row for each."""
        return self._store[:5].take(rows, axis=1).T

    # ---- keeping

    def _blank(self) -> Column:
        return np.zeros(self._store.shape[1], dtype=np.int64)

    def _keep(self, columns: dict[Hashable, Column] | dict[str, Column], key: Hashable) -> Column:
        kept: dict[Hashable, Column] = columns  # type: ignore[assignment]
        while len(kept) >= MAX_KEPT:
            del kept[next(iter(kept))]
        column = kept[key] = self._blank()
        return column

    def _fill_cost(self, task_class: str, costs: _Costs, row: int) -> None:
        took = self._speeds.workers.get(task_class, {}).get(self.offers[row].name)
        costs.known[row] = took is not None
        if took is None:
            took = self._speeds.expect_us(task_class)
            costs.unknown = 1
        costs.run[row] = took * US
        costs.cost[row] = took * (US + self.price.item(row))

    def _fill_unknown(self, task_class: str, costs: _Costs) -> None:
        """Who has not run the class takes what it takes elsewhere."""
        n = len(self.offers)
        unknown = ~costs.known[:n]
        costs.unknown = int(np.count_nonzero(unknown))
        took = self._speeds.expect_us(task_class)
        np.copyto(costs.run[:n], took * US, where=unknown)
        np.copyto(costs.cost[:n], took * (US + self.price), where=unknown)

    def _fill_row(self, row: int) -> None:
        """A worker is new here: its numbers in all columns."""
        offer = self.offers[row]
        for key, column in self._lanes.items():
            serves = self._serves.get(key)
            column[row] = 0 if serves is None or serves(offer.name) else FAR
        for model, column in self._models.items():
            column[row] = 0 if model in offer.models else self.weights.cold
        for resource, column in self._room.items():
            column[row] = dict(offer.room).get(resource, 0)
        for task_class, costs in self._costs.items():
            self._fill_cost(task_class, costs, row)

    def _resize(self, capacity: int) -> None:
        store = np.zeros((len(_NUMBERS) + 1, capacity), dtype=np.int64)
        store[:, : self._store.shape[1]] = self._store[:, :capacity]
        self._store = store
        for columns in (self._lanes, self._costs, self._models, self._room):
            columns.clear()
        self._view()

    def _view(self) -> None:
        n = len(self.offers)
        for place, name in enumerate(_NUMBERS):
            setattr(self, name, self._store[place, :n])
        self.scratch = self._store[-1, :n]
        self.total = np.zeros(n, dtype=np.int64)

    def _pack(self) -> None:
        """Rows without a worker go; the others keep their order."""
        kept = [(offer, load) for offer, load in zip(self.offers, self.loads, strict=True) if offer.name]
        self.rows, self.offers, self.loads, self._steps, self.fills = {}, [], [], [], 0
        self._resize(max(64, 2 * len(kept)))
        for offer, load in kept:
            self.join(offer, load)
