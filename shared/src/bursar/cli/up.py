"""``bursar up``: a whole installation on this machine, from nothing to serving.

Order of things: the home and its keys, the lock, the NATS server, the streams, the services, and when each service
answers, the probes of this host, the workers that `autoscale` starts, and how to connect. Stopping goes backwards:
workers drain, then the services, then the server ends. A server, a service, a probe or a worker that ends by itself is
started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from bursar.bus.base import BusError
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, HomeError, create_home, keys
from bursar.bus.permissions import AUDIT_PROVISIONER, provisioner
from bursar.bus.server import NatsServer, ProvisionError, ServerError, StoreInUse, StoreLock, provision
from bursar.bus.server.binary import check_server
from bursar.bus.server.provision import provision_audit
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.autoscale import Autoscaler, Wanted, creds_of, wanted_of
from bursar.cli.context import write_contexts
from bursar.cli.probes import are_cards, host_creds, host_name, probes
from bursar.cli.ready import is_ready, metadata_of
from bursar.cli.services import Installed, child, discover, rules_files
from bursar.cli.supervise import Backoff, ChildSpec, Supervisor

Echo = Callable[[str], None]
DEFAULT_PORT = 4222
PAGE_TOKEN = "page.token"  # noqa: S105 - the file, beside the monitor's keys, where it keeps the token of its page


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What the command line asked for; ``nats`` None means the embedded server. ``budgets``, ``circuits``, ``rules``:
    files of rules of limiter, breaker and monitor. ``probes``: run those of this host; ``gpus``: simulated cards;
    ``autoscale``: pools of workers that run here."""

    home: Path
    port: int = DEFAULT_PORT
    nats: str | None = None
    creds_dir: Path | None = None
    replicas: int = 1
    stream_replicas: int = 1
    budgets: Path | None = None
    circuits: Path | None = None
    rules: Path | None = None
    probes: bool = False
    gpus: str = ""
    context: str = "bursar"
    autoscale: tuple[Wanted, ...] = ()
    ready_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Site:
    """What runs where: the home, the server's address, where the credentials are, the installed services."""

    home: Home
    url: str
    creds_dir: Path
    services: list[Installed]


Port = Annotated[int, typer.Option(min=0, max=65_535, help="Port of the embedded NATS server; 0 takes a free one.")]
Nats = Annotated[str | None, typer.Option(help="Use this NATS server instead of an embedded one.")]
CredsDir = Annotated[Path | None, typer.Option(help="With --nats: where the .creds files of the principals are.")]
Replicas = Annotated[int, typer.Option(min=1, max=8, help="Processes per service: one decides, the others stand by.")]
Copies = Annotated[int, typer.Option(min=1, max=5, help="Copies of each journal; more than 1 needs a NATS cluster.")]
_FILE: Any = {"exists": True, "dir_okay": False}
Budgets = Annotated[Path | None, typer.Option(envvar="BURSAR_BUDGETS", help="The limiter's budgets (TOML).", **_FILE)]
Circuits = Annotated[Path | None, typer.Option(envvar="BURSAR_CIRCUITS", help="The breaker's rules (TOML).", **_FILE)]
Rules = Annotated[Path | None, typer.Option(envvar="BURSAR_RULES", help="The monitor's alert rules (TOML).", **_FILE)]
NoProbes = Annotated[bool, typer.Option("--no-probes", help="Do not watch this machine's CPU, memory, disk and GPUs.")]
Gpus = Annotated[str, typer.Option(metavar="2x24GiB", help="Simulated GPUs to hand out, instead of this machine's.")]
Autoscale = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[POOL=]MODULE:WORKER",
        help="Run as many processes of this worker as the monitor says (pool: workers); again for another pool.",
    ),
]
Most = Annotated[int | None, typer.Option(min=1, max=1_000, help="Never more of them here (default: 4 for each CPU).")]
Context = Annotated[str, typer.Option(help="Name of the context for the nats tool; '' writes none.")]


def up(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    port: Port = DEFAULT_PORT,
    nats: Nats = None,
    creds_dir: CredsDir = None,
    replicas: Replicas = 1,
    stream_replicas: Copies = 1,
    budgets: Budgets = None,
    circuits: Circuits = None,
    rules: Rules = None,
    no_probes: NoProbes = False,
    gpus: Gpus = "",
    autoscale: Autoscale = None,
    autoscale_most: Most = None,
    context: Context = "bursar",
) -> None:
    """Run everything on this machine: NATS server, streams, services. Ctrl-C stops all of it.

    \b
    State is kept in --home and survives restarts; the first start makes keys and credentials. Files of rules may lie
    there, too: budgets.toml, circuits.toml, rules.toml.

    \b
    Examples:
      bursar up
      bursar up --replicas 2 --budgets budgets.toml --circuits circuits.toml --rules rules.toml
      bursar up --gpus 2x24GiB
      bursar up --autoscale my_module:worker          # as `bursar worker run` takes it
      bursar up --home /var/lib/bursar --port 0
      bursar up --nats nats://nats.example:4222 --creds-dir /etc/bursar/creds --stream-replicas 3
    """
    if gpus and (no_probes or not are_cards(gpus)):
        fail("--gpus takes cards such as 2x24GiB, and goes without --no-probes")
    try:
        pools = tuple(wanted_of(text, autoscale_most) for text in autoscale or ())
    except ValueError as error:
        fail(str(error))
    options = UpOptions(
        home, port, nats, creds_dir, replicas, stream_replicas, budgets, circuits, rules, not no_probes, gpus, context,
        pools,
    )  # fmt: skip
    try:
        asyncio.run(run(options, _say))
    except (BusError, HomeError, ProvisionError, ServerError, StoreInUse) as error:
        fail(str(error))
    except OSError as error:
        fail(f"cannot work in {home}: {error}")


