"""What a call is thought to use."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bursar.client.estimate import IMAGE, answers_wanted, estimate_input, read_body, stated_output


def chat(*texts: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text} for text in texts], **more}


def test_input_is_a_quarter_of_the_bytes_and_a_little_per_message() -> None:
    """Rounded up; text outside ASCII counts its UTF-8 bytes."""
    assert estimate_input(chat("x" * 401)) == 101 + 4
    assert estimate_input(chat("x" * 400, "y" * 400)) == 200 + 8
    assert estimate_input(chat("語" * 100)) == 75 + 4
    assert estimate_input({"system": "z" * 40, **chat("x" * 40)}) == 20 + 4
    assert estimate_input({"model": "m", "input": "w" * 80}) == 20 + 4
    assert estimate_input({}) == 0


def test_parts_images_and_tools_count() -> None:
    """Text parts as text, images at a flat price, tools with their keys."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    assert estimate_input(chat([{"type": "text", "text": "x" * 40}, picture])) == 14 + IMAGE
    plain = estimate_input(chat("x"))
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
    assert estimate_input(chat("x", tools=[tool])) > plain + 5
    page = {"type": "document", "source": {"data": base64.b64encode(bytes(16_000)).decode()}}
    assert 1_000 < estimate_input(chat([page])) < 2_000


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_the_stated_maximum_is_read_wherever_it_stands(name: str) -> None:
    """The provider does not produce more."""
    assert stated_output(chat("x", **{name: 300})) == 300
    assert stated_output(chat("x", **{name: "300"})) is None
    assert stated_output(chat("x", **{name: -3})) is None
    assert stated_output(chat("x")) is None


def test_several_answers_may_be_wanted() -> None:
    """Embeddings, moderations and token counts have no output."""
    path = "/v1/chat/completions"
    assert answers_wanted(chat("x"), path) == 1
    assert answers_wanted(chat("x", n=3), path) == 3
    assert answers_wanted(chat("x", n="3"), path) == 1
    assert answers_wanted({}, path) == 0
    body = {"model": "m", "input": ["x" * 40, "y" * 40]}
    assert answers_wanted(body, "/v1/embeddings") == 0
    assert estimate_input(body) == 28


@pytest.mark.parametrize("content", [b"", b"--form", b"[1]", b"{broken", b"\x00", b'{"a":' * 50_000])
def test_a_body_that_is_no_json_object_counts_as_one_request(content: bytes) -> None:
    """No tokens are guessed for it."""
    assert read_body(content) == {}
    assert (estimate_input({}), answers_wanted({}, "/v1/audio")) == (0, 0)


def test_deep_nesting_does_not_break_the_guess() -> None:
    """Total for whatever JSON gives."""
    value: Any = "x"
    for _ in range(500):
        value = [value]
    assert estimate_input({"messages": value}) > 0
