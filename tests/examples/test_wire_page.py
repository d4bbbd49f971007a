"""Every block of code in docs/wire.md does what the page says."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.examples.installation import ROOT, Installation, lines_of
from tests.examples.talker import faults
from tests.examples.test_nats_cli import path_with_nats
from tests.examples.test_node_agent import AGENT, NODE

__all__ = ["path_with_nats"]

PAGE = (ROOT / "docs/wire.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w.*?)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def test_every_block_is_of_a_kind_that_a_test_runs() -> None:
    """Nothing on the page is only there to be looked at."""
    assert {kind.partition(" ")[0] for kind, _ in BLOCKS} == {"python", "js", "json", "sh"}
    assert [len(blocks(kind)) for kind in ("python", "js", "sh")] == [2, 1, 1]


@pytest.mark.parametrize(("kind", "text"), [block for block in BLOCKS if block[0].startswith("json")])
def test_messages_are_valid_under_their_schemas(kind: str, text: str) -> None:
    """The name behind the language is that of the published schema."""
    assert faults(kind.removeprefix("json "), json.loads(text)) == []


@pytest.mark.integration
@pytest.mark.parametrize(("number", "printed"), [(0, r"demo\n"), (1, r"epoch [1-9]\d*\n")])
def test_python_blocks_run(installation: Installation, tmp_path: Path, number: int, printed: str) -> None:
    """With a NATS client and msgpack alone, nothing of Bursar."""
    program = tmp_path / "block.py"
    program.write_text(blocks("python")[number], encoding="utf-8")
    assert "bursar" not in re.findall(r"^(?:import|from) (.*)", program.read_text(), re.MULTILINE)
    assert re.fullmatch(printed, installation.run("writer", sys.executable, program))


@pytest.mark.integration
def test_javascript_block_runs(installation: Installation) -> None:
    """Beside the files of the example."""
    code = blocks("js")[0].replace("'./", f"'{AGENT}/")
    assert installation.run("writer", NODE, "--input-type=module", "--eval", code) == "true\n"


@pytest.mark.integration
def test_commands_run(installation: Installation, path_with_nats: str) -> None:
    """Each line, with the context that this installation has written."""
    context = str(installation.home / "nats-context.json")
    script = blocks("sh")[0].replace("--context bursar", f"--context {context}")
    status, clock, broadcast = lines_of(installation.run("writer", "sh", "-euc", script, PATH=path_with_nats))
    assert status["budgets"]
    assert clock["now_ms"] >= 0
    assert broadcast["b"]["fence"]
