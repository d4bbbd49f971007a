"""A real limiter, agents with connections of their own and the official SDKs, and a strict provider: what one of them
meets there, all of them know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import msgpack  # type: ignore[import-untyped]
import openai
import pytest

from bursar.bus.signing import Signer
from bursar.client.errors import BudgetFrozen
from bursar.client.fleet import Fleet
from bursar.contracts.base import admin_subject
from bursar.contracts.limiter import DimensionStatus
from bursar.demo.provider.app import Judge
from bursar.demo.provider.settings import Limits, Settings
from bursar_limiter.checking import validate
from bursar_limiter.core import LimiterDecider
from tests.integration.support import Rig, until

pytestmark = pytest.mark.integration

BUDGETS = """
[budgets.provider]
jitter = "20s"
send_within = "20s"
burst = "50%"
adapt = { max_freeze = "2s" }
limits.requests = { limit = 10_000, window = "1m" }
limits.input_tokens = { limit = "2M", window = "1m" }

[budgets.team]
parent = "provider"
jitter = "20s"
send_within = "20s"
limits.requests = { limit = 9_000, window = "1m" }
"""
MESSAGES: Any = [{"role": "user", "content": "tell me"}]
AGENTS = 12


class World:
    def __init__(self, rig: Rig, fleets: list[Fleet], judge: Judge, url: str) -> None:
        self.rig, self.fleets, self.judge, self.url = rig, fleets, judge, url
        self.quota = judge.quotas["k"]

    def openai(self, fleet: Fleet, budget: str = "team") -> openai.AsyncOpenAI:
        http = fleet.http_client(budget, wait=30)
        return openai.AsyncOpenAI(api_key="k", base_url=f"{self.url}/v1", http_client=http, max_retries=0)

    def anthropic(self, fleet: Fleet) -> anthropic.AsyncAnthropic:
        http = fleet.http_client("provider", wait=30)
        return anthropic.AsyncAnthropic(api_key="k", base_url=self.url, http_client=http, max_retries=0)

    async def status(self, dimension: str) -> DimensionStatus:
        (budget,) = (await self.fleets[0].limiter.status("provider")).budgets
        return budget.dimensions[dimension]


@asynccontextmanager
async def world(directory: Path, limits: Limits, agents: int = AGENTS) -> AsyncIterator[World]:
    budgets = directory / "budgets.toml"
    budgets.write_text(BUDGETS)
    env = {"BURSAR_BUDGETS": str(budgets)}
    judge = Judge(Settings(keys={"k": limits}, window_ms=60_000, first_token_ms=1.0, per_token_ms=0.0))
    server = await judge.serve("127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        rig = Rig(directory, module="bursar_limiter", service="limiter", decider=LimiterDecider, env=env)
        await stack.enter_async_context(rig)
        await rig.start("a")
        trust = directory / "trust.json"
        trust.write_text(json.dumps({"limiter": Signer.load(rig.keys_dir / "signing.nk").public_key}))
        fleets = [Fleet(None, bus=await rig.bus(f"agent-{number}"), trust=trust) for number in range(agents)]
        for fleet in fleets:
            await stack.enter_async_context(fleet)
        yield World(rig, fleets, judge, url)


async def test_a_429_seen_by_one_agent_stops_all_others_and_lifts(tmp_path: Path) -> None:
    """Permits that the others hold already are void from the broadcast on: nothing reaches the provider any more until
    the freeze is over, whoever asks and by which SDK; then calls go again, and an operator can end it before."""
    async with world(tmp_path, Limits(requests=3)) as w:
        one, *others = w.fleets
        held = [await fleet.limiter.acquire("team", input_tokens=5) for fleet in others]
        async with w.openai(one) as client:
            for _ in range(3):
                await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=5)
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=5)
        await until(lambda: all(bool(fleet.limiter.freezes) for fleet in others), 5, "all know of the freeze")
        for permit in held:
            with pytest.raises(BudgetFrozen):
                permit.sent()
            permit.cancel_soon()
        arrived = sum(w.quota.statuses.values()) + w.quota.admitted.calls
        begun = asyncio.get_running_loop().time()
        async with w.anthropic(others[0]) as client_2:
            with pytest.raises(anthropic.RateLimitError):
                await client_2.messages.create(model="m", messages=MESSAGES, max_tokens=5)
        assert asyncio.get_running_loop().time() - begun > 1.0, "it waited until the freeze was over"
        assert sum(w.quota.statuses.values()) + w.quota.admitted.calls == arrived + 1, "and was sent once"
        await until(lambda: all(bool(fleet.limiter.freezes) for fleet in w.fleets), 5, "which froze all again")
        await thaw(w.rig)
        await until(lambda: not any(bool(fleet.limiter.freezes) for fleet in w.fleets), 5, "an operator has ended it")
        (await others[1].limiter.acquire("team", input_tokens=5, wait=10)).sent()
        final, _ = await w.rig.walk()
        validate(final.state, final.time)


async def thaw(rig: Rig) -> None:
    bus = await rig.bus("ops")
    payload = msgpack.packb({"id": "thaw-1", "budget": "provider", "note": "test"})
    answer = await bus.request(admin_subject("limiter", "thaw", "ops"), payload, 5.0)
    assert msgpack.unpackb(answer.data)["ok"] is True


async def test_a_lower_limit_is_learned_and_foreign_use_of_the_key_is_noticed(tmp_path: Path) -> None:
    """From the headers of ordinary answers; what others use is charged, so that the fleet leaves them that room."""
    async with world(tmp_path, Limits(requests=1_000, input_tokens=500_000), agents=2) as w:

        async def calls(until_: float) -> None:
            async with w.openai(w.fleets[0]) as client:
                loop = asyncio.get_running_loop()
                while loop.time() < until_:
                    await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=5)
                    await asyncio.sleep(0.05)

        loop = asyncio.get_running_loop()
        await calls(loop.time() + 2.5)
        learned = await w.status("requests")
        assert (learned.limit, learned.configured) == (1_000, 10_000)
        assert learned.foreign_used == 0, "what we use ourselves is not foreign"
        for number in range(400):  # somebody else, with the same key
            w.quota.admit(w.judge.clock.ms(), 1, 1, f"theirs-{number}")
        await calls(loop.time() + 3.5)
        seen = await w.status("requests")
        assert 300 <= seen.foreign_used <= 400
        assert seen.used >= seen.foreign_used
        assert seen.headroom <= 1_000 - seen.foreign_used
