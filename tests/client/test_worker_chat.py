"""Chats: requests made of payloads, answers put together from what the servers of the field send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bursar.client.worker_chat import Answer, ServerError, check, request_of
from bursar.client.worker_task import TaskRefused

HELLO = [{"role": "user", "content": "hello"}]


def test_a_payload_is_a_prompt_or_a_request() -> None:
    """The worker says what model and how it is answered, the payload all else."""
    assert request_of("hello", ("m", "n"), stream=False) == {"model": "m", "messages": HELLO}
    assert request_of({"prompt": "hello", "model": "n"}, ("m", "n"), stream=False) == {"model": "n", "messages": HELLO}
    given = {"messages": HELLO, "max_tokens": 5, "temperature": 0, "stream": False, "n": 9, "stream_options": None}
    body = request_of(given, ("m",), stream=True)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    assert body == {"model": "m", "messages": HELLO, "max_tokens": 5, "temperature": 0} | options


@pytest.mark.parametrize(
    "wrong",
    [None, 7, b"hello", {}, {"messages": []}, {"messages": ["a"]}, {"prompt": 5}, {"prompt": "a", "model": "x"}],
)
def test_what_no_server_would_answer_is_refused_for_good(wrong: Any) -> None:
    """To try it again would be in vain."""
    with pytest.raises(TaskRefused):
        request_of(wrong, ("m",), stream=True)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, TaskRefused) for status in (400, 401, 404, 422)),
        *((status, ServerError) for status in (408, 409, 429, 500, 503)),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, error: type[Exception]) -> None:
    """With the server's own words, in whichever shape it has them."""
    for body in (b'{"error": {"message": "not so"}}', b'{"message": "not so"}', b'{"error": "not so"}', b"not so"):
        with pytest.raises(error, match=f"status {status}: .*not so"):
            check(status, body)
    check(200, b"")


def feed(answer: Answer, *chunks: Any) -> list[bool]:
    return [answer.feed(f"data: {json.dumps(chunk)}") for chunk in chunks]


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"id": "c1", "model": "m-1", "choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def test_a_stream_is_put_together() -> None:
    """Text, end, usage; lines that carry nothing are passed over."""
    answer = Answer("m")
    brought = feed(answer, delta(role="assistant", content=""), delta(content="one "), delta(content="two"))
    assert brought == [False, True, True]
    assert (answer.text, answer.note, answer.pieces, answer.is_whole) == ("one two", "one two", 2, False)
    for line in (": ping", "event: x", "data:", "", "id: 7"):
        assert not answer.feed(line)
    feed(answer, delta("length"))
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    feed(answer, {"id": "c1", "choices": [], "usage": usage | {"prompt_tokens_details": None}})
    answer.feed("data: [DONE]")
    assert answer.is_whole
    assert answer.result() == {
        "text": "one two",
        "finish_reason": "length",
        "model": "m-1",
        "id": "c1",
        "usage": usage,
    }


def test_without_usage_the_chunks_are_counted() -> None:
    """Some local servers do not say; the result tells that it is an estimate. ``[DONE]`` alone is an end as well."""
    answer = Answer("m")
    feed(answer, *(delta(content="w") for _ in range(4)))
    answer.feed("data: [DONE]")
    assert answer.is_whole
    assert answer.result()["usage"] == {"completion_tokens": 4, "is_estimate": True}


def test_calls_of_tools_and_reasoning_come_in_pieces() -> None:
    """As vLLM streams them."""
    answer = Answer("m")
    feed(
        answer,
        delta(reasoning_content="let me "),
        delta(reasoning_content="see"),
        delta(tool_calls=[{"index": 0, "id": "t1", "function": {"name": "look", "arguments": ""}}]),
        delta(tool_calls=[{"index": 1, "id": "t2", "function": {"name": "see", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"at":'}}]),
        delta("tool_calls", tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
    )
    result = answer.result()
    assert result["reasoning"] == "let me see"
    assert [(call["id"], call["function"]) for call in result["tool_calls"]] == [
        ("t1", {"name": "look", "arguments": '{"at":1}'}),
        ("t2", {"name": "see", "arguments": "{}"}),
    ]


def test_a_whole_answer_is_read_too() -> None:
    """For servers that do not stream."""
    answer = Answer("m")
    message = {"role": "assistant", "content": "hello", "tool_calls": None}
    told = {"id": "c2", "choices": [{"message": message, "finish_reason": "stop"}], "usage": {"total_tokens": 4}}
    answer.take_whole(json.dumps(told).encode())
    assert answer.result() == {
        "text": "hello",
        "finish_reason": "stop",
        "model": "m",
        "id": "c2",
        "usage": {"total_tokens": 4},
    }


@pytest.mark.parametrize("wrong", [b"<html>", b"[]", b"{}", b'{"choices": []}'])
def test_what_is_no_answer_is_an_error_of_the_server(wrong: bytes) -> None:
    """Another attempt may get one."""
    with pytest.raises(ServerError):
        Answer("m").take_whole(wrong)


@pytest.mark.parametrize("line", ["data: {", 'data: {"error": {"message": "overloaded"}}', "data: 7"])
def test_an_error_in_a_stream_is_one(line: str) -> None:
    """The status was sent long ago."""
    with pytest.raises(ServerError):
        Answer("m").feed(line)
