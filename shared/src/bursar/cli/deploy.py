"""``bursar deploy``: what an installation on several machines or in containers needs, made and checked in one place."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Annotated

import typer

from bursar.audit.registrar import note
from bursar.bus.base import Bus, BusError
from bursar.bus.connection import connect
from bursar.bus.identity import Home, HomeError, create_home, load_home, mint_agent
from bursar.bus.permissions import AUDIT_PROVISIONER, SERVICES
from bursar.bus.server import ProvisionError, provision
from bursar.bus.server.binary import check_server
from bursar.bus.server.bundle import Plan, check_names, write_bundle
from bursar.bus.server.link import read_link, write_link
from bursar.bus.server.provision import provision_audit
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.ready import is_ready

deploy = typer.Typer(
    name="deploy",
    help="Several machines, or containers: identities, certificates, configurations, streams.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

UrlOption = Annotated[str, typer.Option("--nats", envvar="BURSAR_URL", help="The NATS servers.")]
WithinOption = Annotated[float, typer.Option(min=0, help="Seconds to keep trying.")]


@deploy.command("bundle")
def bundle(
    to: Annotated[Path, typer.Option(help="Directory for the bundle: one directory in it for each recipient.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    node: Annotated[list[str] | None, typer.Option(help="Name of a NATS server; several make a cluster.")] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="A further name or address under which the servers are reached.")
    ] = None,
    agent: Annotated[
        list[str] | None, typer.Option(help="An agent, NAME or NAME:ROLE; it is added to the home if need be.")
    ] = None,
    sites: Annotated[bool, typer.Option("--sites", help="Let edge sites link up, on port 7422.")] = False,
    link: Annotated[
        Path | None, typer.Option(help="This is an edge site: the directory that `bursar deploy link` made.")
    ] = None,
    owner: Annotated[str, typer.Option(metavar="UID:GID", help="Who the files shall belong to (as root).")] = "",
) -> None:
    """Make identities, certificates and server configurations, in one directory for each that needs them.

    What exists in the home is kept; certificates are made anew. The home signs everything: keep it apart.

    \b
    Examples:
      bursar deploy bundle --to bundle --node nats-1 --node nats-2 --node nats-3 --agent alice
      bursar deploy bundle --to bundle --node nats --host nats.example.org --agent gpu-host-1:node
      bursar deploy bundle --home oslo --to bundle --node nats --link link --agent cam-1
    """
    try:
        user = _owner(owner)
        nodes = node or ["nats"]
        check_names(nodes, [_name_of(one) for one in agent or ()], host or ())
        linked = None if link is None else read_link(link)
        made = create_home(home, SERVICES if linked is None else linked.own_services)
        agents = [_agent(made, one) for one in agent or ()]
        plan = Plan(nodes, [*Plan._field_defaults["hosts"], *(host or ())], agents, sites, linked)
        for path in write_bundle(made, plan, to, user):
            typer.echo(path)
    except (HomeError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write the bundle: {error}")


@deploy.command("link")
def link(
    to: Annotated[Path, typer.Option(help="Directory for what the site needs; bring it there.")],
    site: Annotated[str, typer.Option(help="Name of the edge site.")],
    agent: Annotated[list[str], typer.Option(help="An agent of the site; the link is for these and no others.")],
    service: Annotated[list[str], typer.Option(help="A service that the site shares with the centre.")],
    node: Annotated[list[str], typer.Option(help="A NATS server of the centre, as the site reaches it.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
) -> None:
    """At the centre: make the link of an edge site, whose own services decide all but what is named here.

    The centre's servers have to let sites link up (`bursar deploy bundle --sites`). A link that is made again has new
    credentials.

    \b
    Example:
      bursar deploy link --site oslo --agent cam-1 --agent cam-2 --service limiter --node nats.example.org --to link
    """
    try:
        write_link(load_home(home), site, agent, service, node, to)
    except (HomeError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot write the link: {error}")
    typer.echo(to)


def _owner(told: str) -> tuple[int, int] | None:
    if not told:
        return None
    if (found := re.fullmatch(r"(\d+):(\d+)", told)) is None:
        raise HomeError("--owner takes two numbers, such as 10001:10001")
    return int(found[1]), int(found[2])


def _name_of(told: str) -> str:
    return told.partition(":")[0]


def _agent(home: Home, told: str) -> str:
    name, _, role = told.partition(":")
    if not home.creds(name).exists():
        note(home, "add", name, role=role or "agent")
        mint_agent(home, name, role=role or "agent")
    return name


@deploy.command("streams")
def streams(
    nats: UrlOption,
    creds_dir: Annotated[
        Path, typer.Option(help="Where the credentials of the provisioners are: of a bundle or home.")
    ],
    replicas: Annotated[int, typer.Option(min=1, max=5, help="Copies of each journal.")] = 3,
    within: WithinOption = 60.0,
) -> None:
    """Create the streams of all services and of the audit log, or verify that they are as they must be.

    \b
    Example:
      bursar deploy streams --nats tls://nats-1:4222,tls://nats-2:4222 --creds-dir bundle/provisioner --replicas 3
    """
    found = {path.stem: path for path in sorted(creds_dir.glob("*-provisioner.creds"))}
    if not found:
        fail(f"there are no credentials *-provisioner.creds in {creds_dir}")
    try:
        asyncio.run(_streams(nats.split(","), found, replicas, within))
    except (BusError, ProvisionError) as error:
        fail(str(error))


async def _streams(urls: list[str], creds: dict[str, Path], replicas: int, within: float) -> None:
    deadline = time.monotonic() + within
    for principal, path in creds.items():
        service = principal.removeprefix("svc-").removesuffix("-provisioner")
        bus = await connect(urls, path, principal=principal, timeout=max(within, 1.0))
        try:
            check_server(bus)
            await _provision(bus, None if principal == AUDIT_PROVISIONER.name else service, replicas, deadline)
        finally:
            await bus.close()
        typer.echo(f"{service}: its streams are there, {replicas} copies each")


async def _provision(bus: Bus, service: str | None, replicas: int, deadline: float) -> None:
    """The streams of a service, or (None) of the audit log; a young cluster refuses until its servers have met."""
    while True:
        try:
            await (provision_audit(bus, replicas) if service is None else provision(bus, service, replicas))
            return
        except ProvisionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)


@deploy.command("check")
def check(
    nats: UrlOption,
    creds: Annotated[Path, typer.Option(envvar="BURSAR_CREDS", help="Credentials of the operator `ops`.")],
    replicas: Annotated[int, typer.Option(min=1, help="Instances that each service must have.")] = 2,
    within: WithinOption = 60.0,
) -> None:
    """Ask every service of a running installation something ordinary; status 1 when one does not answer.

    \b
    Example:
      bursar deploy check --nats tls://localhost:4222 --creds bundle/operator/ops.creds
    """
    try:
        silent = asyncio.run(_check(nats.split(","), creds, replicas, within))
    except BusError as error:
        fail(str(error))
    if silent:
        fail(f"no answer within {within:g} s, or fewer than {replicas} instances: {', '.join(silent)}")


async def _check(urls: list[str], creds: Path, replicas: int, within: float) -> list[str]:
    """The services that did not answer."""
    bus = await connect(urls, creds, principal="ops", timeout=max(within, 1.0))
    deadline, waiting = time.monotonic() + within, list(SERVICES)
    try:
        while waiting:
            for service in list(waiting):
                if await is_ready(bus, service, replicas) and await _answers(bus, service):
                    waiting.remove(service)
                    typer.echo(f"{service}: {replicas} instances, answers")
            if time.monotonic() > deadline:
                break
    finally:
        await bus.close()
    return waiting


async def _answers(bus: Bus, service: str) -> bool:
    """Does the one that decides tell its status?"""
    try:
        answer = await bus.request(f"bursar.req.{service}.status.ops", b"{}", 2.0)
        return bool(json.loads(answer.data).get("ok"))
    except (BusError, ValueError):
        return False


def register(app: typer.Typer) -> None:
    app.add_typer(deploy)
