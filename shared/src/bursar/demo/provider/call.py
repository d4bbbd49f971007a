"""One chat call as the judge sees it, whichever API it came by, and how long its answer takes."""

from __future__ import annotations

import math
import random
import zlib
from dataclasses import dataclass
from typing import Any

from .http import Request
from .settings import Settings

CHARACTERS_PER_TOKEN = 4
OUTPUT_HEADER = "x-demo-output-tokens"
JOB_HEADER = "idempotency-key"
WORD = "word"
"""One token of every answer."""


class BadCallError(Exception):
    """The body is not a call of this API; the text says what is wrong, for the caller."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was understood. Tokens are counts; ``output_tokens`` is what the answer will have."""

    model: str
    input_tokens: int
    max_tokens: int
    output_tokens: int
    stream: bool
    include_usage: bool
    job: str

    @property
    def cut_short(self) -> bool:
        return self.output_tokens == self.max_tokens


@dataclass(frozen=True, slots=True)
class Pace:
    """Latency of one answer, in seconds: to the first token, and for each token after it."""

    first: float
    each: float


def count_tokens(characters: int) -> int:
    """The published rule: one token per four characters, rounded up, and never none."""
    return max(1, -(-characters // CHARACTERS_PER_TOKEN))


def text_length(content: Any) -> int:
    """Characters in a message's content: a string, or a list of parts of which the text counts.

    Raises:
        BadCallError: it is neither.
    """
    if isinstance(content, str):
        return len(content)
    if content is None:
        return 0
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise BadCallError("content must be a string or a list of parts")
    return sum(len(part.get("text", "")) for part in content if isinstance(part.get("text", ""), str))


def messages_length(body: dict[str, Any]) -> int:
    """Characters in all messages of the body.

    Raises:
        BadCallError: there are none, or they are not messages.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadCallError("messages must be a list with at least one message")
    if not all(isinstance(message, dict) and "role" in message for message in messages):
        raise BadCallError("every message must have a role and content")
    return sum(text_length(message.get("content")) for message in messages)


def positive(body: dict[str, Any], name: str, default: int | None) -> int:
    """A whole number above 0 from the body.

    Raises:
        BadCallError: it is missing and there is no default, or it is something else.
    """
    value = body.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadCallError(f"{name} must be a whole number above 0")
    return value


def text_field(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadCallError(f"{name} must be a string")
    return value


def output_length(request: Request, settings: Settings, max_tokens: int) -> int:
    """How many tokens the model has to say: as the header asks, else a seeded draw; never more than ``max_tokens``.

    Raises:
        BadCallError: the header is not a whole number.
    """
    wanted = request.headers.get(OUTPUT_HEADER)
    if wanted is None:
        uniform = random.Random(zlib.crc32(request.body, settings.seed)).random()
        return min(max_tokens, 1 + int(-settings.mean_output * math.log(1.0 - uniform)))
    if not (wanted.isascii() and wanted.isdigit()):
        raise BadCallError(f"{OUTPUT_HEADER} must be a whole number")
    return min(max_tokens, max(1, int(wanted[:9])))


def pace_of(call: Call, settings: Settings) -> Pace:
    """The same job is answered at the same pace on every key, so that arms can be compared."""
    name = (call.job or f"{call.input_tokens}-{call.output_tokens}").encode()
    factor = math.exp(random.Random(zlib.crc32(name, settings.seed)).gauss(0.0, settings.spread))
    unit = factor * settings.scale / 1000
    return Pace(settings.first_token_ms * unit, settings.per_token_ms * unit)