def register(app: typer.Typer) -> None:
    app.command("up", short_help="Run everything on this machine.")(up)


async def run(options: UpOptions, echo: Echo, stop: asyncio.Event | None = None) -> None:
    """Bring everything up, stay until ``stop`` is set (default: SIGINT or SIGTERM), take everything down."""
    stop = stop or _stop_on_signals()
    services = discover()
    if not services:
        echo("no service is installed (pip install bursar-limiter): running the NATS server alone")
    keys.make_private_directory(options.home)
    with StoreLock(options.home / "lock", str(options.home.absolute())) as lock:
        home = create_home(options.home, (s.name for s in services))
        creds_dir = (options.creds_dir or home.creds_dir).absolute()
        async with _nats(options, home, lock, echo) as url:
            await _provision(url, creds_dir, services, options.stream_replicas)
            await _serve(Site(home, url, creds_dir, services), options, echo, stop)
    echo("stopped")


async def _serve(site: Site, options: UpOptions, echo: Echo, stop: asyncio.Event) -> None:
    """Run the services until ``stop``."""
    supervisor = Supervisor(echo)
    files = rules_files(
        options.home, {"limiter": options.budgets, "breaker": options.circuits, "monitor": options.rules}
    )
    try:
        for service in site.services:
            for number in range(1, options.replicas + 1):
                supervisor.start(child(service, number, site.home, site.url, site.creds_dir, files))
        async with _operator(site) as bus:
            all_ready = await _await_services(site, bus, options, echo, stop)
            metrics = await _metrics(site, bus, options.replicas) if all_ready and not stop.is_set() else []
        if site.creds_dir == site.home.creds_dir:
            supervisor.start(_keeper(site))
        if options.probes and not stop.is_set():
            _start_probes(site, options, supervisor, echo)
        if all_ready:
            _tell_how(site, options, metrics, echo)
        async with _workers(site, options, echo):
            await stop.wait()
    finally:
        echo("stopping")
        await supervisor.stop()


def _keeper(site: Site) -> ChildSpec:
    """The process that keeps the audit log (`bursar audit keep`): it signs with keys of the home."""
    command = (sys.executable, "-m", "bursar.cli.child", str(os.getpid()), "bursar.cli.main", "audit", "keep")
    return ChildSpec("audit", (*command, "--home", str(site.home.path), "--nats", site.url), {})


def _start_probes(site: Site, options: UpOptions, supervisor: Supervisor, echo: Echo) -> None:
    """Those of this host, as a principal that is named after it."""
    found = probes(options.gpus)
    creds = host_creds(site.home, options.creds_dir)
    if found and creds is None:
        name = host_name()
        echo(f"this host is not watched: {site.creds_dir} has no {name}.creds (bursar agent add {name} --role node)")
        return
    for probe in found:
        assert creds is not None
        supervisor.start(probe.child(site.url, creds, os.getpid()))
        echo(f"{probe.name} started as {creds.stem} ({probe.watches})")


@contextlib.asynccontextmanager
async def _workers(site: Site, options: UpOptions, echo: Echo) -> AsyncIterator[None]:
    """The pools that are to run here, until the block ends; then they are drained, while the services still answer."""
    if not options.autoscale:
        yield
        return
    async with _operator(site) as bus:
        creds = creds_of(site.home, options.creds_dir)
        pools = [Autoscaler(bus, wanted, creds, site.url, echo) for wanted in options.autoscale]
        following = [asyncio.create_task(pool.follow(), name="autoscale") for pool in pools]
        try:
            yield
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
            echo("draining the workers")
            await asyncio.gather(*(pool.stop() for pool in pools))


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def _nats(options: UpOptions, home: Home, lock: StoreLock, echo: Echo) -> AsyncIterator[str]:
    """The address of a running NATS server: the given one, or an embedded one that is kept running."""
    if options.nats:
        with StoreLock(_run_dir(home) / "lock", str(home.path)) as place:
            for held in (lock, place):
                held.describe(None, options.nats)
            yield options.nats
        return
    server = NatsServer(home, port=options.port)
    began = time.monotonic()
    await server.start()
    lock.describe(server.pid, server.url)
    echo(f"NATS server ready at {server.url} ({time.monotonic() - began:.1f} s), every append fsynced")
    keeper = asyncio.create_task(_keep(server, echo))
    try:
        yield server.url
    finally:
        keeper.cancel()
        await server.stop()


