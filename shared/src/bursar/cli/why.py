"""``bursar why``: why a task waits, or where it is; asked of the scheduler by an operator."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from bursar.bus.base import BusError
from bursar.bus.connection import connect
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.client.caller import Caller
from bursar.client.errors import NoCredentials
from bursar.client.scheduler import read_reply
from bursar.client.scheduler_errors import SchedulerUnavailable
from bursar.client.target import Target, resolve
from bursar.client.time import SystemClock
from bursar.contracts.base import admin_subject
from bursar.contracts.scheduler import SERVICE
from bursar.contracts.scheduler_explain import Rated, WhyReply
from bursar.errors import BursarError

OPERATOR = "ops"
PATIENCE_MS = 5_000.0


def why(
    task: Annotated[str, typer.Argument(help="The task: <submitter>.<name>.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: Annotated[str | None, typer.Option(help="NATS server; that of the running `bursar up` unless given.")] = None,
    creds: Annotated[
        Path | None, typer.Option(help="Credentials of an operator; those in the home unless given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All that is known, as one JSON object.")] = False,
) -> None:
    """Say why a task waits: what it waits for, which workers may have it, what each of the others lacks.

    \b
    Examples:
      bursar why writer.report-2026
      bursar why writer.report-2026 --json | jq .holds
    """
    try:
        told = asyncio.run(_ask(resolve(url, creds, home, None if creds else OPERATOR), task))
    except (BusError, NoCredentials, BursarError) as error:
        fail(error.text)
    typer.echo(json.dumps(told.model_dump()) if as_json else in_lines(told))


def register(app: typer.Typer) -> None:
    app.command("why", short_help="Say why a task waits.")(why)


def in_lines(told: WhyReply) -> str:
    """The answer, a line for each worker that does not get it, and the placement with its alternatives."""
    lines = [f"{told.task} is {told.state}: {told.text}"]
    lines += [f"  {hold.worker} ({hold.kind}): {hold.lacks}" for hold in told.holds]
    if told.decision is not None:
        chosen = told.decision.chosen
        lines.append(f"  chosen: {_score(chosen)}")
        lines += [f"  rejected: {_score(rated)}" for rated in told.decision.rejected]
    return "\n".join(lines)


def _score(rated: Rated) -> str:
    terms = ", ".join(f"{name} {value}" for name, value in rated.terms.items() if value)
    return f"{rated.worker} {rated.score_us} us ({terms})"


async def _ask(target: Target, task: str) -> WhyReply:
    bus = await connect(target.url.split(","), target.creds, principal=target.principal, timeout=5.0)
    clock = SystemClock()
    caller = Caller(bus, SERVICE, clock, subject=admin_subject, unavailable=SchedulerUnavailable)
    try:
        await caller.start()
        call = caller.query("why-any", {"task": task})
        return read_reply(WhyReply, await caller.run(call, clock.now() + PATIENCE_MS))
    finally:
        await caller.close()
        await bus.close()
