"""The bill over real processes: what was settled is on it once, whatever was repeated and whoever was killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.base import BusError
from bursar.bus.codec import decode_error, decode_value, encode
from bursar.bus.connection import NatsBus
from bursar.contracts.base import request_subject
from tests.bus.support import Awake
from tests.integration.monitor_site import Site
from tests.integration.support import until

pytestmark = pytest.mark.integration


async def ask(bus: NatsBus, verb: str, **body: Any) -> dict[str, Any]:
    """A question of an agent to the limiter, with one id until it is answered."""
    awake = Awake(1.0)
    while True:
        try:
            msg = await bus.request(request_subject("limiter", verb, "ann"), encode({"v": 1, **body}), 5.0)
        except BusError:
            assert awake.spent() < 20, f"nobody answers {verb}"
            await asyncio.sleep(0.1)
            continue
        assert decode_error(msg.headers, msg.data) is None, msg.data
        return decode_value(msg.data)[0]


async def spend(bus: NatsBus, name: str, micros: int) -> None:
    """One call, settled twice."""
    amounts = {"requests": 1, "usd_micros": micros}
    granted = await ask(bus, "reserve", id=f"reserve_{name}", budget="frugal", amounts=amounts, wait_ms=20_000)
    usage = {"requests": 1, "input_tokens": 10, "usd_micros": micros}
    for _ in range(2):
        assert await ask(bus, "settle", id=f"settle_{name}", reservation=granted["reservation"], usage=usage)


async def test_each_charge_is_on_the_bill_once_through_repetitions_and_kills(tmp_path: Path) -> None:
    """The limiter and the monitor are killed between two calls, of which each is settled twice."""
    async with Site(tmp_path) as site:
        ann = await site.bus("ann")
        await site.start("monitor", "m-1")
        limiter = await site.start("limiter", "l-1")
        await spend(ann, "one", 3_000)
        await site.sees(lambda r: [row.usd_micros for row in r.costs] == [3_000], 15, "the first call is on the bill")
        limiter.kill()
        site.instances["m-1"].kill()
        await site.start("limiter", "l-1")
        await site.start("monitor", "m-1")
        await until(lambda: limiter.role == "owner" and site.instances["m-1"].role == "owner", 15, "both are back")
        await spend(ann, "two", 4_500)
        reply = await site.sees(lambda r: [row.usd_micros for row in r.costs] == [7_500], 15, "both are, once each")
        (row,) = reply.costs
        assert (row.agent, row.model, row.source, row.by, row.calls) == ("ann", "frugal", "api", "settled", 2)
        assert row.age_ms is not None
