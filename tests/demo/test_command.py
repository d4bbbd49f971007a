"""The command `bursar demo`, before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from bursar.cli import demo


@pytest.mark.parametrize(
    ("option", "place"), [("--json", "folder"), ("--json", "file/x.json"), ("--out", "file"), ("--out", "file/below")]
)
def test_results_that_could_not_be_written_are_refused_before_the_run(
    option: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute and a half is not spent for figures that are lost in the end; the error is one sentence."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "run", lambda *_: pytest.fail("the run has begun"))
    app = typer.Typer()
    app.command()(demo.demo)
    result = CliRunner().invoke(app, [option, str(tmp_path / place)])
    assert result.exit_code == 1
    assert result.stderr.startswith("bursar: the results could not be written: ")
    assert "requests" not in result.stdout
