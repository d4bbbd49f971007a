"""The breaker around the limiter around the provider, as `fleet.http_client(breaker=...)` makes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, NamedTuple

import httpx2
import pytest

from bursar.client.breaker_call import CircuitCall
from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_http import BreakerTransport
from bursar.client.http import http_client
from bursar.client.trust import trust_file, verifier_of
from bursar.contracts.breaker import ClientRule, Fallback, Guard
from tests.client.breaker_fakes import FakeRegistry, breaker_and_registry, moment
from tests.client.fakes import FakeLimiter, fleet_and_limiter
from tests.client.virtual import run


class Rig(NamedTuple):
    """``seen``: the paths that the provider saw."""

    client: httpx2.AsyncClient
    registry: FakeRegistry
    limits: FakeLimiter
    seen: list[str]


@asynccontextmanager
async def provider(
    *statuses: int,
    on_refused: Literal["answer", "raise"] = "answer",
    wait: float = 0.0,
    slow_after: float | None = None,
) -> AsyncIterator[Rig]:
    """A client under both; the provider answers with these statuses in turn."""
    seen: list[str] = []
    answers = iter(statuses)

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.url.path)
        return httpx2.Response(next(answers), json={}, headers={"retry-after": "2"})

    async with breaker_and_registry() as (breaker, there, _), fleet_and_limiter(slots=2) as (limiter, limits, _):
        transport = httpx2.MockTransport(answer)
        async with http_client(
            limiter, "b", wait=wait, breaker="p/m", circuits=breaker, on_refused=on_refused, slow_after=slow_after,
            transport=transport,
        ) as client:  # fmt: skip
            yield Rig(client, there, limits, seen)


def test_answers_are_reported_by_their_status() -> None:
    """After they have come; the SDK sees them as they are."""

    async def history() -> None:
        async with provider(200, 529, 401, 404, 429) as (client, there, _, _):
            statuses = [(await client.post("http://x/v1/chat", json={})).status_code for _ in range(5)]
            assert statuses == [200, 529, 401, 404, 429]
            await moment(0.2)
            assert there.reports == [
                {"target": "p/m", "ok": 1, "overload": 1, "rate_limited": 1, "auth": 1, "retry_after_ms": 1_900}
            ]

    run(history())


@pytest.mark.parametrize(("path", "kind"), [("/v1/messages", "overloaded_error"), ("/v1/chat", "bursar_circuit_open")])
def test_an_open_circuit_is_answered_for_before_anything_is_reserved(path: str, kind: str) -> None:
    """503 in the provider's words, which the SDK does not repeat; the limiter hears nothing."""

    async def history() -> None:
        async with provider(200) as (client, there, limits, seen):
            there.change("p", "open", 3_000)
            await moment()
            answer = await client.post(f"http://x{path}", json={})
            assert answer.status_code == 503
            assert answer.headers["x-should-retry"] == "false"
            assert int(answer.headers["retry-after-ms"]) <= 3_000
            assert answer.json()["error"]["type"] == kind
            assert seen == []
            assert limits.heard == []
            await moment(0.3)
            assert there.reports == []

    run(history())


def test_an_open_circuit_raises_where_that_is_asked_for() -> None:
    """As a refusal of the limiter does."""

    async def history() -> None:
        async with provider(200, on_refused="raise") as (client, there, _, _):
            there.change("p/m", "forced_open")
            await moment()
            with pytest.raises(CircuitOpen):
                await client.post("http://x/v1/chat", json={})

    run(history())


def test_what_the_limiter_refuses_says_nothing_about_the_target() -> None:
    """It was never sent."""

    async def history() -> None:
        async with provider(200) as (client, there, limits, seen):
            limits.refuse_with = "over_limit"
            assert (await client.post("http://x/v1/chat", json={})).status_code == 429
            await moment(0.3)
            assert seen == []
            assert there.reports == []

    run(history())


