"""Backup and restore of a real installation: everything is there again, and what is older is known to be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bursar.bus.base import NoResponders
from bursar.bus.connection import connect
from bursar.bus.identity import Home, HomeError, create_home
from bursar.bus.server import NatsCluster, NatsServer
from bursar.bus.server.copying import CopyFailed
from bursar.cli.backup import groups, load, save
from bursar.cli.doctor import examine
from bursar.cli.doctor.finding import faults
from bursar.cli.main import build
from bursar.cli.sealing import seal, unseal
from bursar.contracts.base import request_subject
from tests.integration.doctor_site import settle
from tests.integration.support import Instance
from tests.integration.test_doctor import ALONE

pytestmark = pytest.mark.integration


@asynccontextmanager
async def limiter(home: Home, url: str, directory: Path, data: str) -> AsyncIterator[Instance]:
    """A limiter as owner; ``data``: the name of its data directory."""
    env = {
        "BURSAR_URL": url,
        "BURSAR_CREDS": str(home.creds("svc-limiter")),
        "BURSAR_LOG_CREDS": str(home.creds("svc-limiter-log")),
        "BURSAR_KEYS_DIR": str(home.service_dir("limiter")),
    }
    instance = Instance(data, "bursar_limiter", directory, env)
    instance.start()
    try:
        await instance.becomes("owner")
        yield instance
    finally:
        instance.kill()


async def ask(home: Home, url: str, verb: str, **body: Any) -> dict[str, Any]:
    """One request of the operator."""
    bus = await connect(url.split(","), home.creds("ops"), principal="ops")
    try:
        subject = request_subject("limiter", verb, "ops")
        for _ in range(200):
            with contextlib.suppress(NoResponders):
                answer = await bus.request(subject, json.dumps({"v": 1, **body}).encode(), 5.0)
                if not (answer.headers or {}).get("Nats-Service-Error-Code"):
                    return dict(json.loads(answer.data))
            await asyncio.sleep(0.1)
        raise AssertionError(f"{verb} is not answered")
    finally:
        await bus.close()


async def reserve(home: Home, url: str, number: int, **more: Any) -> dict[str, Any]:
    return await ask(home, url, "reserve", id=f"r-{number}", budget="demo", amounts={"requests": 1}, **more)


async def test_everything_is_there_again_in_an_empty_cluster(tmp_path: Path) -> None:
    """A backup of one server, put back into three that are empty, with three copies: the same journal, so that a retry
    gets the answer that it got then, and nothing for the doctor to say."""
    home = create_home(tmp_path / "home", ("limiter",))
    async with NatsServer(home) as server:
        await settle(home, server.url)
        async with limiter(home, server.url, tmp_path, "before"):
            first = await reserve(home, server.url, 1)
            await save(home, [server.url], tmp_path / "backup")
    async with NatsCluster(tmp_path / "cluster", home=home) as cluster:
        await load(home, cluster.urls, tmp_path / "backup", replicas=3)
        async with limiter(home, cluster.url, tmp_path, "before"):
            assert await reserve(home, cluster.url, 1) == first
        assert faults(await examine(home, cluster.urls, ALONE._replace(replicas=3))) == []


async def test_an_older_backup_is_known_to_be_older(tmp_path: Path) -> None:
    """A holder shows the fence of a grant that the backup does not hold: the service recovers, in a new incarnation,
    and grants nothing before what was granted then is over."""
    home = create_home(tmp_path / "home", ("limiter",))
    async with NatsServer(home) as server:
        await settle(home, server.url)
        async with limiter(home, server.url, tmp_path, "a"):
            await reserve(home, server.url, 1)
            await save(home, [server.url], tmp_path / "backup")
            later = await reserve(home, server.url, 2)
    shutil.rmtree(home.store_dir)
    async with NatsServer(home) as server:
        await load(home, [server.url], tmp_path / "backup")
        async with limiter(home, server.url, tmp_path, "elsewhere") as fresh:
            assert (await ask(home, server.url, "status"))["fence"].startswith("1."), "its store looks healthy"
            answer = await reserve(home, server.url, 3, seen=later["fence"])
            assert answer["fence"].startswith("2.")
            assert not answer["ok"], "what was lost may still be in use"
            assert fresh.roles[-2:] == ["recovering", "owner"]


async def test_what_is_damaged_or_not_empty_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """All files are checked first; a stream that exists is never replaced."""
    home = create_home(tmp_path / "home", ("limiter",))
    async with NatsServer(home) as server:
        await settle(home, server.url)
        await save(home, [server.url], tmp_path / "backup")
        with pytest.raises(CopyFailed, match="is not empty"):
            await save(home, [server.url], tmp_path / "backup")
        with pytest.raises(CopyFailed, match="BURSAR_CKPT_LIMITER: "):
            await load(home, [server.url], tmp_path / "backup")
    shutil.rmtree(home.store_dir)
    last = tmp_path / "backup" / f"{list(groups(home))[-1].streams[-1]}.snapshot"
    last.write_bytes(last.read_bytes()[:-1])
    async with NatsServer(home) as server:
        with pytest.raises(CopyFailed, match=r"BURSAR_AUDIT\.snapshot is damaged"):
            await load(home, [server.url], tmp_path / "backup")
        page = await server.monitor("jsz?streams=true&accounts=true")
        assert page["streams"] == 0
    head = json.loads((tmp_path / "backup" / "backup.json").read_text())
    (tmp_path / "backup" / "backup.json").write_text(json.dumps(head | {"format": 99}))
    with pytest.raises(CopyFailed, match="format 99, this version reads 1"):
        await load(home, [], tmp_path / "backup")


async def test_the_commands_move_an_installation_to_another_machine(tmp_path: Path) -> None:
    """Identities and streams, from the home of one to an empty directory, with the embedded server of each."""
    home = create_home(tmp_path / "home", ("limiter",))
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse battery\n")
    async with NatsServer(home) as server:
        await settle(home, server.url)
        async with limiter(home, server.url, tmp_path, "a"):
            first = await reserve(home, server.url, 1)
        where = ("--home", str(home.path), "--nats", server.url)
        await _bursar("backup", "--to", str(tmp_path / "b"), *where, "--identities", "--passphrase-file", str(phrase))
    away = Home(tmp_path / "away")
    options = ("--home", str(away.path), "--identities", "--passphrase-file", str(phrase))
    told = await _bursar("restore", "--from", str(tmp_path / "b"), *options)
    assert "BURSAR_LOG_LIMITER" in told
    async with NatsServer(away) as server, limiter(away, server.url, tmp_path, "b"):
        assert await reserve(away, server.url, 1) == first
    assert {path.stat().st_mode & 0o077 for path in away.path.rglob("*") if path.suffix in {".nk", ".creds"}} == {0}


async def _bursar(*arguments: str) -> str:
    app = build(["bursar.cli.backup"])
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"BURSAR_URL": None})
    assert done.exit_code == 0, done.output
    return done.output


def test_identities_open_with_their_passphrase_alone(tmp_path: Path) -> None:
    """A wrong one, a changed byte and a home that exists are refused, and nothing is written."""
    home = create_home(tmp_path / "home", ("limiter",))
    with pytest.raises(HomeError, match="at least 12"):
        seal(home, "short")
    sealed = seal(home, "correct horse battery")
    assert home.creds("ops").read_bytes() not in sealed
    for content, phrase in ((sealed, "correct horse batter"), (sealed[:-1] + b"x", "correct horse battery")):
        with pytest.raises(HomeError, match="wrong, or the file is damaged"):
            unseal(content, phrase, tmp_path / "other")
    with pytest.raises(HomeError, match="another version"):
        unseal(b"bursar-identities-9\n", "correct horse battery", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(HomeError, match="already"):
        unseal(sealed, "correct horse battery", home.path)
