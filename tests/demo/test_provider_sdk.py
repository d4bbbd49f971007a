"""The official SDKs, unmodified, against the judge."""

from __future__ import annotations

import socket
from collections.abc import Callable

import anthropic
import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.demo.conftest import Provider

pytestmark = pytest.mark.integration
Start = Callable[..., Provider]
KEYS = {"sk-a": {"requests": 3, "input_tokens": 1000, "output_tokens": 1000}}


def openai_client(provider: Provider, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.base}/v1", api_key="sk-a", max_retries=retries)


def anthropic_client(provider: Provider, retries: int = 0) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=provider.base, api_key="sk-a", max_retries=retries)


def ask_openai(client: openai.OpenAI, text: str = "four", tokens: int = 5, job: str = "job") -> ChatCompletion:
    return client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": text}],
        max_tokens=64,
        extra_headers={"X-Demo-Output-Tokens": str(tokens), "Idempotency-Key": job},
    )


def test_openai_answer_has_the_asked_length_and_honest_usage(start_provider: Start) -> None:
    """Input is characters over four, output what the header asks for."""
    with openai_client(start_provider(keys=KEYS)) as client:
        answer = ask_openai(client, "x" * 41, 7)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (11, 7)
    assert answer.choices[0].message.content == "word" * 7
    assert answer.choices[0].finish_reason == "stop"


def test_openai_stream_ends_with_usage_when_asked(start_provider: Start) -> None:
    """All text arrives in chunks; the last one before DONE carries the usage."""
    provider = start_provider(keys=KEYS)
    with openai_client(provider) as client:
        stream = client.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=20,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Demo-Output-Tokens": "100"},
        )
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "word" * 20
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20


def test_anthropic_answer_and_stream_carry_usage(start_provider: Start) -> None:
    """The whole answer and the stream say the same."""
    with anthropic_client(start_provider(keys=KEYS)) as client:
        headers = {"X-Demo-Output-Tokens": "9"}
        messages: list[anthropic.types.MessageParam] = [{"role": "user", "content": "x" * 8}]
        whole = client.messages.create(
            model="demo", max_tokens=64, system="four", messages=messages, extra_headers=headers
        )
        with client.messages.stream(
            model="demo", max_tokens=64, system="four", messages=messages, extra_headers=headers
        ) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (3, 9)
    assert (final.usage.input_tokens, final.usage.output_tokens) == (3, 9)
    assert text == "word" * 9 == "".join(block.text for block in whole.content if block.type == "text")
    assert whole.stop_reason == final.stop_reason == "end_turn"


def test_rejection_is_a_429_with_retry_after_and_is_counted(start_provider: Start) -> None:
    """The fourth of three calls is refused, says when to come back, and is counted as one violation."""
    provider = start_provider(keys=KEYS)
    with openai_client(provider) as client:
        for _ in range(3):
            ask_openai(client)
        with pytest.raises(openai.RateLimitError) as refused:
            ask_openai(client)
    headers = refused.value.response.headers
    assert 0 < int(headers["retry-after-ms"]) <= 2000
    assert int(headers["retry-after"]) in (1, 2)
    assert headers["x-ratelimit-limit-requests"] == "3"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.value.code == "rate_limit_exceeded"
    stats = provider.admin("stats")["keys"]["sk-a"]
    assert (stats["admitted"], stats["violations"], stats["violations_by_dimension"]) == (3, 1, {"requests": 1})


def test_sdk_that_waits_as_told_is_admitted(start_provider: Start) -> None:
    """Retry-After is true: the SDK's own retry succeeds."""
    provider = start_provider(keys=KEYS, window_ms=600)
    with openai_client(provider, retries=1) as client:
        for _ in range(4):
            ask_openai(client)
    assert provider.admin("stats")["keys"]["sk-a"]["completed"] == 4


def test_anthropic_rejection_has_its_headers_and_shape(start_provider: Start) -> None:
    """rate_limit_error, and the limits by name."""
    with anthropic_client(start_provider(keys=KEYS)) as client, pytest.raises(anthropic.RateLimitError) as refused:
        client.messages.create(model="demo", max_tokens=9, messages=[{"role": "user", "content": "x" * 4004}])
    assert "rate_limit_error" in refused.value.response.text
    assert "too large" in refused.value.response.text
    assert "retry-after" not in refused.value.response.headers
    assert refused.value.response.headers["anthropic-ratelimit-input-tokens-limit"] == "1000"


