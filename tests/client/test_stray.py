"""A refusal is not remembered: a copy of the same request that arrives after it may be granted. Nobody waits for that
answer any more, so what it gives goes back."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from bursar.client.errors import Refused
from bursar.client.limiter import Limiter
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from bursar.contracts.limiter_lease import Lease
from tests.client.decided import DecidedLimiter, until
from tests.client.leased import history, holder

LIMITS: Any = {"concurrent": LimitSpec(limit=4, window_ms=0)}


@history(BudgetSpec(name="b", limits=LIMITS, max_ttl_ms=120_000))
async def test_what_a_copy_of_a_refused_request_is_granted_goes_back(there: DecidedLimiter, limiter: Limiter) -> None:
    """Answers are slower than repeats, and there is room again when the repeat arrives."""
    limiter.caller._random = random.Random(1)
    refused = 0
    for _ in range(10):
        permits = [await limiter.acquire("b") for _ in range(4)]
        there.late = 1.0
        asking = asyncio.ensure_future(limiter.acquire("b"))
        await asyncio.sleep(0.1)
        there.late = 0.0
        for permit in permits:
            await permit.cancel()
        there.late = 2.0
        try:
            await (await asking).cancel()
        except Refused:
            refused += 1
        there.late = 0.0
        await asyncio.sleep(4)
        assert there.used("b", "concurrent") == (0, 0)
    assert refused > 0
    assert limiter.caller.late > 0


class Always(random.Random):
    """What is late is as late as it can be."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize("wait", [0.0, 0.7])
def test_what_a_copy_is_granted_goes_back_although_its_answer_is_lost(wait: float) -> None:
    """The request is asked once more, and its answer is remembered."""

    @history(BudgetSpec(name="b", limits=LIMITS, max_ttl_ms=120_000))
    async def story(there: DecidedLimiter, limiter: Limiter) -> None:
        permits = [await limiter.acquire("b") for _ in range(4)]
        there._random, there.late = Always(), 1.0
        asking = asyncio.ensure_future(limiter.acquire("b", wait=wait))
        await asyncio.sleep(wait + 0.1)
        there.check()  # by now it is refused, and told so in a second; its copies arrive meanwhile
        there.mute = True
        for permit in permits:
            permit.cancel_soon()
        with pytest.raises(Refused):
            await asking
        assert there.used("b", "concurrent")[0] == 1
        there.mute, there.late = False, 0.0
        await until(lambda: there.used("b", "concurrent")[0] == 0, within=5)

    story()


@history(BudgetSpec(name="b", limits=LIMITS, max_ttl_ms=120_000))
async def test_a_stray_lease_goes_back(there: DecidedLimiter, limiter: Limiter) -> None:
    """Its places would be kept for as long as a call may last."""
    seven = (0, 0, 0, 4, 0, 0, 0)
    outcome: Any = there._decide(limiter.principal, Lease(id="x-1", budget="b", want=seven, demand=seven), there.now)
    assert there.used("b", "concurrent")[0] > 0
    limiter._reaper.stray(outcome.reply)
    await asyncio.sleep(1)
    assert there.used("b", "concurrent") == (0, 0)
    assert not holder(limiter).is_held


@pytest.mark.parametrize("body", [{}, {"ok": True}, {"renew_in_ms": 1, "over": True}])
def test_other_strays_change_nothing(body: dict[str, Any]) -> None:
    """What was settled, renewed or told may be told again."""

    @history()
    async def story(there: DecidedLimiter, limiter: Limiter) -> None:
        limiter._reaper.stray(body)
        await asyncio.sleep(1)
        assert there.heard == {}

    story()
