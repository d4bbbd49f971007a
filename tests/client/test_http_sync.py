"""The transport for the SDKs' synchronous clients: the same promises, in the thread that calls."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import openai
import pytest

from bursar.client.errors import Refused
from bursar.client.sync import SyncFleet
from bursar.demo.provider.app import Judge
from bursar.demo.provider.settings import Limits, Settings
from tests.client.fakes import FakeLimiter, plain, without_bytes
from tests.client.test_http import BODY, URL, USAGE, Respond, answer
from tests.client.test_http_bytes import ANSWER
from tests.client.test_sync import connected

FULL = {"requests": 1, "input_tokens": 104, "output_tokens": 50, "usd_micros": 0}


@contextmanager
def client(respond: Respond, *, refuse_with: str = "", **options: Any) -> Iterator[tuple[httpx2.Client, FakeLimiter]]:
    told = {"refuse_with": refuse_with} if refuse_with else {}
    with connected(**told) as (fleet, there):
        with fleet.http_client("team/gpt", transport=httpx2.MockTransport(respond), **options) as made:
            yield made, there
        assert fleet.run(fleet.fleet.limiter.background.drain, 1.0) == 0


def settled(there: FakeLimiter) -> list[tuple[str, dict[str, int] | None]]:
    """When the loop has heard of the end of every call."""
    until = time.monotonic() + 5.0
    while there.open and time.monotonic() < until:
        time.sleep(0.002)
    return without_bytes(there.settled.values())


def test_a_call_reserves_its_guess_and_settles_what_was_used() -> None:
    """As with asyncio."""
    with client(answer(usage=USAGE)) as (http, there):
        assert http.post(URL, json=BODY).json()["usage"] == USAGE
        amounts = plain(next(request for verb, request in there.heard if verb == "reserve").amounts)
        assert amounts.pop("network_bytes") > 500
        assert amounts == FULL | {"concurrent": 1}
        used = {"requests": 1, "input_tokens": 93, "output_tokens": 7, "usd_micros": 0}
        assert settled(there) == [("used", used)]


@pytest.mark.parametrize(("wrong", "used"), [(httpx2.ReadError("reset"), None), (None, FULL)])
def test_what_tells_no_usage_counts_in_full(wrong: Exception | None, used: Any) -> None:
    """A call that is lost, and one whose answer does not say."""

    def respond(_: httpx2.Request) -> httpx2.Response:
        if wrong is not None:
            raise wrong
        return httpx2.Response(200, json={})

    with client(respond) as (http, there):
        if wrong is None:
            http.post(URL, json=BODY)
        else:
            with pytest.raises(type(wrong)):
                http.post(URL, json=BODY)
        assert settled(there) == [("used", used)]


def test_threads_share_a_client() -> None:
    """Each call has a permit of its own, and every answer is learned from."""
    with (
        connected() as (fleet, there),
        fleet.http_client("b", transport=httpx2.MockTransport(answer(usage=USAGE))) as http,
    ):
        threads = [threading.Thread(target=lambda: [http.post(URL, json=BODY) for _ in range(25)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert [how for how, _ in settled(there)] == ["used"] * 100
        (quality,) = fleet.fleet.limiter.estimates.report()
        assert quality.answers == 100


class Parts(httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield from (b'data: {"message": {"usage": {"input_tokens": 80, "output_tokens": 1}}}\n\n', b"data: {}\n\n")


def streaming(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Parts())


@pytest.mark.parametrize("whole", [True, False])
def test_a_stream_holds_its_permit_until_it_ends_or_is_closed(whole: bool) -> None:
    """Input as told by the first event, output in full: no event said how much it was."""
    with client(streaming) as (http, there):
        with http.stream("POST", URL, json=BODY) as response:
            for _ in response.iter_raw():
                assert len(there.open) == 1
                if not whole:
                    break
        assert settled(there) == [("used", FULL | {"input_tokens": 80})]


def test_a_refusal_is_an_answer_that_the_sdk_understands_or_is_raised() -> None:
    """Nothing is sent."""

    def never(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError("sent")

    with client(never, refuse_with="over_limit", wait=0) as (http, _):
        response = http.post(URL, json=BODY)
        assert (response.status_code, response.headers["x-should-retry"]) == (429, "false")
        assert response.json()["error"]["code"] == "over_limit"
    with client(never, refuse_with="over_limit", wait=0, on_refused="raise") as (http, _), pytest.raises(Refused):
        http.post(URL, json=BODY)


def served(wire: socket.socket, moved: list[int]) -> None:
    """One call on a socket, every byte counted; a connection on which nothing is said is let go."""
    got = b""
    while not got:
        connection, _ = wire.accept()
        with connection:
            while (part := connection.recv(65_536)) and len((got + part).partition(b"\r\n\r\n")[2]) < 5_000:
                got += part
            if got := got + part:
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
                connection.sendall(head + ANSWER)
                moved.append(len(got) + len(head) + len(ANSWER))


def test_what_is_settled_is_what_went_over_the_socket() -> None:
    """By a real connection, which says when it begins to send."""
    moved: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as wire, connected() as (fleet, there):
        thread = threading.Thread(target=served, args=(wire, moved), daemon=True)
        thread.start()
        with fleet.http_client("b", trust_env=False) as http:
            http.post(f"http://127.0.0.1:{wire.getsockname()[1]}/v1/x", content=b"z" * 5_000)
        thread.join(10)
        settled(there)
        ((_, used),) = there.settled.values()
        assert used is not None
        assert used["network_bytes"] == moved[0]


def test_a_permit_that_is_void_before_the_first_byte_goes_back() -> None:
    """And another is reserved: the connection took too long."""
    waits = [0.6]

    def slow(name: str, _: Any) -> None:
        if name.endswith("connect_tcp.started") and waits:
            time.sleep(waits.pop())

    with socket.create_server(("127.0.0.1", 0)) as wire, connected() as (fleet, there):
        there.send_within = 500
        thread = threading.Thread(target=served, args=(wire, []), daemon=True)
        with fleet.http_client("b", trust_env=False) as http:
            there_url = f"http://127.0.0.1:{wire.getsockname()[1]}/v1/x"
            wire.settimeout(10)
            thread.start()
            http.post(there_url, content=b"z" * 5_000, extensions={"trace": slow})
        thread.join(10)
        outcomes = [how for how, _ in settled(there)]
        assert ("cancelled" in outcomes, outcomes.count("used")) == (True, 1)


async def in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work)


async def test_the_official_sdk_without_asyncio() -> None:
    """Whole answers and streams, against a strict provider."""
    limits = Limits(requests=100, input_tokens=10_000, output_tokens=10_000)
    judge = Judge(Settings(keys={"k": limits}, first_token_ms=1.0, per_token_ms=0.1, spread=0.0))
    server = await judge.serve("127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    def talk() -> list[tuple[str, dict[str, int] | None]]:
        asked: dict[str, Any] = {
            "model": "m",
            "messages": [{"role": "user", "content": "tell me " * 50}],
            "max_tokens": 50,
            "extra_headers": {"X-Demo-Output-Tokens": "20"},
        }
        with connected() as (fleet, there), fleet.http_client("b") as http:
            with openai.OpenAI(api_key="k", base_url=url, http_client=http) as sdk:
                sdk.chat.completions.create(**asked)
                for _ in sdk.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
                    pass
            return settled(there)

    try:
        used = {"requests": 1, "input_tokens": 100, "output_tokens": 20, "usd_micros": 0}
        assert await in_thread(talk) == [("used", used), ("used", used)]
    finally:
        server.close()
        await server.wait_closed()


def test_options_that_are_not_there_are_refused() -> None:
    """Circuits are asked by ``fleet.breaker`` here."""
    with connected() as (fleet, _), pytest.raises(TypeError):
        fleet.http_client("b", breaker="provider")


def test_a_fleet_that_is_not_open_has_no_client() -> None:
    """Said in words."""
    with pytest.raises(Exception, match="not_connected"):
        SyncFleet(None).http_client("b")