def test_overload_is_503_for_openai_and_529_for_anthropic(start_provider: Start) -> None:
    """Each API's own way to say it; it is no violation."""
    provider = start_provider(keys=KEYS)
    provider.episode("overload", 30)
    with openai_client(provider) as client, pytest.raises(openai.InternalServerError) as busy:
        ask_openai(client)
    assert busy.value.status_code == 503
    with anthropic_client(provider) as other, pytest.raises(anthropic.APIStatusError) as overloaded:
        other.messages.create(model="demo", max_tokens=9, messages=[{"role": "user", "content": "x"}])
    assert overloaded.value.status_code == 529
    assert "overloaded_error" in overloaded.value.response.text
    assert provider.admin("stats")["keys"]["sk-a"]["violations"] == 0


def test_outage_resets_connections_and_ends(start_provider: Start) -> None:
    """During an outage nothing is answered; afterwards the SDK's retry gets through."""
    provider = start_provider(keys=KEYS)
    provider.episode("outage", 0.4)
    with openai_client(provider) as client, pytest.raises(openai.APIConnectionError):
        ask_openai(client)
    with openai_client(provider, retries=4) as client:
        assert ask_openai(client).usage is not None


def test_job_completed_twice_is_counted_by_its_key(start_provider: Start) -> None:
    """The key names the job; the judge does not deduplicate, it counts."""
    provider = start_provider(keys=KEYS)
    with openai_client(provider) as client:
        for job in ("a", "b", "a"):
            ask_openai(client, job=job)
    stats = provider.admin("stats")["keys"]["sk-a"]
    assert (stats["jobs_completed"], stats["completed_twice"]) == (2, 1)


def test_wrong_key_and_wrong_body_get_typed_errors(start_provider: Start) -> None:
    """401 and 400 in the API's own shape."""
    provider = start_provider(keys=KEYS)
    with openai_client(provider) as client, pytest.raises(openai.AuthenticationError):
        ask_openai(client.with_options(api_key="nope"))
    with openai_client(provider) as client, pytest.raises(openai.BadRequestError, match="at least one message"):
        client.chat.completions.create(model="demo", messages=[])


def test_client_that_goes_away_frees_its_slot_and_is_wasted(start_provider: Start) -> None:
    """A call whose client hung up is over; what it was charged is waste."""
    provider = start_provider(keys={"sk-a": {"concurrency": 1}}, first_token_ms=5000.0)
    with openai_client(provider) as client, pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.3).chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "x" * 40}], max_tokens=5
        )
    stats = provider.admin("stats")["keys"]["sk-a"]
    assert (stats["running"], stats["admitted"], stats["completed"], stats["wasted_input_tokens"]) == (0, 1, 0, 10)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /v1/messages HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /v1/messages HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"GET / HTTP/9\r\n\r\n", b"505"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000, b"431"),
        (b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n", b"404"),
    ],
)
def test_malformed_http_is_answered_and_closed(start_provider: Start, raw: bytes, status: bytes) -> None:
    """Each mistake gets a status of its own, the line is closed, and the judge lives on."""
    provider = start_provider(keys=KEYS)
    with socket.create_connection(("127.0.0.1", int(provider.base.rpartition(":")[2])), timeout=5) as line:
        line.sendall(raw)
        answer = b"".join(iter(lambda: line.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert provider.admin("stats")["keys"]["sk-a"]["admitted"] == 0


def test_pipelined_calls_are_answered_in_order(start_provider: Start) -> None:
    """Two requests in one write get two answers, in order."""
    provider = start_provider(keys=KEYS)
    with socket.create_connection(("127.0.0.1", int(provider.base.rpartition(":")[2])), timeout=5) as line:
        line.sendall(b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: line.recv(65_536), b""))
    assert answer.count(b"HTTP/1.1 404") == 2
    assert answer.index(b"GET /a") < answer.index(b"GET /b")
