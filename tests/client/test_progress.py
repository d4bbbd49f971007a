"""What a stream has used so far is told while it goes on."""

from __future__ import annotations

import pytest

from bursar.client.errors import PermitEnded
from bursar.errors import BursarError
from tests.client.fakes import fleet_and_limiter
from tests.client.virtual import run


def test_progress_tells_everything_so_far_and_what_is_left() -> None:
    """Beyond the reservation it is below zero; the settlement then needs no more than the end."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b", input_tokens=90, output_tokens=100)
            permit.sent()
            left = await permit.progress(input_tokens=80, output_tokens=60)
            assert (left["input_tokens"], left["output_tokens"]) == (10, 40)
            assert (await permit.progress(output_tokens=130))["output_tokens"] == -30
            told = [request.usage for verb, request in there.heard if verb == "progress"]
            assert [(usage.input_tokens, usage.output_tokens) for usage in told] == [(80, 60), (80, 130)]
            await permit.settle(output_tokens=140)
            assert list(there.settled.values()) == [
                ("used", {"requests": 1, "input_tokens": 80, "output_tokens": 140, "usd_micros": 0})
            ]
            with pytest.raises(PermitEnded):
                await permit.progress(output_tokens=150)

    run(main())


def test_what_the_limiter_refuses_is_raised() -> None:
    """Here it has forgotten the reservation."""

    async def main() -> None:
        async with fleet_and_limiter() as (limiter, there, _):
            permit = await limiter.acquire("b", output_tokens=10)
            there.open.clear()
            with pytest.raises(BursarError) as caught:
                await permit.progress(output_tokens=5)
            assert caught.value.code == "unknown_reservation"

    run(main())
