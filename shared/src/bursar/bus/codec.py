"""Bytes to messages and back, safe against whatever an agent may send.

A payload is one msgpack map, or one JSON object (its first byte is ``{``, which no msgpack map has), and is answered
in kind. Limits on size, lengths, key counts, depth and number types are enforced before a model sees anything, and
every violation is a typed error: `too_large`, `bad_encoding`, `bad_shape` or, from the model, `bad_request`. An error
names at most three field paths; it never holds the payload or a printed value.

The hot path is one strict ``unpackb``, one packing and one validation. A payload that equals the packing of what was
read from it cannot hold a key twice (the packing has each key once), so that this comparison, all in C, replaces a
Python hook per map. Whatever differs or fails is looked at again by the careful path, which decides what is wrong.

Why a limit on the number of containers: 64 KB of empty maps are 65,000 objects, and a hook call for each takes longer
than the 50 ms that one message may cost.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import msgpack  # type: ignore[import-untyped]
from msgpack.exceptions import ExtraData, FormatError, StackError  # type: ignore[import-untyped]
from pydantic import BaseModel, ValidationError

from bursar.errors import BursarError, CallerError, ServiceError, make_error

Encoding = Literal["msgpack", "json"]
MSGPACK: Encoding = "msgpack"
JSON: Encoding = "json"

ERROR_CODE_HEADER = "Nats-Service-Error-Code"
ERROR_HEADER = "Nats-Service-Error"

BORDER_CODES = frozenset({"too_large", "bad_encoding", "bad_shape", "bad_request", "bad_amount"})
"""Codes that only a broken or hostile caller can cause; counted per principal."""

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True, eq=False)  # compared by identity: cheap to look up
class Limits:
    """Bounds of one message: bytes; items of an array; keys of a map; bytes of a string or binary; nesting (the
    message itself is level 1); arrays and maps altogether."""

    size: int = 65_536
    array: int = 256
    map: int = 64
    text: int = 4_096
    depth: int = 8
    containers: int = 1_024


AGENT_LIMITS = Limits()
"""What anybody may send."""
OPERATOR_LIMITS = Limits(size=524_288, array=1_024, map=256, containers=16_384)
"""Administration, such as a new set of budgets; behind the permissions of operators."""
REPLY_LIMITS = Limits(size=1_048_576, array=65_536, map=8_192, text=65_536, depth=16, containers=131_072)
"""What a client accepts from a service."""

_MAX_INT = 2**63
_pack = msgpack.Packer().pack  # only given plain values, so that no Python code runs inside and threads may share it


def encoding_of(payload: bytes) -> Encoding:
    return JSON if payload[:1] == b"{" else MSGPACK


def decode(model: type[M], payload: bytes, *, limits: Limits = AGENT_LIMITS) -> tuple[M, Encoding]:
    """The message in ``payload`` and how it was encoded.

    Raises `CallerError` with the code ``too_large``, ``bad_encoding``, ``bad_shape``, ``bad_request``, or of the
    latter ``bad_amount``: an amount below zero, or too large for the wire.
    """
    validate, options = _plan(model, limits)
    if len(payload) <= limits.size and payload[:1] != b"{":
        try:
            value = msgpack.unpackb(payload, **options)
            if type(value) is dict and _pack(value) == payload:
                return validate(value), MSGPACK
        except (ValueError, TypeError, RecursionError, OverflowError):  # ValidationError is a ValueError
            pass
    plain, encoding = _careful(payload, limits)
    if not options["use_list"]:
        plain = msgpack.unpackb(_pack(plain), use_list=False)
    try:
        return validate(plain), encoding
    except ValidationError as error:
        raise _bad_request(error) from None


def decode_value(payload: bytes, limits: Limits = AGENT_LIMITS) -> tuple[dict[str, Any], Encoding]:
    """The plain map in ``payload`` (arrays are lists); raises as `decode`."""
    return _careful(payload, limits)


def encode(value: Any, encoding: Encoding = MSGPACK) -> bytes:
    """Bytes of a message or of plain values. Models become maps of all their fields."""
    if encoding == JSON:
        return json.dumps(
            value, default=_plain_json, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        ).encode()
    return msgpack.packb(value, default=_plain)  # type: ignore[no-any-return]


def encode_error(error: BursarError, encoding: Encoding = MSGPACK) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an error reply: the one place where an error becomes bytes."""
    body = {"v": 1, "error": {"code": error.code, "text": error.text, "facts": error.facts}}
    line = f"{error.code}: {error.text}".translate(_ONE_LINE)
    return encode(body, encoding), {ERROR_CODE_HEADER: str(error.status), ERROR_HEADER: line}


