"""Calls of the provider, as both fleets make them: one caller in five with the official OpenAI SDK (one in twenty
streams), the others with the SDK's HTTP client and its retry rule alone (`bursar.demo.plain`).

In the call itself the one difference between the arms is the HTTP client: the unmanaged arm has the one that the SDK
makes for itself, the managed arm has Bursar's, and leaves retries to the scheduler.
"""

from __future__ import annotations

from typing import Any, Final

import httpx2
import openai

from bursar.demo.plain import RefusedError, chat
from bursar.demo.plan import Job

MODEL: Final = "demo-model"
SDK_USERS: Final = 5
"""One agent in so many uses the SDK."""
STREAMS: Final = 20
"""One agent in so many streams its answers."""
TIMEOUT_S: Final = 240.0
LIMITS: Final = httpx2.Limits(max_connections=None, max_keepalive_connections=32)
"""Of both clients: each request looks at every idle connection, which costs more than the request when there are a
hundred."""
TLS = httpx2.create_ssl_context()
"""One for all clients: it is not used here, but every client would make its own, at 10 ms each."""


class BrokenStreamError(Exception):
    """A streamed answer ended too early, every time."""


CALL_ERRORS: Final = (openai.APIError, httpx2.TransportError, RefusedError, BrokenStreamError)
"""What a call may raise that the provider, or the way to it, is the cause of."""


class Caller:
    """Calls with one HTTP client. ``retries``: of the SDK's rule."""

    def __init__(self, http: httpx2.AsyncClient, base_url: str, api_key: str, retries: int) -> None:
        self._http, self._url, self._retries = http, f"{base_url}/chat/completions", retries
        self._plain_headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url, api_key=api_key, max_retries=retries, timeout=TIMEOUT_S, http_client=http
        )

    async def close(self) -> None:
        await self._sdk.close()

    async def call(self, number: int, job: Job, agent: int) -> None:
        """Make the request of a job. Raises one of `CALL_ERRORS`, or what Bursar's client raises."""
        body: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "word" * job.input_tokens}],
            "max_tokens": job.max_tokens,
        }
        headers = {"X-Demo-Output-Tokens": str(job.output_tokens), "Idempotency-Key": f"job-{number}"}
        if agent % SDK_USERS:
            await chat(self._http, self._url, headers | self._plain_headers, body, self._retries)
        elif agent % STREAMS:
            await self._sdk.chat.completions.create(**body, extra_headers=headers)
        else:
            await self._stream(body, headers)

    async def _stream(self, body: dict[str, Any], headers: dict[str, str]) -> None:
        """No SDK can know that a stream broke off: it is asked for again, as often as the SDK would."""
        for _ in range(1 + self._retries):
            if await _read_stream(self._sdk, body, headers):
                return
        raise BrokenStreamError("every stream broke off")


async def _read_stream(sdk: openai.AsyncOpenAI, body: dict[str, Any], headers: dict[str, str]) -> bool:
    """Read a streamed answer; whether it came to its end."""
    options: Any = {"stream": True, "stream_options": {"include_usage": True}, "extra_headers": headers}
    stream = await sdk.chat.completions.create(**body, **options)
    finished = False
    try:
        async for chunk in stream:
            finished = finished or any(choice.finish_reason for choice in chunk.choices)
    except (openai.APIConnectionError, httpx2.TransportError):
        return False
    return finished


def in_a_word(error: BaseException) -> str:
    """An error, short, for the notes."""
    if isinstance(error, openai.APIStatusError):
        return f"status {error.status_code}"
    return str(error) if isinstance(error, RefusedError) else type(error).__name__
