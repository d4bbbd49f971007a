"""How much will this call use? A guess from the request's JSON body, made before it is sent.

Input: the UTF-8 bytes of all text in the body (messages, system, prompt; tools as JSON), divided by four and rounded
up, plus 4 tokens per message. English has a little more than four bytes per token and Chinese about three (one
character), so the guess errs on the high side for most text and on the low side for code and numbers; what is over is
settled afterwards. Images count 1,600 tokens each; other binary content a sixteenth of its encoded length.

Output: ``max_tokens`` (or ``max_completion_tokens``, ``max_output_tokens``), times ``n``: the provider will not
produce more. Without one: the largest of the last 64 answers of that model and half as much again, and
`DEFAULT_OUTPUT` until there was one. A body that is not read as JSON counts as one request without tokens.

Pass ``estimate=`` to `bursar.client.http.http_client` to do better.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Final, NamedTuple

DEFAULT_OUTPUT: Final = 1_024
IMAGE: Final = 1_600
PER_MESSAGE: Final = 4
BYTES_PER_TOKEN: Final = 4
BINARY_PER_TOKEN: Final = 16
MAX_DEPTH: Final = 32

_TEXTLESS: Final = frozenset({"type", "role", "id", "tool_call_id", "tool_use_id", "cache_control", "media_type"})
_TEXT_FIELDS: Final = ("messages", "system", "input", "prompt", "instructions")
_JSON_FIELDS: Final = ("tools", "functions", "response_format")
_MAX_FIELDS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_BINARY: Final = frozenset({"document", "file", "input_file", "input_audio"})
_IMAGES: Final = frozenset({"image", "image_url", "input_image"})
_NO_OUTPUT: Final = ("/embeddings", "/moderations", "/count_tokens")


class Estimate(NamedTuple):
    """What one call is thought to use."""

    input_tokens: int
    output_tokens: int
    usd_micros: int = 0


class OutputMemory:
    """The lengths of recent answers by model, for calls that state no maximum."""

    __slots__ = ("_recent",)

    def __init__(self) -> None:
        self._recent: dict[str, deque[int]] = {}

    def learn(self, model: str, output_tokens: int) -> None:
        recent = self._recent.get(model)
        if recent is None:
            if len(self._recent) >= 256:
                del self._recent[next(iter(self._recent))]
            recent = self._recent[model] = deque(maxlen=64)
        recent.append(output_tokens)

    def guess(self, model: str) -> int:
        recent = self._recent.get(model)
        return DEFAULT_OUTPUT if not recent else max(recent) * 3 // 2 + 1


def read_body(content: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; empty when there is none."""
    if content[:1] not in (b"{", b" ", b"\n"):
        return {}
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def estimate_call(body: dict[str, Any], path: str, memory: OutputMemory) -> Estimate:
    """The guess described above; ``path`` is the URL's."""
    return Estimate(estimate_input(body), 0 if path.endswith(_NO_OUTPUT) else estimate_output(body, memory))


def estimate_input(body: dict[str, Any]) -> int:
    size = sum(_bytes_of(body[name], 0) for name in _TEXT_FIELDS if name in body)
    size += sum(len(json.dumps(body[name])) for name in _JSON_FIELDS if name in body)
    messages = body.get("messages") or body.get("input")
    count = len(messages) if isinstance(messages, list) else 1 if messages else 0
    return -(-size // BYTES_PER_TOKEN) + PER_MESSAGE * count


def estimate_output(body: dict[str, Any], memory: OutputMemory) -> int:
    if not body:
        return 0
    limits = [body[name] for name in _MAX_FIELDS if type(body.get(name)) is int]
    answers = body.get("n")
    times = answers if type(answers) is int and answers > 1 else 1
    return times * (limits[0] if limits else memory.guess(str(body.get("model", ""))))


def _bytes_of(value: Any, depth: int) -> int:
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "replace"))
    if depth > MAX_DEPTH:
        return len(json.dumps(value))
    if isinstance(value, list):
        return sum(_bytes_of(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return _bytes_of_map(value, depth)
    return 0 if value is None else 4


def _bytes_of_map(value: dict[str, Any], depth: int) -> int:
    kind = value.get("type")
    if kind in _IMAGES:
        return IMAGE * BYTES_PER_TOKEN
    if kind in _BINARY:
        return len(json.dumps(value)) * BYTES_PER_TOKEN // BINARY_PER_TOKEN
    if kind == "tool_use":
        return len(json.dumps(value))
    return sum(_bytes_of(item, depth + 1) for name, item in value.items() if name not in _TEXTLESS)
