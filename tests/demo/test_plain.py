"""The plain client retries as the official SDK does, told side by side with the SDK itself."""

from __future__ import annotations

from types import SimpleNamespace

import httpx2
import openai
import pytest

from bursar.demo.plain import RefusedError, chat, is_retried, pause, seconds_in

SDK = openai.AsyncOpenAI(api_key="none", base_url="http://nobody/v1", max_retries=2)


@pytest.mark.parametrize("retry_after", [None, "0", "3", "119", "121", "soon"])
@pytest.mark.parametrize("should_retry", [None, "true", "false"])
@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 422, 429, 500, 503, 529])
def test_it_asks_again_when_the_sdk_would(status: int, should_retry: str | None, retry_after: str | None) -> None:
    """The same answer leads to the same choice."""
    headers = {"x-should-retry": should_retry, "retry-after": retry_after}
    answer = httpx2.Response(status, headers={name: value for name, value in headers.items() if value is not None})

    assert is_retried(status, should_retry, seconds_in(retry_after)) == SDK._should_retry(answer)


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("retry_after", [None, "0", "7", "120", "121"])
def test_it_pauses_as_long_as_the_sdk_would(attempt: int, retry_after: str | None) -> None:
    """The same span, up to the random quarter that both take off."""
    options = SimpleNamespace(get_max_retries=lambda default: default)
    headers = httpx2.Headers({"retry-after": retry_after} if retry_after else {})
    theirs = SDK._calculate_retry_timeout(2 - attempt, options, headers)  # type: ignore[arg-type]

    assert pause(attempt, seconds_in(retry_after)) == pytest.approx(theirs, rel=0.34)


def client(statuses: list[int], seen: list[int]) -> httpx2.AsyncClient:
    """An HTTP client whose answers have these statuses in turn (0: the connection breaks)."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        status = statuses[len(seen)]
        seen.append(status)
        if status == 0:
            raise httpx2.ConnectError("broken")
        return httpx2.Response(status, headers={"retry-after": "0.001"}, json={"status": status})

    return httpx2.AsyncClient(transport=httpx2.MockTransport(answer))


async def test_it_goes_on_until_it_succeeds() -> None:
    """Refusals and broken connections are asked again, as often as allowed."""
    seen: list[int] = []
    http = client([429, 503, 200], seen)

    assert await chat(http, "http://nobody/", {}, {}, 2) == {"status": 200}
    assert seen == [429, 503, 200]


async def test_it_gives_up_after_the_last_retry() -> None:
    """The last error is what the caller gets."""
    seen: list[int] = []

    with pytest.raises(RefusedError, match="status 429"):
        await chat(client([429, 429, 429], seen), "http://nobody/", {}, {}, 2)
    with pytest.raises(httpx2.ConnectError):
        await chat(client([0], []), "http://nobody/", {}, {}, 0)

    assert seen == [429, 429, 429]


async def test_an_error_that_stays_is_not_asked_again() -> None:
    """A bad request is bad however often it is sent."""
    seen: list[int] = []

    with pytest.raises(RefusedError, match="status 400"):
        await chat(client([400], seen), "http://nobody/", {}, {}, 2)

    assert seen == [400]
