"""How much of a day's requests finds room: four policies on the same requests and the same cards.

A synthetic day on 64 cards (12 hosts of four with 80 GiB, four hosts of four with 24 GiB): requests for the memory of
fifteen models, some on two or four cards of one host, arrive at a rate that follows the hour and hold their memory for
forty minutes in the mean (log-normal). What finds no room waits for a minute and is refused then. All policies see the
same requests; a policy only chooses cards, and `bursar` also moves leases: when a request waits, and when fragmentation
at 4 GiB passes 0.15; 70 % of the single-card owners agree, loading takes its time, both copies are charged meanwhile.

* first fit: the first card, by host and number;
* best fit: the card with the least room left over;
* fgd: "Beware of Fragmentation" (Weng et al., USENIX ATC'23): the cards where the expected fragmentation of the node,
  over the day's own mix of requests, grows least; memory that no request of a kind can use counts as fragmented for it;
* bursar: `Fleet.choose`, and with moves `room_for` and `plan`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bursar_gpu_manager.compaction import room_for
from bursar_gpu_manager.defrag import Movable, plan
from bursar_gpu_manager.fleet import Ask, Card, Fleet
from bursar_gpu_manager.pools import EMERGENCY, LARGE, PLAN_ABOVE, phi

GIB: Final = 1 << 30
DAY: Final = 86_400.0
HOLD: Final = 2_400.0
PATIENCE: Final = 60.0
AGREE: Final = 0.7
PER_HOST: Final = 4
HOSTS: Final = (*[80] * 12, *[24] * 4)
"""GiB of each card, by host."""

KINDS: Final = [
    # GiB, cards, weight: engines of 0.5 to 70 billion parameters, quantised and not, and their caches
    *((0.5, 1, 10), (1.2, 1, 10), (2.4, 1, 8), (4.7, 1, 8), (6.1, 1, 8), (9.3, 1, 10), (11.8, 1, 6), (16.5, 1, 14)),
    *((19.7, 1, 8), (27.2, 1, 5), (34.0, 1, 4), (38.5, 1, 3), (66.0, 1, 2), (36.0, 2, 2), (39.0, 4, 1)),
]

HOST_OF: Final = {str(row): f"h{row // PER_HOST:02}" for row in range(PER_HOST * len(HOSTS))}


class Request(NamedTuple):
    """At ``at`` seconds of the day: ``memory`` bytes on each of ``cards``, for ``hold`` seconds."""

    at: float
    memory: int
    cards: int
    hold: float


class Outcome(NamedTuple):
    """Parts of requests and of bytes granted; in the mean over the day, fragmentation at 4 GiB (of what is free) and
    the part of all memory that is free and not usable there; moves made."""

    granted: float
    bytes_granted: float
    phi: float
    stranded: float
    moves: float


def totals() -> list[int]:
    return [size * GIB - EMERGENCY for size in HOSTS for _ in range(PER_HOST)]


def day(seed: int, load: float) -> list[Request]:
    """``load``: bytes asked for over bytes of the cards, in the mean of the day."""
    rng = random.Random(seed)
    weights = [weight for _, _, weight in KINDS]
    mean = sum(size * cards * weight for size, cards, weight in KINDS) * GIB / sum(weights)
    rate = load * sum(totals()) / (mean * HOLD)
    at, found = 0.0, []
    while at < DAY:
        at += rng.expovariate(rate * 1.5)
        if rng.random() < (1 + 0.5 * math.sin(2 * math.pi * (at / DAY - 0.25))) / 1.5:
            size, cards, _ = rng.choices(KINDS, weights)[0]
            hold = rng.lognormvariate(math.log(HOLD) - 0.5, 1.0)
            found.append(Request(at, int(size * GIB * rng.uniform(0.9, 1.15)), cards, hold))
    return found


Rooms = NDArray[np.int64]
Choice = Callable[[Rooms, Request], list[int] | None]


def _first_set(order: NDArray[np.int64], rooms: Rooms, request: Request) -> list[int] | None:
    """The first host with enough cards, in this order of cards."""
    found: dict[int, list[int]] = {}
    for row in order:
        if rooms[row] >= request.memory:
            rows = found.setdefault(int(row) // PER_HOST, [])
            rows.append(int(row))
            if len(rows) == request.cards:
                return rows
    return None


def first_fit(rooms: Rooms, request: Request) -> list[int] | None:
    return _first_set(np.arange(len(rooms)), rooms, request)


def best_fit(rooms: Rooms, request: Request) -> list[int] | None:
    """For a set: the host whose chosen cards are left with the least together."""
    if request.cards == 1:
        return _first_set(np.argsort(rooms, kind="stable"), rooms, request)
    sets = []
    for first in range(0, len(rooms), PER_HOST):
        rows = [row for row in range(first, first + PER_HOST) if rooms[row] >= request.memory]
        rows = sorted(rows, key=lambda row: int(rooms[row]))[: request.cards]
        if len(rows) == request.cards:
            sets.append((sum(int(rooms[row]) for row in rows), rows))
    return min(sets)[1] if sets else None


MEMORY: Final = np.array([int(size * GIB) for size, _, _ in KINDS], dtype=np.int64)
CARDS: Final = np.array([cards for _, cards, _ in KINDS], dtype=np.int64)
SHARE: Final = np.array([weight for _, _, weight in KINDS]) / sum(weight for _, _, weight in KINDS)


def fragmented(nodes: Rooms) -> NDArray[np.float64]:
    """F_n(M) of each node (a row of rooms): free memory that the kinds cannot use, weighted by how often they come. A
    kind that the node cannot take at all finds everything there fragmented."""
    fits = nodes[:, :, None] >= MEMORY
    hosted = fits.sum(axis=1) >= CARDS
    lost = (nodes[:, :, None] * ~fits).sum(axis=1)
    found: NDArray[np.float64] = (np.where(hosted, lost, nodes.sum(axis=1)[:, None]) * SHARE).sum(axis=1)
    return found


def fgd(rooms: Rooms, request: Request) -> list[int] | None:
    nodes = rooms.reshape(-1, PER_HOST)
    before = fragmented(nodes)
    sets = [
        (host, rows)
        for host in range(len(nodes))
        for rows in itertools.combinations(np.flatnonzero(nodes[host] >= request.memory).tolist(), request.cards)
    ]
    if not sets:
        return None
    after = np.array([nodes[host] for host, _ in sets])
    for number, (_, rows) in enumerate(sets):
        after[number, list(rows)] -= request.memory
    growth = fragmented(after) - before[[host for host, _ in sets]]
    host, rows = sets[int(np.argmin(growth))]
    return [host * PER_HOST + row for row in rows]


class Bursar:
    """The manager's own placement over the same rooms."""

    def __init__(self, rooms: Rooms) -> None:
        self.fleet = Fleet()
        self._known = np.full(len(rooms), -1, dtype=np.int64)
        for row in range(len(rooms)):
            self.fleet.put(Card(str(row), f"h{row // PER_HOST:02}", row % PER_HOST))

    def __call__(self, rooms: Rooms, request: Request) -> list[int] | None:
        for row in np.flatnonzero(self._known != rooms):
            self.fleet.change(str(row), int(rooms[row]), usable=True)
        self._known = rooms.copy()
        names = self.fleet.choose(Ask(request.memory, request.cards))
        return None if names is None else [int(name) for name in names]


