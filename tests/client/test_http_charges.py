"""The transport and charge models: what is reserved, what counts afterwards, and from which budget."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from bursar.client.charge_model import BadChargeModel
from tests.client.fakes import plain
from tests.client.test_http import BODY, URL, USAGE, World, answer, world
from tests.client.virtual import run


def reserved(w: World) -> dict[str, int]:
    """What the last call has reserved."""
    return plain([request for verb, request in w.there.heard if verb == "reserve"][-1].amounts)


def test_openai_is_charged_in_advance_and_nothing_comes_back() -> None:
    """The larger of its maximum and its prompt counts in total; the answer's length changes nothing."""

    async def main() -> None:
        async with world() as w, w.client(answer(usage=USAGE), charge_model="openai", quantile=0.5) as client:
            for _ in range(30):
                w.fleet.limiter.estimates.learn("agent-1", "m", 5)
            await client.post(URL, json=BODY)
            assert reserved(w)["total_tokens"] == 104
            ((_, used),) = await w.settled()
            assert used == {
                "requests": 1, "input_tokens": 93, "output_tokens": 50, "usd_micros": 0, "total_tokens": 93,
            }  # fmt: skip

    run(main())


def test_the_host_that_is_called_says_how_it_counts() -> None:
    """Where nothing else does; a host that nobody knows is counted in the generic way."""

    async def main() -> None:
        async with world() as w, w.client(answer(usage=USAGE)) as client:
            await client.post("https://api.openai.com/v1/chat/completions", json=BODY)
            assert "total_tokens" in reserved(w)
            await client.post(URL, json=BODY)
            assert "total_tokens" not in reserved(w)

    run(main())


def test_output_is_reserved_as_learned_and_never_above_the_stated_maximum() -> None:
    """By agent and model; how well it was guessed is told."""

    async def main() -> None:
        body = {**BODY, "max_tokens": 4_000, "n": 2}
        async with world() as w:
            options: dict[str, Any] = {"charge_model": "anthropic", "agent": "planner", "quantile": 0.9}
            async with w.client(answer(usage={"input_tokens": 9, "output_tokens": 300}), **options) as client:
                await client.post(URL, json=body)
                assert reserved(w)["output_tokens"] == 8_000
                for _ in range(30):
                    await client.post(URL, json=body)
                assert 300 <= reserved(w)["output_tokens"] <= 310
                await client.post(URL, json={**body, "max_tokens": 20})
                assert reserved(w)["output_tokens"] == 40
                await client.post(URL, json=body, headers={"X-Bursar-Agent": "writer"})
            planner, writer = w.fleet.limiter.estimates.report()
            assert (planner.agent, planner.model, planner.answers) == ("planner", "m", 32)
            assert (planner.above, writer.agent) == (1, "writer")
            assert 0 < planner.refund_share < 1

    run(main())


def test_models_of_one_pool_draw_from_one_budget() -> None:
    """``{pool}`` in the name; a long prompt has a pool of its own."""

    async def main() -> None:
        async with world() as w:
            transport = httpx2.MockTransport(answer(usage=USAGE))
            async with w.fleet.http_client("acme/{pool}", transport=transport, charge_model="anthropic") as client:
                for model, words in (("claude-opus-4-7", 1), ("claude-opus-4-1", 1), ("claude-sonnet-4-6", 900_000)):
                    message = {"role": "user", "content": "x" * words}
                    await client.post(URL, json={"model": model, "max_tokens": 5, "messages": [message]})
        names = [request.budget for verb, request in w.there.heard if verb == "reserve"]
        assert names == ["acme/opus-4", "acme/opus-4", "acme/sonnet-4-long"]

    run(main())


def test_failed_calls_count_as_the_charge_model_says_and_an_own_table_goes_before() -> None:
    """OpenAI counts unsuccessful requests."""

    async def main() -> None:
        async with world() as w, w.client(answer(500), charge_model="openai") as client:
            await client.post(URL, json=BODY)
            ((_, used),) = await w.settled()
            assert used == {
                "requests": 1, "input_tokens": 104, "output_tokens": 50, "usd_micros": 0, "total_tokens": 104,
            }  # fmt: skip
        async with world() as w, w.client(answer(500), charge_model="openai", charges={500: "nothing"}) as client:
            await client.post(URL, json=BODY)
            assert await w.settled() == [("cancelled", None)]

    run(main())


def test_a_charge_model_that_is_not_there_is_said_at_once() -> None:
    """Before any call is made."""

    async def main() -> None:
        async with world() as w:
            with pytest.raises(BadChargeModel):
                w.client(answer(), charge_model="nobody")

    run(main())
