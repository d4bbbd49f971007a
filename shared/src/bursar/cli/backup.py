"""``bursar backup`` and ``bursar restore``: all state of an installation in one directory, and back.

::

    <directory>/backup.json          what there is, written last: without it there is no backup
    <directory>/<STREAM>.snapshot    one stream, as JetStream packs it
    <directory>/identities.sealed    with --identities: keys and credentials, sealed with a passphrase

The services go on meanwhile. Of each service the snapshots are copied before the journal, which then reaches at least
as far; it is tried again when the journal was purged beyond them in between. A backup is always older than what holders
have been told since: after a restore the services recognise it by the fences that are shown to them, and recover (see
ARCHITECTURE.md). It is put back into an empty server only, before any service starts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, HomeError, load_home
from bursar.bus.identity.keys import make_private_directory, write_private
from bursar.bus.identity.visit import visit
from bursar.bus.permissions import AUDIT, AUDIT_STREAM, journal_account, streams_of
from bursar.bus.server import NatsServer, ServerError, StoreInUse, StoreLock
from bursar.bus.server.binary import check_server
from bursar.bus.server.copying import Copied, CopyFailed, check_copy, copy_stream, put_back, rights
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.sealing import seal, unseal
from bursar.client.target import resolve
from bursar.errors import BursarError
from bursar.kernel.journal.jetstream import JetStreamJournal

FORMAT: Final = 1
VISITOR: Final = "backup"
TRIES: Final = 3
_SEALED: Final = "identities.sealed"

PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", help="File whose first line is the passphrase; default: ask.")
]


class Group(NamedTuple):
    """The streams of one account, in the order in which they are copied; ``service`` is empty for the audit log."""

    account: str
    service: str
    streams: tuple[str, ...]


def groups(home: Home) -> Iterator[Group]:
    for service in home.services:
        log, checkpoints, *inbox = streams_of(service)
        yield Group(journal_account(service), service, (checkpoints, log, *inbox))
    yield Group(AUDIT, "", (AUDIT_STREAM,))


# ---- commands


def backup(
    to: Annotated[Path, typer.Option(help="A new directory for the backup.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: Annotated[str | None, typer.Option("--nats", envvar="BURSAR_URL", help="The NATS servers.")] = None,
    identities: Annotated[bool, typer.Option("--identities", help="Keys and credentials, too, sealed.")] = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Copy all state into a new directory, while everything runs.

    \b
    Examples:
      bursar backup --to /backups/2026-11-22
      bursar backup --to /backups/2026-11-22 --identities --passphrase-file /run/secrets/passphrase
    """
    try:
        found = load_home(home)
        passphrase = _passphrase(passphrase_file, confirm=True) if identities else ""
        sealed = seal(found, passphrase) if identities else b""
        target = resolve(url, found.creds("ops"), home, None)
        for copied in asyncio.run(save(found, target.url.split(","), to, sealed)):
            typer.echo(f"{copied.stream}: {copied.state.get('messages', 0)} messages, {copied.size} bytes")
    except (BursarError, CopyFailed, HomeError, OSError) as error:
        fail(str(error))


