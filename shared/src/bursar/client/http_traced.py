"""Provider calls as spans, by the semantic conventions for generative AI: the outermost of the httpx2 transports.

A span is told when the answer's body has been read or closed, from the moment at which the request left: the time that
it stood in a line of ours is no part of it (the limiter's own span shows that). What was refused before it was sent is
no call. Names, numbers and codes go into a span; prompts and answers do not, nor anything of their headers.

| attribute | is |
|---|---|
| ``gen_ai.operation.name`` | chat, text_completion, embeddings, generate_content: by the path |
| ``gen_ai.provider.name`` ``gen_ai.system`` | by the host; a server of one's own counts as ``openai`` |
| ``gen_ai.request.model`` ``gen_ai.request.max_tokens`` ``gen_ai.request.stream`` | as the request says |
| ``gen_ai.usage.input_tokens`` ``gen_ai.usage.output_tokens`` | as the answer says; cached ones are counted as input |
| ``gen_ai.usage.cache_read.input_tokens`` | of these, read from a cache |
| ``server.address`` ``server.port`` ``http.response.status_code`` ``error.type`` | |

Made only where a client is made while tracing is on (`traced`); otherwise there is no such transport.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import httpx2

from bursar.client.estimate import read_body
from bursar.client.http_flight import is_leaving
from bursar.client.usage import CallUsage, Reader, reader_for
from bursar.telemetry import traces

OPERATIONS: Final = (
    ("/chat/completions", "chat"),
    ("/messages", "chat"),
    ("/responses", "chat"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
    (":generatecontent", "generate_content"),
    (":streamgeneratecontent", "generate_content"),
)
"""Ends of paths; whatever else is called is no call of a model, and has no span."""

PROVIDERS: Final = (
    ("anthropic.com", "anthropic"),
    ("openai.azure.com", "azure.ai.openai"),
    ("openai.com", "openai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("amazonaws.com", "aws.bedrock"),
    ("mistral.ai", "mistral_ai"),
    ("groq.com", "groq"),
    ("deepseek.com", "deepseek"),
    ("x.ai", "x_ai"),
    ("cohere.com", "cohere"),
    ("perplexity.ai", "perplexity"),
)


def traced(transport: httpx2.AsyncBaseTransport) -> httpx2.AsyncBaseTransport:
    """The transport itself while tracing is off."""
    return transport if traces.tracing is None else TracedTransport(transport)


def traced_sync(transport: httpx2.BaseTransport) -> httpx2.BaseTransport:
    """The same for clients without asyncio."""
    return transport if traces.tracing is None else SyncTracedTransport(transport)


class ProviderCall:
    """One call until its span is told."""

    def __init__(self, request: httpx2.Request, operation: str) -> None:
        body = _body_of(request)
        self.operation = operation
        self.model = str(body.get("model") or _model_in(request.url.path))[:200]
        self.told: dict[str, str | int | bool] = {
            "gen_ai.operation.name": operation, "gen_ai.request.model": self.model, "server.address": request.url.host,
            **dict.fromkeys(("gen_ai.provider.name", "gen_ai.system"), provider_of(request.url)),
        }  # fmt: skip
        if request.url.port is not None:
            self.told["server.port"] = request.url.port
        if type(most := body.get("max_tokens") or body.get("max_completion_tokens")) is int:
            self.told["gen_ai.request.max_tokens"] = most
        if body.get("stream") is True:
            self.told["gen_ai.request.stream"] = True
        self._tracing = traces.tracing
        self._parent = None if self._tracing is None else self._tracing.below(self._tracing.here())
        self._began = traces.now()
        self._sent = 0
        self._error = ""
        self.reader: Reader | None = None

    def leaves(self) -> None:
        """Its first byte goes out, maybe once more."""
        self._sent = traces.now()

    def failed(self, error: BaseException) -> None:
        """There is no answer. What never left was no call."""
        self._error = type(error).__name__
        if self._sent:
            self.end()

    def arrived(self, response: httpx2.Response) -> bool:
        """The head of an answer; False when it is one of ours, and nothing was called."""
        if "bursar" in response.extensions:
            return False
        self.told["http.response.status_code"] = response.status_code
        if response.status_code >= 400:
            self._error = str(response.status_code)
        kind, encoding = response.headers.get("content-type", ""), response.headers.get("content-encoding", "")
        self.reader = reader_for(kind, "" if response.is_closed else encoding)
        return True

    def end(self) -> None:
        """Tell the span, once."""
        tracing, self._tracing = self._tracing, None
        if tracing is None:
            return
        if self.reader is not None:
            self.reader.end()
            self.told |= _used(self.reader.usage)
        name = f"{self.operation} {self.model}".strip()
        span = tracing.span(name, "client", self.told, parent=self._parent, began=self._sent or self._began)
        if self._error:
            tracing.failed(span, self._error)
        span.end()

    def hears(self, other: Callable[[str, Any], Any] | None) -> Callable[[str, Any], Any]:
        """What httpx2 tells of the connection, to this call, too."""

        async def trace(name: str, info: Any) -> None:
            if is_leaving(name, info):
                self.leaves()
            if other is not None:
                await other(name, info)

        return trace

    def hears_sync(self, other: Callable[[str, Any], None] | None) -> Callable[[str, Any], None]:
        """The same without asyncio."""

        def trace(name: str, info: Any) -> None:
            if is_leaving(name, info):
                self.leaves()
            if other is not None:
                other(name, info)

        return trace


class TracedTransport(httpx2.AsyncBaseTransport):
    """Tells of the calls that go through ``inner``."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call = _call_of(request)
        if call is None:
            return await self._inner.handle_async_request(request)
        given = request.extensions
        request.extensions = {**given, "trace": call.hears(given.get("trace"))}
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            request.extensions = given
        if call.arrived(response):
            if response.is_closed:
                _whole(call, response)
            else:
                assert isinstance(response.stream, httpx2.AsyncByteStream)
                response.stream = _Heard(response.stream, call)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class SyncTracedTransport(httpx2.BaseTransport):
    """The same without asyncio."""

    def __init__(self, inner: httpx2.BaseTransport) -> None:
        self._inner = inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        call = _call_of(request)
        if call is None:
            return self._inner.handle_request(request)
        given = request.extensions
        request.extensions = {**given, "trace": call.hears_sync(given.get("trace"))}
        try:
            response = self._inner.handle_request(request)
        except BaseException as error:
            call.failed(error)
            raise
        finally:
            request.extensions = given
        if call.arrived(response):
            if response.is_closed:
                _whole(call, response)
            else:
                assert isinstance(response.stream, httpx2.SyncByteStream)
                response.stream = _SyncHeard(response.stream, call)
        return response

    def close(self) -> None:
        self._inner.close()


