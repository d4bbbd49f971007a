"""How many bytes a provider call moves over the network, both ways, as HTTP/1.1 would write them: start line, headers,
and the body as it is on the wire (compressed, if it is). What TLS, TCP and retransmissions add is not counted.

What is sent is known beforehand, but for a body that is streamed up without a length, which is counted as it passes.
How large the answer will be is learned, by agent, model and whether it is streamed, as its length in tokens is
(`bursar.client.estimates`, counting bytes in place of tokens).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final

import httpx2

_ASKING: Final = len(b"  HTTP/1.1\r\n\r\n")
_ANSWERING: Final = len(b"HTTP/1.1 200 \r\n\r\n")
"""What both begin with, without method, path and reason, and the empty line after the headers."""


def kind_of(body: dict[str, Any]) -> str:
    """Answers of one kind are about as large: by model, and streamed or not."""
    model = str(body.get("model", ""))
    return f"{model} streamed" if body.get("stream") is True else model


def sent(request: httpx2.Request) -> int:
    """Bytes of a request; of a body that is streamed up without a length none yet."""
    told = request.headers.get("content-length", "")
    body = int(told) if told.isascii() and told.isdigit() else 0
    return _ASKING + len(request.method) + len(request.url.raw_path) + _headers(request.headers.raw) + body


def is_counted(request: httpx2.Request) -> bool:
    """Whether its body has to be counted as it passes."""
    return "transfer-encoding" in request.headers


def head(response: httpx2.Response) -> int:
    """Bytes of an answer before its body."""
    return _ANSWERING + len(response.reason_phrase) + _headers(response.headers.raw)


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in raw)


class Counted(httpx2.AsyncByteStream):
    """A request's body, unchanged, whose bytes are told as they pass."""

    def __init__(self, inner: httpx2.AsyncByteStream, tell: Callable[[int], None]) -> None:
        self._inner = inner
        self._tell = tell

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._tell(len(part))
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
