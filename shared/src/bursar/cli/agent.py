"""``bursar agent``: credentials of agents, minted on this machine by one signature, without touching the server."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from bursar.bus.identity import HomeError, load_home, mint_agent

HomeOption = Annotated[Path, typer.Option("--home", help="Where `bursar up` keeps its state (or set BURSAR_HOME).")]

agents = typer.Typer(
    name="agent",
    help="Credentials of agents, workers and probes.\n\n\b\nExamples:\n  bursar agent add alice\n  bursar agent list",
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
        str, typer.Option(help="agent, worker (takes tasks), or node (the probe of the host of that name).")
    ] = "agent",
    force: Annotated[bool, typer.Option("--force", help="Replace the credentials of an existing agent.")] = False,
) -> None:
    """Mint credentials for an agent; works while everything runs, and at once.

    \b
    Examples:
      bursar agent add alice
      bursar agent add worker-1 --role worker
      bursar agent add gpu-host-1 --role node
      bursar agent add alice --force       # a new key; the old one is void after the next start of the server
      BURSAR_CREDS=$(bursar agent add bob 2>/dev/null) python my_agent.py
    """
    try:
        path = mint_agent(load_home(home), name, force=force, role=role)
    except (HomeError, ValueError) as error:
        fail(str(error))
    typer.echo(path)
    typer.echo(_USE.format(path=shlex.quote(str(path))), err=True)
    if force:
        typer.echo("The previous credentials are void after the next start of the server.", err=True)


@agents.command("list")
def list_agents(home: HomeOption = default_home()) -> None:  # noqa: B008 - read once, at start
    """List the agents that have credentials here: name, file, role.

    \b
    Example:
      bursar agent list --home /var/lib/bursar
    """
    try:
        found = load_home(home)
    except HomeError as error:
        fail(str(error))
    for name in found.agents():
        typer.echo(f"{name}\t{found.creds(name)}\t{found.role_of(name) or '?'}")


def register(app: typer.Typer) -> None:
    app.add_typer(agents)


def fail(text: str) -> NoReturn:
    """Say what is wrong on standard error and end with status 1."""
    typer.echo(f"bursar: {text}", err=True)
    raise typer.Exit(1)
