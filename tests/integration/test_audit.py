"""The audit log of a running service: what is in it, that without it nothing is overridden, and that changes show."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from bursar.audit import registrar
from bursar.audit.record import ACT, CREDENTIAL, GRANTS, REFUSED, Record, decode, unpack
from bursar.bus.base import NoResponders
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.identity.visit import visit
from bursar.bus.permissions import AUDIT, AUDIT_STREAM
from bursar.bus.server import NatsServer
from bursar.cli.audit import checked, default_anchors
from bursar.cli.audit.keeper import Changed, Keeper
from bursar.cli.audit.reading import Stored, auditor, created, read
from bursar.cli.journal import decider_of
from bursar.cli.main import build
from bursar.contracts.base import admin_subject, request_subject
from tests.integration.doctor_site import settle
from tests.integration.support import Instance

pytestmark = pytest.mark.integration
NO_ENV = {"BURSAR_URL": None, "BURSAR_ANCHORS": None}
RULES = [{"who": ["bob"], "budgets": ["nothing-of-that-name"]}, {"who": ["ops"], "budgets": ["*"]}]


class Site(NamedTuple):
    """A limiter with an audit log, its home, its server and two who ask."""

    home: Home
    server: NatsServer
    ops: NatsBus
    bob: NatsBus

    async def order(self, verb: str, **body: Any) -> dict[str, Any]:
        return await _ask(self.ops, admin_subject("limiter", verb, "ops"), body)

    async def reserve(self, bus: NatsBus, name: str) -> dict[str, Any]:
        subject = request_subject("limiter", "reserve", bus.principal)
        return await _ask(bus, subject, {"id": name, "budget": "demo", "amounts": {"requests": 1}})

    async def rows(self) -> tuple[str, list[Stored]]:
        async with auditor([self.server.url], self.home.creds("auditor")) as bus:
            return await created(bus), [row async for row in read(bus)]

    async def records(self, kind: str) -> list[Record]:
        records = [decode(row.payload)[0] for row in (await self.rows())[1]]
        return [record for record in records if record.kind == kind]

    def keeper(self) -> Keeper:
        return Keeper(self.home, [self.server.url], default_anchors(self.home), decider_of)

    async def has_refused(self) -> None:
        """Wait until refusals are written, which they are in batches."""
        async with asyncio.timeout(15):
            while not await self.records(REFUSED):  # noqa: ASYNC110 - the stream tells nobody
                await asyncio.sleep(0.1)


async def _ask(bus: NatsBus, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = await bus.request(subject, json.dumps({"v": 1, **body}).encode(), 10.0)
    return dict(json.loads(answer.data))


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Site]:
    home = create_home(directory / "home", ("limiter",))
    mint_agent(home, "bob")
    async with NatsServer(home) as server:
        await settle(home, server.url)
        env = {
            "BURSAR_URL": server.url,
            "BURSAR_CREDS": str(home.creds("svc-limiter")),
            "BURSAR_LOG_CREDS": str(home.creds("svc-limiter-log")),
            "BURSAR_KEYS_DIR": str(home.service_dir("limiter")),
            "BURSAR_AUDIT": "true",
        }
        instance = Instance("a", "bursar_limiter", directory, env)
        instance.start()
        buses = [await connect(server.url, home.creds(name), principal=name) for name in ("ops", "bob")]
        try:
            await instance.becomes("owner")
            site = Site(home, server, *buses)
            await _until_it_listens(site)
            yield site
        finally:
            instance.kill()
            for bus in buses:
                await bus.close()


async def _until_it_listens(site: Site) -> None:
    async with asyncio.timeout(15):
        while True:
            with contextlib.suppress(NoResponders):
                if "ok" in await _ask(site.ops, "bursar.req.limiter.status.ops", {}):
                    return
            await asyncio.sleep(0.05)


async def test_who_was_given_what_and_who_has_overridden_it(tmp_path: Path) -> None:
    """Acts of operators stand there before they are decided, without secrets; refusals of policy a second later;
    grants and what was done to credentials after a round of the keeper, once however often it goes round."""
    async with running(tmp_path) as site:
        answer = await site.order("rights", id="o-1", rules=RULES)
        assert answer["ok"], answer
        [act] = await site.records(ACT)
        assert (act.writer, act.who, act.what["on"]) == ("limiter", "ops", "bursar.adm.limiter.rights.ops")
        assert act.what["request"]["id"] == "o-1"
        assert (await site.reserve(site.ops, "r-1"))["ok"]
        assert (await site.reserve(site.bob, "r-1"))["error"]["code"] == "forbidden"
        await site.has_refused()
        [refused] = await site.records(REFUSED)
        [request] = refused.what["requests"]
        assert (request["who"], request["code"]) == ("bob", "forbidden")
        registrar.note(site.home, "add", "carol", role="agent")
        for _ in range(2):
            await site.keeper().round(last=True)
        given = [row for record in await site.records(GRANTS) for row in unpack(record)]
        assert [(who, name) for _, who, name, _ in given if who == "ops"] == [("ops", "o-1"), ("ops", "r-1")]
        [made] = await site.records(CREDENTIAL)
        assert (made.what["act"]["act"], made.what["act"]["name"]) == ("add", "carol")


async def test_nothing_is_overridden_that_cannot_be_recorded(tmp_path: Path) -> None:
    """Without the audit log an order is refused and changes nothing; ordinary requests go on."""
    async with running(tmp_path) as site:
        async with _intruder(site) as bus:
            await _api(bus, f"STREAM.DELETE.{AUDIT_STREAM}")
        answer = await site.order("rights", id="o-1", rules=RULES)
        assert answer["error"]["code"] == "audit_unavailable", answer
        assert (await site.reserve(site.bob, "r-1"))["ok"], "the rights that were refused do not hold"
    (tmp_path / "home" / "audit").write_text("a file where the directory would be")
    with pytest.raises(Exception, match="nothing was done"):
        registrar.note(Home(tmp_path / "home"), "add", "carol")


Rows = list[Stored]
CHANGES: dict[str, tuple[Callable[[Rows], Rows], str]] = {
    "edit": (lambda rows: [rows[0], _edited(rows[1]), *rows[2:]], "has not signed this"),
    "delete": (lambda rows: [*rows[:1], *rows[2:]], "follows number"),
    "reorder": (lambda rows: [rows[1], rows[0], *rows[2:]], "this is not what limiter wrote"),
    "truncate": (lambda rows: rows[:-1], "cut off"),
    "re-create": (lambda rows: rows, "the stream was made anew"),
}


async def test_every_change_shows(tmp_path: Path) -> None:
    """Whoever holds the account itself can replace its stream. A record edited, taken out, moved, the newest cut off,
    or the same stream made anew: each is found, and the keeper anchors none of it."""
    async with running(tmp_path) as site:
        for number in range(3):
            await site.order("rights", id=f"o-{number}", rules=RULES[: number % 2 + 1])
        await site.keeper().round(last=True)
        at, rows = await site.rows()
        assert checked(site.home, at, rows, default_anchors(site.home)).is_sound
        for name, (change, words) in CHANGES.items():
            await _replace(site, change(rows))
            check = checked(site.home, *await site.rows(), default_anchors(site.home))
            assert not check.is_sound, name
            assert any(words in finding.text for finding in check.findings), (name, check.findings)
        await _replace(site, CHANGES["edit"][0](rows))
        with pytest.raises(Changed, match="has not signed this"):
            await site.keeper().round(last=True)


def _edited(row: Stored) -> Stored:
    return row._replace(payload=row.payload.replace(b"ops", b"bob"))


async def _replace(site: Site, rows: Rows) -> None:
    async with _intruder(site) as bus:
        await _api(bus, f"STREAM.DELETE.{AUDIT_STREAM}")
        await settle(site.home, site.server.url)
        for row in rows:
            assert "error" not in json.loads((await bus.request(row.subject, row.payload, 5.0)).data)


@asynccontextmanager
async def _intruder(site: Site) -> AsyncIterator[NatsBus]:
    """Somebody with the key of the account AUDIT."""
    with visit(site.home, AUDIT, "intruder", ["$JS.API.>", "bursar.audit.>"]) as creds:
        bus = await connect(site.server.url, creds, principal="intruder")
        yield bus
        await bus.close()


async def _api(bus: NatsBus, verb: str) -> None:
    answer = json.loads((await bus.request(f"$JS.API.{verb}", b"", 5.0)).data)
    assert "error" not in answer, answer


async def test_the_commands(tmp_path: Path) -> None:
    """Kept once, verified against the stream and against an export, which needs no server; an export that was changed
    is not sound."""
    async with running(tmp_path) as site:
        await site.order("rights", id="o-1", rules=RULES)
        where = ("--home", str(site.home.path))
        there = (*where, "--nats", site.server.url)
        await _keep_once(*there)
        assert "sound: " in await _bursar("verify", *there)
        file = tmp_path / "export.jsonl"
        await _bursar("export", "--to", str(file), *there)
    told = await _bursar("show", "--file", str(file), "--who", "ops", "--json", *where)
    assert {json.loads(line)["kind"] for line in told.splitlines()} == {ACT, GRANTS}
    assert "sound: " in await _bursar("verify", "--file", str(file), *where)
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")
    assert "NOT SOUND" in await _bursar("verify", "--file", str(file), *where, status=1)


async def _bursar(*arguments: str, status: int = 0) -> str:
    """A command that handles no signals, in a thread of this process."""
    done = await asyncio.to_thread(CliRunner().invoke, build(["bursar.cli.audit"]), ["audit", *arguments], env=NO_ENV)
    assert done.exit_code == status, done.output
    return done.output


async def _keep_once(*arguments: str) -> None:
    command = [sys.executable, "-m", "bursar.cli.main", "audit", "keep", "--once", *arguments]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
