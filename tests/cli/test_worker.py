"""`bursar worker` as a person uses it: what is wrong is said in a sentence. (Workers that run: tests/examples.)"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bursar.cli.main import available, build

MODULE = """
import bursar

worker = bursar.Worker(slots=3)
thing = 7
empty = bursar.Worker()
broken = lambda fleet: "no worker"

@worker.task("work")
async def work(task):
    return 1
"""


@pytest.fixture
def bursar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """In a directory with a module, and nobody's credentials."""
    (tmp_path / "some_workers.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "some_workers", raising=False)
    app = build(available())
    return lambda *arguments: CliRunner().invoke(app, ["worker", *arguments, "--home", str(tmp_path / "home")])


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("some_workers", "which worker of which module"),
        (":worker", "which worker of which module"),
        ("no_such_module:worker", "no module 'no_such_module'"),
        ("some_workers:nobody", "has no 'nobody'"),
    ],
)
def test_a_worker_that_is_not_there_is_said_in_one_sentence(
    what: str, said: str, bursar: Callable[..., Result]
) -> None:
    """Status 1, no traceback, nothing was connected to."""
    result = bursar("run", what)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_credentials_are_found_or_missed_by_name(bursar: Callable[..., Result]) -> None:
    """With what to do about it."""
    result = bursar("run", "some_workers:worker", "--name", "w2")
    assert result.exit_code == 1
    assert "bursar agent add w2" in result.stderr


def test_the_key_of_a_provider_comes_from_the_environment(
    bursar: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never on a command line; a variable that is not set is said before anything is called."""
    monkeypatch.delenv("SOME_KEY", raising=False)
    result = bursar("openai", "--url", "http://127.0.0.1:1", "--api-key-env", "SOME_KEY")
    assert result.exit_code == 1
    assert "SOME_KEY is not set" in result.stderr


@pytest.mark.parametrize("command", ["run", "openai"])
def test_the_help_shows_how(command: str, bursar: Callable[..., Result]) -> None:
    """Each with examples that can be copied."""
    result = bursar(command, "--help")
    assert result.exit_code == 0
    assert f"bursar worker {command} " in result.stdout
