"""``bursar callout``: let in workloads that have tokens of Kubernetes or of an OIDC provider instead of credentials."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from bursar.bus.base import BusError
from bursar.bus.identity import HomeError, create_home
from bursar.bus.server.binary import ServerError
from bursar.bus.server.system import tell_accounts
from bursar.cli.agent import HomeOption, ServersOption, default_home, fail
from bursar.client.target import resolve
from bursar.telemetry.logs import to_stderr

commands = typer.Typer(
    name="callout",
    help="Workloads with tokens of Kubernetes or of an OIDC provider.\n\n\b\nExamples:\n"
    "  bursar callout init --to callout\n  bursar callout run --keys callout --issuers issuers.toml",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.command("init")
def init(
    to: Annotated[Path, typer.Option(help="A directory for what the callout needs; keep it as you keep the home.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    nats: ServersOption = None,
) -> None:
    """Make the account AUTH with its two principals, and the directory of keys that a callout runs with.

    \b
    The file that is printed, visitor.creds, is for all workloads: it is no secret, and lets nobody do anything by
    itself. A workload sets BURSAR_CREDS to it, BURSAR_TOKEN_FILE to its token and BURSAR_PRINCIPAL to its name here.

    \b
    Example:
      bursar callout init --to /etc/bursar/callout
    """
    from bursar.callout.keys import enable, write

    try:
        made = create_home(home)
        enable(made)
        write(made, to)
        urls = resolve(nats, made.creds("ops"), home, None).url.split(",")
        typer.echo(made.creds("visitor"))
        asyncio.run(tell_accounts(urls, made))
    except BusError as error:
        typer.echo(f"No server was reached ({error.text}): it will know when it starts.", err=True)
        if nats:
            raise typer.Exit(1) from None
    except (HomeError, ServerError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write the keys: {error}")


@commands.command("run")
def run(
    keys: Annotated[Path, typer.Option(exists=True, file_okay=False, help="What `bursar callout init` has written.")],
    issuers: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Whose tokens count, and for whom (TOML).")
    ],
    nats: Annotated[str, typer.Option(envvar="BURSAR_URL", help="The NATS servers.")] = "nats://127.0.0.1:4222",
) -> None:
    """Answer the servers' questions until it is stopped. Several share the work.

    \b
    Example:
      bursar callout run --keys /etc/bursar/callout --issuers issuers.toml --nats tls://nats-1:4222
    """
    try:
        from bursar.callout.serving import serve
        from bursar.callout.verifying import Verifier, read_issuers
    except ModuleNotFoundError as error:
        fail(f"{error.name} is not installed; the callout needs: pip install 'bursar[callout]'")
    to_stderr("callout", "", "INFO")

    async def main() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        return await serve(nats.split(","), keys, Verifier(read_issuers(issuers)), stop)

    try:
        status = asyncio.run(main())
    except (BusError, HomeError, ValueError) as error:
        fail(str(error))
    raise typer.Exit(status)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, short_help="Workloads with tokens of others.")
