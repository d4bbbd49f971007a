"""``bursar audit``: who was given what, refused what, and who has overridden it; and proof that this is all."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bursar.audit import registrar
from bursar.audit.anchors import read_anchors
from bursar.audit.checking import Check
from bursar.audit.record import AuditCorrupt, Record, decode, unpack
from bursar.bus.identity import Home, HomeError, load_home
from bursar.bus.identity.keys import write_private
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.audit.keeper import Changed, Keeper
from bursar.cli.audit.reading import Stored, auditor, created, exported, imported, read
from bursar.cli.journal import decider_of
from bursar.client.target import resolve
from bursar.errors import BursarError
from bursar.kernel.errors import KernelError

T = TypeVar("T")

audit = typer.Typer(
    name="audit",
    help="""Look into the audit log, and prove that nothing in it was changed.

\b
Examples:
  bursar audit show --last 20
  bursar audit verify && echo sound
  bursar audit export --to audit.jsonl
""",
    no_args_is_help=True,
    rich_markup_mode=None,
)

UrlOption = Annotated[str | None, typer.Option("--nats", envvar="BURSAR_URL", help="The NATS servers.")]
AnchorsOption = Annotated[
    Path | None,
    typer.Option(
        "--anchors", envvar="BURSAR_ANCHORS", help="File of signed heads; default: <home>/audit/anchors.jsonl."
    ),
]
FileOption = Annotated[Path | None, typer.Option("--file", exists=True, help="An export, instead of the stream.")]


@audit.command("show")
def show(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only the last so many records.")] = None,
    kind: Annotated[str, typer.Option(help="Only act, refused, grants, gap or credential.")] = "",
    who: Annotated[str, typer.Option(help="Only what this principal did or was given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a record.")] = False,
    file: FileOption = None,
) -> None:
    """List records in words, oldest first.

    \b
    Examples:
      bursar audit show --kind act --last 50
      bursar audit show --who alice --json | jq .what
    """
    found = load(home)
    _, rows = _run(_stored(found, url, file))
    records = [(row.sequence, record) for row in rows if (record := _record(row)) is not None]
    chosen = [(at, one) for at, one in records if kind in ("", one.kind) and _concerns(one, who)]
    for at, record in chosen[-last:] if last else chosen:
        typer.echo(json.dumps({"sequence": at, **_plain(record)}) if as_json else _words(at, record))


@audit.command("verify")
def verify(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    anchors: AnchorsOption = None,
    file: FileOption = None,
) -> None:
    """Check every record, and the whole against the heads that were anchored outside; status 1 when anything is wrong.

    \b
    Examples:
      bursar audit verify --anchors /mnt/elsewhere/anchors.jsonl
      bursar audit verify --file audit.jsonl
    """
    found = load(home)
    at, rows = _run(_stored(found, url, file))
    check = checked(found, at, rows, anchors or default_anchors(found))
    for finding in check.findings:
        typer.echo(f"{'WRONG' if finding.bad else 'note '} {finding.sequence}: {finding.text}")
    typer.echo(f"{'sound' if check.is_sound else 'NOT SOUND'}: {len(rows)} records of {len(check.heads)} writers")
    raise typer.Exit(0 if check.is_sound else 1)


@audit.command("export")
def export(
    to: Annotated[Path, typer.Option(help="File to write.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
) -> None:
    """Write all records into a file, as they are, so that they can be shown and verified without the servers.

    \b
    Example:
      bursar audit export --to audit-2026-11.jsonl
    """
    at, rows = _run(_stored(load(home), url, None))
    write_private(to, "".join(f"{line}\n" for line in exported(at, rows)).encode())
    typer.echo(f"{to}: {len(rows)} records")


@audit.command("keep")
def keep(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    anchors: AnchorsOption = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between rounds.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="One round, anchored, and the end.")] = False,
) -> None:
    """Take grants over from the journals, ship what was done to the home, anchor the heads; `bursar up` runs it.

    \b
    Examples:
      bursar audit keep --anchors /mnt/elsewhere/anchors.jsonl
      bursar audit keep --once
    """
    found = load(home)
    target = resolve(url, found.creds("ops"), home, None)
    keeper = Keeper(found, target.url.split(","), anchors or default_anchors(found), decider_of)
    _run(_keep(keeper, every, once))


def register(app: typer.Typer) -> None:
    app.add_typer(audit)


def load(home: Path) -> Home:
    try:
        return load_home(home)
    except HomeError as error:
        fail(str(error))


def default_anchors(home: Home) -> Path:
    return registrar.directory(home) / "anchors.jsonl"


def checked(home: Home, at: str, rows: list[Stored], anchors: Path) -> Check:
    """Everything that can be held against these records; ``at``: when their stream was made."""
    keys = registrar.keys(home)
    check = Check(keys)
    for row in rows:
        check.feed(*row)
    try:
        for anchor in read_anchors(anchors, keys[registrar.ANCHOR]):
            check.compare(f"anchor {anchor.number} of {anchor.at}", at, anchor.created, anchor.heads)
    except BursarError as error:
        check.object(0, f"{anchors}: {error.text}")
    return check


async def _stored(home: Home, url: str | None, file: Path | None) -> tuple[str, list[Stored]]:
    if file is not None:
        return imported(file)
    target = resolve(url, home.creds("auditor"), home.path, None)
    async with auditor(target.url.split(","), target.creds) as bus:
        return await created(bus), [row async for row in read(bus)]


async def _keep(keeper: Keeper, every: float, once: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    while not (once or stop.is_set()):
        try:
            await keeper.round()
        except (BursarError, KernelError) as error:
            typer.echo(f"the audit log could not be kept just now: {error}", err=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every)
    await keeper.round(last=True)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (BursarError, Changed, HomeError, KernelError, OSError) as error:
        fail(str(error))


# ---- words


def _record(row: Stored) -> Record | None:
    try:
        return decode(row.payload)[0]
    except AuditCorrupt as error:
        typer.echo(f"{row.sequence}: WRONG: {error.text}", err=True)
        return None


def _concerns(record: Record, who: str) -> bool:
    if who in ("", record.who):
        return True
    named = [row[1] for row in unpack(record)] + [row["who"] for row in record.what.get("requests", ())]
    return who in named or record.what.get("act", {}).get("name") == who


def _plain(record: Record) -> dict[str, Any]:
    at = datetime.fromtimestamp(record.time / 1000, UTC).isoformat(timespec="milliseconds")
    return {"at": at, **record._asdict(), "prev": record.prev.hex(), "what": _what(record)}


def _what(record: Record) -> dict[str, Any]:
    return {**record.what, **({"decisions": unpack(record)} if "decisions" in record.what else {})}


def _words(at: int, record: Record) -> str:
    told = {key: value for key, value in _what(record).items() if key != "stand"}
    when = datetime.fromtimestamp(record.time / 1000, UTC).isoformat(timespec="seconds")
    head = f"{at:>8}  {when}  {record.kind:<10} {record.writer} {record.who}"
    rows = [f"          {row[0]}: {row[1]} {row[2]}: {'; '.join(row[3])}" for row in told.pop("decisions", [])]
    return "\n".join([head, *rows, f"          {json.dumps(told, default=str)}"])
