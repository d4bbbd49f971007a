"""The client with the real limiter on the real kernel and a real nats-server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.client.errors import NeverFits, Refused, UnknownBudget
from bursar.client.fleet import Fleet
from bursar.client.limiter import Limiter
from bursar.client.permit import Permit
from bursar.contracts.limiter import SERVICE, BudgetStatus
from bursar_limiter.core import LimiterDecider
from tests.integration.support import Rig, until

pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    module = "tests.client.limiter_process"
    async with Rig(tmp_path, module=module, service=SERVICE, decider=LimiterDecider) as rig:
        await rig.start("a")
        yield rig


async def budget(limiter: Limiter, name: str) -> BudgetStatus:
    return (await limiter.status(name)).budgets[0]


async def until_waiting(limiter: Limiter, count: int) -> None:
    async with asyncio.timeout(5):
        while (await budget(limiter, "narrow")).waiting != count:  # noqa: ASYNC110 - the limiter tells when asked
            await asyncio.sleep(0.01)


async def test_reserve_use_and_settle(rig: Rig) -> None:
    """What was not used comes back; the ledger has what was."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        permit = await fleet.limiter.acquire("wide", input_tokens=1_000, output_tokens=100)
        assert 0.25 < permit.left <= 0.3
        permit.sent()
        settled = await permit.settle(input_tokens=900, output_tokens=130)
        assert (settled.outcome, settled.refunded, settled.overage) == (
            "used", {"input_tokens": 100}, {"output_tokens": 30},
        )  # fmt: skip
        there = await budget(fleet.limiter, "wide")
        assert there.dimensions["input_tokens"].used == 900
        assert there.reservations == 0


async def test_the_third_call_waits_for_one_of_two_places(rig: Rig) -> None:
    """Concurrency, refusal and the line."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        one, two = [await fleet.limiter.acquire("narrow") for _ in range(2)]
        with pytest.raises(Refused) as refused:
            await fleet.limiter.acquire("narrow")
        assert refused.value.dimension == "concurrent"
        with pytest.raises(NeverFits):
            await fleet.limiter.acquire("narrow", concurrent=3)
        waiting = asyncio.ensure_future(fleet.limiter.acquire("narrow", wait=20))
        await until_waiting(fleet.limiter, 1)
        await one.cancel()
        third = await waiting
        third.check()
        await two.cancel()
        await third.cancel()


async def test_errors_of_the_caller_have_their_codes(rig: Rig) -> None:
    """An unknown budget is told as such, with those that exist."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        with pytest.raises(UnknownBudget) as error:
            await fleet.limiter.acquire("nowhere")
        assert error.value.blame == "caller"
        assert "narrow" in error.value.advice
        assert sorted(error.value.facts["known"]) == ["few", "narrow", "wide"]


@pytest.mark.parametrize("name", ["narrow", "few"])
async def test_a_killed_limiter_costs_a_pause_and_nothing_else(rig: Rig, name: str) -> None:
    """kill -9 of the owner under load: every call gets its permit from the standby or from a lease, and nothing is left
    behind."""
    await rig.start("b")
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        limiter, done = fleet.limiter, 0
        longest = 0.0

        async def work() -> None:
            nonlocal done, longest
            for _ in range(60):
                begun = time.monotonic()
                async with limiter.reserve(name, wait=30) as permit:
                    permit.sent()
                    await asyncio.sleep(0.002)
                longest = max(longest, time.monotonic() - begun)
                done += 1

        working = asyncio.gather(*(work() for _ in range(8)))
        await until(lambda: done > 100, 20, "some work before the kill")
        rig.owner().kill()
        await asyncio.wait_for(working, 60)
        assert done == 480
        assert longest < 6.0
        await limiter.background.drain(5.0)
        assert limiter.background.failed == 0
        assert (await budget(limiter, name)).reservations == 0
        async with asyncio.timeout(10):
            while (await budget(limiter, name)).dimensions["concurrent"].in_flight:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
        print(f"longest reserve-and-settle across the kill: {longest:.2f} s, retries {limiter.caller.retries}")  # noqa: T201


async def test_a_restart_without_a_standby_is_waited_out(rig: Rig) -> None:
    """The settlement of a call that ran while the limiter was away arrives when it is back."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        permit = await fleet.limiter.acquire("wide", input_tokens=10)
        permit.sent()
        rig["a"].kill()
        settling = permit.settle_soon(input_tokens=9)
        asking = asyncio.ensure_future(fleet.limiter.acquire("wide", input_tokens=1))
        await asyncio.sleep(0.5)
        rig.launch("a")
        assert (await settling).outcome == "used"
        await (await asking).cancel()
        assert (await budget(fleet.limiter, "wide")).dimensions["input_tokens"].used == 9


async def test_who_gives_up_leaves_the_line_at_once(rig: Rig) -> None:
    """Not at the deadline; and what was granted in that moment does not stay behind."""
    async with Fleet(None, bus=await rig.bus("agent-1")) as fleet:
        one, two = [await fleet.limiter.acquire("narrow") for _ in range(2)]
        waiting = [asyncio.ensure_future(fleet.limiter.acquire("narrow", wait=300)) for _ in range(20)]
        await until_waiting(fleet.limiter, 20)
        for task in waiting[:10]:
            task.cancel()
        await one.cancel()
        for task in waiting[10:]:
            task.cancel()
        for permit in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(permit, Permit):  # it was granted before its caller gave up
                await permit.cancel()
        await until_waiting(fleet.limiter, 0)
        await two.cancel()
        await fleet.limiter.background.drain(5.0)
        assert fleet.limiter.background.failed == 0
        assert (await budget(fleet.limiter, "narrow")).reservations == 0


async def test_declaration_with_a_forged_fence_is_refused(rig: Rig) -> None:
    """The MAC is checked at the border, the number by the limiter: one that is known proves nothing of another."""
    bus = await rig.bus("agent-1")
    async with Fleet(None, bus=bus) as fleet:
        permit, other = [await fleet.limiter.acquire("wide") for _ in range(2)]
        fields = {"budget": "wide", "amounts": {}, "granted_at_ms": 0, "ttl_ms": 1000}
        invented = permit.fence_text.rpartition(".")[2]
        codes = []
        for number, (reservation, fence) in enumerate(
            [
                ("1.1.999", f"1.1.999.{invented}"),
                (other.reservation, permit.fence_text),
                (permit.reservation, permit.fence_text),
            ]
        ):
            body = {"id": f"x-{number + 1}", "reservation": reservation, "fence": fence, **fields}
            reply = await bus.request("bursar.req.limiter.redeclare.agent-1", msgpack.packb(body), 2.0)
            answer = msgpack.unpackb(reply.data)
            codes.append(answer["error"]["code"] if "error" in answer else answer["adopted"])
        assert codes == ["bad_fence", "bad_fence", False]
