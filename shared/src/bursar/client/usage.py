"""What a call really used, read from the provider's answer while its bytes pass by unchanged.

Shapes understood: OpenAI chat and embeddings (``usage.prompt_tokens``, ``completion_tokens``), OpenAI responses
(``usage.input_tokens``, ``output_tokens``), Anthropic messages (``usage.input_tokens``, ``output_tokens``,
``cache_creation_input_tokens``, ``cache_read_input_tokens``); whole, or as server-sent events: OpenAI's last chunk
(only sent when the caller asks for it by ``stream_options={"include_usage": True}``), ``response.completed``,
Anthropic's ``message_start`` and ``message_delta``.

The prompt is told in three parts: ``fresh`` tokens, those written to a cache, those read from one; which of them count
says the charge model (`bursar.client.charge_model`). ``input_tokens`` is what counts where nothing more is known: at
OpenAI all of the prompt, cached or not; at Anthropic what was not read from the cache.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Final, Protocol

MAX_BODY: Final = 16 * 1024 * 1024
MAX_LINE: Final = 4 * 1024 * 1024
"""Bytes kept of an answer, or of one event; the usage of larger ones is not read."""


class CallUsage:
    """Tokens of one call so far; None: not told. ``fresh``: the prompt without what a cache has read or written."""

    __slots__ = ("cache_read", "cache_write", "fresh", "input_tokens", "output_tokens")

    def __init__(self) -> None:
        self.input_tokens: int | None = None
        self.fresh: int | None = None
        self.output_tokens: int | None = None
        self.cache_read = 0
        self.cache_write = 0

    def __repr__(self) -> str:
        return f"<CallUsage in={self.input_tokens} out={self.output_tokens} cached={self.cache_read}>"

    def take(self, usage: Any, *, is_final: bool = True) -> None:
        """Read a ``usage`` object. Anthropic's first event states an output that is not final."""
        if not isinstance(usage, dict):
            return
        told = _count(usage, "prompt_tokens", "input_tokens")
        written, read = _count(usage, "cache_creation_input_tokens"), _count(usage, "cache_read_input_tokens")
        self.cache_write = written if written is not None else self.cache_write
        self.cache_read = read if read is not None else _cached(usage, self.cache_read)
        if told is not None:
            self.input_tokens = told + (written or 0)
            self.fresh = told if read is not None or written is not None else max(0, told - self.cache_read)
        if is_final:
            output = _count(usage, "completion_tokens", "output_tokens")
            if output is None and "prompt_tokens" in usage:
                output = 0  # embeddings
            self.output_tokens = output if output is not None else self.output_tokens


class Reader(Protocol):
    """Hears an answer's bytes; ``usage`` is complete after `end`."""

    usage: CallUsage

    def feed(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class JsonReader:
    """An answer that is one JSON object."""

    def __init__(self) -> None:
        self.usage = CallUsage()
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_BODY:
            self._parts.append(data)

    def end(self) -> None:
        body = _json(b"".join(self._parts)) if self._size <= MAX_BODY else None
        self._parts.clear()
        if isinstance(body, dict):
            self.usage.take(body.get("usage"))


class EventReader:
    """An answer that is a stream of server-sent events."""

    def __init__(self) -> None:
        self.usage = CallUsage()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        if b"\n" not in data and b"\r" not in data:
            self._rest = b"" if len(self._rest) > MAX_LINE else self._rest + data
            return
        lines = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line)

    def end(self) -> None:
        self._line(self._rest)
        self._rest = b""

    def _line(self, line: bytes) -> None:
        if b'"usage"' not in line or not line.startswith(b"data:"):
            return
        event = _json(line[5:])
        if not isinstance(event, dict):
            return
        for inside, is_final in (("message", False), ("response", True)):
            nested = event.get(inside)
            if isinstance(nested, dict):
                self.usage.take(nested.get("usage"), is_final=is_final)
        self.usage.take(event.get("usage"))


class Inflated:
    """A reader behind gzip or deflate."""

    def __init__(self, reader: Reader) -> None:
        self.usage = reader.usage
        self._reader = reader
        self._inflate: Any = zlib.decompressobj(zlib.MAX_WBITS | 32)

    def feed(self, data: bytes) -> None:
        if self._inflate is None:
            return
        try:
            self._reader.feed(self._inflate.decompress(data, MAX_BODY))
        except zlib.error:
            self._inflate = None

    def end(self) -> None:
        self._reader.end()


class Blind:
    """An answer whose encoding or kind is not understood: its usage stays unknown."""

    def __init__(self) -> None:
        self.usage = CallUsage()

    def feed(self, data: bytes) -> None:
        pass

    def end(self) -> None:
        pass


def reader_for(content_type: str, content_encoding: str) -> Reader:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        reader: Reader = EventReader()
    elif kind == "application/json" or kind.endswith("+json"):
        reader = JsonReader()
    else:
        return Blind()
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return reader
    return Inflated(reader) if encoding in ("gzip", "deflate", "x-gzip") else Blind()


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if type(value) is int and value >= 0:
            return value
    return None


def _cached(usage: dict[str, Any], known: int) -> int:
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = usage.get(name)
        if isinstance(details, dict) and type(details.get("cached_tokens")) is int:
            return int(details["cached_tokens"])
    return known
