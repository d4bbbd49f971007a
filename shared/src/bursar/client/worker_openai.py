"""A worker that calls a server which speaks OpenAI's chat completions: a local one, or a provider.

::

    worker = openai_worker(fleet, "http://127.0.0.1:8000/v1", ["llama-3.1-8b"], kind="gpu", circuit="local/vllm")
    await worker.run()

vLLM, candle-vllm, Ollama, llama.cpp's server and remote providers are called alike. A call stands under the limiter's
``budget`` and the breaker's ``circuit``, where they are given: while the circuit is open, or the limiter out of reach,
the task waits in its slot up to ``wait`` seconds, and only then is it a failure. The scheduler tries again; each
attempt has the task's id as its idempotency key.

The payload of a task is a prompt, or a map as for ``/chat/completions``. Answers are streamed: each chunk is progress,
with the newest of the text as its note. The result has the text, the reason of the end and the token usage
(`bursar.client.worker_chat`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from bursar.client.breaker_errors import CircuitOpen
from bursar.client.breaker_http import BreakerTransport
from bursar.client.bulkhead import BulkheadFull
from bursar.client.errors import LimiterUnavailable, NeverFits
from bursar.client.fleet import Fleet
from bursar.client.http_traced import traced
from bursar.client.worker import Worker
from bursar.client.worker_chat import Answer, ServerError, check, request_of
from bursar.client.worker_task import TaskRefused, WorkerTask
from bursar.errors import CallerError

WAIT: Final = 120.0
TTL: Final = 600.0
TIMEOUT: Final = httpx2.Timeout(600.0, connect=5.0)
PAUSE: Final = 0.25
"""Seconds between looks at a circuit that is open, and at a limiter that is away."""


class Server:
    """Where the calls go. ``url``: with or without ``/v1`` at its end. ``budget``, ``circuit``: of the limiter and the
    breaker; "" for none. ``wait``: seconds for both of them. ``ttl``: longer than the longest call, in seconds."""

    def __init__(
        self,
        fleet: Fleet,
        url: str,
        *,
        budget: str = "",
        circuit: str = "",
        api_key: str = "",
        wait: float = WAIT,
        ttl: float = TTL,
    ) -> None:
        self.base = base_of(url)
        self.wait = wait
        self.clock = fleet.limiter.clock
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http = _client(fleet, budget, circuit, wait, ttl, headers)

    async def aclose(self) -> None:
        await self.http.aclose()


async def models_at(url: str, api_key: str = "") -> list[str]:
    """What a server says that it serves. Raises `ServerError`."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    base = base_of(url)
    try:
        async with httpx2.AsyncClient(timeout=10.0, headers=headers) as http:
            answer = await http.get(f"{base}/models")
        return [str(model["id"]) for model in answer.json()["data"]]
    except (httpx2.HTTPError, ValueError, LookupError, TypeError) as error:
        raise ServerError(f"{base}/models: {type(error).__name__}") from None


class Chat:
    """The function of a worker's class of chats: call it with a task."""

    def __init__(self, server: Server, models: Sequence[str], *, stream: bool = True) -> None:
        if not models:
            raise CallerError("bad_request", "a worker for chats serves at least one model")
        self._server = server
        self._models = tuple(models)
        self._stream = stream
        self.measured: Callable[[float], None] | None = None

    async def __call__(self, task: WorkerTask) -> dict[str, Any]:
        body = request_of(task.payload, self._models, stream=self._stream)
        until = self._server.clock.now() + self._server.wait * 1000.0
        async with asyncio.timeout(task.deadline_in):
            while True:
                try:
                    return await self._call(task, body)
                except (CircuitOpen, LimiterUnavailable, BulkheadFull):  # nothing was sent
                    if self._server.clock.now() >= until:
                        raise
                    await asyncio.sleep(PAUSE)
                except NeverFits as error:
                    raise TaskRefused(f"the budget never has room for it: {error.text}") from None
                except httpx2.HTTPError as error:
                    raise ServerError(f"{type(error).__name__}: {error}") from None

    async def _call(self, task: WorkerTask, body: dict[str, Any]) -> dict[str, Any]:
        answer = Answer(body["model"])
        headers = {"Content-Type": "application/json", "Idempotency-Key": task.id}
        sending = self._server.http.stream(
            "POST", f"{self._server.base}/chat/completions", content=json.dumps(body).encode(), headers=headers
        )
        began = self._server.clock.now()
        async with sending as response:
            if self.measured is not None and response.status_code < 400:
                self.measured((self._server.clock.now() - began) / 1000.0)
            if response.status_code >= 400 or "event-stream" not in response.headers.get("content-type", ""):
                whole = await response.aread()
                check(response.status_code, whole)
                answer.take_whole(whole)
            else:
                await _read(response, answer, task, body.get("max_tokens") or body.get("max_completion_tokens"))
        if not answer.is_whole:
            raise ServerError("the answer broke off")
        return answer.result()


async def _read(response: httpx2.Response, answer: Answer, task: WorkerTask, most: Any) -> None:
    """The stream to its end, each chunk as progress."""
    async for line in response.aiter_lines():
        if answer.feed(line):
            part = min(0.99, answer.pieces / most) if isinstance(most, int) and most > 0 else None
            task.report(part, answer.note)


def openai_worker(
    fleet: Fleet,
    url: str,
    models: Sequence[str],
    *,
    task_class: str = "chat",
    budget: str = "",
    circuit: str = "",
    api_key: str = "",
    wait: float = WAIT,
    stream: bool = True,
    **worker: Any,
) -> Worker:
    """A worker whose tasks are chats with the server at ``url``. ``models``: what may be asked for; the first one is
    asked when a task names none. All else goes to `Worker`; its ``kind`` is remote unless it is given (gpu for a server
    on this machine). With one model the label ``model`` names it, so that tasks can need it."""
    server = Server(fleet, url, budget=budget, circuit=circuit, api_key=api_key, wait=wait)
    labels = {**({"model": models[0][:63]} if len(models) == 1 else {}), **worker.pop("labels", {})}
    made = Worker(fleet, **{"kind": "remote", "slots": 8, "models": list(models), **worker, "labels": labels})
    chat = Chat(server, models, stream=stream)
    chat.measured = made.measured
    made.task(task_class)(chat)
    made.at_end(server.aclose)
    return made


def base_of(url: str) -> str:
    """The address that paths are added to. Raises `CallerError` for what is no address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.query or parts.fragment:
        raise CallerError("bad_request", "the server's address is like http://127.0.0.1:8000/v1")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def _client(
    fleet: Fleet, budget: str, circuit: str, wait: float, ttl: float, headers: dict[str, str]
) -> httpx2.AsyncClient:
    """Under limiter and breaker, under one of them, or under none."""
    if budget:
        return fleet.http_client(
            budget, breaker=circuit or None, on_refused="raise", wait=wait, ttl=ttl, headers=headers
        )
    inner: httpx2.AsyncBaseTransport = httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=None))
    if circuit:
        inner = BreakerTransport(fleet.breaker, circuit, inner, "raise")
    return httpx2.AsyncClient(transport=traced(inner), timeout=TIMEOUT, headers=headers)
