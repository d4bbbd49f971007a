"""A thousand agents, the limiter, and a provider that knows nothing of either, on one virtual clock and one seed.

The agents run `bursar.client` as it is, each on a connection and a clock of its own; the limiter is its decider behind
the kernel's desk (`limiter_authority`). What goes wrong: owners die with what they had not committed; messages are late
or lost, settlements and returns among them; agents are cut off, stand still for longer than anything they hold, and
are killed; their clocks are wrong by up to 30 s and run too fast or too slow; demand moves from one half of the fleet
to the other. The provider charges each call at a moment between the check of its permit and J, on true time, and the
oracle judges what it has charged, level by level.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bursar.client.errors import LimiterUnavailable, NeverFits, PermitVoid, Refused
from bursar.client.fleet import Fleet
from bursar.client.local_permit import LocalPermit
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.errors import BursarError
from bursar_limiter.reloading import LoadFile
from tests.client.virtual import run
from tests.oracle.history import Charge, Flight, Limit, Path, Wish, produced
from tests.oracle.judge import Verdict, judge, shut_out, utilisation
from tests.simulation.limiter_authority import Authority, Connection, Net

WINDOW_MS: Final = 4_000
JITTER_MS: Final = 300
SEND_WITHIN_MS: Final = 180
WIRE_MS: Final = 100
"""Longest time from the check of a permit to the provider's charge: with the send deadline, and what clocks drift in
so short a time, less than J."""

BORN: Final = 5_040
"""Who takes the place of an agent gets a number that is greater by a multiple of this, and so the same budget."""

US: Final = 1_000
"""The history is in microseconds: a wrong order within a millisecond would be the judge's mistake."""


@dataclass(frozen=True)
class Shape:
    """A fleet and its load. ``budgets``: what each agent may call under (drawn by its number). ``largest``: the part of
    calls that want the whole limit. ``think``: mean seconds between the calls of an agent; ``call``: the longest call;
    ``ttl``: that of a reservation, in seconds, too. ``output``: the most output that a call reserves; the provider
    charges it as it is produced. ``lines``: calls that an agent makes at the same time; with many it is a holder of
    leases."""

    agents: int = 60
    seconds: float = 16.0
    specs: tuple[BudgetSpec, ...] = ()
    limits: tuple[Limit, ...] = ()
    budgets: tuple[tuple[str, Path], ...] = ()
    tokens: int = 120
    largest: float = 0.004
    think: float = 0.5
    wait: float = 20.0
    call: float = 0.3
    ttl: float = 1.5
    output: int = 0
    lines: int = 1


def flat(
    requests: int, tokens: int, concurrent: int, paced: bool = True, window_ms: int = WINDOW_MS, **shape: Any
) -> Shape:
    """One budget for all; not ``paced``: all that a window has may go at once."""
    limits: dict[Any, Any] = {
        "requests": LimitSpec(limit=requests, window_ms=window_ms, paced=paced),
        "input_tokens": LimitSpec(limit=tokens, window_ms=window_ms, paced=paced),
        "concurrent": LimitSpec(limit=concurrent, window_ms=0),
    }
    spec = BudgetSpec(
        name="key/main", limits=limits, jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=8_000
    )
    judged = (
        Limit("key/main", "requests", requests, window_ms * US),
        Limit("key/main", "input_tokens", tokens, window_ms * US),
        Limit("key/main", "concurrent", concurrent, 0),
    )
    return Shape(specs=(spec,), limits=judged, budgets=(("key/main", ("key/main",)),), **shape)


