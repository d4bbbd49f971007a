"""A small HTTP/1.1 server on an asyncio protocol: what a JSON and event-stream API needs, and no more.

Keep-alive, request bodies with Content-Length (a chunked body is answered 411, as RFC 9112 allows), answers with a
known length or chunked. One call runs at a time on a connection; what a client pipelines waits in the buffer. Anything
malformed is answered 400 and the connection is closed. It is small because the judge must not become the bottleneck of
what it judges: a call costs server and judge about 0.1 ms of CPU together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

MAX_HEAD = 32 * 1024
MAX_BODY = 8 * 1024 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {529: "Overloaded"}

Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    """One call: header names are in lower case; of a repeated header the last value counts."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


class BadRequestError(Exception):
    """The bytes are not a request that this server takes; ``status`` is the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def parse_head(head: bytes) -> tuple[Request, int]:
    """The request without its body, and the length of that body in bytes.

    Raises:
        BadRequestError: the head is malformed, or its body is chunked or too long.
    """
    try:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, version = first.split(" ")
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadRequestError(400, f"malformed header line {line[:80]!r}")
            headers[name.lower()] = value.strip()
    except ValueError:
        raise BadRequestError(400, "malformed request line") from None
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequestError(505, f"version {version[:20]!r} is not spoken here")
    if "transfer-encoding" in headers:
        raise BadRequestError(411, "send the body with a Content-Length")
    connection = headers.get("connection", "").lower()
    keep_alive = "keep-alive" in connection if version == "HTTP/1.0" else "close" not in connection
    return Request(method, path, headers, b"", keep_alive), _body_length(headers.get("content-length", "0"))


def _body_length(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise BadRequestError(400, f"Content-Length {text[:20]!r} is not a number")
    length = int(text[:20])
    if length > MAX_BODY:
        raise BadRequestError(413, f"the body is longer than {MAX_BODY} bytes")
    return length


class Answer:
    """The way back: either `send` once, or `start`, any number of `event`, and `finish`."""

    __slots__ = ("_connection", "_request", "status")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection, self._request = connection, request
        self.status = 0

    def _head(self, status: int, headers: Headers) -> str:
        self.status = status
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        lines.append("connection: keep-alive" if self._request.keep_alive else "connection: close")
        return "\r\n".join(lines)

    def send(self, status: int, headers: Headers, body: bytes, content_type: str = "application/json") -> None:
        head = f"{self._head(status, headers)}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._connection.write(head.encode("latin-1") + body)

    def start(self, headers: Headers) -> None:
        """Begin an event stream."""
        head = self._head(200, headers)
        head += "\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        self._connection.write(head.encode("latin-1"))

    def event(self, data: bytes) -> None:
        """One or more complete server-sent events."""
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish(self) -> None:
        self._connection.write(b"0\r\n\r\n")


Handler = Callable[[Request, Answer], Awaitable[None]]
Gate = Callable[[Request], bool]


class Connection(asyncio.Protocol):
    """One client. ``gate`` is asked about each call before it is answered; False resets the connection."""

    def __init__(self, handler: Handler, gate: Gate, open_connections: set[Connection]) -> None:
        self._handler, self._gate, self._open = handler, gate, open_connections
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._request: tuple[Request, int] | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own does not derive from it
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._open.discard(self)
        if self._task is not None:
            self._task.cancel()

    def reset(self) -> None:
        """Cut the line at once, as a dying server does."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def close(self) -> None:
        """Close after what is written has gone out."""
        if self._transport is not None:
            self._transport.close()

    @property
    def busy(self) -> bool:
        """A call is being answered now."""
        return self._task is not None

    def write(self, data: bytes) -> None:
        if self._transport is None:
            raise ConnectionResetError("the client has gone")
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._task is None:
            self._next()
        elif self._transport is not None and len(self._buffer) > MAX_HEAD + MAX_BODY:
            self._transport.pause_reading()

    def _next(self) -> None:
        try:
            request = self._read_request()
        except BadRequestError as error:
            self._refuse(error)
            return
        if request is None:
            return
        if self._gate(request):
            self._task = asyncio.get_running_loop().create_task(self._run(request))
        else:
            self.reset()

    def _read_request(self) -> Request | None:
        if self._request is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0 and len(self._buffer) <= MAX_HEAD:
                return None
            if end < 0 or end > MAX_HEAD:
                raise BadRequestError(431, f"the head is longer than {MAX_HEAD} bytes")
            self._request = parse_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
            if self._request[0].headers.get("expect", "").lower() == "100-continue":
                self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        head, length = self._request
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._request = None
        return Request(head.method, head.path, head.headers, body, head.keep_alive)

    def _refuse(self, error: BadRequestError) -> None:
        empty = Request("", "", {}, b"", False)
        Answer(self, empty).send(error.status, (), str(error).encode(), "text/plain; charset=utf-8")
        self.close()

    async def _run(self, request: Request) -> None:
        try:
            await self._handler(request, Answer(self, request))
        except ConnectionResetError:
            return
        except Exception:
            self.reset()
            raise
        finally:
            self._task = None
        if self._transport is None:
            return
        if not request.keep_alive:
            self.close()
            return
        self._transport.resume_reading()
        if self._buffer:
            self._next()
