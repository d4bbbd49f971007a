"""Every hostile payload gets a typed error within 50 ms and 8 MB."""

from __future__ import annotations

import tracemalloc
from time import process_time

import pytest
from pydantic import BaseModel

from bursar.bus.codec import AGENT_LIMITS, OPERATOR_LIMITS, Limits, decode, decode_value, encode_error
from bursar.contracts.limiter import Reload, Reserve
from bursar.errors import CallerError
from tests.bus.hostile import hostile

PAYLOADS = hostile()
SECONDS = 0.050
BYTES = 8 * 1024 * 1024
CODES = {"too_large", "bad_encoding", "bad_shape", "bad_request"}


def refuse(model: type[BaseModel], payload: bytes, limits: Limits) -> CallerError:
    with pytest.raises(CallerError) as caught:
        decode(model, payload, limits=limits)
    return caught.value


@pytest.mark.parametrize("name", PAYLOADS)
@pytest.mark.parametrize(
    ("model", "limits"), [(Reserve, AGENT_LIMITS), (Reload, OPERATOR_LIMITS)], ids=["agent", "operator"]
)
def test_a_hostile_payload_costs_little_and_gets_a_typed_error(
    name: str, model: type[BaseModel], limits: Limits
) -> None:
    """50 ms and 8 MB bound what one message may cost, its error reply included; nothing of it comes back."""
    payload = PAYLOADS[name]
    took = []
    for _ in range(3):  # the machine may be busy: the best of three says what it costs
        start = process_time()
        refuse(model, payload, limits)
        took.append(process_time() - start)
    assert min(took) < SECONDS
    tracemalloc.start()
    try:
        error = refuse(model, payload, limits)
        reply, headers = encode_error(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < BYTES
    assert error.code in CODES
    assert len(reply) < 1024
    assert len(headers["Nats-Service-Error"]) < 400


@pytest.mark.parametrize("name", PAYLOADS)
def test_plain_values_are_read_as_safely(name: str) -> None:
    """Without a model the same limits hold; what passes is a small map of plain values."""
    took = []
    outcome: dict[str, object] | str = {}
    for _ in range(3):
        start = process_time()
        try:
            outcome = decode_value(PAYLOADS[name])[0]
        except CallerError as error:
            outcome = error.code
        took.append(process_time() - start)
    assert min(took) < SECONDS
    assert outcome in CODES if isinstance(outcome, str) else len(outcome) <= AGENT_LIMITS.map
