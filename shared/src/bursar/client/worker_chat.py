"""What servers that speak OpenAI's chat completions say: requests made of payloads, answers put together from chunks.

vLLM, candle-vllm, Ollama, llama.cpp and the large providers agree on the shape and differ in what they leave out. Usage
may be missing; then the chunks that carried text are counted, and the result says that it is an estimate.

No IO here: `bursar.client.worker_openai` does the calling.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from bursar.client.worker_task import TaskRefused

OWN: Final = frozenset({"stream", "stream_options", "n", "prompt", "messages", "model"})
"""What a payload does not decide, or is treated by itself."""

RETRYABLE: Final = frozenset({408, 409, 425, 429})
"""Of the statuses below 500; the others mean that the same request fails again."""

USAGE: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
MAX_NOTE: Final = 200


class ServerError(Exception):
    """The server, or the way to it, has failed; another attempt may be answered."""


def request_of(payload: Any, models: tuple[str, ...], *, stream: bool) -> dict[str, Any]:
    """The body of the request for a task's payload: a text, or a map with ``messages`` or ``prompt`` and whatever else
    the server understands. Raises `TaskRefused`: the same payload would fail again."""
    given = {"prompt": payload} if isinstance(payload, str) else payload
    if not isinstance(given, Mapping):
        raise TaskRefused("the payload is a text, or a map with `messages` or `prompt`")
    messages = given.get("messages")
    if messages is None and isinstance(given.get("prompt"), str):
        messages = [{"role": "user", "content": given["prompt"]}]
    if not isinstance(messages, list) or not messages or not all(isinstance(each, Mapping) for each in messages):
        raise TaskRefused("`messages` is a list of messages; or `prompt` is a text")
    model = given.get("model", models[0])
    if model not in models:
        raise TaskRefused(f"this worker serves {', '.join(models)}, not {model!s:.100}")
    body = {name: value for name, value in given.items() if name not in OWN}
    body |= {"model": model, "messages": messages}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body


def check(status: int, body: bytes) -> None:
    """Raises `TaskRefused` or `ServerError` when the status is no success."""
    if status < 400:
        return
    text = f"status {status}: {_error_in(body)}"
    raise ServerError(text) if status >= 500 or status in RETRYABLE else TaskRefused(text)


def _error_in(body: bytes) -> str:
    try:
        told = json.loads(body)
    except ValueError:
        return body[:200].decode("utf-8", "replace")
    error = told.get("error", told) if isinstance(told, dict) else told
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:300]


class Answer:
    """One answer, whole or chunk by chunk. ``text``: what has come of it. ``is_whole``: it has come to its end."""

    def __init__(self, model: str) -> None:
        self.is_whole = False
        self._id = ""
        self._model = model
        self._parts: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: str | None = None
        self._usage: dict[str, int] | None = None

    @property
    def text(self) -> str:
        return "".join(self._parts)

    @property
    def pieces(self) -> int:
        """Chunks that carried text: about the tokens of the answer."""
        return len(self._parts) + len(self._reasoning)

    @property
    def note(self) -> str:
        """The newest of the text, for the progress of the task."""
        return "".join(self._parts[-MAX_NOTE:])[-MAX_NOTE:]

    def feed(self, line: str) -> bool:
        """One line of the event stream; whether it has brought text. Raises `ServerError` when it tells of one."""
        name, _, data = line.partition(":")
        if name != "data" or not data.strip():
            return False
        if data.strip() == "[DONE]":
            self.is_whole = True
            return False
        try:
            chunk = json.loads(data)
        except ValueError:
            raise ServerError("the answer cannot be read") from None
        if not isinstance(chunk, dict) or chunk.get("error") is not None:
            raise ServerError(_error_in(data.encode()))
        before = self.pieces
        self._take(chunk, "delta")
        return self.pieces > before

    def take_whole(self, body: bytes) -> None:
        """An answer that was not streamed. Raises `ServerError` when it is none."""
        try:
            told = json.loads(body)
        except ValueError:
            raise ServerError("the answer cannot be read") from None
        if not isinstance(told, dict) or not told.get("choices"):
            raise ServerError("the answer has no choices")
        self._take(told, "message")
        self.is_whole = True

    def _take(self, told: dict[str, Any], name: str) -> None:
        self._id = str(told.get("id") or self._id)
        self._model = str(told.get("model") or self._model)
        usage = told.get("usage")
        if isinstance(usage, dict):
            self._usage = {key: usage[key] for key in USAGE if isinstance(usage.get(key), int)}
        for choice in (told.get("choices") or ())[:1]:
            said = choice.get(name) or {}
            if said.get("content"):
                self._parts.append(str(said["content"]))
            if said.get("reasoning_content"):
                self._reasoning.append(str(said["reasoning_content"]))
            for place, call in enumerate(said.get("tool_calls") or ()):
                self._take_call(int(call.get("index", place)), call)
            if choice.get("finish_reason"):
                self._finish = str(choice["finish_reason"])
                self.is_whole = True

    def _take_call(self, index: int, told: dict[str, Any]) -> None:
        call = self._calls.setdefault(index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        call["id"] = told.get("id") or call["id"]
        function = told.get("function") or {}
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""

    def result(self) -> dict[str, Any]:
        """The task's result: ``text``, ``finish_reason``, ``model``, ``id``, ``usage``; and what else there was."""
        result: dict[str, Any] = {
            "text": self.text, "finish_reason": self._finish, "model": self._model, "id": self._id,
            "usage": self._usage or {"completion_tokens": self.pieces, "is_estimate": True},
        }  # fmt: skip
        if self._reasoning:
            result["reasoning"] = "".join(self._reasoning)
        if self._calls:
            result["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return result
