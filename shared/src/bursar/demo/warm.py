"""Warms up the SDK before the processes of a crew are forked.

The SDK imports much of itself, and works out the types of its parameters, at the first call: about two seconds of CPU,
which each process would otherwise spend when its first requests are due. The calls here go to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import httpx2
import openai


def warm_up() -> None:
    """Make one call of each kind, answered right here."""
    asyncio.run(_calls())


async def _calls() -> None:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(_answer))
    async with openai.AsyncOpenAI(
        base_url="http://nobody/v1", api_key="none", max_retries=0, http_client=http
    ) as client:
        ask: dict[str, Any] = {"model": "none", "messages": [{"role": "user", "content": "x"}], "max_tokens": 16}
        await client.chat.completions.create(**ask, extra_headers={"X-Demo": "1"})
        stream = await client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True})
        async for _ in stream:
            pass
        with contextlib.suppress(openai.RateLimitError):
            await client.chat.completions.create(**ask, extra_headers={"X-Refuse": "1"})


def _answer(request: httpx2.Request) -> httpx2.Response:
    if "x-refuse" in request.headers:
        return httpx2.Response(429, json={"error": {"message": "no", "code": "none"}})
    message = {"role": "assistant", "content": "x"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    choice = {"index": 0, "message": message, "delta": message, "finish_reason": "stop", "logprobs": None}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "none", "choices": [choice], "usage": usage}
    if b'"stream":true' not in request.content.replace(b" ", b""):
        return httpx2.Response(200, json=body)
    events = f"data: {json.dumps(body)}\n\ndata: [DONE]\n\n"
    return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=events.encode())
