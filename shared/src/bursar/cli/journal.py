"""``bursar journal``: what was decided, in words; the state at any time; proof that nothing is missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from bursar.bus.base import BusError
from bursar.bus.connection import connect
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.journal_check import explained, nothing_from, replayed, verdict
from bursar.client.target import resolve
from bursar.errors import BursarError
from bursar.kernel.decider import Decider
from bursar.kernel.entry import Entry, decode
from bursar.kernel.errors import CorruptEntry, KernelError
from bursar.kernel.journal.jetstream import JetStreamJournal

journal = typer.Typer(
    name="journal",
    help="""Look into a service's journal: every decision, in order, hash-chained.

\b
Examples:
  bursar journal show --last 20
  bursar journal replay --at 1234
  bursar journal decision agent-1.report-7
  bursar journal verify
""",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ServiceOption = Annotated[str, typer.Option("--service", help="Whose journal.")]
ShardOption = Annotated[int, typer.Option("--shard", min=0, max=15, help="Which shard.")]
UrlOption = Annotated[str | None, typer.Option("--url", help="NATS server; default: that of `bursar up` in the home.")]
CredsOption = Annotated[
    Path | None, typer.Option("--creds", help="Credentials of the service's log principal; default: from the home.")
]


@dataclass(frozen=True, slots=True)
class Place:
    """Which journal, and how to get there."""

    service: str
    shard: int
    home: Path
    url: str | None
    creds: Path | None


@journal.command("show")
def show(
    service: ServiceOption = "limiter",
    shard: ShardOption = 0,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
    start: Annotated[int, typer.Option("--from", min=0, help="First sequence to show.")] = 0,
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only the last so many entries.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per entry.")] = False,
) -> None:
    """List entries in words: sequence, fence, time, and each decision with its events. Status 1 when one is damaged.

    \b
    Examples:
      bursar journal show --last 20
      bursar journal show --from 1200 --json | jq .decisions
    """
    decider = decider_of(service)

    async def work(stored: JetStreamJournal) -> None:
        rows = [row async for row in stored.read(max(0, start - 1))]
        if not rows:
            typer.echo(await nothing_from(stored, start), err=True)
        damaged = False
        for sequence, payload in rows[-last:] if last else rows:
            try:
                entry = decode(payload)
            except CorruptEntry as error:
                damaged = True
                typer.echo(f"{sequence:>8}  WRONG: {error}", err=as_json)
                continue
            if as_json:
                typer.echo(json.dumps(_as_json(sequence, entry, decider)))
            else:
                _print(sequence, entry, decider)
        if damaged:
            raise typer.Exit(1)

    _run(Place(service, shard, home, url, creds), work)


@journal.command("replay")
def replay(
    service: ServiceOption = "limiter",
    shard: ShardOption = 0,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
    at: Annotated[int | None, typer.Option("--at", min=0, help="Sequence to stop after; default: the end.")] = None,
) -> None:
    """Rebuild the state as it was after any entry that is still stored, and print it as JSON.

    \b
    Examples:
      bursar journal replay
      bursar journal replay --at 1234 > before.json
    """
    decider = decider_of(service)

    async def work(stored: JetStreamJournal) -> None:
        follower = await replayed(stored, decider, at)
        folded = follower.folded
        state = {
            "sequence": follower.head.sequence,
            "hash": follower.head.hash.hex(),
            "fence": list(folded.fence),
            "time_ms": folded.time,
            "answers": len(folded.answers),
            "state": folded.decider.dump(folded.state),
        }
        typer.echo(json.dumps(state, default=_plain))

    _run(Place(service, shard, home, url, creds), work)


@journal.command("decision")
def decision(
    what: Annotated[str, typer.Argument(help="What was decided about: the id of a task.")],
    service: ServiceOption = "scheduler",
    shard: ShardOption = 0,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
) -> None:
    """Work out again from the journal how a task was placed, each time: who was chosen, who was not, the terms of each
    score, and what other workers lacked; one JSON object per decision. Status 1 when nothing is stored of it.

    \b
    Examples:
      bursar journal decision agent-1.report-7 | jq .chosen
    """
    decider = decider_of(service)

    async def work(stored: JetStreamJournal) -> None:
        records = await explained(stored, decider, what)
        for record in records:
            typer.echo(json.dumps(record, default=_plain))
        if not records:
            fail(f"the journal has no decision about {what} any more, or {service} explains none")

    _run(Place(service, shard, home, url, creds), work)


@journal.command("verify")
def verify(
    service: ServiceOption = "limiter",
    shard: ShardOption = 0,
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
) -> None:
    """Check the whole chain and every snapshot against it; status 1 when anything is wrong.

    \b
    Examples:
      bursar journal verify && echo sound
      bursar journal verify --service limiter --shard 0
    """
    decider = decider_of(service)

    async def work(stored: JetStreamJournal) -> None:
        if not await verdict(stored, decider, typer.echo):
            raise typer.Exit(1)

    _run(Place(service, shard, home, url, creds), work)


def register(app: typer.Typer) -> None:
    app.add_typer(journal)


def decider_of(service: str) -> Decider[Any]:
    """The rules of an installed service, for reading its events."""
    point = next((point for point in entry_points(group="bursar.services") if point.name == service), None)
    if point is None:
        fail(f"the service {service!r} is not installed here, so its journal cannot be read in words")
    decider: Decider[Any] = point.load().decider()
    return decider


# ---- printing


def _print(sequence: int, entry: Entry, decider: Decider[Any]) -> None:
    fence = f"{entry.incarnation}.{entry.epoch}.{entry.number}"
    typer.echo(f"{sequence:>8}  {fence:<14} {entry.time:>9} ms  {entry.kind}")
    for offset, row in enumerate(entry.decisions):
        who = f"{row.principal} {row.request_id}".strip() or "the clock"
        what = "; ".join(decider.describe(event) for event in row.events)
        typer.echo(f"          {entry.number + offset}: {who}: {what}")


def _as_json(sequence: int, entry: Entry, decider: Decider[Any]) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "kind": entry.kind,
        "fence": [entry.incarnation, entry.epoch, entry.number],
        "time_ms": entry.time,
        "decisions": [
            {
                "number": entry.number + offset,
                "principal": row.principal,
                "request_id": row.request_id,
                "events": [decider.describe(event) for event in row.events],
            }
            for offset, row in enumerate(entry.decisions)
        ],
    }


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


# ---- plumbing


@asynccontextmanager
async def _open(place: Place) -> AsyncIterator[JetStreamJournal]:
    principal = f"svc-{place.service}-log"
    target = resolve(place.url, place.creds or place.home / "creds" / f"{principal}.creds", place.home, None)
    bus = await connect(target.url.split(","), target.creds, principal=target.principal)
    try:
        yield JetStreamJournal(bus, place.service, place.shard)
    finally:
        await bus.close()


def _run(place: Place, work: Callable[[JetStreamJournal], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with _open(place) as stored:
            await work(stored)

    try:
        asyncio.run(main())
    except (BusError, BursarError, KernelError, OSError) as error:
        fail(str(error))
