"""What the codec accepts, refuses, and says."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.codec import (
    AGENT_LIMITS,
    JSON,
    MSGPACK,
    OPERATOR_LIMITS,
    Limits,
    decode,
    decode_error,
    decode_reply,
    decode_value,
    encode,
    encode_error,
)
from bursar.contracts.limiter import DIMENSIONS, Amounts, BudgetStatus, Reload, Reserve, StatusReply
from bursar.errors import BursarError, CallerError, ServiceError

REQUEST: dict[str, Any] = {
    "v": 1,
    "id": "s1-7",
    "acked": 6,
    "budget": "openai/gpt-4o",
    "amounts": {"requests": 1, "input_tokens": 900},
    "wait_ms": 1000,
}


def refused(payload: bytes, limits: Limits = AGENT_LIMITS) -> str:
    with pytest.raises(CallerError) as caught:
        decode_value(payload, limits)
    with pytest.raises(CallerError) as from_model:
        decode(Reserve, payload, limits=limits)
    assert from_model.value.code == caught.value.code
    return caught.value.code


def test_msgpack_and_json_give_the_same_message() -> None:
    """The encoding is told apart by the first byte and reported, so that the answer is in kind."""
    packed, how_packed = decode(Reserve, msgpack.packb(REQUEST))
    told, how_told = decode(Reserve, json.dumps(REQUEST).encode())
    assert packed == told
    assert (how_packed, how_told) == (MSGPACK, JSON)


@pytest.mark.parametrize("encoding", [MSGPACK, JSON])
def test_messages_survive_the_round_trip(encoding: Any) -> None:
    """encode and decode are inverse, nested models included."""
    message = Reserve(id="a-1", budget="x", amounts=Amounts(input_tokens=2**53 - 1))
    assert decode(Reserve, encode(message, encoding)) == (message, encoding)


def test_other_encoders_choices_are_accepted() -> None:
    """An encoder may use longer forms than ours (map16, int64, str8): the same message comes out."""
    longer = b"\xde\x00\x03" + b"\xd9\x02id" + b"\xa3s-1" + b"\xa6budget\xa1x" + b"\xa7amounts\xde\x00\x01"
    longer += b"\xa8requests\xd3" + (1).to_bytes(8, "big")
    assert decode(Reserve, longer)[0] == Reserve(id="s-1", budget="x", amounts=Amounts())


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\x01\x02\x03", b"[1]", b"hello", b"\x01", b"\xef\xbb\xbf{}"])
def test_whatever_is_not_one_map_is_bad_encoding(payload: bytes) -> None:
    """A message is one msgpack map or one JSON object."""
    assert refused(payload) == "bad_encoding"


@pytest.mark.parametrize(
    "payload",
    [
        msgpack.packb(REQUEST) + b"\x00",
        msgpack.packb(REQUEST)[:-1],
        b"\x81\xa1a\xa2\xff\xfe",
        b'{"a": "\xff\xfe"}',
        b'{"a": 1} {"b": 2}',
        b'{"a": 1',
        b'{"a": "\\ud800"}',
        "{}".encode("utf-16-le"),
    ],
)
def test_broken_bytes_are_bad_encoding(payload: bytes) -> None:
    """Trailing bytes, cut values and text that is not UTF-8 are refused."""
    assert refused(payload) == "bad_encoding"


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize("pack", [msgpack.packb, lambda value: json.dumps(value).encode()])
def test_nesting_is_allowed_to_the_limit_and_refused_beyond(pack: Any) -> None:
    """Depth 8 passes, 9 does not; arrays count as maps do."""
    assert decode_value(pack(nested(8)))[0] == nested(8)
    assert refused(pack(nested(9))) == "bad_shape"
    assert refused(pack({"a": [[[[[[[[1]]]]]]]]})) == "bad_shape"


@pytest.mark.parametrize("pack", [msgpack.packb, lambda value: json.dumps(value).encode()])
@pytest.mark.parametrize(
    "value",
    [
        {"a": list(range(257))},
        {str(n): n for n in range(65)},
        {"a": "x" * 4097},
        {"x" * 4097: 1},
        {"a": [{}] * 200, "b": [[{}, {}, {}, {}]] * 220},
        {"a": math.nan},
        {"a": [{"b": math.inf}]},
        {"a": 2**63},
    ],
    ids=["array", "map", "string", "key", "containers", "nan", "inf", "integer"],
)
def test_what_goes_beyond_a_limit_is_bad_shape(pack: Any, value: Any) -> None:
    """Lengths, counts and number types are bounded whatever the encoding."""
    assert refused(pack(value)) == "bad_shape"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x81\xa1a\xc5\x10\x01" + b"x" * 4097,
        msgpack.packb({"a": msgpack.ExtType(1, b"x")}),
        msgpack.packb({"a": msgpack.Timestamp(1, 2)}),
        b"\x81\xa1a\xc7\x00\x01",
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\x82\xa1a\x01\xa1a\x01",
        b"\x81\xa1b\x82\xa1a\x01\xa1a\x02",
        b'{"a": 1, "a": 1}',
        b'{"b": [{"a": 1, "a": 2}]}',
        b'{"a": 1e999}',
        b'{"a": ' + b"9" * 4000 + b"}",
    ],
)
def test_shapes_that_no_message_has_are_bad_shape(payload: bytes) -> None:
    """Extension types, keys that are no strings, keys that come twice, numbers that are none."""
    assert refused(payload) == "bad_shape"


def test_a_key_that_comes_twice_is_found_in_every_map() -> None:
    """Also where the double key would give a valid message: the last value must not silently win."""
    whole = msgpack.packb(REQUEST)
    doubled = b"\x87" + whole[1:] + b"\xa2id\xa4s1-8"
    assert refused(doubled) == "bad_shape"
    inner = msgpack.packb(REQUEST["amounts"])
    assert whole.count(inner) == 1
    twice = whole.replace(inner, b"\x83" + inner[1:] + b"\xa8requests\x01")
    assert refused(twice) == "bad_shape"


def test_size_is_looked_at_first() -> None:
    """A payload beyond the limit is not read at all."""
    assert refused(b"\xc1" * 65_537) == "too_large"
    assert refused(b"{" * 65_537) == "too_large"


def test_operators_may_send_more() -> None:
    """A new set of budgets is larger than anything an agent may send."""
    limits = {name: {"limit": 10, "window_ms": 1000, "charge": "admission"} for name in DIMENSIONS}
    budgets = [{"name": f"team-{n}/some-long-name-of-a-budget", "limits": limits, "burst_permille": 50,
                "utilisation_permille": 900, "jitter_ms": 500, "send_within_ms": 300, "max_waiting": 10_000}
               for n in range(256)]  # fmt: skip
    payload = json.dumps({"id": "r-1", "budgets": budgets}).encode()
    assert refused(payload) == "too_large"
    assert len(decode(Reload, payload, limits=OPERATOR_LIMITS)[0].budgets) == 256
    packed = msgpack.packb({"id": "r-1", "budgets": budgets})
    assert len(decode(Reload, packed, limits=OPERATOR_LIMITS)[0].budgets) == 256


def test_arrays_fill_tuple_fields_in_both_encodings() -> None:
    """`nats req` with JSON can do whatever msgpack can."""
    body = {"id": "r-1", "budgets": [{"name": "x", "limits": {"requests": {"limit": 1, "window_ms": 0}}}]}
    told = decode(Reload, json.dumps(body).encode(), limits=OPERATOR_LIMITS)[0]
    assert told == decode(Reload, msgpack.packb(body), limits=OPERATOR_LIMITS)[0]


def test_arrays_fill_list_fields_too() -> None:
    """A reply with lists can be read back from either encoding."""
    reply = StatusReply(now_ms=1, recovering=False, fence="1.1.1.0123456789abcdef", budgets=[
        BudgetStatus(name="x", dimensions={}, reservations=0, waiting=0, granted=1, refused=0)])  # fmt: skip
    assert decode_reply(StatusReply, encode(reply)) == decode_reply(StatusReply, encode(reply, JSON)) == reply


@pytest.mark.parametrize(
    "change",
    [
        {"acked": True},
        {"acked": "6"},
        {"acked": 6.0},
        {"acked": -1},
        {"acked": 2**53},
        {"agent": "somebody-else"},
        {"id": "*"},
        {"id": "a.b"},
        {"id": "a\nb"},
        {"budget": "a b"},
        {"v": 2},
        {"amounts": None},
        {"amounts": {"requests": 1, "surprise": 2}},
    ],
)
@pytest.mark.parametrize("pack", [msgpack.packb, lambda value: json.dumps(value).encode()])
def test_the_model_is_strict(pack: Any, change: dict[str, Any]) -> None:
    """No conversions, no unknown fields, no identity in the payload."""
    with pytest.raises(CallerError) as caught:
        decode(Reserve, pack(REQUEST | change))
    assert caught.value.code == "bad_request"


def test_an_error_names_three_places_and_no_value() -> None:
    """Nothing that the caller wrote comes back but short field paths."""
    wrong = {f"{'secret-' * 20}\n{n}": "top-secret-value" for n in range(40)}
    with pytest.raises(CallerError) as caught:
        decode(Reserve, msgpack.packb(wrong))
    error = caught.value
    assert error.facts["errors"] == 43
    assert error.text.count("(") == 4
    assert "value" not in error.text
    assert "\n" not in error.text
    assert len(error.text) <= 300
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize("encoding", [MSGPACK, JSON])
def test_errors_survive_the_wire(encoding: Any) -> None:
    """Code, text, facts and blame arrive as they were sent; the headers alone suffice for the code."""
    payload, headers = encode_error(CallerError("id_reused", "that id\r\nhad other content", id="s-1"), encoding)
    assert headers["Nats-Service-Error-Code"] == "409"
    assert headers["Nats-Service-Error"] == "id_reused: that id  had other content"
    back = decode_error(headers, payload)
    assert isinstance(back, CallerError)
    assert (back.code, back.facts, back.blame) == ("id_reused", {"id": "s-1"}, "caller")
    alone = decode_error(headers, b"")
    assert alone is not None
    assert alone.code == "id_reused"


def test_a_reply_is_the_message_or_the_services_error() -> None:
    """decode_reply raises what the service said; an answer that cannot be read is the service's fault."""
    assert decode_reply(Amounts, encode(Amounts(requests=3))).requests == 3
    payload, headers = encode_error(ServiceError("not_ready", "starting"))
    with pytest.raises(ServiceError) as told:
        decode_reply(Amounts, payload, headers)
    assert told.value.code == "not_ready"
    with pytest.raises(ServiceError) as broken:
        decode_reply(Amounts, b"\xc1")
    assert broken.value.code == "bad_reply"


@pytest.mark.parametrize("number", ["", "x", "9" * 5000, "-1", "²"])
def test_a_strange_error_header_is_still_an_error(number: str) -> None:
    """Whatever another service puts into the header, the client gets a typed error."""
    error = decode_error({"Nats-Service-Error-Code": number, "Nats-Service-Error": "odd"}, b"\xc1")
    assert isinstance(error, BursarError)
