"""The calls by the command line tool: the script itself runs, with a stand-in where the tool would be."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest

from tests.examples.installation import ROOT, Installation, lines_of

pytestmark = pytest.mark.integration
SCRIPT = ROOT / "examples/nats-cli.sh"


@pytest.fixture
def path_with_nats(tmp_path: Path) -> str:
    """A PATH on which `nats` is the stand-in and `bursar` the command of this installation."""
    tool = tmp_path / "nats"
    python = shlex.quote(sys.executable)
    tool.write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {python} -m tests.examples.stand_in "$@"\n')
    tool.chmod(0o755)
    return os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])


def test_script_does_every_call(installation: Installation, path_with_nats: str) -> None:
    """Each answer is what the line before it says: room, a permit, the same permit again, its settlement, a refusal,
    an error, a broadcast."""
    context = str(installation.home / "nats-context.json")
    output = installation.run("reporter", "sh", SCRIPT, CONTEXT=context, PATH=path_with_nats)
    status, granted, again, settled, refused, error, broadcast = lines_of(output)
    assert status["budgets"][0]["name"] == "demo"
    assert granted["ok"]
    assert again["reservation"] == granted["reservation"]
    assert settled["refunded"] == {"input_tokens": 30, "output_tokens": 88}
    assert (refused["ok"], refused["reason"]) == (False, "never_fits")
    assert error["error"]["code"] == "unknown_budget"
    assert broadcast["b"]["fence"]
