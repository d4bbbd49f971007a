"""``bursar decode`` and ``bursar encode``: filters between what is on the wire and JSON.

``nats sub --translate 'bursar decode'`` starts this once per message, so it imports msgpack and json and nothing
else. Signed broadcasts are opened (field ``b``), other bytes are shown as ``hex:...``.
"""

from __future__ import annotations

import json
import sys

import msgpack  # type: ignore[import-untyped]

TYPE_CHECKING = False  # as in typing, without the time to import it
if TYPE_CHECKING:
    from typing import Any, BinaryIO

    import typer

_HELP = {
    "decode": """bursar decode: msgpack or JSON on standard input -> JSON on standard output.

Messages are msgpack maps (or JSON, which passes through); several in a row give one line each.

Examples:
  nats --context bursar sub 'bursar.evt.>' --translate 'bursar decode'
  bursar decode --indent 2 < message.bin
""",
    "encode": """bursar encode: JSON on standard input -> msgpack on standard output.

Examples:
  echo '{"v":1}' | bursar encode | nats --context bursar req bursar.req.limiter.status.ops
  echo '{"v":1}' | bursar encode | bursar decode
""",
}


class _Unreadable(Exception):
    """The input is neither msgpack nor JSON, or cannot be shown."""


def run_filter(arguments: list[str]) -> int:
    """Run ``decode`` or ``encode`` with its options; returns the exit status."""
    name, options = arguments[0], arguments[1:]
    if options in (["-h"], ["--help"]):
        sys.stdout.write(_HELP[name])
        return 0
    try:
        indent = _indent(name, options)
        if name == "decode":
            decode(sys.stdin.buffer, sys.stdout.buffer, indent)
        else:
            encode(sys.stdin.buffer, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except _Unreadable as error:
        sys.stderr.write(f"bursar {name}: {error}\n")
        return 1
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


def decode(source: BinaryIO, target: BinaryIO, indent: int | None = None) -> None:
    """Write each message of ``source`` as one JSON text."""
    content = source.read()
    messages = [_from_json(content)] if content[:1] == b"{" else _from_msgpack(content)
    target.writelines(_as_json(message, indent).encode() + b"\n" for message in messages)


def encode(source: BinaryIO, target: BinaryIO) -> None:
    """Write the JSON text of ``source`` as msgpack."""
    message = _from_json(source.read())
    try:
        target.write(msgpack.packb(message))
    except (ValueError, OverflowError, RecursionError) as error:
        raise _Unreadable(f"this JSON has no msgpack form: {error}") from error


def register(app: typer.Typer) -> None:
    """Show both on the help page (they are run by `run_filter`)."""
    settings = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("decode", context_settings=settings, short_help="msgpack on stdin -> JSON on stdout")(_run_decode)
    app.command("encode", context_settings=settings, short_help="JSON on stdin -> msgpack on stdout")(_run_encode)


def _run_decode() -> None:
    raise SystemExit(run_filter(["decode"]))


def _run_encode() -> None:
    raise SystemExit(run_filter(["encode"]))


def _indent(name: str, options: list[str]) -> int | None:
    if not options:
        return None
    if name == "decode" and len(options) == 2 and options[0] == "--indent" and options[1].isdigit():
        return int(options[1])
    raise _Unreadable(f"unknown option {' '.join(options)}; see bursar {name} --help")


def _from_json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"this is not JSON: {error}") from error


def _from_msgpack(content: bytes) -> list[Any]:
    unpacker = msgpack.Unpacker(max_buffer_size=len(content) or 1, strict_map_key=False)
    unpacker.feed(content)
    messages, end = [], 0
    try:
        while end < len(content):
            messages.append(unpacker.unpack())
            end = unpacker.tell()
    except msgpack.OutOfData as error:
        raise _Unreadable(f"this message is cut off: {len(content) - end} bytes of it are here") from error
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise _Unreadable(f"this is neither msgpack nor JSON: {error}") from error
    return messages


def _as_json(message: Any, indent: int | None) -> str:
    try:
        return json.dumps(_readable(message), indent=indent, default=repr)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"this message cannot be shown as JSON: {error}") from error


def _readable(value: Any) -> Any:
    """The same value with text for keys and bytes."""
    if isinstance(value, dict):
        if value.keys() == {"v", "b", "s"} and isinstance(value["b"], bytes):
            return _opened(value)
        return {_key(k): _readable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_readable(v) for v in value]
    return f"hex:{value.hex()}" if isinstance(value, bytes) else value


def _opened(envelope: dict[str, Any]) -> dict[str, Any]:
    """A signed broadcast with its body unpacked; the signature is shown, not checked."""
    try:
        body = _readable(msgpack.unpackb(envelope["b"]))
    except (ValueError, msgpack.UnpackException):
        body = f"hex:{envelope['b'].hex()}"
    return {"v": envelope["v"], "b": body, "s": _readable(envelope["s"])}


def _key(key: Any) -> str:
    return key if isinstance(key, str) else str(_readable(key))
