"""What goes on while the limiter does not answer, by the rule of each budget, in virtual time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from bursar.client.errors import LimiterUnavailable
from bursar.client.limiter import Limiter
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from tests.client.decided import DecidedLimiter, agent, until
from tests.client.leased import Calls
from tests.client.threads import in_threads
from tests.client.virtual import run

WINDOW = 60_000


def budget(rule: Any, **more: Any) -> BudgetSpec:
    limits: Any = {"requests": LimitSpec(limit=100, window_ms=WINDOW, paced=False)}
    return BudgetSpec(name="b", limits=limits, when_unreachable=rule, max_ttl_ms=5_000, **more)


async def known(limiter: Limiter) -> None:
    """One call has been answered, so the rule is learned."""
    await (await limiter.acquire("b")).settle()
    await asyncio.sleep(0.5)


async def call(limiter: Limiter) -> None:
    async with limiter.reserve("b") as permit:
        permit.sent()


def test_a_closed_budget_lets_nothing_pass() -> None:
    """The default; and the usual patience."""

    async def main() -> None:
        there = DecidedLimiter(budget("closed"))
        async with agent(there) as limiter:
            await known(limiter)
            there.deaf = True
            began = asyncio.get_running_loop().time()
            with pytest.raises(LimiterUnavailable):
                await call(limiter)
            assert asyncio.get_running_loop().time() - began > 9.9
            there.deaf = False

    run(main())


def test_an_open_budget_lets_calls_pass_and_tells_of_them() -> None:
    """After two seconds of silence, and then at once; when the limiter is back they are charged, once."""

    async def main() -> None:
        there = DecidedLimiter(budget("open"))
        async with agent(there) as limiter:
            await known(limiter)
            there.deaf = True
            began = asyncio.get_running_loop().time()
            await call(limiter)
            assert 1.9 <= asyncio.get_running_loop().time() - began <= 2.5
            for _ in range(149):
                await call(limiter)
            assert asyncio.get_running_loop().time() - began <= 2.5
            assert limiter.away.uncovered == {"b": 150}
            there.deaf = False
            await until(lambda: not limiter.away.is_away)
            await until(lambda: there.heard.get("uncovered") == 1)
            assert there.used("b", "requests") == (151, 0)
            there.check()

    run(main())


def test_calls_without_a_permit_are_told_when_the_limiter_goes_away_again() -> None:
    """They are counted once, however long that takes and whatever answer was lost."""

    async def main() -> None:
        there = DecidedLimiter(budget("open"))
        async with agent(there) as limiter:
            await known(limiter)
            there.deaf = True
            for _ in range(7):
                await call(limiter)
            there.deaf, there.ignores = False, {"uncovered"}
            await until(lambda: not limiter.away.is_away)
            await asyncio.sleep(100)
            there.ignores.clear()
            await until(lambda: there.heard.get("uncovered") == 1)
            assert there.used("b", "requests") == (7, 0)

    run(main())


def test_threads_take_no_more_than_the_slice() -> None:
    """The same bound for code without asyncio."""

    async def main() -> None:
        there = DecidedLimiter(budget("island", islands=1, island_permille=900))
        limiter = Limiter(there.bus(), threads=True)
        await limiter.start()
        await known(limiter)
        passed: list[int] = []
        together = threading.Barrier(4)

        def work() -> None:
            together.wait()
            permits = [limiter.away.take("b", (1, 0, 0, 1, 0, 0, 0)) for _ in range(60)]
            passed.append(sum(permit is not None for permit in permits))

        in_threads(work)
        assert sum(passed) == 90
        await limiter.close()

    run(main())


def test_an_island_spends_its_slice_and_no_more() -> None:
    """A quarter of forty percent of the limit, in any window."""

    async def main() -> None:
        there = DecidedLimiter(budget("island", islands=4, island_permille=400))
        async with agent(there) as limiter:
            await known(limiter)
            there.deaf = True
            for _ in range(10):
                await call(limiter)
            with pytest.raises(LimiterUnavailable):
                await call(limiter)
            await asyncio.sleep(WINDOW / 1000 + 1)
            for _ in range(10):
                await call(limiter)
            there.deaf = False
            await until(lambda: not limiter.away.is_away)
            there.check()

    run(main())


def test_a_slice_allows_no_calls_that_take_from_other_objects_too() -> None:
    """It was set aside from the budget's own path, and from nothing beside it."""

    async def main() -> None:
        limits: Any = {"requests": LimitSpec(limit=100, window_ms=WINDOW, paced=False)}
        there = DecidedLimiter(budget("island"), BudgetSpec(name="host", limits=limits))
        async with agent(there, patience=3) as limiter:
            await known(limiter)
            there.deaf = True
            await call(limiter)
            with pytest.raises(LimiterUnavailable):
                await limiter.acquire("b", also=("host",))
            there.deaf = False

    run(main())


def test_a_slice_is_kept_where_all_calls_are_decided_by_lease() -> None:
    """The limiter is asked for nothing but renewals, for longer than a slice lasts unasked."""

    async def main() -> None:
        limits: Any = {"requests": LimitSpec(limit=10**6, window_ms=WINDOW, paced=False)}
        spec = BudgetSpec(name="b", limits=limits, when_unreachable="island", max_ttl_ms=5_000)
        there = DecidedLimiter(spec)
        async with agent(there) as limiter:
            await Calls(limiter, 25).go(15)
            asked = limiter.away._asked["b"]
            reserved = there.heard["reserve"]
            await Calls(limiter, 20).go(60)
            assert there.heard["reserve"] - reserved < 100
            assert limiter.away._asked["b"] > asked

    run(main())


def test_a_slice_ends_when_the_limiter_stays_away() -> None:
    """Ten minutes after it was last kept: then others may have it."""

    async def main() -> None:
        there = DecidedLimiter(budget("island"))
        async with agent(there) as limiter:
            await known(limiter)
            there.deaf = True
            await call(limiter)
            await asyncio.sleep(600)
            with pytest.raises(LimiterUnavailable):
                await call(limiter)
            there.deaf = False

    run(main())


def test_slices_of_several_agents_are_never_more_than_was_set_aside() -> None:
    """The third of two does not get one, and does nothing while it is cut off."""

    async def main() -> None:
        there = DecidedLimiter(budget("island", islands=2, island_permille=200))
        async with agent(there, "one") as one, agent(there, "two") as two, agent(there, "three") as three:
            for limiter in (one, two, three):
                await known(limiter)
            there.deaf = True
            passed = 0
            for limiter in (one, two, three):
                for _ in range(30):
                    try:
                        await call(limiter)
                    except LimiterUnavailable:
                        break
                    passed += 1
            assert passed == 20
            there.deaf = False

    run(main())


def test_who_has_never_reached_the_limiter_does_nothing() -> None:
    """It cannot know the rule."""

    async def main() -> None:
        there = DecidedLimiter(budget("open"))
        there.deaf = True
        async with agent(there, patience=3) as limiter:
            with pytest.raises(LimiterUnavailable):
                await call(limiter)
            assert limiter.away.uncovered == {}
            there.deaf = False

    run(main())
