"""The transport: what is reserved, when it is checked, what is settled. No network: the inner transport is a mock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from bursar.client.errors import LimiterUnavailable, Refused
from bursar.client.fleet import Fleet
from bursar.client.headers import RateLimitHeaders
from tests.client.fakes import FakeBus, FakeLimiter, plain, without_bytes
from tests.client.virtual import LoopClock, run

URL = "https://api.example/v1/chat/completions"
BODY = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 400}]}
USAGE = {"prompt_tokens": 93, "completion_tokens": 7}
Respond = Callable[[httpx2.Request], httpx2.Response]


class World:
    """A fleet with a client over a mock provider."""

    def __init__(self, fleet: Fleet, there: FakeLimiter, clock: LoopClock) -> None:
        self.fleet, self.there, self.clock = fleet, there, clock
        self.seen: list[httpx2.Request] = []

    def client(self, respond: Respond, **options: Any) -> httpx2.AsyncClient:
        def handle(request: httpx2.Request) -> httpx2.Response:
            self.seen.append(request)
            return respond(request)

        return self.fleet.http_client("team/gpt", transport=httpx2.MockTransport(handle), **options)

    async def settled(self) -> list[tuple[str, dict[str, int] | None]]:
        await self.fleet.limiter.background.drain(1.0)
        return without_bytes(self.there.settled.values())


@asynccontextmanager
async def world(slots: int = 1_000) -> AsyncIterator[World]:
    bus, clock = FakeBus(), LoopClock()
    there = FakeLimiter(bus, slots=slots)
    async with Fleet(None, bus=bus, clock=clock) as fleet:
        yield World(fleet, there, clock)


def answer(status: int = 200, headers: dict[str, str] | None = None, **body: Any) -> Respond:
    return lambda _: httpx2.Response(status, headers=headers, json=body)


class Events(httpx2.AsyncByteStream):
    def __init__(self, *bodies: Any, fail: bool = False) -> None:
        self.bodies = bodies
        self.fail = fail
        self.sent = b""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for body in self.bodies:
            part = b"data: " + json.dumps(body).encode() + b"\n\n"
            self.sent += part
            yield part
            await asyncio.sleep(0.01)
        if self.fail:
            raise httpx2.ReadError("cut")


def streaming(events: Events) -> Respond:
    return lambda _: httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=events)


def test_a_call_reserves_its_guess_and_settles_what_was_used() -> None:
    """Input by the text, output by max_tokens; then the provider's own figures."""

    async def main() -> None:
        async with world() as w, w.client(answer(usage=USAGE)) as client:
            response = await client.post(URL, json=BODY)
            assert response.json()["usage"] == USAGE
            reserved = next(r for verb, r in w.there.heard if verb == "reserve")
            assert reserved.budget == "team/gpt"
            amounts = plain(reserved.amounts)
            assert amounts.pop("network_bytes") > len(json.dumps(BODY))
            assert amounts == {
                "requests": 1, "input_tokens": 104, "output_tokens": 50, "concurrent": 1, "usd_micros": 0,
            }  # fmt: skip
            used = {"requests": 1, "input_tokens": 93, "output_tokens": 7, "usd_micros": 0}
            assert await w.settled() == [("used", used)]

    run(main())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, ("used", {"requests": 1, "input_tokens": 0, "output_tokens": 0, "usd_micros": 0})),
        (400, ("used", {"requests": 1, "input_tokens": 0, "output_tokens": 0, "usd_micros": 0})),
        (503, ("used", {"requests": 1, "input_tokens": 0, "output_tokens": 0, "usd_micros": 0})),
        (529, ("used", {"requests": 1, "input_tokens": 0, "output_tokens": 0, "usd_micros": 0})),
        (500, ("used", {"requests": 1, "input_tokens": 104, "output_tokens": 0, "usd_micros": 0})),
        (200, ("used", {"requests": 1, "input_tokens": 104, "output_tokens": 50, "usd_micros": 0})),
    ],
)
def test_what_tells_no_usage_is_charged_by_how_it_ended(status: int, expected: Any) -> None:
    """The table in bursar.client.charges."""

    async def main() -> None:
        async with world() as w, w.client(answer(status, error={"message": "no"})) as client:
            assert (await client.post(URL, json=BODY)).status_code == status
            assert await w.settled() == [expected]

    run(main())


