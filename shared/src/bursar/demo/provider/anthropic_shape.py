"""Anthropic's messages: ``POST /v1/messages``."""

from __future__ import annotations

from typing import Any

from .call import (
    JOB_HEADER,
    WORD,
    Call,
    count_tokens,
    messages_length,
    output_length,
    positive,
    text_field,
    text_length,
)
from .http import Request
from .quota import Quota
from .settings import Settings
from .shape import moment, packed, remaining

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
    529: "overloaded_error",
}


class AnthropicShape:
    overloaded = 529

    def read(self, request: Request, body: dict[str, Any], settings: Settings) -> Call:
        max_tokens = positive(body, "max_tokens", None)
        return Call(
            model=text_field(body, "model"),
            input_tokens=count_tokens(messages_length(body) + text_length(body.get("system"))),
            max_tokens=max_tokens,
            output_tokens=output_length(request, settings, max_tokens),
            stream=body.get("stream") is True,
            include_usage=True,
            job=request.headers.get(JOB_HEADER, ""),
        )

    def limits(self, quota: Quota, now: int) -> list[tuple[str, str]]:
        """Token counts that are left are rounded to the nearest thousand, as Anthropic does."""
        headers: list[tuple[str, str]] = []
        for dimension in ("requests", "input_tokens", "output_tokens"):
            left = remaining(quota, dimension, now)
            if left is None:
                continue
            count = left[1] if dimension == "requests" else (left[1] + 500) // 1000 * 1000
            prefix = f"anthropic-ratelimit-{dimension.replace('_', '-')}"
            headers.append((f"{prefix}-limit", str(left[0])))
            headers.append((f"{prefix}-remaining", str(count)))
            headers.append((f"{prefix}-reset", moment(left[2])))
        return headers

    def answer(self, call: Call, name: str) -> bytes:
        text = {"type": "text", "text": WORD * call.output_tokens}
        return packed(_message(call, name, [text], _stop(call), call.output_tokens))

    def opening(self, call: Call, name: str) -> bytes:
        start = {"type": "message_start", "message": _message(call, name, [], None, 1)}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return _event(start) + _event(block)

    def chunk(self, call: Call, name: str, text: str) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return _event({"type": "content_block_delta", "index": 0, "delta": delta})

    def ending(self, call: Call, name: str) -> bytes:
        delta = {"stop_reason": _stop(call), "stop_sequence": None}
        last = {"type": "message_delta", "delta": delta, "usage": {"output_tokens": call.output_tokens}}
        return _event({"type": "content_block_stop", "index": 0}) + _event(last) + _event({"type": "message_stop"})

    def error(self, status: int, text: str) -> bytes:
        return packed({"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": text}})


def _stop(call: Call) -> str:
    return "max_tokens" if call.cut_short else "end_turn"


def _message(call: Call, name: str, content: list[Any], stop: str | None, output: int) -> dict[str, Any]:
    usage = {
        "input_tokens": call.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
    }
    return {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": usage,
    }


def _event(value: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (value["type"].encode(), packed(value))
