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
from bursar.errors import BursarError
from bursar_limiter.reloading import LoadFile
from tests.client.virtual import run
from tests.oracle.history import Charge, Flight, Path, Wish, produced
from tests.oracle.judge import Verdict, judge, shut_out, utilisation
from tests.simulation.limiter_authority import Authority, Connection, Net
from tests.simulation.limiter_shapes import LARGE, SEND_WITHIN_MS, SHAPES, US, Shape

WIRE_MS: Final = 100
"""Longest time from the check of a permit to the provider's charge: with the send deadline, and what clocks drift in
so short a time, less than J."""

BORN: Final = 5_040
"""Who takes the place of an agent gets a number that is greater by a multiple of this, and so the same budget."""


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
