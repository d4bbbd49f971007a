"""``bursar trust``: what a NATS server of one's own must be told to know the identities of a home."""

from __future__ import annotations

import json
from collections.abc import Iterator

import typer

from bursar.bus.identity import HomeError, create_home, load_home
from bursar.bus.server.config import authorization
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.services import discover


def trust(home: HomeOption = default_home()) -> None:  # noqa: B008 - read once, at start
    """Print the part of a nats-server configuration that makes it know this home's accounts and agents.

    \b
    For `bursar up --nats URL`: put the output into a file and include it in the configuration of each server.
    It holds public keys and signed permissions, no secrets. Print it again when services have been added.

    \b
    Example:
      bursar trust --home /var/lib/bursar > /etc/nats/bursar-trust.conf
    """
    try:
        found = load_home(home)
    except HomeError as error:
        fail(str(error))
    create_home(found.path, (service.name for service in discover()))
    for line in _lines(authorization(found.trust())):
        typer.echo(line)


def register(app: typer.Typer) -> None:
    app.command("trust", short_help="Configuration for a NATS server of your own.")(trust)


def _lines(config: dict[str, object]) -> Iterator[str]:
    """One setting a line, in the server's own format: an included file is no JSON document."""
    for key, value in config.items():
        yield f"{key}: {json.dumps(value)}"
