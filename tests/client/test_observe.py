"""What is seen of the provider's limits goes up; what stops the fleet comes down."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx2
import pytest

from bursar.bus.signing import Signer, Verifier
from bursar.client.errors import BudgetFrozen, PermitVoid
from bursar.client.fleet import Fleet
from bursar.client.headers import RateLimitHeaders
from bursar.client.headers import read as read_headers
from bursar.client.limiter import Limiter
from bursar.client.observe import Freezes, used_up
from bursar.client.time import ManualClock, SystemClock
from bursar.contracts.limiter_observed import MAX_FREEZE_MS, freeze_subject
from tests.client.fakes import FakeBus, FakeLimiter, Message
from tests.client.virtual import LoopClock, run

URL = "https://api.example/v1/chat/completions"
BODY = {"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "x" * 400}]}
CALL = {"requests": 1, "input_tokens": 100, "output_tokens": 50, "concurrent": 1}


def frozen(number: int, remaining: int, *dimensions: str, budget: str = "team/gpt") -> dict[str, Any]:
    return {
        "v": 1, "budget": budget, "below": ["elsewhere"], "dimensions": list(dimensions), "until_ms": 0,
        "remaining_ms": remaining, "reporter": "x", "fence": f"1.1.{number}.{'0' * 16}",
    }  # fmt: skip


def told(status: int = 429, **headers: str) -> RateLimitHeaders:
    return read_headers(status, {name.replace("_", "-"): value for name, value in headers.items()}.items())


def test_a_freeze_holds_for_so_long_from_its_arrival_and_ends_by_itself() -> None:
    """Nothing is needed to lift it, and nothing is left of it."""
    clock = ManualClock()
    freezes = Freezes(clock)
    assert freezes.apply(frozen(1, 500))
    assert freezes.left("team/gpt", CALL) == 500.0
    assert freezes.left("team/gpt/agent-7", CALL) == 500.0, "what lies below is frozen, too"
    assert freezes.left("elsewhere/agent-1", CALL) == 500.0, "and what is named as below"
    assert freezes.left("team", CALL) == 0.0
    assert freezes.left("team/gpt-2", CALL) == 0.0
    clock.advance(500)
    assert freezes.left("team/gpt", CALL) == 0.0
    assert not freezes


def test_only_calls_that_need_the_frozen_dimension_stop() -> None:
    """Embeddings produce no output."""
    freezes = Freezes(ManualClock())
    freezes.apply(frozen(1, 500, "output_tokens"))
    assert freezes.left("team/gpt", CALL) == 500.0
    assert freezes.left("team/gpt", {**CALL, "output_tokens": 0}) == 0.0


def test_older_broadcasts_change_nothing_and_a_newer_one_ends_it() -> None:
    """Ordered by the fence; what is repeated, or kept and sent again by somebody, is ignored."""
    freezes = Freezes(ManualClock())
    assert freezes.apply(frozen(5, 900, "requests"))
    assert not freezes.apply(frozen(5, 9_000, "requests"))
    assert not freezes.apply(frozen(4, 9_000, "requests"))
    assert freezes.apply(frozen(6, 0))
    assert freezes.left("team/gpt", CALL) == 0.0
    assert not freezes.apply(frozen(5, 900, "requests")), "from before the end"
    assert freezes.apply(frozen(7, 100, "requests"))


def test_what_is_told_again_is_nothing_new() -> None:
    """While a freeze holds it is told again, for who has missed it."""
    clock = ManualClock()
    freezes = Freezes(clock)
    assert freezes.apply(frozen(1, 5_000, "requests"))
    clock.advance(2_000)
    assert not freezes.apply(frozen(2, 2_990, "requests"))
    assert freezes.left("team/gpt", CALL) == 3_000.0
    assert freezes.applied == 1
    assert Freezes(clock).apply(frozen(2, 3_000, "requests")), "for who has connected since, it is"


def test_threads_may_ask_while_it_changes() -> None:
    """Permits of leases are looked at from any thread."""
    freezes, clock = Freezes(SystemClock()), SystemClock()
    failed: list[BaseException] = []
    done = threading.Event()

    def ask() -> None:
        try:
            while not done.is_set():
                freezes.left("team/gpt", CALL)
                freezes.known("team/gpt", ["requests"])
        except RuntimeError as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    end = clock.now() + 300.0
    number = 0
    while clock.now() < end:
        number += 1
        freezes.apply(frozen(number, number % 3, f"d{number % 50}"))
        freezes.own("team/gpt", [f"o{number % 50}"], 0.5)
    freezes.apply(frozen(number + 1, 5_000))
    assert freezes.left("team/gpt", CALL) > 4_000.0
    done.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert freezes.left("team/gpt", CALL) > 4_000.0, "another thread has thrown it away"


@pytest.mark.parametrize("body", [{}, {"budget": "b"}, frozen(1, 5) | {"fence": "x"}, frozen(1, 5) | {"dimensions": 3}])
def test_what_cannot_be_read_changes_nothing(body: dict[str, Any]) -> None:
    """Total."""
    freezes = Freezes(ManualClock())
    assert not freezes.apply(body)
    assert not freezes


def test_the_dimensions_that_are_used_up_are_those_with_less_than_the_call_needs() -> None:
    """None when the headers do not say: then all stops."""
    short = told(x_ratelimit_remaining_requests="0", x_ratelimit_remaining_tokens="900")
    assert used_up(short, CALL) == ["requests"]
    assert used_up(told(x_ratelimit_remaining_tokens="120"), CALL) == ["total_tokens"]
    assert used_up(told(anthropic_ratelimit_output_tokens_remaining="0"), CALL) == ["output_tokens"]
    assert used_up(told(retry_after="3"), CALL) == []


class World:
    def __init__(self) -> None:
        self.bus, self.clock, self.signer = FakeBus(), LoopClock(), Signer.generate()
        self.there = FakeLimiter(self.bus)
        self.verifier = Verifier({"limiter": self.signer.public_key})

    def limiter(self) -> Limiter:
        return Limiter(self.bus, clock=self.clock, trust=lambda: self.verifier)

    def broadcast(self, body: dict[str, Any], budget: str = "team/gpt") -> None:
        subject = freeze_subject(budget)
        self.bus._deliver(Message(subject, "", self.signer.sign(subject, body)))


def test_a_permit_that_was_not_sent_is_void_from_the_broadcast_on() -> None:
    """At once, without asking; and good again when the freeze is over."""

    async def main() -> None:
        w = World()
        limiter = w.limiter()
        await limiter.start()
        permit = await limiter.acquire("team/gpt", input_tokens=5)
        w.broadcast(frozen(1, 100))
        with pytest.raises(BudgetFrozen) as caught:
            permit.sent()
        assert isinstance(caught.value, PermitVoid)
        assert 0 < caught.value.left_ms <= 100
        await asyncio.sleep(0.11)
        permit.sent()
        await permit.settle()
        await limiter.close()

    run(main())


def test_only_the_limiter_is_believed() -> None:
    """Another key, another subject, another budget in the body: refused and counted."""

    async def main() -> None:
        w = World()
        limiter = w.limiter()
        await limiter.start()
        subject = freeze_subject("team/gpt")
        w.bus._deliver(Message(subject, "", Signer.generate().sign(subject, frozen(1, 500))))
        w.bus._deliver(Message(subject, "", w.signer.sign(subject, frozen(1, 500, budget="other"))))
        w.bus._deliver(Message(subject, "", b"nonsense"))
        assert limiter.ear.refused == 3
        assert not limiter.freezes
        await limiter.close()

    run(main())


def respond(status: int, **headers: str) -> httpx2.MockTransport:
    given = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0.01)
        return httpx2.Response(status, headers=given, json={"error": {}})

    return httpx2.MockTransport(answer)


def test_a_429_stops_this_process_at_once_and_is_reported_once() -> None:
    """Also when many calls in flight meet it; the limiter is told the dimension and how long."""

    async def main() -> None:
        w = World()
        async with Fleet(None, bus=w.bus, clock=w.clock) as fleet:
            transport = respond(429, retry_after="2", x_ratelimit_remaining_requests="0")
            async with fleet.http_client("team/gpt", transport=transport) as client:
                answers = await asyncio.gather(*(client.post(URL, json=BODY) for _ in range(5)))
                assert {answer.status_code for answer in answers} == {429}
                assert 1_900 < fleet.limiter.freezes.left("team/gpt", CALL) <= 2_000
            await fleet.limiter.background.drain(1.0)
            reports = [request for verb, request in w.there.heard if verb == "rate-limited"]
            assert [(r.budget, r.dimensions, r.retry_after_ms) for r in reports] == [("team/gpt", ("requests",), 2_000)]

    run(main())


@pytest.mark.parametrize("headers", [{"retry_after": "0"}, {}])
def test_a_429_without_a_time_is_reported_too(headers: dict[str, str]) -> None:
    """The limiter says how long, and this process goes by its answer."""

    async def main() -> None:
        w = World()
        async with Fleet(None, bus=w.bus, clock=w.clock) as fleet:
            async with fleet.http_client("team/gpt", transport=respond(429, **headers)) as client:
                await client.post(URL, json=BODY)
                await asyncio.sleep(0.05)
            assert [verb for verb, _ in w.there.heard].count("rate-limited") == 1
            assert fleet.limiter.freezes.left("team/gpt", CALL) > 500.0

    run(main())


def test_a_call_waits_until_the_freeze_is_over() -> None:
    """It is reserved again, and sent once."""

    async def main() -> None:
        w = World()
        async with Fleet(None, bus=w.bus, clock=w.clock) as fleet:
            fleet.limiter.freezes.apply(frozen(1, 700))
            begun = w.clock.now()
            async with fleet.http_client("team/gpt", transport=respond(200)) as client:
                assert (await client.post(URL, json=BODY)).status_code == 200
            assert 700 <= w.clock.now() - begun < 1_500
            await fleet.limiter.background.drain(1.0)
            outcomes = [outcome for outcome, _ in w.there.settled.values()]
            assert outcomes.count("used") == 1
            assert set(outcomes) == {"used", "cancelled"}

    run(main())


def test_an_own_freeze_is_bounded_whatever_the_provider_says() -> None:
    """A day in Retry-After stops nobody for a day without the limiter's word."""
    clock = ManualClock()
    freezes = Freezes(clock)
    freezes.own("b", ["requests"], 86_400_000.0)
    assert freezes.left("b", CALL) == MAX_FREEZE_MS