def decode_error(headers: Mapping[str, str] | None, payload: bytes) -> BursarError | None:
    """The error in a reply, or None when the reply is not an error."""
    if not headers or ERROR_CODE_HEADER not in headers:
        return None
    number = headers[ERROR_CODE_HEADER]
    status = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 500
    try:
        told = decode_value(payload, REPLY_LIMITS)[0]["error"]
        code, text, facts = told["code"], told["text"], told["facts"]
        if isinstance(code, str) and isinstance(text, str) and isinstance(facts, dict):
            return make_error(code[:64], text, facts, status)
    except (BursarError, LookupError, TypeError):
        pass
    code, _, text = headers.get(ERROR_HEADER, "").partition(": ")
    return make_error(code[:64] or "internal", text or "the service reported an error", None, status)


def decode_reply(model: type[M], payload: bytes, headers: Mapping[str, str] | None = None) -> M:
    """A service's answer as ``model``. Raises the service's own error, or `ServiceError` ``bad_reply``."""
    if headers and (error := decode_error(headers, payload)) is not None:
        raise error
    try:
        return decode(model, payload, limits=REPLY_LIMITS)[0]
    except CallerError as error:
        raise ServiceError("bad_reply", error.text, cause=error.code) from None


_ONE_LINE = str.maketrans({chr(n): " " for n in (*range(32), 127)})


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.__dict__
    raise TypeError(f"cannot encode a {type(value).__name__}")