@pytest.mark.parametrize("on_refused", ["answer", "raise"])
def test_a_call_that_has_waited_in_line_asks_again_before_it_goes(on_refused: Literal["answer", "raise"]) -> None:
    """The circuit has opened meanwhile: nothing is sent, and the reservation is given back."""

    async def history() -> None:
        async with provider(200, on_refused=on_refused, wait=5.0) as (client, there, limits, seen):
            limits.slots = 0
            call = asyncio.ensure_future(client.post("http://x/v1/chat", json={}))
            await moment(0.1)
            there.change("p/m", "open", 3_000)
            await moment()
            waiting = limits.line.pop(next(iter(limits.line)))
            limits._grant(waiting.request, waiting.reply)
            if on_refused == "raise":
                with pytest.raises(CircuitOpen):
                    await call
            else:
                assert (await call).status_code == 503
            await moment(0.1)
            assert seen == []
            assert [outcome for outcome, _ in limits.settled.values()] == ["cancelled"]

    run(history())


def test_a_slow_answer_is_reported_as_such() -> None:
    """By the time to its headers."""

    async def history() -> None:
        async with provider(200, slow_after=-1.0) as (client, there, _, _):
            await client.post("http://x/v1/chat", json={})
            await moment(0.3)
            assert there.reports == [{"target": "p/m", "slow": 1}]

    run(history())


def test_a_target_may_follow_from_the_request() -> None:
    """And the transport may stand alone, without the limiter."""

    async def history() -> None:
        async with breaker_and_registry() as (breaker, there, _):
            inner = httpx2.MockTransport(lambda _: httpx2.Response(500))
            transport = BreakerTransport(breaker, lambda request: f"p/{request.url.host}", inner)
            async with httpx2.AsyncClient(transport=transport) as client:
                await client.get("http://eu/")
            await moment(0.2)
            assert there.reports == [{"target": "p/eu", "error": 1}]

    run(history())


def test_keys_are_found_beside_the_credentials_or_where_the_environment_says(tmp_path: Path) -> None:
    """One verifier for a process; a file that cannot be read trusts nobody."""
    creds, trust = tmp_path / "creds" / "a.creds", tmp_path / "trust.json"
    assert trust_file(creds, {}) is None
    trust.write_text('{"breaker": "' + "A" * 43 + '="}')
    assert trust_file(creds, {}) == trust
    assert trust_file(creds, {"BURSAR_TRUST": "/elsewhere"}) == Path("/elsewhere")
    assert verifier_of(trust) is verifier_of(trust)
    assert verifier_of(None) is None
    assert verifier_of(tmp_path / "none.json") is None
    for text in ("[]", "{", '{"breaker": "no key"}'):
        trust.write_text(text)
        assert verifier_of(trust) is None


def test_a_client_follows_the_chain_and_reserves_nothing_when_no_step_may_be_called() -> None:
    """The gate looks at all of them; each request goes where the chain says."""

    async def history() -> None:
        seen: list[str] = []

        def answer(request: httpx2.Request) -> httpx2.Response:
            seen.append(request.url.host)
            return httpx2.Response(200, json={})

        def reroute(request: httpx2.Request, call: CircuitCall) -> httpx2.Request:
            return httpx2.Request(request.method, f"http://{call.target}/", extensions=request.extensions)

        async with breaker_and_registry() as (breaker, there, _), fleet_and_limiter(slots=2) as (limiter, limits, _):
            link = Fallback(kind="model", to="q")
            there.rules = [ClientRule(target="p", probe_ttl_ms=1_000, guard=Guard(), fallbacks=[link])]
            there.edition += 1
            there.pulse()
            await moment(1.1)
            async with http_client(
                limiter, "b", wait=0.0, breaker="p", circuits=breaker, reroute=reroute,
                transport=httpx2.MockTransport(answer),
            ) as client:  # fmt: skip
                for _ in range(2):
                    assert (await client.post("http://p/", json={})).status_code == 200
                    there.change("p", "open", 60_000)
                    await moment()
                assert seen == ["p", "q"]
                there.change("q", "open", 60_000)
                await moment()
                asked = len(limits.heard)
                assert (await client.post("http://p/", json={})).status_code == 503
                assert len(limits.heard) == asked

    run(history())
