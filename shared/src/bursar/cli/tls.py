"""``bursar tls``: certificates for an installation, made and renewed on this machine while everything runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from bursar.bus.base import BusError
from bursar.bus.identity import Home, HomeError, create_home, load_home
from bursar.bus.identity.certificates import LEAF_DAYS, clients_of, new_authority, own_hosts, write_for, write_own
from bursar.bus.server.binary import ServerError
from bursar.bus.server.system import reload_servers
from bursar.cli.agent import HomeOption, ServersOption, default_home, fail
from bursar.client.target import resolve

DaysOption = Annotated[int, typer.Option(min=1, max=3_650, help="How long the certificates are good for.")]
ALWAYS = ("localhost", "127.0.0.1")

commands = typer.Typer(
    name="tls",
    help="Certificates: TLS 1.3 on every link, with a certificate on both ends.\n\n\b\nExamples:\n  bursar tls init\n"
    "  bursar tls init --host nats.example.org --client gpu-host-1\n  bursar tls rotate",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("init")
def init(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    host: Annotated[
        list[str] | None, typer.Option(help="A name or IPv4 address under which the server is reached, too.")
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="Somebody on another machine who is to have a certificate.")
    ] = None,
    days: DaysOption = LEAF_DAYS,
) -> None:
    """Make an authority, a certificate of this machine's server, and one of those who connect from here.

    \b
    From the next start on `bursar up` speaks TLS 1.3 alone, and asks everybody for a certificate. Who uses the home's
    credentials here finds the files by itself; on another machine the three files of tls/clients/NAME go beside the
    credentials, or are named by BURSAR_TLS_CA, BURSAR_TLS_CERT and BURSAR_TLS_KEY. All files are private (0600).

    \b
    Examples:
      bursar tls init
      bursar tls init --host nats.example.org --host 10.0.0.7
      bursar tls init --client gpu-host-1 --client alice
    """
    try:
        made = create_home(home)
        hosts = list(dict.fromkeys([*ALWAYS, *(own_hosts(made) or ()), *(host or ())]))
        if host or own_hosts(made) is None:
            for path in write_own(made, hosts, days):
                typer.echo(path)
        for name in client or ():
            typer.echo(write_for(made, name, days))
    except HomeError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write the certificates: {error}")


@commands.command("authority")
def authority(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
) -> None:
    """Make another authority, which the running servers trust from now on, beside the one before it.

    \b
    The first of two steps: bring the new ca.pem to all other machines, then `bursar tls rotate` makes certificates that
    it has signed. The authority before the last one is trusted no more.

    \b
    Examples:
      bursar tls authority
      bursar tls rotate
    """
    try:
        found = load_home(home)
        _hosts(found)
        new_authority(found)
    except HomeError as error:
        fail(str(error))
    typer.echo(found.path / "tls" / "ca.pem")
    _reload(found, nats)


@commands.command("rotate")
def rotate(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    days: DaysOption = LEAF_DAYS,
    nats: ServersOption = None,
) -> None:
    """Make all certificates anew and have the running servers use them, without a restart.

    \b
    Connections go on as they are. Whoever connects next, clients and servers of a cluster alike, shows and is shown the
    new certificates. The directories of tls/clients have to be brought to their machines again.

    \b
    Examples:
      bursar tls rotate
      bursar tls rotate --days 30 --nats tls://nats-1:4222,tls://nats-2:4222
    """
    try:
        found = load_home(home)
        hosts = _hosts(found)
        written = [*write_own(found, hosts, days), *(write_for(found, name, days) for name in clients_of(found))]
    except HomeError as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write the certificates: {error}")
    for path in written:
        typer.echo(path)
    _reload(found, nats)


def _hosts(home: Home) -> list[str]:
    hosts = own_hosts(home)
    if hosts is None:
        raise HomeError(f"{home.path} has no certificates: `bursar tls init` makes them")
    return hosts


@commands.command("reload")
def reload(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
) -> None:
    """Have the running servers read their files again: after certificates of a bundle have been brought to them.

    \b
    Example:
      bursar tls reload --nats tls://nats-1:4222,tls://nats-2:4222,tls://nats-3:4222
    """
    try:
        _reload(load_home(home), nats)
    except HomeError as error:
        fail(str(error))


def _reload(home: Home, nats: str | None) -> None:
    urls = resolve(nats, home.creds("ops"), home.path, None).url.split(",")
    try:
        names = asyncio.run(reload_servers(urls, home))
    except BusError as error:
        typer.echo(f"No server was reached ({error.text}): they are used from its next start on.", err=True)
        if nats:
            raise typer.Exit(1) from None
    except ServerError as error:
        fail(str(error))
    else:
        typer.echo(f"In use by {', '.join(names)}.", err=True)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, short_help="Certificates for every link.")