def _plain_json(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else _plain(value)


@lru_cache(maxsize=512)
def _plan(model: type[M], limits: Limits) -> tuple[Callable[[Any], M], dict[str, Any]]:
    """How to read a model: its validation, and the options of unpackb with arrays as the model wants them."""
    kinds = _array_kinds(model, set())
    if kinds == {list, tuple}:
        raise TypeError(f"{model.__name__} has both list and tuple fields; a message uses one kind")
    return model.__pydantic_validator__.validate_python, _options(limits, use_list=tuple not in kinds)


def _array_kinds(annotation: Any, seen: set[Any]) -> set[Any]:
    """Which of list and tuple occur in a model (strict validation takes only the one that is declared)."""
    if annotation in seen:
        return set()
    seen.add(annotation)
    found = {get_origin(annotation) or annotation} & {list, tuple}
    parts: list[Any] = list(get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        parts = [field.annotation for field in annotation.model_fields.values()]
    for part in parts:
        if isinstance(part, type) or get_args(part):
            found |= _array_kinds(part, seen)
    return found


@lru_cache(maxsize=64)
def _options(limits: Limits, *, use_list: bool = True) -> dict[str, Any]:
    return {
        "max_array_len": limits.array,
        "max_map_len": limits.map,
        "max_str_len": limits.text,
        "max_bin_len": limits.text,
        "max_ext_len": 0,
        "strict_map_key": True,
        "use_list": use_list,
        "ext_hook": _no_ext,
    }


def _no_ext(_code: int, _data: bytes) -> NoReturn:
    raise CallerError("bad_shape", "extension types are not allowed")


def _careful(payload: bytes, limits: Limits) -> tuple[dict[str, Any], Encoding]:
    """Read with every check; slower, and says what is wrong."""
    if len(payload) > limits.size:
        raise CallerError("too_large", f"the message has more than {limits.size} bytes", size=len(payload))
    encoding = encoding_of(payload)
    try:
        value = (_read_json if encoding == JSON else _read_msgpack)(payload, limits)
    except RecursionError:
        raise CallerError("bad_shape", "nested too deeply") from None
    if type(value) is not dict:
        raise CallerError("bad_encoding", "a message is one msgpack map or one JSON object")
    _check(value, limits)
    return value, encoding


class _Maps:
    """Builds each map of one message, counts them, and refuses keys that come twice."""

    __slots__ = ("left",)

    def __init__(self, limits: Limits) -> None:
        self.left = limits.containers

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.left -= 1
        if self.left < 0:
            raise CallerError("bad_shape", "too many arrays and maps")
        made = dict(pairs)
        if len(made) != len(pairs):
            raise CallerError("bad_shape", "a key comes twice")
        return made

    def array(self, items: list[Any]) -> list[Any]:
        self.left -= 1
        if self.left < 0:
            raise CallerError("bad_shape", "too many arrays and maps")
        return items


def _read_msgpack(payload: bytes, limits: Limits) -> Any:
    maps = _Maps(limits)
    try:
        return msgpack.unpackb(payload, object_pairs_hook=maps, list_hook=maps.array, **_options(limits))
    except StackError:
        raise CallerError("bad_shape", "nested too deeply") from None
    except (ExtraData, FormatError, UnicodeDecodeError):
        raise CallerError("bad_encoding", "not one msgpack map, or a string that is not UTF-8") from None
    except (ValueError, TypeError, OverflowError) as error:
        if "incomplete" in str(error):
            raise CallerError("bad_encoding", "the msgpack value is cut off") from None
        raise CallerError("bad_shape", "an array, map, string or key is beyond the limits") from None


def _read_json(payload: bytes, limits: Limits) -> Any:
    try:
        text = payload.decode()
        value = json.loads(text, object_pairs_hook=_Maps(limits), parse_constant=_no_constant, parse_int=_small_int)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # lone surrogates cannot be sent on
        return value
    except RecursionError:
        raise
    except ValueError:
        raise CallerError("bad_encoding", "not one JSON object in UTF-8") from None


def _no_constant(_name: str) -> NoReturn:
    raise CallerError("bad_shape", "NaN and Infinity are not allowed")


def _small_int(digits: str) -> int:
    if len(digits) > 20:
        raise CallerError("bad_shape", "an integer has more than 64 bits")
    return int(digits)


def _check(value: dict[str, Any], limits: Limits) -> None:
    """Depth, lengths and types of all that was read, level by level (no recursion)."""
    level: list[Any] = [value]
    count = 0
    for _ in range(limits.depth):
        count += len(level)
        if count > limits.containers:
            raise CallerError("bad_shape", "too many arrays and maps")
        level = [inner for holder in level for inner in _inside(holder, limits)]
        if not level:
            return
    raise CallerError("bad_shape", f"nested deeper than {limits.depth} levels")


def _inside(holder: Any, limits: Limits) -> list[Any]:
    """The containers directly inside one; everything else in it is checked here."""
    items = holder
    if type(holder) is dict:
        if len(holder) > limits.map:
            raise CallerError("bad_shape", f"a map has more than {limits.map} keys")
        _check_keys(holder, limits)
        items = holder.values()
    elif len(holder) > limits.array:
        raise CallerError("bad_shape", f"an array has more than {limits.array} items")
    found = []
    for item in items:
        kind = type(item)
        if kind is str or kind is bytes:
            if len(item) > limits.text:
                raise CallerError("bad_shape", f"a string has more than {limits.text} bytes")
        elif kind is int:
            if not -_MAX_INT <= item < _MAX_INT:
                raise CallerError("bad_shape", "an integer has more than 64 bits")
        elif kind is dict or kind is list:
            found.append(item)
        elif item is not None and kind is not bool:
            _check_rare(item)
    return found


def _check_rare(item: Any) -> None:
    if type(item) is not float:
        raise CallerError("bad_shape", "a value has a type that is not allowed")
    if not math.isfinite(item):
        raise CallerError("bad_shape", "NaN and Infinity are not allowed")


def _check_keys(holder: dict[Any, Any], limits: Limits) -> None:
    for key in holder:
        if type(key) is not str or len(key) > limits.text:
            raise CallerError("bad_shape", f"a key is not a string of at most {limits.text} bytes")


_AMOUNTS = frozenset({"amounts", "usage"})
_OUT_OF_RANGE = frozenset({"greater_than_equal", "less_than_equal"})


def _bad_request(error: ValidationError) -> CallerError:
    """What a model refused, without the input: how many errors, and the first three places."""
    count = error.error_count()
    where = ""
    if count <= 100:  # listing them costs time and memory for each
        listed = error.errors(include_url=False, include_context=False, include_input=False)[:3]
        where = ", ".join(f"{_place(item['loc'])} ({item['type'][:40]})" for item in listed)
        first = listed[0]
        if first["type"] in _OUT_OF_RANGE and _AMOUNTS.intersection(first["loc"]):
            return CallerError("bad_amount", f"{_place(first['loc'])}: {first['msg'][:80]}", errors=count)
    return CallerError("bad_request", f"{count} field(s) refused" + (f": {where}" if where else ""), errors=count)


def _place(loc: tuple[int | str, ...]) -> str:
    path = ".".join(str(part)[:24] for part in loc[:4])
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in path)[:60] or "message"
