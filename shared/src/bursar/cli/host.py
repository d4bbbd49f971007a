"""``bursar host``: who has leased what of which host, what is really used of it, and what agents may lease."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from bursar.bus.base import Bus, BusError
from bursar.bus.connection import connect
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.top_view import size as bytes_in_words
from bursar.client.caller import Caller
from bursar.client.errors import NoCredentials
from bursar.client.gpu_asking import read
from bursar.client.host_errors import HostUnavailable
from bursar.client.target import resolve
from bursar.client.time import SystemClock
from bursar.contracts.base import admin_subject, request_subject
from bursar.contracts.monitor import SERVICE
from bursar.contracts.monitor_picture import StatusReply
from bursar.contracts.monitor_quota import LeaseRow, PoolRow, QuotaSet
from bursar.errors import BursarError

OPERATOR: Final = "ops"
PATIENCE_MS: Final = 5_000.0
UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}

T = TypeVar("T")

HELP: Final = """Leases of hosts: CPU, memory and disk.

\b
Examples:
  bursar host leases
  bursar host quota 'team-a-*' --cpu 4 --memory 8GiB --weight 200
"""

app = typer.Typer(help=HELP, no_args_is_help=True)

UrlOption = Annotated[str | None, typer.Option(help="NATS server; that of the running `bursar up` unless given.")]
CredsOption = Annotated[Path | None, typer.Option(help="Credentials of an operator; those in the home unless given.")]


@app.command("leases")
def leases(
    host: Annotated[str, typer.Argument(help="Of this host alone.")] = "",
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per lease and pool.")] = False,
) -> None:
    """Who has leased what: the guarantee, the limit now (more is borrowed, less is lent), and what is really used; and
    how full each pool of memory is."""

    async def ask(bus: Bus, caller: Caller) -> tuple[list[LeaseRow], list[PoolRow]]:
        found = []
        for section in ("leases", "pools"):
            call = caller.query("status", {"only": section})
            found.append(read(StatusReply, (await caller.run(call, SystemClock().now() + PATIENCE_MS)).body))
        return found[0].leases, found[1].pools

    rows, pools = _run(ask, request_subject, home, url, creds)
    rows = [row for row in rows if host in {"", row.host}]
    pools = [pool for pool in pools if host in {"", pool.host}]
    if as_json:
        for one in (*rows, *pools):
            typer.echo(json.dumps(one.model_dump()))
        return
    typer.echo("\n".join([*map(in_words, rows), *map(pool_in_words, pools)]) or "no leases, and no host is heard")


@app.command("quota")
def quota(
    agent: Annotated[str, typer.Argument(help="An agent, or the beginning of names with a *.")],
    cpu: Annotated[float | None, typer.Option(help="Cores that it may lease on a host, together.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory, such as 8GiB.")] = None,
    disk: Annotated[str | None, typer.Option(help="Disk, such as 100GiB.")] = None,
    weight: Annotated[int, typer.Option(min=1, max=10_000, help="Its part of what is lent, beside others.")] = 100,
    forget: Annotated[bool, typer.Option("--forget", help="It has no quota of its own any more.")] = False,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
) -> None:
    """Say what an agent may lease on a host; it counts for what is asked for from now on, the weight at once."""
    try:
        fields = {
            "agent": agent,
            "weight": None if forget else weight,
            "cpu_milli": None if cpu is None else round(cpu * 1_000),
            "memory_bytes": None if memory is None else size_of(memory),
            "disk_bytes": None if disk is None else size_of(disk),
        }
    except ValueError as error:
        fail(str(error))

    async def ask(bus: Bus, caller: Caller) -> QuotaSet:
        return read(QuotaSet, (await caller.ask("set-quota", fields, SystemClock().now() + PATIENCE_MS)).body)

    told = _run(ask, admin_subject, home, url, creds)
    typer.echo(f"{told.agent}: {'no quota of its own' if forget else 'set'}")


def register(main: typer.Typer) -> None:
    main.add_typer(app, name="host", short_help="Leases of hosts: CPU, memory, disk.")


def in_words(row: LeaseRow) -> str:
    """One lease in one line."""
    parts = [f"{row.agent} on {row.host}:"]
    if row.cpu_milli or row.limit_cpu_milli:
        parts.append(
            f"CPU {_cores(row.used_cpu_milli)} of {_cores(row.limit_cpu_milli)} ({_cores(row.cpu_milli)} leased),"
        )
    if row.memory_bytes or row.limit_memory_bytes:
        used, limit, leased = (
            bytes_in_words(one) for one in (row.used_memory_bytes, row.limit_memory_bytes, row.memory_bytes)
        )
        parts.append(f"memory {used} of {limit} ({leased} leased),")
    if row.disk_bytes:
        parts.append(f"disk {bytes_in_words(row.used_disk_bytes)} of {bytes_in_words(row.disk_bytes)},")
    parts.append(f"held by {row.held_by}, {row.left_ms / 1_000:.0f} s left ({row.lease})")
    return " ".join(parts)


def pool_in_words(row: PoolRow) -> str:
    """One pool in one line."""
    used, budget = bytes_in_words(row.used_bytes), bytes_in_words(row.budget_bytes)
    return f"pool {row.pool} of {row.host}: {used} of {budget} ({row.used_permille / 10:.0f} %)"


def size_of(text: str) -> int:
    """Bytes: ``8GiB``, ``512MiB``, ``1000``. Raises `ValueError`."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([KMGT]iB)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no size: write it as 8GiB or 512MiB")
    return int(float(match[1]) * UNITS[match[2] or ""])


def _cores(milli: int | None) -> str:
    return "?" if milli is None else f"{milli / 1_000:g}"


def _run(
    ask: Callable[[Bus, Caller], Awaitable[T]], subject: Any, home: Path, url: str | None, creds: Path | None
) -> T:
    """What the monitor answers; ends the process with a sentence when it does not."""

    async def talk() -> T:
        target = resolve(url, creds, home, None if creds else OPERATOR)
        bus = await connect(target.url.split(","), target.creds, principal=target.principal, timeout=5.0)
        caller = Caller(bus, SERVICE, SystemClock(), subject=subject, unavailable=HostUnavailable)
        try:
            await caller.start()
            return await ask(bus, caller)
        finally:
            await caller.close()
            await bus.close()

    try:
        return asyncio.run(talk())
    except (BusError, NoCredentials, BursarError) as error:
        fail(error.text)
