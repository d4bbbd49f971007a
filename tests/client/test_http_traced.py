"""Spans of provider calls: what they have by the conventions, when they begin and end, and what is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bursar.client.http_traced import operation_of, provider_of, traced, traced_sync
from bursar.telemetry import traces


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(traces, "tracing", traces.Tracing(provider, is_own=True))
    yield exporter
    provider.shutdown()


def only(told: InMemorySpanExporter) -> ReadableSpan:
    [span] = told.get_finished_spans()
    return span


def has(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


ANTHROPIC = "\n".join(
    f"data: {json.dumps(event)}\n"
    for event in (
        {"type": "message_start", "message": {"usage": {"input_tokens": 10, "cache_read_input_tokens": 90,
         "cache_creation_input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"text": "secret answer"}},
        {"type": "message_delta", "usage": {"output_tokens": 42}},
    )
)  # fmt: skip


async def test_a_streamed_answer_is_one_span_until_its_end(told: InMemorySpanExporter) -> None:
    """Told when the body has been read, with the cached part of the prompt counted and told apart."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Parts(ANTHROPIC.encode()))

    body = {"model": "claude", "max_tokens": 100, "stream": True, "messages": [{"role": "user", "content": "secret"}]}
    async with (
        httpx2.AsyncClient(transport=traced(httpx2.MockTransport(answer))) as http,
        http.stream("POST", "https://api.anthropic.com/v1/messages", json=body) as response,
    ):
        assert told.get_finished_spans() == ()
        read = await response.aread()
    assert read.decode() == ANTHROPIC
    span = only(told)
    assert (span.name, span.kind.name) == ("chat claude", "CLIENT")
    assert has(span) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic", "gen_ai.system": "anthropic",
        "gen_ai.request.model": "claude", "gen_ai.request.max_tokens": 100, "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 105, "gen_ai.usage.cache_read.input_tokens": 90,
        "gen_ai.usage.output_tokens": 42, "server.address": "api.anthropic.com", "http.response.status_code": 200,
    }  # fmt: skip
    assert "secret" not in span.to_json()


class Parts(httpx2.AsyncByteStream):
    """A body in three parts."""

    def __init__(self, body: bytes) -> None:
        third = len(body) // 3
        self._parts = (body[:third], body[third : 2 * third], body[2 * third :])

    async def __aiter__(self) -> Any:
        for part in self._parts:
            yield part


def test_without_asyncio_it_is_the_same(told: InMemorySpanExporter) -> None:
    """An error of the provider fails the span, by its status."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, json={"error": {"message": "slow down"}})

    with httpx2.Client(transport=traced_sync(httpx2.MockTransport(answer))) as http:
        assert http.post("http://127.0.0.1:8000/v1/embeddings", json={"model": "e5"}).status_code == 429
    span = only(told)
    assert span.name == "embeddings e5"
    assert has(span)["error.type"] == "429"
    assert has(span)["server.port"] == 8000
    assert span.status.status_code.name == "ERROR"


async def test_what_is_refused_or_never_leaves_is_no_call(told: InMemorySpanExporter) -> None:
    """A limiter's refusal, a connection that could not be made, and other paths."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "away":
            raise httpx2.ConnectError("nobody there")
        return httpx2.Response(200, json={}, extensions={"bursar": "refused"} if request.url.host == "ours" else {})

    async with httpx2.AsyncClient(transport=traced(httpx2.MockTransport(answer))) as http:
        await http.post("http://ours/v1/chat/completions", json={"model": "m"})
        await http.get("http://else/v1/models")
        with pytest.raises(httpx2.ConnectError):
            await http.post("http://away/v1/chat/completions", json={"model": "m"})
    assert told.get_finished_spans() == ()


def test_while_tracing_is_off_nothing_stands_between() -> None:
    """The transport is the one that was given."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200))
    assert traced(transport) is transport
    assert traced_sync(transport) is transport


@pytest.mark.parametrize(
    ("url", "operation", "provider"),
    [
        ("https://api.openai.com/v1/chat/completions", "chat", "openai"),
        ("https://api.openai.com/v1/responses", "chat", "openai"),
        ("https://eu.openai.azure.com/openai/deployments/d/chat/completions?api-version=1", "chat", "azure.ai.openai"),
        ("http://127.0.0.1:8000/v1/completions", "text_completion", "openai"),
        ("http://127.0.0.1:8000/v1/messages", "chat", "anthropic"),
        ("https://notopenai.com/v1/embeddings/", "embeddings", "openai"),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.0-flash:generateContent",
            "generate_content", "gcp.gemini",
        ),
        ("https://api.openai.com/v1/files", "", "openai"),
    ],
)  # fmt: skip
def test_operation_and_provider_are_told_by_the_address(url: str, operation: str, provider: str) -> None:
    """By the end of the path and of the host's name."""
    assert operation_of(httpx2.URL(url).path) == operation
    assert provider_of(httpx2.URL(url)) == provider
