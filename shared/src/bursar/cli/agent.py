"""``bursar agent``: credentials of agents, workers, probes, operators and auditors, made on this machine.

Making them is one signature, which no server needs to hear of. What takes them away again, `rotate` and `revoke`, is
told to the running servers at once: they cut the old key off and leave all others alone (`bursar.bus.server.system`).
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bursar.audit.registrar import note
from bursar.bus.base import BusError
from bursar.bus.identity import Home, HomeError, load_home, mint_agent, revoke_agent, rotate_agent
from bursar.bus.identity.keys import write_private
from bursar.bus.permissions import check_agent_name
from bursar.bus.server.binary import ServerError
from bursar.bus.server.system import last_seen, tell_accounts
from bursar.client.target import resolve

HomeOption = Annotated[Path, typer.Option("--home", help="Where `bursar up` keeps its state (or set BURSAR_HOME).")]
NameArgument = Annotated[str, typer.Argument(help="Whose credentials.")]
ServersOption = Annotated[
    str | None, typer.Option("--nats", envvar="BURSAR_URL", help="The NATS servers; default: what the home notes.")
]

agents = typer.Typer(
    name="agent",
    help="Credentials of agents, workers, probes, operators, auditors.\n\n\b\nExamples:\n  bursar agent add alice\n"
    "  bursar agent rotate alice\n  bursar agent revoke alice\n  bursar agent list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def default_home() -> Path:
    return Path(os.environ.get("BURSAR_HOME", ".bursar"))


_USE = """
Use it:
  export BURSAR_CREDS={path}
  python my_agent.py       # async with bursar.connect() ..."""


@agents.command("add")
def add(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and '-', at most 64 characters: its name in every subject.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    role: Annotated[
        str,
        typer.Option(help="agent, worker (takes tasks), node (the probe of the host of that name), operator, auditor."),
    ] = "agent",
) -> None:
    """Mint credentials; works while everything runs, and at once.

    \b
    Examples:
      bursar agent add alice
      bursar agent add worker-1 --role worker
      bursar agent add gpu-host-1 --role node
      bursar agent add eve --role auditor          # reads the audit log, and can do nothing else
      BURSAR_CREDS=$(bursar agent add bob 2>/dev/null) python my_agent.py
    """
    try:
        found = load_home(home)
        check_agent_name(name)
        note(found, "add", name, role=role)
        path = mint_agent(found, name, role=role)
    except (HomeError, ValueError) as error:
        fail(str(error))
    typer.echo(path)
    typer.echo(_USE.format(path=shlex.quote(str(path))), err=True)


@agents.command("rotate")
def rotate(
    name: NameArgument,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
) -> None:
    """Make new credentials and cut the old ones off, also where somebody is connected with them.

    \b
    Examples:
      bursar agent rotate alice
      bursar agent rotate alice --nats tls://nats-1:4222,tls://nats-2:4222
    """
    try:
        found = load_home(home)
        note(found, "rotate", name)
        path = rotate_agent(found, name)
    except (HomeError, ValueError) as error:
        fail(str(error))
    typer.echo(path)
    _tell(found, nats, f"The old key of {name} is cut off")


@agents.command("revoke")
def revoke(
    name: NameArgument,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
) -> None:
    """Void somebody's credentials: whoever is connected with them is cut off at once, and not let in again.

    \b
    Examples:
      bursar agent revoke alice
      bursar agent revoke alice --nats tls://nats-1:4222
      bursar agent add alice                       # later: new credentials for her
    """
    try:
        found = load_home(home)
        note(found, "revoke", name)
        revoke_agent(found, name)
    except (HomeError, ValueError) as error:
        fail(str(error))
    _tell(found, nats, f"{name} is cut off")


def _tell(home: Home, nats: str | None, done: str) -> None:
    """Tell the servers; without any, they will know when they start."""
    urls = _servers(home, nats)
    try:
        asyncio.run(tell_accounts(urls, home))
    except BusError as error:
        typer.echo(f"No server was reached ({error.text}): it holds from the next start of the server on.", err=True)
        if nats:
            raise typer.Exit(1) from None
    except ServerError as error:
        fail(str(error))
    else:
        typer.echo(f"{done}.", err=True)


def _servers(home: Home, nats: str | None) -> list[str]:
    return resolve(nats, home.creds("ops"), home.path, None).url.split(",")


@agents.command("keys")
def public_keys(home: HomeOption = default_home()) -> None:  # noqa: B008 - read once, at start
    """Print the public keys of everybody whose credentials are valid, as JSON: for what is sealed for a recipient.

    \b
    Example:
      bursar agent keys > recipients.json
    """
    try:
        found = load_home(home)
        valid = [name for name in found.agents() if not found.is_revoked(name)]
        typer.echo(json.dumps({name: found.claims(name)["sub"] for name in valid}, indent=2))
    except HomeError as error:
        fail(str(error))


@agents.command("list")
def list_agents(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the servers who was seen when.")] = False,
) -> None:
    """List who has credentials here: name, role, state, when they were made and seen last, rights, file.

    \b
    "Seen last" is what the running servers know, and what they knew when this was asked before. The rights are those of
    the home's rights.toml.

    \b
    Examples:
      bursar agent list --home /var/lib/bursar
      bursar agent list --nats tls://nats-1:4222
    """
    try:
        found = load_home(home)
        typer.echo("NAME\tROLE\tSTATE\tCREATED\tLAST SEEN\tRIGHTS\tFILE")
        seen = _seen(found, None if offline else _servers(found, nats))
        granted = _rights(found)
        for name in found.agents():
            made = _day(int(found.claims(name)["iat"]))
            state = "revoked" if found.is_revoked(name) else "valid"
            words = (name, found.role_of(name) or "?", state, made, _ago(seen.get(name)), granted(name))
            typer.echo("\t".join((*words, str(found.creds(name)))))
    except (HomeError, ValueError) as error:
        fail(str(error))


def _seen(home: Home, urls: list[str] | None) -> dict[str, float]:
    """What was known, and what the servers know now; it is kept in the home."""
    path = home.path / "seen.json"
    known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if urls is None:
        return known
    try:
        now = asyncio.run(last_seen(urls, home))
    except (BusError, ServerError) as error:
        typer.echo(f"No server was reached ({error}): what was known before is shown.", err=True)
        return known
    known |= {name: max(at, known.get(name, 0.0)) for name, at in now.items()}
    write_private(path, json.dumps(known).encode())
    return known


def _rights(home: Home) -> Callable[[str], str]:
    """What somebody may use, in words."""
    from bursar.kernel.rights import KINDS, Rights, rows_of
    from bursar.kernel.rights_file import read_rights

    path = home.path / "rights.toml"
    if not path.exists():
        return lambda name: "all"
    told = read_rights(path)
    rights = Rights(rows_of(told.rules), closed=told.closed)

    def words(name: str) -> str:
        held = {kind: rights.patterns(name, kind) for kind in KINDS}
        parts = (f"{kind}={','.join(some) or 'none'}" for kind, some in held.items() if some is not None)
        return " ".join(parts) or "all"

    return words


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _ago(at: float | None) -> str:
    if at is None:
        return "-"
    return "now" if time.time() - at < 1.0 else _day(at)


def register(app: typer.Typer) -> None:
    app.add_typer(agents)


def fail(text: str) -> NoReturn:
    """Say what is wrong on standard error and end with status 1."""
    typer.echo(f"bursar: {text}", err=True)
    raise typer.Exit(1)
