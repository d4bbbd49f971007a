"""``bursar doctor``: what is wrong with an installation, and how to mend it.

It believes no file about what runs: versions, settings, permissions and streams are those that the running servers
tell, asked as the system account. It changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Annotated, NamedTuple

import typer

from bursar.bus.base import BusError
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, HomeError, load_home
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.doctor import fleet
from bursar.cli.doctor.asking import CONNECT_SECONDS, ask_servers
from bursar.cli.doctor.files import files
from bursar.cli.doctor.finding import Finding, faults, judged, table
from bursar.cli.doctor.servers import GiB, servers
from bursar.cli.doctor.streams import promised, rights, streams
from bursar.client.target import resolve


class Wanted(NamedTuple):
    """``replicas``: copies of each journal. ``instances``: of each service; 0: they need not run. ``min_free``: bytes
    left on the disk. ``max_offset_ms``: between the clocks of servers and this machine. ``clock``: this machine's
    (Unix seconds)."""

    replicas: int = 1
    instances: int = 1
    min_free: int = GiB
    max_offset_ms: int = 500
    clock: Callable[[], float] = time.time


async def examine(home: Home, urls: list[str], wanted: Wanted) -> list[Finding]:
    """Every rule's finding, faults and others. Takes seconds when something does not answer, and changes nothing."""
    found = [*files(home), await fleet.anonymous(urls)]
    accounts = list(home.trust().accounts)
    held = [await _enter(home, urls, principal) for principal in _doors(home)]
    try:
        found += [finding for _, finding in held]
        facts = await ask_servers(urls, home.creds("sys"), accounts, wanted.clock)
        if isinstance(facts, str):
            mend = "see that the server runs and trusts this home: `bursar trust` prints what it must be told"
            return [*found, judged("system_account", ", ".join(urls), False, facts, "answers to `sys`", mend)]
        found += servers(facts, wanted.max_offset_ms, wanted.min_free, promised(home))
        found += [*rights(facts, home), *streams(facts, home, wanted.replicas)]
        ops = held[0][0]
        if wanted.instances and ops is not None:
            found += await fleet.services(ops, home.services, wanted.instances)
    finally:
        for bus, _ in held:
            if bus is not None:
                await bus.close()
    return found


def _doors(home: Home) -> list[str]:
    """One principal of each account, the operators' first: a server loads an account when somebody comes."""
    return ["ops", "auditor", *(f"svc-{service}-log" for service in home.services)]


async def _enter(home: Home, urls: list[str], principal: str) -> tuple[NatsBus | None, Finding]:
    mend = "mint them again, or restart the server with the home's accounts"
    try:
        bus = await connect(urls, home.creds(principal), principal=principal, timeout=CONNECT_SECONDS)
    except BusError as error:
        return None, judged("entry", principal, False, error.text, "let in", mend)
    return bus, judged("entry", principal, True, "let in", "let in", mend)


def doctor(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: Annotated[
        str | None, typer.Option("--nats", envvar="BURSAR_URL", help="All NATS servers, with commas between.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies that each journal must have.")] = 1,
    instances: Annotated[int, typer.Option(min=0, help="Instances that each service must have; 0: do not ask.")] = 1,
    min_free: Annotated[float, typer.Option(min=0, help="GiB that the disk of the journals must have left.")] = 1.0,
    max_offset: Annotated[int, typer.Option(min=1, help="Milliseconds between clocks.")] = 500,
    every: Annotated[bool, typer.Option("--all", help="Show what is as it must be, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document with every finding.")] = False,
) -> None:
    """Examine the servers, streams, permissions, certificates, clocks, disks, services and files of an installation.

    \b
    It needs the home, whose `sys` credentials ask the servers. Status 0: nothing to mend; 1: something; it changes
    nothing.

    \b
    Examples:
      bursar doctor
      bursar doctor --replicas 3 --instances 2 --nats tls://nats-1:4222,tls://nats-2:4222,tls://nats-3:4222
      bursar doctor --json | jq '.findings[] | select(.level == "fault")'
    """
    try:
        found_home = load_home(home)
        target = resolve(url, found_home.creds("ops"), home, None)
        wanted = Wanted(replicas, instances, round(min_free * GiB), max_offset)
        found = asyncio.run(examine(found_home, target.url.split(","), wanted))
    except (BusError, HomeError, OSError) as error:
        fail(str(error))
    wrong = faults(found)
    if as_json:
        typer.echo(json.dumps({"ok": not wrong, "findings": [finding._asdict() for finding in found]}, indent=2))
    else:
        table(found if every else wrong, typer.echo)
        typer.echo(f"{len(found)} checks, {len(wrong)} to mend" if wrong else f"{len(found)} checks, nothing to mend")
    raise typer.Exit(1 if wrong else 0)


def register(app: typer.Typer) -> None:
    app.command("doctor", short_help="What is wrong with an installation, and how to mend it.")(doctor)
