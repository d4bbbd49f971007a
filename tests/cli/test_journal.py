"""`bursar journal` on the journal of a real limiter, run by `bursar up` on a real server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bursar
from bursar.bus.identity import load_home, mint_agent
from bursar.cli import up
from bursar.cli.journal import decider_of
from bursar.kernel.fold import Folded
from tests.bus.support import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
async def home(tmp_path: Path) -> AsyncIterator[Path]:
    """The home of a running installation in which an agent has reserved and settled twice."""
    stop = asyncio.Event()
    lines: list[str] = []
    path = tmp_path / "home"
    running = asyncio.create_task(up.run(up.UpOptions(home=path, port=0), lines.append, stop))
    try:
        await eventually(lambda: running.done() or any("is up" in line for line in lines), 30)
        assert not running.done(), lines
        mint_agent(load_home(path), "writer")
        async with bursar.connect(home=path, name="writer") as fleet:
            for tokens in (900, 700):
                async with fleet.limiter.reserve("demo", input_tokens=tokens, output_tokens=10) as permit:
                    permit.sent()
                    permit.used(input_tokens=tokens - 100, output_tokens=10)
        yield path
    finally:
        stop.set()
        await running


async def journal(home: Path, *arguments: str) -> tuple[int, str]:
    """Status and output of a `bursar journal` command."""
    command = [sys.executable, "-m", "bursar.cli.main", "journal", *arguments, "--home", str(home)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


async def test_show_replay_and_verify_tell_what_the_limiter_did(home: Path) -> None:
    """Every decision is listed in words, the state can be rebuilt at any entry, and the chain is sound."""
    status, text = await journal(home, "show")
    assert status == 0
    assert "writer" in text
    assert text.count("granted") == 2
    assert text.count("settled") == 2

    status, text = await journal(home, "show", "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    assert rows[0]["kind"] == "epoch"
    numbers = [decision["number"] for row in rows for decision in row["decisions"]]
    assert numbers == list(range(1, len(numbers) + 1))

    status, text = await journal(home, "verify")
    assert status == 0
    assert text.startswith("sound:")


async def test_replay_stops_at_the_sequence_asked_for(home: Path) -> None:
    """The state after an early entry knows nothing of the later ones."""
    _, text = await journal(home, "show", "--json")
    first_grant = next(json.loads(line) for line in text.splitlines() if "granted" in line)
    _, early = await journal(home, "replay", "--at", str(first_grant["sequence"]))
    _, late = await journal(home, "replay")

    assert json.loads(early)["sequence"] == first_grant["sequence"]
    assert json.loads(early)["answers"] == 1
    assert json.loads(late)["fence"][2] == json.loads(early)["fence"][2] + 3
    assert json.loads(late)["state"] != json.loads(early)["state"]


async def test_a_journal_of_a_service_that_is_not_installed_is_refused_in_words(home: Path) -> None:
    """The error says what is missing, and the status is not zero."""
    status, text = await journal(home, "show", "--service", "nonsense")

    assert status == 1
    assert "not installed" in text
    assert Folded(decider_of("limiter")).fence == (1, 0, 0)