def teams(tokens: int, output: int, concurrent: int, **shape: Any) -> Shape:
    """An organisation with two teams, each of which may have more than half of it: limits at both levels, on tokens in
    (charged as they come), tokens out (charged as they are produced) and calls in flight."""
    specs, judged = [], []
    for name, above, part in (("org", None, 10), ("org/a", "org", 7), ("org/b", "org", 6)):
        limits: dict[Any, Any] = {
            "input_tokens": LimitSpec(limit=tokens * part // 10, window_ms=WINDOW_MS),
            "output_tokens": LimitSpec(limit=output * part // 10, window_ms=WINDOW_MS, charge="production"),
            "concurrent": LimitSpec(limit=concurrent * part // 10, window_ms=0),
        }
        spec = BudgetSpec(name=name, parent=above, limits=limits, jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS)
        specs.append(spec)
        judged += [
            Limit(name, "input_tokens", limits["input_tokens"].limit, WINDOW_MS * US),
            Limit(name, "output_tokens", limits["output_tokens"].limit, WINDOW_MS * US),
            Limit(name, "concurrent", limits["concurrent"].limit, 0),
        ]
    below = (("org/a", ("org", "org/a")), ("org/b", ("org", "org/b")))
    return Shape(specs=tuple(specs), limits=tuple(judged), budgets=below, output=200, **shape)


@dataclass
class History:
    """What has happened: for the oracle, and for whoever wants to know that it did happen."""

    charges: list[Charge] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


class SkewedClock:
    """An agent's clock: wrong by a constant, too fast or too slow by a little."""

    def __init__(self, chance: random.Random) -> None:
        self._begin = 1_000_000.0 + chance.uniform(-30_000.0, 30_000.0)
        self._rate = 1000.0 * (1.0 + chance.uniform(-400e-6, 400e-6))

    def now(self) -> float:
        return self._begin + asyncio.get_running_loop().time() * self._rate


class Agent:
    """One process with one agent in it."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.chance = random.Random(world.chance.random())
        self.number = number
        self.name = f"agent-{number}"
        self.connection = Connection(world.net, self.name)
        self.fleet = Fleet(None, bus=self.connection, clock=SkewedClock(self.chance), patience=6.0)
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.task: asyncio.Task[None] | None = None
        self.calls = 0

    async def live(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            async with self.fleet:
                self.fleet.limiter.caller._random = random.Random(self.number)  # so that a seed is a whole history
                await asyncio.gather(*(self._line() for _ in range(self.world.shape.lines)))

    async def _line(self) -> None:
        """One call after the other."""
        await asyncio.sleep(self.chance.random() * self.world.shape.think)
        while not self.world.is_over:
            await self.call()
            await asyncio.sleep(self.chance.expovariate(1.0) * self.world.think(self.number))

    async def call(self) -> None:
        """Reserve, send, use; whatever becomes of it is told to the world."""
        shape, chance, world = self.world.shape, self.chance, self.world
        budget, path = shape.budgets[self.number % len(shape.budgets)]
        whole = chance.random() < shape.largest
        tokens = world.whole(path) if whole else 1 + int(chance.random() * shape.tokens)
        self.calls += 1
        call = f"{self.name}/{self.calls}"
        output = int(chance.random() * shape.output)
        amounts = {"input_tokens": tokens, "output_tokens": output}
        wish = Wish(world.now, path, amounts, "open", 0, call)
        reservation = self.fleet.limiter.reserve(
            budget, input_tokens=tokens, output_tokens=output, wait=shape.wait, ttl=shape.ttl
        )
        try:
            async with reservation as permit:
                world.fate(wish, "granted")
                world.history.counts["local"] += isinstance(permit, LocalPermit)
                await self._dawdle()
                permit.sent()
                used = tokens if chance.random() < 0.7 else chance.randint(0, tokens)
                made = chance.randint(0, output)
                await self._provider(path, call, used, made)
                permit.used(input_tokens=used, output_tokens=made)
        except NeverFits:
            world.fate(wish, "never")
        except Refused:
            world.fate(wish, "refused")
        except PermitVoid:
            world.history.counts["void"] += 1
        except (LimiterUnavailable, BursarError) as error:
            world.fate(wish, "given_up")
            world.history.counts[f"error_{error.code}"] += 1
        except asyncio.CancelledError:
            world.fate(wish, "given_up")
            raise

    async def _dawdle(self) -> None:
        """Between permit and sending: mostly at once, often in the last moment, sometimes later than the permit is
        good for; a process that stands still does not send."""
        late = self.chance.random()
        if late < 0.3:
            await asyncio.sleep(self.chance.random() * (1.0 if late < 0.05 else SEND_WITHIN_MS / 1000.0))
        await self.goes_on.wait()

    async def _provider(self, path: Path, call: str, tokens: int, output: int) -> None:
        """The provider charges when the request has reached it, and answers some time later."""
        world, chance = self.world, self.chance
        charged = world.now + int(chance.random() * WIRE_MS * US)
        ends = charged + int((0.02 + world.shape.call * chance.random()) * 1e6)
        charge = Charge(charged, path, {"requests": 1, "input_tokens": tokens, "output_tokens": output}, call)
        world.history.charges += produced(charge, ends, "output_tokens", steps=8)
        world.history.flights.append(Flight(charged, ends, path, {"concurrent": 1}, call))
        await asyncio.sleep((ends - world.now) / 1e6)
        await self.goes_on.wait()

    def die(self) -> None:
        """kill -9: nothing more leaves, and nobody settles."""
        self.connection.dead = True
        if self.task is not None:
            self.task.cancel()


class World:
    """One history. ``troubled``: what may go wrong, by name; all by default."""

    def __init__(self, seed: int, shape: Shape, troubled: Sequence[str] | None = None) -> None:
        self.shape = shape
        self.chance = random.Random(seed)
        self.troubled = frozenset(TROUBLES if troubled is None else troubled)
        self.history = History()
        lossy = "messages" in self.troubled
        self.net = Net(
            self.chance,
            lost=self.chance.choice((0.0, 0.01, 0.05)) if lossy else 0.0,
            slow=self.chance.choice((0.004, 0.02, 0.06)) if lossy else 0.004,
            late=self.chance.choice((0.0, 0.01)) if lossy else 0.0,
        )
        self.authority = Authority(self.net, drift=self.chance.uniform(-400e-6, 400e-6))
        self.is_over = False
        self.agents: list[Agent] = []

    @property
    def now(self) -> int:
        """True time in µs."""
        return int(asyncio.get_running_loop().time() * 1e6)

    def whole(self, path: Path) -> int:
        return min(
            limit.largest for limit in self.shape.limits if limit.scope in path and limit.dimension == "input_tokens"
        )

    def think(self, number: int) -> float:
        """Demand shifts: in each half of the history one half of the fleet is busy, and the other asks rarely."""
        first = asyncio.get_running_loop().time() < self.shape.seconds / 2
        return self.shape.think * (1.0 if (number % 2 == 0) == first else 8.0)

    def fate(self, wish: Wish, fate: Any) -> None:
        self.history.wishes.append(wish._replace(fate=fate, until=self.now))
        self.history.counts[fate] += 1

    async def play(self) -> None:
        self.authority.take_over([LoadFile(budgets=self.shape.specs)])
        self.agents = [Agent(self, number) for number in range(self.shape.agents)]
        for agent in self.agents:
            agent.task = asyncio.create_task(agent.live())
        makers = [TROUBLES[name] for name in sorted(self.troubled)]
        troubles = [asyncio.create_task(make(self)) for make in makers if make is not None]
        await asyncio.sleep(self.shape.seconds)
        self.is_over = True
        for task in troubles:
            task.cancel()
        await asyncio.gather(*troubles, return_exceptions=True)
        self.heal()
        await asyncio.sleep(1.0)
        for agent in self.agents:
            agent.die()
        await asyncio.gather(*(agent.task for agent in self.agents if agent.task is not None))

    def heal(self) -> None:
        if not self.authority.is_up:
            self.authority.take_over()
        for agent in self.agents:
            agent.connection.cut = False
            agent.connection.go_on()
            agent.goes_on.set()

    def some(self, part: float) -> list[Agent]:
        return self.chance.sample(self.agents, max(1, round(part * len(self.agents))))

    # ---- the verdict

    def verdict(self) -> Verdict:
        return judge(self.shape.limits, self.history.charges, self.history.flights)

    def shut_out(self) -> list[Wish]:
        return shut_out(self.shape.limits, self.history.wishes, int((self.shape.wait + 10) * 1e6))

    def utilisation(self, dimension: str, begin: float, end: float) -> float:
        """Of the first limit on this dimension, between two moments (s)."""
        limit = next(limit for limit in self.shape.limits if limit.dimension == dimension)
        return utilisation(limit, self.history.charges, [(int(begin * 1e6), int(end * 1e6))])


# ---- troubles


async def crashes(world: World) -> None:
    """The owner is killed; after the silence that a standby waits for, another takes over."""
    while True:
        await asyncio.sleep(world.chance.uniform(1.0, 4.0))
        world.authority.die()
        world.history.counts["crashes"] += 1
        await asyncio.sleep(world.chance.uniform(0.2, 1.4))
        world.authority.take_over()


async def partitions(world: World) -> None:
    """A part of the fleet hears nothing and is not heard, and does not know it."""
    while True:
        await asyncio.sleep(world.chance.uniform(0.5, 3.0))
        cut = world.some(world.chance.choice((0.05, 0.3, 1.0)))
        for agent in cut:
            agent.connection.cut = True
        world.history.counts["partitions"] += 1
        await asyncio.sleep(world.chance.uniform(0.1, 2.5))
        for agent in cut:
            agent.connection.cut = False


async def pauses(world: World) -> None:
    """Processes stand still: for a moment, or for longer than any permit or lease."""
    while True:
        await asyncio.sleep(world.chance.uniform(0.2, 1.5))
        stopped = world.some(0.03)
        for agent in stopped:
            agent.connection.stopped = True
            agent.goes_on.clear()
        world.history.counts["pauses"] += len(stopped)
        await asyncio.sleep(world.chance.choice((0.1, 0.5, 1.5, 3.0)))
        for agent in stopped:
            agent.connection.go_on()
            agent.goes_on.set()


async def kills(world: World) -> None:
    """Agents are killed; somebody else begins in their place, under another name."""
    while True:
        await asyncio.sleep(world.chance.uniform(0.2, 1.0))
        for agent in world.some(0.02):
            if agent.connection.dead:
                continue
            agent.die()
            world.history.counts["kills"] += 1
            born = Agent(world, agent.number % BORN + BORN * len(world.agents))
            born.task = asyncio.create_task(born.live())
            world.agents.append(born)


TROUBLES: Final[dict[str, Callable[[World], Any] | None]] = {
    "crashes": crashes,
    "partitions": partitions,
    "pauses": pauses,
    "kills": kills,
    "messages": None,
}
"""What may go wrong. ``messages`` is the network's own: lost and late ones. Clocks are always wrong."""


def played(seed: int, shape: Shape, troubled: Sequence[str] | None = None) -> World:
    """Play one history to its end."""

    async def whole() -> World:
        world = World(seed, shape, troubled)
        await world.play()
        return world

    return run(whole())


SMALL: Final = flat(requests=120, tokens=8_000, concurrent=20, think=0.15)
TIGHT: Final = flat(requests=24, tokens=3_000, concurrent=6, agents=24, largest=0.03, think=0.3)
LARGE: Final = flat(
    requests=2_400, tokens=120_000, concurrent=400, agents=1_000, seconds=8.0, think=2.0, largest=0.0005
)
BURSTY: Final = flat(requests=60, tokens=4_500, concurrent=60, paced=False, agents=40, think=0.1, call=1.2, ttl=2.5)
WHOLE: Final = flat(
    requests=30, tokens=3_000, concurrent=30, paced=False, window_ms=1_000, agents=8, largest=0.5, think=0.05, wait=60.0
)
TEAMS: Final = teams(tokens=8_000, output=6_000, concurrent=30, think=0.2, call=0.8, ttl=2.5)
HOLDERS: Final = flat(
    requests=800, tokens=40_000, concurrent=60, agents=8, lines=12, seconds=8.0, think=0.02, call=0.15, largest=0.0
)
LEASED: Final = flat(
    requests=480, tokens=28_000, concurrent=60, paced=False, agents=6, lines=10, seconds=7.0, think=0.02, call=0.1,
    largest=0.0, wait=0.0,
)  # fmt: skip
"""Nobody stands in line, so most permits are taken from leases."""
SHAPES: Final = (SMALL, TIGHT, BURSTY, WHOLE, TEAMS, HOLDERS, LEASED)


def drawn(seed: int) -> World:
    """One history of many: a shape and a mixture of troubles by the seed, or all of them; a thousand agents at each
    fiftieth. Raises AssertionError, with the seed, at the first broken promise."""
    chance = random.Random(f"fleet {seed}")
    shape = LARGE if seed % 50 == 49 else chance.choice(SHAPES)
    troubled = [name for name in sorted(TROUBLES) if chance.random() < 0.6] if chance.random() < 0.7 else None
    world = played(seed, shape, troubled)
    try:
        must_hold(world)
    except AssertionError as error:
        error.add_note(f"seed={seed} decider=limiter-fleet troubled={sorted(world.troubled)}")
        raise
    return world


def must_hold(world: World) -> None:
    """No provider saw too much at any level, and nobody who fits was shut out."""
    world.verdict().must_be_clean()
    assert not world.shut_out(), f"shut out: {world.shut_out()[:3]}"
    assert world.history.counts["granted"] > 0, f"nothing happened: {dict(world.history.counts)}"
