"""A quarter of a million hostile and damaged payloads: only typed errors, never slow, never long.

Three generators, all from one seed: valid messages with bytes changed, cut, repeated or spliced; random bytes; and
payloads written after the grammar of msgpack and JSON with wrong lengths, types and nesting.
"""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.codec import AGENT_LIMITS, decode, encode
from bursar.contracts.limiter import Redeclare, Reserve, Settle, Status
from bursar.errors import CallerError

INPUTS = 250_000
SEED = 20_261_120
SLOW = 0.050
CODES = {"too_large", "bad_encoding", "bad_shape", "bad_request", "bad_amount"}
MODELS = (Reserve, Settle, Redeclare, Status)

VALID: list[dict[str, Any]] = [
    {"v": 1, "id": "s-1", "budget": "a/b", "amounts": {"requests": 1, "usd_micros": 5}, "wait_ms": 10},
    {"v": 1, "id": "s-2", "acked": 1, "reservation": "1.2.3", "outcome": "used", "usage": {"output_tokens": 9}},
    {"v": 1, "id": "s-3", "budget": "a", "reservation": "1.2.3", "amounts": {}, "granted_at_ms": 5, "ttl_ms": 100},
    {"v": 1, "budget": None, "seen": "1.2.3.0123456789abcdef"},
]
SEEDS = [pack for value in VALID for pack in (msgpack.packb(value), json.dumps(value).encode())]
HEADS = [bytes([n]) for n in range(256)]
WIDE = [b"\xc4", b"\xc5\x00", b"\xc7", b"\xd9", b"\xda\x00", b"\xdc\x00", b"\xde\x00", b"\xdd\x00\x00\x00"]
WORDS = [*"{}[],: ", '"a"', '"v"', '"id"', "1", "-1", "1e9", "NaN", "null", "true", '"\\u', "9" * 30]


def mutated(rng: random.Random) -> bytes:
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1:
                del data[at:]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 4))
            case 3:
                data[at:at] = data[: rng.randint(0, 30)]
            case _:
                other = rng.choice(SEEDS)
                data[at:] = other[rng.randrange(len(other)) :]
    return bytes(data)


def grammatical(rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return ("{" + "".join(rng.choices(WORDS, k=rng.randint(1, 40)))).encode()
    parts = [bytes([0x80 | rng.randrange(16)])]
    for _ in range(rng.randint(1, 30)):
        parts.append(rng.choice(WIDE) + rng.randbytes(1) if rng.random() < 0.2 else rng.choice(HEADS))
        if rng.random() < 0.3:
            parts.append(b"\xa1a" * rng.randint(1, 12))
    if rng.random() < 0.02:
        parts = [b"\x81\xa1a" * rng.randint(5, 3000), *parts]
    return b"".join(parts)


def structured(rng: random.Random, depth: int = 0) -> Any:
    match rng.randrange(9 if depth < 10 else 6):
        case 0:
            return rng.getrandbits(rng.choice([1, 8, 31, 53, 63])) * rng.choice([1, -1])
        case 1:
            return rng.choice([None, True, False, 0.5, float("inf"), float("nan")])
        case 2:
            return rng.choice(["", "s-1", "a/b", "1.2.3", "\x00", "é" * rng.randint(0, 50), "x" * rng.randint(0, 5000)])
        case 3:
            return rng.choice(["used", "v", "id", "*", ">", "a b"])
        case 4 | 5:
            return rng.randint(0, 3)
        case 6:
            return [structured(rng, depth + 1) for _ in range(rng.randint(0, 5))]
        case _:
            keys = ["v", "id", "budget", "amounts", "usage", "reservation", "x", "requests", "seen"]
            return {rng.choice(keys): structured(rng, depth + 1) for _ in range(rng.randint(0, 5))}


def retouched(rng: random.Random) -> bytes:
    """A valid message of a random kind, at times with one field that is not."""
    value = dict(rng.choice(VALID))
    if rng.random() < 0.5:
        value[rng.choice(sorted(value))] = structured(rng, 5)
    return msgpack.packb(value) if rng.random() < 0.5 else json.dumps(value).encode()


def payloads(rng: random.Random, count: int) -> Iterator[bytes]:
    for number in range(count):
        match number % 8:
            case 0:
                yield retouched(rng)
            case 1 | 2:
                yield mutated(rng)
            case 3:
                yield rng.randbytes(rng.randint(0, 200))
            case 4 | 5:
                yield grammatical(rng)
            case 6:
                yield msgpack.packb({"v": 1, "id": structured(rng, 3), "amounts": structured(rng, 1)})
            case _:
                yield json.dumps({"budget": structured(rng, 2), "usage": structured(rng, 1)}).encode()


@pytest.mark.fuzz
@pytest.mark.timeout(180)
def test_no_input_gets_past_the_border_untyped_slow_or_loud() -> None:
    """Whatever the bytes: a valid message that encodes again, or one of five codes with a short text."""
    rng = random.Random(SEED)
    slow: list[tuple[float, bytes]] = []
    outcomes: dict[str, int] = {}
    longest = 0
    gc.freeze()  # other tests' objects make a collection slow; it is not what is measured
    for number, payload in enumerate(payloads(rng, INPUTS)):
        start = perf_counter()
        try:
            message, encoding = decode(MODELS[number % 4], payload)
            again = decode(MODELS[number % 4], encode(message, encoding))[0]
            assert again == message
            outcome = "valid"
        except CallerError as error:
            longest = max(longest, len(str(error)))
            outcome = error.code
        if perf_counter() - start > SLOW:
            slow.append((perf_counter() - start, payload))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    gc.unfreeze()
    assert [payload for took, payload in slow if is_slow(payload)] == []
    assert longest < 400
    assert outcomes.keys() <= CODES | {"valid"}
    assert sum(outcomes.values()) == INPUTS
    assert min(outcomes.get(code, 0) for code in ("valid", "bad_encoding", "bad_shape", "bad_request")) > 500


def is_slow(payload: bytes) -> bool:
    """Slow again on the best of five: not just a busy machine."""
    took = []
    for _ in range(5):
        start = perf_counter()
        for model in MODELS:
            try:
                decode(model, payload, limits=AGENT_LIMITS)
            except CallerError:
                continue
        took.append((perf_counter() - start) / len(MODELS))
    return min(took) > SLOW