def limited_to(limit: int, remaining: int) -> RateLimitHeaders:
    return read_headers(
        200,
        {
            "anthropic-ratelimit-input-tokens-limit": str(limit),
            "anthropic-ratelimit-input-tokens-remaining": str(remaining),
        }.items(),
    )


def test_headers_are_told_each_second_with_age_and_rounding() -> None:
    """A plain message, of what has a limit."""

    async def main() -> None:
        w = World()
        headers = {
            "anthropic_ratelimit_input_tokens_limit": "9000",
            "anthropic_ratelimit_input_tokens_remaining": "4000",
        }
        async with Fleet(None, bus=w.bus, clock=w.clock) as fleet:
            options: dict[str, Any] = {"transport": respond(200, **headers), "charge_model": "anthropic"}
            async with fleet.http_client("team/gpt", **options) as client:
                for _ in range(8):
                    await client.post(URL, json=BODY)
                    await asyncio.sleep(0.2)
        (first, *more) = w.there.seen
        assert len(more) == 1
        assert (first.budget, first.window_ms) == ("team/gpt", 60_000)
        (row,) = first.limits
        assert (row.dimension, row.limit, row.remaining, row.rounding) == ("input_tokens", 9_000, 4_000, 1_000)
        assert 10 <= first.age_ms <= 15

    run(main())


