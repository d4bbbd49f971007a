"""The filters between msgpack and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from io import BytesIO

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.signing import Signer
from bursar.cli.decode import decode, encode


def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bursar.cli.main", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)


def decoded(content: bytes) -> list[object]:
    target = BytesIO()
    decode(BytesIO(content), target)
    return [json.loads(line) for line in target.getvalue().splitlines()]


def test_msgpack_becomes_json() -> None:
    """Maps, lists, numbers and text come out as they are."""
    message = {"v": 1, "amounts": {"requests": 1}, "list": [1, -2, 2**53], "none": None, "text": "höhe"}
    assert decoded(msgpack.packb(message)) == [message]


def test_json_passes_through() -> None:
    """A message that is JSON already is shown as JSON."""
    assert decoded(b'{"v": 1}') == [{"v": 1}]


def test_several_messages_give_a_line_each() -> None:
    """A file of messages can be read line by line."""
    assert decoded(msgpack.packb({"a": 1}) + msgpack.packb({"a": 2})) == [{"a": 1}, {"a": 2}]


def test_empty_input_gives_nothing() -> None:
    """An empty message (a heartbeat) is no error."""
    assert decoded(b"") == []


def test_bytes_and_odd_keys_are_shown_as_text() -> None:
    """What JSON has no form for is still shown."""
    assert decoded(msgpack.packb({"b": b"\x00\xff", 7: 1, b"k": 2})) == [{"b": "hex:00ff", "7": 1, "hex:6b": 2}]


def test_signed_broadcast_is_opened() -> None:
    """An operator sees what a broadcast says, not its packing."""
    payload = Signer.generate().sign("bursar.evt.limiter.freeze.x", {"v": 1, "until": 5})
    (shown,) = decoded(payload)
    assert isinstance(shown, dict)
    assert shown["b"] == {"v": 1, "until": 5}
    assert shown["s"].startswith("hex:")


def test_round_trip() -> None:
    """encode and decode undo each other."""
    packed = BytesIO()
    encode(BytesIO(b'{"v": 1, "x": [1, "a", null, true]}'), packed)
    assert decoded(packed.getvalue()) == [{"v": 1, "x": [1, "a", None, True]}]


@pytest.mark.parametrize(
    "content",
    [b"\xc1", b"{broken", b"\x82\x01", b"\xdd\xff\xff\xff\xff", b"\x91" * 5_000 + b"\x01", b"\x81\xa1a\xc4\x05ab"],
)
def test_unreadable_input_is_one_line_on_stderr_and_status_1(content: bytes) -> None:
    """Never a traceback, whatever arrives on a subject."""
    result = run("decode", stdin=content)
    assert result.returncode == 1
    assert result.stdout == b""
    assert result.stderr.startswith(b"bursar decode: this")
    assert result.stderr.count(b"\n") == 1


def test_cut_off_message_is_reported() -> None:
    """A message that ends too early is not silently dropped."""
    result = run("decode", stdin=msgpack.packb({"a": 1, "b": 2})[:-1])
    assert result.returncode == 1
    assert b"cut off" in result.stderr


def test_command_line_filters_work_in_a_pipe() -> None:
    """As `nats sub --translate` starts them."""
    packed = run("encode", stdin=b'{"v":1}').stdout
    assert msgpack.unpackb(packed) == {"v": 1}
    assert run("decode", stdin=packed).stdout == b'{"v": 1}\n'
    assert run("decode", "--indent", "1", stdin=packed).stdout == b'{\n "v": 1\n}\n'


@pytest.mark.parametrize("name", ["decode", "encode"])
def test_help_has_examples_and_wrong_options_an_error(name: str) -> None:
    """Every command teaches; an unknown option says where to look."""
    assert b"Examples:" in run(name, "--help").stdout
    wrong = run(name, "--wrong")
    assert wrong.returncode == 1
    assert b"--help" in wrong.stderr


def test_decode_imports_neither_typer_nor_nats_nor_pydantic() -> None:
    """It starts once per message, so it starts light."""
    program = (
        "import sys, io; sys.argv = ['bursar', 'decode']; sys.stdin = io.TextIOWrapper(io.BytesIO(b''))\n"
        "from bursar.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "print([m for m in ('typer', 'nats', 'pydantic', 'asyncio', 'nacl', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "[]\n"


def test_without_the_packages_of_the_command_line_it_says_what_to_install() -> None:
    """A service that is installed alone brings the command without them: one line, status 1; the filters still work."""
    hidden = "import sys; sys.modules['typer'] = None; from bursar.cli.main import main; main()"
    command = [sys.executable, "-c", hidden]
    done = subprocess.run([*command, "top"], capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"bursar: typer is not installed; the command line needs: pip install 'bursar[server]'\n"
    packed = msgpack.packb({"a": 1})
    assert json.loads(
        subprocess.run([*command, "decode"], input=packed, capture_output=True, timeout=30, check=True).stdout
    ) == {"a": 1}
