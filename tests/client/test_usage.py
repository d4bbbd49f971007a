"""Usage read from answers, whole and streamed, cut anywhere."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.client.usage import CallUsage, Reader, reader_for

CHAT = {"id": "x", "choices": [], "usage": {"prompt_tokens": 90, "completion_tokens": 12, "total_tokens": 102,
        "prompt_tokens_details": {"cached_tokens": 64}}}  # fmt: skip
MESSAGE_START = {"type": "message_start", "message": {"usage": {"input_tokens": 25, "output_tokens": 1,
                 "cache_creation_input_tokens": 100, "cache_read_input_tokens": 700}}}  # fmt: skip
MESSAGE_DELTA = {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15}}


def read(parts: list[bytes], kind: str, encoding: str = "") -> CallUsage:
    reader: Reader = reader_for(kind, encoding)
    for part in parts:
        reader.feed(part)
    reader.end()
    return reader.usage


def events(*bodies: Any, end: bytes = b"\n\n") -> bytes:
    return b"".join(b"event: e\ndata: " + json.dumps(body).encode() + end for body in bodies) + b"data: [DONE]" + end


def figures(usage: CallUsage) -> tuple[int | None, int | None, int, int]:
    return usage.input_tokens, usage.output_tokens, usage.cache_read, usage.cache_write


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (CHAT["usage"], (90, 12, 64, 0)),
        ({"prompt_tokens": 8, "total_tokens": 8}, (8, 0, 0, 0)),
        ({"input_tokens": 30, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 10}}, (30, 4, 10, 0)),
        ({"input_tokens": 30, "output_tokens": 4, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 9},
         (35, 4, 9, 5)),
        ({"prompt_tokens": "90", "completion_tokens": -1}, (None, 0, 0, 0)),
        ({}, (None, None, 0, 0)),
        ("none", (None, None, 0, 0)),
    ],
)  # fmt: skip
def test_every_shape_of_usage_is_understood(usage: Any, expected: tuple[int | None, int | None, int, int]) -> None:
    """OpenAI counts cached input, Anthropic counts what is written to the cache and not what is read."""
    body = json.dumps({"usage": usage}).encode()
    assert figures(read([body], "application/json; charset=utf-8")) == expected


@given(st.lists(st.integers(1, 400), max_size=8), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]))
def test_a_stream_is_read_however_it_is_cut(cuts: list[int], end: bytes) -> None:
    """Chunks end anywhere, lines end in any way."""
    for bodies, expected in (
        (({"choices": [1], "usage": None}, CHAT), (90, 12, 64, 0)),
        ((MESSAGE_START, {"type": "content_block_delta", "delta": {"text": '"usage"'}}, MESSAGE_DELTA),
         (125, 15, 700, 100)),
        (({"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 6}}},),
         (5, 6, 0, 0)),
    ):  # fmt: skip
        text, parts = events(*bodies, end=end), []
        for cut in cuts:
            parts.append(text[:cut])
            text = text[cut:]
        assert figures(read([*parts, text], "text/event-stream")) == expected


def test_a_stream_that_breaks_off_tells_its_input_only() -> None:
    """The output stated by message_start is not final."""
    assert figures(read([events(MESSAGE_START)], "text/event-stream"))[:2] == (125, None)


def test_compressed_answers_are_read() -> None:
    """gzip is inflated on the side; what cannot be inflated is unknown."""
    packer = zlib.compressobj(wbits=31)
    body = packer.compress(json.dumps(CHAT).encode()) + packer.flush()
    assert figures(read([body[:9], body[9:]], "application/json", "gzip"))[:2] == (90, 12)
    assert figures(read([b"garbage", body], "application/json", "gzip"))[:2] == (None, None)
    assert figures(read([body], "application/json", "br"))[:2] == (None, None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"usage": 3}', b"\xff\xfe", b"[" * 100_000])
def test_answers_that_are_something_else_are_unknown(body: bytes) -> None:
    """Total: nothing raises."""
    assert figures(read([body], "application/json"))[:2] == (None, None)
    assert figures(read([b'data: "usage"' + body + b"\n"], "text/event-stream"))[:2] == (None, None)
    assert figures(read([body], "audio/mpeg"))[:2] == (None, None)
