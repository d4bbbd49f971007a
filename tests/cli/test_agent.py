"""`bursar agent` and the help pages, as a person uses them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from bursar.bus.identity import create_home
from bursar.cli.context import context, write_contexts
from bursar.cli.main import available, build


@pytest.fixture
def bursar() -> Callable[..., Result]:
    app = build(available())
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_agent_add_prints_the_path_alone_on_stdout(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """Scripts take the path from standard output; the explanation goes to standard error."""
    create_home(tmp_path)
    result = bursar("agent", "add", "alice", "--home", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "creds" / "alice.creds")
    assert "BURSAR_CREDS" in result.stderr
    assert Path(result.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("name", "said"), [("Alice", "not a valid name"), ("svc-limiter", "reserved"), ("ops", "reserved")]
)
def test_bad_name_is_refused_in_one_sentence(
    name: str, said: str, bursar: Callable[..., Result], tmp_path: Path
) -> None:
    """No traceback, status 1, and what is wrong with the name."""
    create_home(tmp_path)
    result = bursar("agent", "add", name, "--home", tmp_path)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_existing_agent_is_rotated(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """The second add is refused and names what makes new credentials."""
    create_home(tmp_path)
    bursar("agent", "add", "alice", "--home", tmp_path)
    refused = bursar("agent", "add", "alice", "--home", tmp_path)
    assert (refused.exit_code, "agent rotate alice" in refused.stderr) == (1, True)
    rotated = bursar("agent", "rotate", "alice", "--home", tmp_path)
    assert (rotated.exit_code, "next start" in rotated.stderr) == (0, True)
    assert bursar("agent", "rotate", "bob", "--home", tmp_path).exit_code == 1


def test_agent_list_shows_the_agents(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """One line per agent: name, credentials and role."""
    home = create_home(tmp_path)
    for name, role in (("bob", "worker"), ("alice", "agent"), ("host-1", "node")):
        assert bursar("agent", "add", name, "--home", tmp_path, "--role", role).exit_code == 0
    (tmp_path / "rights.toml").write_text('[[rule]]\nwho = ["bob"]\nbudgets = ["team"]\ngpus = []\n')
    assert bursar("agent", "revoke", "host-1", "--home", tmp_path).exit_code == 0
    head, *lines = (line.split("\t") for line in bursar("agent", "list", "--home", tmp_path).stdout.splitlines())
    assert head == ["NAME", "ROLE", "STATE", "CREATED", "LAST SEEN", "RIGHTS", "FILE"]
    assert [line[:3] for line in lines] == [
        ["alice", "agent", "valid"], ["bob", "worker", "valid"], ["host-1", "node", "revoked"]
    ]  # fmt: skip
    assert [line[5] for line in lines] == ["all", "budgets=team gpus=none", "all"]
    assert [line[6] for line in lines] == [str(home.creds(line[0])) for line in lines]


def test_unknown_role_is_refused_in_one_sentence(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """The roles of services and provisioners cannot be had this way, and the error lists those that can."""
    create_home(tmp_path)
    for role in ("provisioner", "svc-limiter", "Agent", ""):
        result = bursar("agent", "add", "x", "--home", tmp_path, "--role", role)
        assert result.exit_code == 1
        assert "agent, worker, node" in result.stderr


def test_missing_home_is_explained(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """The error names the command that makes a home."""
    result = bursar("agent", "list", "--home", tmp_path / "none")
    assert result.exit_code == 1
    assert "bursar up" in result.stderr


@pytest.mark.parametrize(
    "command", [(), ("up",), ("agent",), ("agent", "add"), ("agent", "list"), ("trust",), ("contracts",)]
)
def test_every_help_page_has_examples(command: tuple[str, ...], bursar: Callable[..., Result]) -> None:
    """Who asks for help gets something to type."""
    page = bursar(*command, "--help")
    assert page.exit_code == 0
    assert "  bursar " in page.stdout


def test_context_names_address_credentials_and_inbox(tmp_path: Path) -> None:
    """The nats tool needs all three to be answered."""
    made = context("nats://127.0.0.1:4222", tmp_path / "ops.creds")
    assert made["inbox_prefix"] == "_R.ops"
    assert made["creds"] == str(tmp_path / "ops.creds")


def test_context_is_written_where_the_tool_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a second start replaces its own."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    write_contexts(tmp_path, "bursar", "nats://127.0.0.1:1", tmp_path / "ops.creds")
    written = write_contexts(tmp_path, "bursar", "nats://127.0.0.1:2", tmp_path / "ops.creds")
    assert written == [tmp_path / "nats-context.json", tmp_path / "config/nats/context/bursar.json"]
    assert "127.0.0.1:2" in written[1].read_text()


def test_somebody_elses_context_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A context of that name that Bursar did not write stays as it is."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = tmp_path / "config/nats/context/bursar.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"description": "mine", "url": "nats://prod"}')
    assert write_contexts(tmp_path, "bursar", "nats://x", tmp_path / "c") == [tmp_path / "nats-context.json"]
    assert "prod" in place.read_text()


def test_unwritable_configuration_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file in the home is enough."""
    (tmp_path / "config").write_text("a file, not a directory")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert write_contexts(tmp_path, "bursar", "nats://x", tmp_path / "c") == [tmp_path / "nats-context.json"]


def test_trust_prints_no_secret(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """What goes to other servers holds public keys and signatures, and names every account."""
    home = create_home(tmp_path)
    page = bursar("trust", "--home", tmp_path)
    assert page.exit_code == 0
    for path in home.keys_dir.iterdir():
        assert path.read_text().strip() not in page.stdout
    assert page.stdout.startswith("operator: ")
    assert all(account in page.stdout for account in home.trust().accounts)


def test_a_path_with_spaces_is_printed_so_that_a_shell_can_read_it(
    bursar: Callable[..., Result], tmp_path: Path
) -> None:
    """Standard output has the bare path for scripts; the line to paste is quoted."""
    home = create_home(tmp_path / "my home")
    result = bursar("agent", "add", "alice", "--home", home.path)
    assert result.stdout == f"{home.creds('alice')}\n"
    assert f"export BURSAR_CREDS='{home.creds('alice')}'" in result.stderr


@pytest.mark.parametrize("place", ["a-file", "a-file/below", "/proc/nowhere"])
def test_a_home_that_cannot_be_made_is_told_in_one_sentence(
    place: str, bursar: Callable[..., Result], tmp_path: Path
) -> None:
    """A file in its place, or a directory that nobody may write to: no traceback, and status 1."""
    (tmp_path / "a-file").write_text("")
    result = bursar("up", "--home", tmp_path / place, "--port", "0")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"bursar: cannot work in {tmp_path / place}: ")
    assert result.stderr.count("\n") == 1