def _run_dir(home: Home) -> Path:
    """Where clients on this machine look for the address (the lock of the server, or its stand-in)."""
    directory = home.path / "run"
    keys.make_private_directory(directory)
    return directory


async def _keep(server: NatsServer, echo: Echo) -> None:
    """Start the server again whenever it ends."""
    backoff, rng, quick_ends = Backoff(), random.Random(), 0
    while True:
        began = time.monotonic()
        status = await server.wait()
        quick_ends = 1 if time.monotonic() - began >= backoff.stable else quick_ends + 1
        echo(f"the NATS server ended (status {status}); starting it again")
        await asyncio.sleep(backoff.pause(quick_ends, rng))
        try:
            await server.restart()
            echo(f"NATS server ready at {server.url}")
        except (ServerError, StoreInUse) as error:
            echo(f"the NATS server does not start: {error}")


async def _provision(url: str, creds_dir: Path, services: list[Installed], replicas: int) -> None:
    for service in services:
        principal = provisioner(service.name).name
        bus = await connect(url.split(","), creds_dir / f"{principal}.creds", principal=principal)
        try:
            check_server(bus)
            await provision(bus, service.name, replicas)
        finally:
            await bus.close()
    creds = creds_dir / f"{AUDIT_PROVISIONER.name}.creds"
    if not creds.exists():
        return
    bus = await connect(url.split(","), creds, principal=AUDIT_PROVISIONER.name)
    try:
        await provision_audit(bus, replicas)
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def _operator(site: Site) -> AsyncIterator[NatsBus]:
    bus = await connect(site.url.split(","), site.creds_dir / "ops.creds", principal="ops")
    try:
        yield bus
    finally:
        await bus.close()


async def _await_services(site: Site, bus: NatsBus, options: UpOptions, echo: Echo, stop: asyncio.Event) -> bool:
    """Say of each service when it answers; True when all do in time."""
    began = time.monotonic()
    waiting = [service.name for service in site.services]
    while waiting and not stop.is_set() and time.monotonic() - began < options.ready_timeout:
        for name in list(waiting):
            if await is_ready(bus, name, options.replicas):
                waiting.remove(name)
                echo(f"{name} ready ({options.replicas} running, {time.monotonic() - began:.1f} s)")
    if waiting and not stop.is_set():
        echo(f"no answer yet from {', '.join(waiting)}: see the lines above; still trying")
    return not waiting


async def _metrics(site: Site, bus: NatsBus, wanted: int) -> list[str]:
    """Where the monitor's instances serve Prometheus' page; none when it is not installed, or told not to."""
    if "monitor" not in {service.name for service in site.services}:
        return []
    return [url for url in await metadata_of(bus, "monitor", "metrics", wanted, 2.0) if url != "off"]


def _pages(site: Site, metrics: list[str]) -> list[str]:
    """Where the monitor's page is, with its token: whoever may read the keys may look."""
    try:
        token = (site.home.service_dir("monitor") / PAGE_TOKEN).read_text(encoding="ascii").strip()
    except OSError:
        return []
    return [f"{url.removesuffix('metrics')}?token={token}" for url in metrics]


def _tell_how(site: Site, options: UpOptions, metrics: list[str], echo: Echo) -> None:
    home = shlex.quote(str(site.home.path))
    creds = shlex.quote(str(site.home.creds("alice")))
    written = write_contexts(site.home.path, options.context, site.url, site.creds_dir / "ops.creds")
    reach = f"--context {options.context}" if len(written) > 1 else f"--context {shlex.quote(str(written[0]))}"
    page = "".join(f"\n  Dashboard       {url}" for url in _pages(site, metrics))
    prometheus = "".join(f"\n  {'' if number else 'Metrics':<14}  {url}" for number, url in enumerate(metrics))
    echo(_CONNECT.format(url=site.url, home=home, creds=creds, reach=reach, metrics=page + prometheus))


_CONNECT = """
Bursar is up: {url}, state in {home}

  Watch           bursar top --home {home}{metrics}
  Look inside     nats {reach} req bursar.req.limiter.status.ops '{{"v":1}}'
                  nats {reach} sub 'bursar.evt.>' --translate 'bursar decode'
                  nats {reach} micro ls
  Add an agent    bursar agent add alice --home {home}
                  bursar agent add worker-1 --role worker --home {home}
                  bursar agent add gpu-host-1 --role node --home {home}     # the probes of another host
  Use it          export BURSAR_URL={url} BURSAR_CREDS={creds}

                  async with bursar.connect() as fleet:
                      async with fleet.limiter.reserve("demo", input_tokens=800, output_tokens=200) as permit:
                          ...  # call the provider, then permit.settle(...)

Ctrl-C stops everything.
"""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
