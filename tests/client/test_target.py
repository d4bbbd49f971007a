"""Where to connect and as whom."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

import bursar
from bursar.client.errors import NoCredentials
from bursar.client.target import DEFAULT_URL, principal_of, resolve


def creds(path: Path, name: object) -> Path:
    claims = base64.urlsafe_b64encode(json.dumps({"name": name, "sub": "U"}).encode()).decode().rstrip("=")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"-----BEGIN NATS USER JWT-----\nhead.{claims}.mark\n------END NATS USER JWT------\n")
    return path


def test_the_principal_is_the_name_in_the_credentials(tmp_path: Path) -> None:
    """Nothing else says who an agent is."""
    assert principal_of(creds(tmp_path / "x.creds", "writer-7")) == "writer-7"


@pytest.mark.parametrize("name", ["Not Allowed", "", None, 7, "a.b"])
def test_credentials_without_a_principal_are_refused(tmp_path: Path, name: object) -> None:
    """A name that cannot stand in a subject is no principal."""
    with pytest.raises(NoCredentials, match="names no principal"):
        principal_of(creds(tmp_path / "x.creds", name))


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN NATS USER JWT-----\na.%%%.c\n", "ü"])
def test_other_files_are_no_credentials(tmp_path: Path, text: str) -> None:
    """The error names the file."""
    (tmp_path / "x.creds").write_text(text, encoding="utf-8")
    with pytest.raises(NoCredentials, match=r"x\.creds"):
        principal_of(tmp_path / "x.creds")


def test_arguments_come_before_the_environment_and_that_before_the_home(tmp_path: Path) -> None:
    """The nearest says most."""
    home = tmp_path / "home"
    creds(home / "creds" / "at-home.creds", "at-home")
    creds(home / "creds" / "ops.creds", "ops")
    (home / "run").mkdir()
    (home / "run" / "lock").write_text('{"pid": 1, "server": 2, "url": "nats://127.0.0.1:9999"}')
    env = creds(tmp_path / "env.creds", "from-env")
    environ = {"BURSAR_CREDS": str(env), "BURSAR_URL": "nats://env:1", "BURSAR_HOME": str(home)}
    assert resolve(None, None, None, None, {"BURSAR_HOME": str(home)}) == (
        "nats://127.0.0.1:9999", home / "creds" / "at-home.creds", "at-home",
    )  # fmt: skip
    assert resolve(None, None, None, None, environ) == ("nats://env:1", env, "from-env")
    given = resolve("nats://arg:1", home / "creds" / "at-home.creds", None, None, environ)
    assert (given.url, given.principal) == ("nats://arg:1", "at-home")
    assert resolve(None, None, None, "at-home", environ).principal == "at-home"
    (home / "run" / "lock").write_text("")
    assert resolve(None, None, home, None, {}).url == DEFAULT_URL


def test_the_error_says_what_to_do(tmp_path: Path) -> None:
    """No credentials, several agents, a missing name, another's credentials: each says what helps."""
    with pytest.raises(NoCredentials, match="bursar agent add NAME") as nothing:
        resolve(None, None, tmp_path, None, {})
    assert "BURSAR_CREDS" in nothing.value.advice
    creds(tmp_path / "creds" / "a.creds", "a")
    creds(tmp_path / "creds" / "b.creds", "b")
    with pytest.raises(NoCredentials, match=r"several agents \(a, b\)"):
        resolve(None, None, tmp_path, None, {})
    with pytest.raises(NoCredentials, match="bursar agent add c"):
        resolve(None, None, tmp_path, "c", {})
    with pytest.raises(NoCredentials, match="not 'b'"):
        resolve(None, tmp_path / "creds" / "a.creds", None, "b", {})
    with pytest.raises(NoCredentials, match="cannot read"):
        resolve(None, tmp_path / "none.creds", None, None, {})


def test_connect_fails_before_it_does_anything_when_nobody_is_named(tmp_path: Path) -> None:
    """connect() itself raises, not the first request."""
    with pytest.raises(bursar.NoCredentials):
        bursar.connect(home=tmp_path, name="nobody")


async def test_a_fleet_that_was_not_entered_says_so(tmp_path: Path) -> None:
    """Using it outside `async with` is a clear error."""
    fleet = bursar.connect(creds=creds(tmp_path / "a.creds", "a"))
    for use in (lambda: fleet.limiter, lambda: fleet.principal):
        with pytest.raises(bursar.CallerError, match="async with"):
            use()
