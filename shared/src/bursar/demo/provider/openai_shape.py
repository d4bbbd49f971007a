"""OpenAI's chat completions: ``POST /v1/chat/completions``."""

from __future__ import annotations

import time
from typing import Any

from .call import JOB_HEADER, WORD, Call, count_tokens, messages_length, output_length, positive, text_field
from .http import Request
from .quota import Quota
from .settings import Settings
from .shape import duration, packed, remaining

DEFAULT_MAX_TOKENS = 4096
_TYPES = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    404: "invalid_request_error",
    429: "rate_limit_exceeded",
    503: "service_unavailable_error",
}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}


class OpenAIShape:
    overloaded = 503

    def read(self, request: Request, body: dict[str, Any], settings: Settings) -> Call:
        name = "max_completion_tokens" if body.get("max_completion_tokens") is not None else "max_tokens"
        max_tokens = positive(body, name, DEFAULT_MAX_TOKENS)
        options = body.get("stream_options")
        return Call(
            model=text_field(body, "model"),
            input_tokens=count_tokens(messages_length(body)),
            max_tokens=max_tokens,
            output_tokens=output_length(request, settings, max_tokens),
            stream=body.get("stream") is True,
            include_usage=isinstance(options, dict) and options.get("include_usage") is True,
            job=request.headers.get(JOB_HEADER, ""),
        )

    def limits(self, quota: Quota, now: int) -> list[tuple[str, str]]:
        """``tokens`` is whichever of the token limits has the smaller share left."""
        headers: list[tuple[str, str]] = []
        known = {name: remaining(quota, name, now) for name in ("requests", "input_tokens", "output_tokens")}
        tokens = [left for name, left in known.items() if left is not None and name != "requests"]
        tightest = min(tokens, key=lambda left: left[1] / left[0], default=None)
        for name, left in (("requests", known["requests"]), ("tokens", tightest)):
            if left is not None:
                headers.append((f"x-ratelimit-limit-{name}", str(left[0])))
                headers.append((f"x-ratelimit-remaining-{name}", str(left[1])))
                headers.append((f"x-ratelimit-reset-{name}", duration(left[2])))
        return headers

    def answer(self, call: Call, name: str) -> bytes:
        message = {"role": "assistant", "content": WORD * call.output_tokens, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(call)}
        return packed(_envelope(call, name, "chat.completion") | {"choices": [choice], "usage": _usage(call)})

    def opening(self, call: Call, name: str) -> bytes:
        return _chunk(call, name, {"role": "assistant", "content": ""}, None)

    def chunk(self, call: Call, name: str, text: str) -> bytes:
        return _chunk(call, name, {"content": text}, None)

    def ending(self, call: Call, name: str) -> bytes:
        events = _chunk(call, name, {}, _finish(call))
        if call.include_usage:
            usage = {"choices": [], "usage": _usage(call)}
            events += _event(_envelope(call, name, "chat.completion.chunk") | usage)
        return events + b"data: [DONE]\n\n"

    def error(self, status: int, text: str) -> bytes:
        kind = _TYPES.get(status, "server_error")
        return packed({"error": {"message": text, "type": kind, "param": None, "code": _CODES.get(status)}})


def _finish(call: Call) -> str:
    return "length" if call.cut_short else "stop"


def _usage(call: Call) -> dict[str, int]:
    return {
        "prompt_tokens": call.input_tokens,
        "completion_tokens": call.output_tokens,
        "total_tokens": call.input_tokens + call.output_tokens,
    }


def _envelope(call: Call, name: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{name}", "object": kind, "created": int(time.time()), "model": call.model}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + packed(value) + b"\n\n"


def _chunk(call: Call, name: str, delta: dict[str, str], finish: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _event(_envelope(call, name, "chat.completion.chunk") | {"choices": [choice]})