def restore(
    source: Annotated[Path, typer.Option("--from", exists=True, file_okay=False, help="Directory of a backup.")],
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: Annotated[
        str | None, typer.Option("--nats", help="Empty servers that run; default: the embedded one of the home.")
    ] = None,
    stream_replicas: Annotated[
        int | None, typer.Option(min=1, max=5, help="Copies of each stream; default: as they were.")
    ] = None,
    identities: Annotated[bool, typer.Option("--identities", help="Keys and credentials first, unsealed.")] = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Put a backup back into an empty server, before any service runs.

    \b
    What was decided after the backup is lost. The services find that out from whoever shows them a later fence, and
    recover: nothing is granted twice before what was granted then is over.

    \b
    Examples:
      bursar restore --from /backups/2026-11-22                       # then: bursar up
      bursar restore --from /backups/2026-11-22 --identities --home /var/lib/bursar
      bursar restore --from /backups/2026-11-22 --nats tls://nats-1:4222 --stream-replicas 3
    """
    try:
        if identities:
            unseal((source / _SEALED).read_bytes(), _passphrase(passphrase_file), home)
        for copied in asyncio.run(_restored(load_home(home), url, source, stream_replicas)):
            typer.echo(f"{copied.stream}: {copied.state.get('messages', 0)} messages")
    except (BursarError, CopyFailed, HomeError, OSError, ServerError, StoreInUse) as error:
        fail(str(error))


def register(app: typer.Typer) -> None:
    app.command("backup", short_help="All state into a directory.")(backup)
    app.command("restore", short_help="And back, into an empty server.")(restore)


def _passphrase(file: Path | None, *, confirm: bool = False) -> str:
    if file is None:
        return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm))
    lines = file.read_text().splitlines()
    return lines[0] if lines else ""


# ---- the work


async def save(home: Home, urls: list[str], directory: Path, sealed: bytes = b"") -> list[Copied]:
    """Make a backup of everything; it exists when ``backup.json`` does."""
    _begin(directory)
    rows: list[dict[str, Any]] = []
    for group in groups(home):
        async with _visiting(home, group, urls) as bus:
            rows += [{"account": group.account, **one._asdict()} for one in await _saved(bus, group, directory)]
    if sealed:
        write_private(directory / _SEALED, sealed)
    head = {"format": FORMAT, "made_at": datetime.now(UTC).isoformat(timespec="seconds"), "streams": rows}
    write_private(directory / "backup.json", json.dumps(head, indent=2).encode() + b"\n")
    return [copied for _, copied in _listed(directory)]


def _begin(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise CopyFailed(f"{directory} is not empty: a backup has a directory of its own")
    make_private_directory(directory)


async def _saved(bus: NatsBus, group: Group, directory: Path) -> list[Copied]:
    for _ in range(TRIES):
        reached = 0
        if group.service:
            manifests = await JetStreamJournal(bus, group.service).manifests()
            reached = manifests[0].sequence if manifests else 0
        copies = [await copy_stream(bus, name, _fresh(directory, name)) for name in group.streams]
        if not group.service or copies[1].state.get("first_seq", 0) <= reached + 1:
            return copies
    raise CopyFailed(f"the journal of {group.service} is purged faster than it can be copied")


def _fresh(directory: Path, stream: str) -> Path:
    path = directory / f"{stream}.snapshot"
    path.unlink(missing_ok=True)
    return path


def _listed(directory: Path) -> list[tuple[str, Copied]]:
    """The account and the copy of each stream. Raises `CopyFailed` when this is no backup that can be read."""
    try:
        head = json.loads((directory / "backup.json").read_text())
        if head["format"] != FORMAT:
            raise CopyFailed(f"the backup has format {head['format']}, this version reads {FORMAT}")
        return [(row["account"], Copied(*(row[field] for field in Copied._fields))) for row in head["streams"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CopyFailed(f"{directory} holds no whole backup ({type(error).__name__})") from None


async def _restored(home: Home, url: str | None, source: Path, replicas: int | None) -> list[Copied]:
    if url:
        return await load(home, url.split(","), source, replicas)
    with StoreLock(home.path / "lock", str(home.path)):
        async with NatsServer(home) as server:
            return await load(home, [server.url], source, replicas)


async def load(home: Home, urls: list[str], source: Path, replicas: int | None = None) -> list[Copied]:
    """Put every stream of a backup back; all files are checked before the first one is."""
    listed = _listed(source)
    for _, copied in listed:
        check_copy(copied, source / f"{copied.stream}.snapshot")
    for group in groups(home):
        mine = [copied for account, copied in listed if account == group.account]
        async with _visiting(home, group, urls) as bus:
            for copied in mine:
                await put_back(bus, copied, source / f"{copied.stream}.snapshot", replicas)
    return [copied for _, copied in listed]


@asynccontextmanager
async def _visiting(home: Home, group: Group, urls: list[str]) -> AsyncIterator[NatsBus]:
    with visit(home, group.account, VISITOR, rights(group.streams)) as creds:
        bus = await connect(urls, creds, principal=VISITOR)
        try:
            check_server(bus)
            yield bus
        finally:
            await bus.close()