def test_the_table_of_charges_can_be_changed() -> None:
    """By status or by class of status."""

    async def main() -> None:
        async with world() as w, w.client(answer(500), charges={500: "nothing", "lost": "request"}) as client:
            await client.post(URL, json=BODY)
            assert await w.settled() == [("cancelled", None)]

    run(main())


def test_a_call_that_is_lost_counts_in_full() -> None:
    """Its outcome is unknown."""

    def lose(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError("reset")

    async def main() -> None:
        async with world() as w, w.client(lose) as client:
            with pytest.raises(httpx2.ReadError):
                await client.post(URL, json=BODY)
            assert await w.settled() == [("used", None)]

    run(main())


def test_a_stream_passes_unchanged_and_holds_its_permit_until_it_ends() -> None:
    """Usage is read from the events; the call counts as concurrent meanwhile."""
    events = Events({"choices": [1]}, {"choices": [2]}, {"choices": [], "usage": USAGE})

    async def main() -> None:
        async with world() as w, w.client(streaming(events)) as client:
            got = b""
            async with client.stream("POST", URL, json=BODY) as response:
                async for part in response.aiter_raw():
                    got += part
                    assert len(w.there.open) == 1
            assert got == events.sent
            used = {"requests": 1, "input_tokens": 93, "output_tokens": 7, "usd_micros": 0}
            assert await w.settled() == [("used", used)]

    run(main())


def test_a_stream_closed_early_counts_what_is_unknown_as_reserved() -> None:
    """Input as told by the first event, output in full."""
    started = {"type": "message_start", "message": {"usage": {"input_tokens": 80, "output_tokens": 1}}}

    async def main() -> None:
        async with world() as w, w.client(streaming(Events(started, {"type": "ping"}, {"type": "ping"}))) as client:
            async with client.stream("POST", URL, json=BODY) as response:
                async for _ in response.aiter_raw():
                    break
            used = {"requests": 1, "input_tokens": 80, "output_tokens": 50, "usd_micros": 0}
            assert await w.settled() == [("used", used)]

    run(main())


def test_a_stream_that_breaks_is_settled() -> None:
    """In full when nothing was told."""

    async def main() -> None:
        async with world() as w, w.client(streaming(Events({"choices": [1]}, fail=True))) as client:
            with pytest.raises(httpx2.ReadError):
                await client.post(URL, json=BODY)
            assert await w.settled() == [("used", None)]

    run(main())


def test_a_refusal_is_answered_in_the_words_of_the_provider() -> None:
    """429 with the reason, not to be retried by the SDK; nothing is sent."""

    async def main() -> None:
        async with world(slots=0) as w, w.client(answer(), wait=0) as client:
            response = await client.post(URL, json=BODY)
            assert response.status_code == 429
            assert response.headers["x-should-retry"] == "false"
            assert response.headers["retry-after-ms"] == "1500"
            assert response.json()["error"]["code"] == "over_limit"
            assert "Reserve again in" in response.json()["error"]["message"]
            told = await client.post("https://api.example/v1/messages", json=BODY)
            assert told.json()["error"]["type"] == "rate_limit_error"
            assert not w.seen

    run(main())


def test_a_refusal_can_be_raised_instead() -> None:
    """For those who use httpx2 without an SDK."""

    async def main() -> None:
        async with world(slots=0) as w, w.client(answer(), wait=0, on_refused="raise") as client:
            with pytest.raises(Refused):
                await client.post(URL, json=BODY)

    run(main())


def test_without_a_limiter_nothing_is_sent() -> None:
    """Fail closed."""

    async def main() -> None:
        async with world() as w, w.client(answer(), wait=1) as client:
            w.there.deaf = True
            with pytest.raises(LimiterUnavailable):
                await client.post(URL, json=BODY)
            assert not w.seen
            w.there.deaf = False

    run(main())


def test_the_time_in_line_counts_against_the_pool_timeout() -> None:
    """httpx2's name for waiting until one may send."""

    async def main() -> None:
        async with world(slots=0) as w, w.client(answer(), timeout=httpx2.Timeout(600, pool=2)) as client:
            w.there.refuse_with = "over_limit"
            await client.post(URL, json=BODY)
            assert w.there.heard[-1][1].wait_ms == 2_000
            await client.post(URL, json=BODY, timeout=None)
            assert w.there.heard[-1][1].wait_ms == 60_000

    run(main())


def test_headers_adjust_a_single_request_and_are_not_sent_on() -> None:
    """Budget, wait and tokens; nonsense is ignored."""

    async def main() -> None:
        async with world() as w, w.client(answer(usage=USAGE)) as client:
            own = {
                "X-Bursar-Budget": "other/model", "X-Bursar-Wait": "3.5", "X-Bursar-Input-Tokens": "11",
                "X-Bursar-Output-Tokens": "many",
            }  # fmt: skip
            await client.post(URL, json=BODY, headers=own)
            asked = w.there.heard[0][1]
            assert (asked.budget, asked.wait_ms) == ("other/model", 3_500)
            assert (asked.amounts.input_tokens, asked.amounts.output_tokens) == (11, 50)
            assert not [name for name in w.seen[0].headers if name.startswith("x-bursar")]

    run(main())


def test_guesses_prices_and_budgets_are_functions_of_the_request() -> None:
    """estimate, price and budget may be callables."""

    async def main() -> None:
        async with world() as w:
            client = w.fleet.http_client(
                lambda request: request.url.host.replace(".", "-"),
                transport=httpx2.MockTransport(answer(usage=USAGE)),
                estimate=lambda body, guess: guess._replace(output_tokens=len(body["messages"])),
                price=lambda model, tokens_in, tokens_out: 3 * tokens_in + 15 * tokens_out if model == "m" else 0,
            )
            async with client:
                await client.post(URL, json=BODY)
            asked = w.there.heard[0][1]
            assert asked.budget == "api-example"
            assert (asked.amounts.output_tokens, asked.amounts.usd_micros) == (1, 3 * 104 + 15)
            used = (await w.settled())[0][1]
            assert used is not None
            assert used["usd_micros"] == 3 * 93 + 15 * 7

    run(main())


def test_rate_limit_headers_are_kept_and_told() -> None:
    """By budget, and to the hook."""
    told: list[tuple[str, RateLimitHeaders]] = []

    async def main() -> None:
        async with world() as w:
            headers = {"x-ratelimit-remaining-requests": "9"}
            respond = answer(headers=headers, usage=USAGE)
            async with w.client(respond, on_headers=lambda budget, seen: told.append((budget, seen))) as client:
                await client.post(URL, json=BODY)
            assert told[0][0] == "team/gpt"
            kept = w.fleet.limiter.observed["team/gpt"].requests
            assert kept is not None
            assert kept.remaining == 9

    run(main())


def test_a_body_that_was_not_read_counts_as_one_request() -> None:
    """Uploads are not read into memory."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"{}"

    async def main() -> None:
        async with world() as w, w.client(answer()) as client:
            await client.post(URL, content=parts())
            amounts = w.there.heard[0][1].amounts
            assert (amounts.requests, amounts.input_tokens, amounts.output_tokens) == (1, 0, 0)

    run(main())


def test_encodings_that_cannot_be_read_are_not_asked_for() -> None:
    """So that usage stays readable."""

    async def main() -> None:
        async with world() as w, w.client(answer()) as client:
            await client.post(URL, json=BODY, headers={"accept-encoding": "gzip, br, zstd"})
            assert w.seen[0].headers["accept-encoding"] == "gzip, deflate"

    run(main())


def test_a_call_also_takes_from_the_objects_of_its_hosts_with_its_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    """So calls in flight are bounded for each destination and each machine, whatever budget they are made under."""
    monkeypatch.setattr("bursar.client.http_plan.gethostname", lambda: "Web-1.Example")

    async def main() -> None:
        async with world() as there:
            client = there.client(answer(usage=USAGE), also=("host/{host}", "on/{machine}"), priority="reactive")
            await client.post(URL, json=BODY)
            (asked,) = [request for verb, request in there.there.heard if verb == "reserve"]
            assert (asked.also, asked.priority) == (("host/api-example", "on/web-1-example"), "reactive")

    run(main())
