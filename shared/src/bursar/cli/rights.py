"""``bursar rights``: which budgets, models, GPUs and targets each principal may use; checked, and set live."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path
from typing import Annotated, Final

import typer

from bursar.bus.base import BusError
from bursar.bus.connection import connect
from bursar.bus.identity import HomeError, load_home
from bursar.cli.agent import HomeOption, ServersOption, default_home, fail
from bursar.client.target import resolve
from bursar.contracts.base import admin_subject
from bursar.contracts.rights import SetRights
from bursar.kernel.rights import KINDS, RIGHTS, Rights, rows_of
from bursar.kernel.rights_file import read_rights

RULED: Final = ("limiter", "breaker", "gpu-manager", "scheduler")
"""Services that hand something out."""

FileArgument = Annotated[Path, typer.Argument(dir_okay=False, help="A file of rights.")]

commands = typer.Typer(
    name="rights",
    help="Who may use which budgets, models, GPUs and targets.\n\n\b\nExamples:\n  bursar rights check rights.toml\n"
    "  bursar rights apply rights.toml",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("check")
def check(
    file: FileArgument, who: Annotated[str, typer.Argument(help="Show what this principal may use.")] = ""
) -> None:
    """Read a file of rights; status 1 and the place if anything is wrong.

    \b
    Examples:
      bursar rights check rights.toml
      bursar rights check rights.toml alice
    """
    try:
        read = read_rights(file)
    except ValueError as error:
        fail(str(error))
    rights = Rights(rows_of(read.rules), closed=read.closed)
    if not who:
        typer.echo(f"{len(read.rules)} rules; what they do not speak of is {'closed' if read.closed else 'open'}")
        return
    for kind in KINDS:
        patterns = rights.patterns(who, kind)
        typer.echo(f"{kind}\t{'all' if patterns is None else ', '.join(patterns) or 'none'}")


@commands.command("apply")
def apply(
    file: FileArgument,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
) -> None:
    """Set the rights of all principals in all running services, at once. An empty file lifts all limits.

    \b
    `bursar up` sets those of the home's rights.toml (or of BURSAR_RIGHTS) whenever a service starts or takes over.

    \b
    Example:
      bursar rights apply .bursar/rights.toml
    """
    try:
        read = read_rights(file)
        found = load_home(home)
        target = resolve(nats, found.creds("ops"), home, None)
        changed = asyncio.run(_apply(target.url.split(","), target.creds, read))
    except (BusError, HomeError, ValueError) as error:
        fail(str(error))
    for service, answer in changed.items():
        typer.echo(f"{service}: {answer}")
    if any(answer.startswith("not set") for answer in changed.values()):
        raise typer.Exit(1)


async def _apply(urls: list[str], creds: Path, rights: SetRights) -> dict[str, str]:
    """What has become of it, by service."""
    bus = await connect(urls, creds, principal="ops", timeout=5.0)
    body = rights.model_dump(mode="json") | {"id": secrets.token_hex(8)}
    said = {}
    try:
        for service in RULED:
            try:
                answer = await bus.request(admin_subject(service, RIGHTS, "ops"), json.dumps(body).encode(), 5.0)
            except BusError as error:
                said[service] = f"not set: {error.text}"
                continue
            told = json.loads(answer.data)
            if wrong := told.get("error"):
                said[service] = f"not set: {wrong['text']}"
            else:
                said[service] = f"{told['rules']} rules" + ("" if told["changed"] else ", as before")
    finally:
        await bus.close()
    return said


def register(app: typer.Typer) -> None:
    app.add_typer(commands, short_help="Who may use which budgets, models, GPUs.")