class Held(NamedTuple):
    rows: list[int]
    memory: int
    agrees: bool


class Day:
    """One policy through one day. With ``moves`` there is one plan at a time: for a request that waits, or against
    fragmentation; the cards that are cleared for a request are kept for it."""

    def __init__(self, choose: Choice, rooms: Rooms, moves: bool) -> None:
        self.choose, self.rooms, self.moves = choose, rooms, moves
        self.held: dict[int, Held] = {}
        self.agenda: list[tuple[float, int, int, str]] = []
        self.line: dict[int, Request] = {}
        self.queue: list[tuple[int, int]] = []
        self.moving: tuple[int, int] | None = None
        self.kept: tuple[int, list[int]] | None = None
        self.ended = False
        self.made = self.granted = self.given = 0
        self._numbers = itertools.count()

    def run(self, requests: list[Request]) -> Outcome:
        asked = 0
        fragmentation: list[float] = []
        stranded: list[float] = []
        for number, request in enumerate(requests):
            self._until(request.at)
            asked += request.memory * request.cards
            if not self._grant(number, request, request.at):
                self.line[number] = request
                self._at(request.at + PATIENCE, number, "gives up")
                self._make_room(number, request, request.at)
            if number % 20 == 0:
                fragmentation.append(float(phi(self.rooms.tolist(), LARGE)))
                stranded.append(sum(room % LARGE for room in self.rooms.tolist()) / sum(totals()))
                self._plan(request.at)
        mean, left = sum(fragmentation) / len(fragmentation), sum(stranded) / len(stranded)
        return Outcome(self.granted / len(requests), self.given / asked, mean, left, self.made)

    def _grant(self, number: int, request: Request, now: float) -> bool:
        rooms = self.rooms
        if self.kept is not None and self.kept[0] != number:
            rooms = rooms.copy()
            rooms[self.kept[1]] = -1
        rows = self.choose(rooms, request)
        if rows is None:
            return False
        self.granted, self.given = self.granted + 1, self.given + request.memory * request.cards
        self.rooms[rows] -= request.memory
        self.held[number] = Held(rows, request.memory, number % 10 < 10 * AGREE and request.cards == 1)
        self._at(now + request.hold, number, "ends")
        return True

    def _at(self, when: float, number: int, what: str) -> None:
        heapq.heappush(self.agenda, (when, next(self._numbers), number, what))

    def _until(self, now: float) -> None:
        while self.agenda and self.agenda[0][0] <= now:
            when, _, number, what = heapq.heappop(self.agenda)
            if what == "gives up":
                self._leaves_line(number)
                continue
            if what == "moved":
                self._moved(when)
            elif self.moving is not None and self.moving[0] == number:
                self.ended = True  # both copies go when it has moved
            else:
                held = self.held.pop(number)
                self.rooms[held.rows] += held.memory
            self._serve(when)

    def _serve(self, now: float) -> None:
        """First come, first served; who does not fit is passed."""
        for number, request in list(self.line.items()):
            if self._grant(number, request, now):
                self._leaves_line(number)

    def _leaves_line(self, number: int) -> None:
        self.line.pop(number, None)
        if self.kept is not None and self.kept[0] == number:
            self.kept, self.queue = None, []

    # ---- moves

    def _movable(self) -> list[Movable]:
        return [
            Movable(str(number), str(held.rows[0]), held.memory) for number, held in self.held.items() if held.agrees
        ]

    def _free(self) -> dict[str, int]:
        return {str(row): int(room) for row, room in enumerate(self.rooms)}

    def _make_room(self, number: int, request: Request, now: float) -> None:
        if not self.moves or self.moving is not None:
            return
        found = room_for(self._free(), HOST_OF, self._movable(), request.memory, request.cards)
        if found is not None and found.cost < PATIENCE * 1_000:
            self.kept = (number, [int(card) for card in found.cards])
            self.queue = [(int(move.lease), int(move.target)) for move in found.moves]
            self._move(now)

    def _plan(self, now: float) -> None:
        if self.moves and self.moving is None and phi(self.rooms.tolist(), LARGE) > PLAN_ABOVE:
            planned = plan(self._free(), self._movable(), LARGE).moves
            self.queue = [(int(move.lease), int(move.target)) for move in planned]
            self._move(now)

    def _move(self, now: float) -> None:
        """The next move that is still possible: from now on both copies are charged."""
        while self.queue and self.moving is None:
            number, target = self.queue.pop(0)
            held = self.held.get(number)
            if held is not None and self.rooms[target] >= held.memory:
                self.rooms[target] -= held.memory
                self.moving = (number, target)
                cost = Movable(str(number), "", held.memory).cost
                self._at(now + cost / 1_000, number, "moved")

    def _moved(self, now: float) -> None:
        """The new copy is loaded and the old one goes; both, when the lease ended meanwhile."""
        assert self.moving is not None
        (number, target), self.moving = self.moving, None
        held = self.held[number]
        self.rooms[held.rows[0]] += held.memory
        self.held[number] = held._replace(rows=[target])
        self.made += 1
        if self.ended:
            self.ended = False
            self.rooms[target] += held.memory
            del self.held[number]
        self._move(now)


def compare(seeds: range, load: float) -> dict[str, Outcome]:
    """The mean over some days, by policy."""
    found: dict[str, list[Outcome]] = {}
    for seed in seeds:
        requests = day(seed, load)
        for name in ("first_fit", "best_fit", "fgd", "bursar_placing", "bursar"):
            rooms = np.array(totals(), dtype=np.int64)
            choose: Choice = {"first_fit": first_fit, "best_fit": best_fit, "fgd": fgd}.get(name) or Bursar(rooms)
            found.setdefault(name, []).append(Day(choose, rooms, name == "bursar").run(requests))
    return {
        name: Outcome(*(sum(values) / len(values) for values in zip(*runs, strict=True)))
        for name, runs in found.items()
    }