def test_news_is_told_at_once() -> None:
    """Another limit, or a fifth of it gone; a quarter of a second after the report before at the earliest."""

    async def main() -> None:
        w = World()
        async with Fleet(None, bus=w.bus, clock=w.clock) as fleet:
            for limit, remaining in ((1_000, 900), (1_000, 850), (1_000, 600), (1_000, 450), (800, 440), (800, 430)):
                fleet.limiter.observer.heard("b", limited_to(limit, remaining), sent=w.clock.now(), amounts={})
                await asyncio.sleep(0.3)
        told = [(seen.limits[0].limit, seen.limits[0].remaining) for seen in w.there.seen]
        assert told == [(1_000, 900), (1_000, 600), (800, 440)]

    run(main())


def test_a_limit_on_all_tokens_stops_whoever_needs_tokens() -> None:
    """Whether they are told in total or in and out; a call without any goes."""
    freezes = Freezes(ManualClock())
    freezes.apply(frozen(1, 500, "total_tokens"))
    assert freezes.left("team/gpt", CALL) == 500.0
    assert freezes.left("team/gpt", {"requests": 1}) == 0.0
    assert freezes.known("team/gpt/agent", ["total_tokens"]) == 500.0


def test_split_limits_go_before_a_single_one_on_tokens() -> None:
    """Anthropic's tokens header repeats the shorter of the two."""
    both = told(anthropic_ratelimit_tokens_remaining="0", anthropic_ratelimit_input_tokens_remaining="0")
    assert used_up(both, CALL) == ["input_tokens"]


def test_calls_without_the_transport_are_told_by_hand() -> None:
    """Status and headers of an answer; of when it was sent nothing need be known for a 429."""

    async def main() -> None:
        w = World()
        async with Fleet(None, bus=w.bus, clock=w.clock) as fleet:
            fleet.limiter.observer.answered("team/gpt", 429, {"Retry-After": "3"})
            assert fleet.limiter.freezes.left("team/gpt", CALL) == 3_000.0
            headers = {"x-ratelimit-limit-requests": "10", "x-ratelimit-remaining-requests": "4"}
            fleet.limiter.observer.answered("other", 200, headers)
            fleet.limiter.observer.answered("other", 200, headers, sent=w.clock.now() - 40.0)
            await asyncio.sleep(0.01)
        assert [(row.budget, row.limits[0].remaining) for row in w.there.seen] == [("other", 4)]
        assert w.there.seen[0].age_ms == 41

    run(main())
