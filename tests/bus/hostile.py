"""Hostile payloads with names: each must be refused with a typed error, quickly and in little memory."""

from __future__ import annotations

import json

import msgpack  # type: ignore[import-untyped]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


BIG, DEEP = 65_000, 30_000


def hostile() -> dict[str, bytes]:
    """Payloads of at most 1 MB that no message looks like."""
    return {**hostile_msgpack(), **hostile_json()}


def hostile_msgpack() -> dict[str, bytes]:
    big = BIG
    return {
        "array32 of 2^32-1": b"\xdd\xff\xff\xff\xff",
        "map32 of 2^32-1": b"\xdf\xff\xff\xff\xff",
        "map with an array32 of 2^32-1": b"\x81\xa1a\xdd\xff\xff\xff\xff",
        "map with a str32 of 2^32-1": b"\x81\xa1a\xdb\xff\xff\xff\xff",
        "map with an ext32 of 2^32-1": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
        "msgpack nested 100,000 deep": b"\x81\xa1a" * 100_000,
        "msgpack nested to the size limit": (b"\x81\xa1a" * (big // 3)),
        "msgpack nested 1,000 deep": b"\x81\xa1a" * 1000 + b"\x80",
        "msgpack arrays nested 1,000 deep": b"\x81\xa1a" + b"\x91" * 1000 + b"\x90",
        "msgpack arrays nested 500 deep": b"\x81\xa1a" + b"\x91" * 500 + b"\x90",
        "empty maps, 1 MB": b"\x81\xa1a\xdd" + (1_000_000).to_bytes(4, "big") + b"\x80" * 1_000_000,
        "empty maps to the limits": b"\x81\xa1a\xdc\x00\xff" + (b"\xdc\x00\xff" + b"\x80" * 255) * 251,
        "empty arrays to the limits": b"\x81\xa1a\xdc\x00\xff" + (b"\xdc\x00\xff" + b"\x90" * 255) * 251,
        "empty strings to the limits": b"\x81\xa1a\xdc\x00\xff" + (b"\xdc\x00\xff" + b"\xa0" * 255) * 251,
        "floats to the limits": b"\x81\xa1a\xdc\x00\xff" + (b"\xdc\x00\x1c" + (b"\xcb" + b"\x40" * 8) * 28) * 255,
        "maps of nil to the limits": b"\x81\xa1a\xdc\x00\xff"
        + (b"\x8f" + b"".join(b"\xa1%c\xc0" % (97 + n) for n in range(15))) * 255,
        "duplicate keys": b"\xde\xff\xff" + b"\xa1a\x01" * 20_000,
        "duplicate keys, few": b"\x8f" + b"\xa1a\x01" * 15,
        "50,000 extra fields": msgpack.packb({f"f{n}": n for n in range(50_000)}),
        "64 extra fields with long names": msgpack.packb({f"{n}" + "x" * 900: n for n in range(64)}),
        "integer keys": msgpack.packb({n: n for n in range(64)}),
        "ext type": b"\x81\xa1a\xc7\x04\x05abcd",
        "timestamp": b"\x81\xa1a\xd6\xff\x00\x00\x00\x01",
        "NaN": b"\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        "invalid UTF-8": b"\x81\xa1a\xda\x0f\xff" + b"\xff" * 4095,
        "uint64 max": b"\x81\xa1a\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
        "trailing bytes": b"\x80" + b"\x00" * big,
        "subject in the id": msgpack.packb({"id": "a.b>", "budget": "*", "amounts": {}}),
        "line break in the id": msgpack.packb({"id": "a\r\nPUB x 0", "budget": "x", "amounts": {}}),
        "array of wide maps": b"\x81\xa7budgets\xdc\x00\xff"
        + (b"\xde\x00\x40" + b"".join(b"\xa1%c\xc0" % n for n in range(33, 97))) * 255,
    }


def hostile_json() -> dict[str, bytes]:
    big, deep = BIG, DEEP
    return {
        "JSON nested to the size limit": b'{"a":' * (big // 5),
        "JSON nested 100,000 deep": b'{"a":' * 100_000,
        "JSON arrays nested to the size limit": b'{"a":' + b"[" * deep + b"]" * deep + b"}",
        "JSON arrays nested 500 deep": b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
        "JSON empty maps": b'{"a":[' + b"{}," * (big // 3) + b"{}]}",
        "JSON empty arrays": b'{"a":[' + b"[]," * (big // 3) + b"[]]}",
        "JSON short strings": b'{"a":[' + b'"ab",' * (big // 5) + b'"a"]}',
        "JSON floats": b'{"a":[' + b"1.5," * (big // 4) + b"1]}",
        "JSON integer of 60,000 digits": b'{"a":' + b"9" * 60_000 + b"}",
        "JSON integers of 4,000 digits": b'{"a":[' + b",".join([b"9" * 4000] * 16) + b"]}",
        "JSON integers of 20 digits": b'{"a":[' + b",".join([b"9" * 20] * 3000) + b"]}",
        "JSON float with a huge exponent": b'{"a":1e99999999}',
        "JSON float of 60,000 digits": b'{"a":0.' + b"7" * 60_000 + b"}",
        "JSON NaN": b'{"a":NaN}',
        "JSON -Infinity": b'{"a":-Infinity}',
        "JSON duplicate keys": b"{" + b'"a":1,' * 10_000 + b'"a":1}',
        "JSON 50,000 extra fields": _json({f"f{n}": n for n in range(50_000)}),
        "JSON 6,000 extra fields": _json({f"f{n}": n for n in range(6_000)}),
        "JSON invalid UTF-8": b'{"a":"' + b"\xff" * 60_000 + b'"}',
        "JSON lone surrogates": b'{"a":"' + b"\\ud800" * 600 + b'"}',
        "JSON escapes": b'{"a":"' + b"\\u0041" * 10_000 + b'"}',
        "JSON white space": b"{" + b" " * big,
        "JSON unclosed string": b'{"a":"' + b"\\" * big,
        "JSON NUL keys": b'{"a\\u0000b":1}',
        "braces": b"{" * big,
    }
