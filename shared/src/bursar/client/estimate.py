"""How much will this call use? A guess from the request's JSON body, made before it is sent.

Input: the UTF-8 bytes of all text in the body (messages, system, prompt; tools as JSON), divided by four and rounded
up, plus 4 tokens per message. English has a little more than four bytes per token and Chinese about three (one
character), so the guess errs on the high side for most text and on the low side for code and numbers; what is over is
settled afterwards. Images count 1,600 tokens each; other binary content a sixteenth of its encoded length.

Output: `stated_output` reads ``max_tokens`` (or ``max_completion_tokens``, ``max_output_tokens``), which no answer goes
above, and ``n`` are asked for. What to reserve for it says `bursar.client.estimates`, from the answers that came
before. A body that is not read as JSON counts as one request without tokens.

Pass ``estimate=`` to `bursar.client.http.http_client` to do better.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

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


def read_body(content: bytes) -> dict[str, Any]:
    """The JSON object in a request's body; empty when there is none."""
    if content[:1] not in (b"{", b" ", b"\n"):
        return {}
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def estimate_input(body: dict[str, Any]) -> int:
    size = sum(_bytes_of(body[name], 0) for name in _TEXT_FIELDS if name in body)
    size += sum(len(json.dumps(body[name])) for name in _JSON_FIELDS if name in body)
    messages = body.get("messages") or body.get("input")
    count = len(messages) if isinstance(messages, list) else 1 if messages else 0
    return -(-size // BYTES_PER_TOKEN) + PER_MESSAGE * count


def stated_output(body: dict[str, Any]) -> int | None:
    """The largest number of tokens that one answer may have; None when the request does not say."""
    return next((body[name] for name in _MAX_FIELDS if type(body.get(name)) is int and body[name] >= 0), None)


def answers_wanted(body: dict[str, Any], path: str) -> int:
    """How many answers the call brings; none for embeddings and the like, and for what is not read. ``path``: of the
    URL."""
    if not body or path.endswith(_NO_OUTPUT):
        return 0
    wanted = body.get("n")
    return wanted if type(wanted) is int and wanted > 1 else 1


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