class _Heard(httpx2.AsyncByteStream):
    """The answer's body, unchanged."""

    def __init__(self, inner: httpx2.AsyncByteStream, call: ProviderCall) -> None:
        self._inner = inner
        self._call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            if self._call.reader is not None:
                self._call.reader.feed(part)
            yield part
        self._call.end()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._call.end()


class _SyncHeard(httpx2.SyncByteStream):
    """The same without asyncio."""

    def __init__(self, inner: httpx2.SyncByteStream, call: ProviderCall) -> None:
        self._inner = inner
        self._call = call

    def __iter__(self) -> Iterator[bytes]:
        for part in self._inner:
            if self._call.reader is not None:
                self._call.reader.feed(part)
            yield part
        self._call.end()

    def close(self) -> None:
        try:
            self._inner.close()
        finally:
            self._call.end()


def provider_of(url: httpx2.URL) -> str:
    """Who is called, by its well-known name; a server that is not known speaks OpenAI's language, or Anthropic's."""
    host = url.host.lower()
    for end, name in PROVIDERS:
        if host == end or host.endswith(f".{end}"):
            return name
    return "anthropic" if url.path.endswith("/messages") else "openai"


def operation_of(path: str) -> str:
    """What kind of call; "" for what calls no model."""
    path = path.lower().rstrip("/")
    return next((name for end, name in OPERATIONS if path.endswith(end)), "")


def _call_of(request: httpx2.Request) -> ProviderCall | None:
    operation = operation_of(request.url.path)
    return ProviderCall(request, operation) if operation and traces.tracing is not None else None


def _whole(call: ProviderCall, response: httpx2.Response) -> None:
    if call.reader is not None:
        call.reader.feed(response.content)
    call.end()


def _body_of(request: httpx2.Request) -> dict[str, Any]:
    try:
        return read_body(request.content)
    except httpx2.RequestNotRead:
        return {}


def _model_in(path: str) -> str:
    """As in ``/v1beta/models/gemini-2.0-flash:generateContent``."""
    return path.rpartition("/models/")[2].partition(":")[0] if "/models/" in path else ""


def _used(usage: CallUsage) -> dict[str, int]:
    told = {}
    if usage.input_tokens is not None:
        parts = usage.fresh
        total = usage.input_tokens if parts is None else parts + usage.cache_read + usage.cache_write
        told["gen_ai.usage.input_tokens"] = total
        if usage.cache_read:
            told["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read
    if usage.output_tokens is not None:
        told["gen_ai.usage.output_tokens"] = usage.output_tokens
    return told
