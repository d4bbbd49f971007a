"""What keeps trouble from spreading, over HTTP: chains, deadlines and bulkheads of a `BreakerTransport`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from bursar.client import deadline
from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_http import BreakerTransport
from bursar.client.bulkhead import Bounds, BulkheadFull
from bursar.contracts.breaker import Fallback
from tests.client.breaker_fakes import breaker_and_registry, moment, rule, ruled
from tests.client.virtual import run


def test_a_transport_reroutes_hurries_and_answers_by_itself() -> None:
    """Each request goes to the target that the chain says, with what is left of the time."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, clock):
            await ruled(there, rule("a", [Fallback(kind="region", to="a/us"), Fallback(kind="degraded", answer="no")]))
            seen: list[tuple[str, str | None, float]] = []

            def answer(request: httpx2.Request) -> httpx2.Response:
                told = request.headers.get("bursar-timeout-ms")
                seen.append((request.url.host, told, request.extensions["timeout"]["read"]))
                return httpx2.Response(200)

            def reroute(request: httpx2.Request, call: CircuitCall) -> httpx2.Request | httpx2.Response:
                if call.target is None:
                    return httpx2.Response(200, text=call.step.answer, request=request)
                request.url = request.url.copy_with(host="us")
                request.headers["host"] = "us"
                return request

            transport = BreakerTransport(breaker, "a/eu", httpx2.MockTransport(answer), reroute=reroute)
            async with httpx2.AsyncClient(transport=transport, timeout=30) as client:
                with deadline.deadline(4, clock):
                    await client.get("http://eu/x")
                there.change("a/eu", "open", 60_000)
                await moment()
                await client.get("http://eu/x")
                there.change("a", "open", 60_000)
                await moment()
                assert (await client.get("http://eu/x")).text == "no"
            assert seen == [("eu", "4000", 4.0), ("us", None, 30)]

    run(history())


def test_a_full_bulkhead_is_answered_in_the_words_of_the_provider() -> None:
    """As an open circuit is."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):
            breaker.limit("p", Bounds(initial=1, least=1, most=1))
            held = breaker.ask("p")
            transport = BreakerTransport(breaker, "p", httpx2.MockTransport(lambda _: httpx2.Response(200)))
            async with httpx2.AsyncClient(transport=transport) as client:
                refused = await client.get("http://x/y")
                assert refused.status_code == 503
                assert refused.json()["error"]["type"] == "bursar_bulkhead_full"
                held.done()
                assert (await client.get("http://x/y")).status_code == 200

    run(history())


def test_a_call_over_http_keeps_its_place_until_its_answer_was_read() -> None:
    """A stream is under way until its end; how long its headers took is what is learned from."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, _, _):
            breaker.limit("p", Bounds(initial=1, least=1, most=1))

            class Slowly(httpx2.AsyncByteStream):
                async def __aiter__(self) -> AsyncIterator[bytes]:
                    yield b"a"
                    yield b"b"

            transport = BreakerTransport(
                breaker, "p", httpx2.MockTransport(lambda _: httpx2.Response(200, stream=Slowly()))
            )
            (bulkhead,) = breaker.terms("p").bulkheads
            async with httpx2.AsyncClient(transport=transport) as client:
                async with client.stream("GET", "http://x/y") as answer:
                    assert bulkhead.under_way == 1
                    with pytest.raises(BulkheadFull):
                        breaker.ask("p")
                    assert await answer.aread() == b"ab"
                assert bulkhead.under_way == 0
                breaker.ask("p").done()

    run(history())
