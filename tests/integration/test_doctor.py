"""`bursar doctor` finds what is wrong with a real installation, names nothing else, and is silent about a sound one."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bursar.bus.connection import connect
from bursar.bus.identity import create_home
from bursar.bus.identity.certificates import issue
from bursar.bus.server import NatsCluster, NatsServer, ServerOptions, StreamSizes
from bursar.bus.server.provision import MiB
from bursar.bus.signing import Signer
from bursar.cli.doctor import Wanted, examine
from bursar.cli.doctor.finding import Finding, faults
from tests.bus.support import free_port
from tests.integration.doctor_site import Site, edit_stream, old_server, options_of, settle, site, with_rights
from tests.integration.support import ROOT

pytestmark = pytest.mark.integration
ALONE = Wanted(instances=0, min_free=0)
"""The services need not run, and the disk may be full: the machine of a test is anybody's."""

Changed = Callable[[ServerOptions], ServerOptions]
Found = dict[str, list[Finding]]


async def wrong(place: Site, wanted: Wanted = ALONE) -> Found:
    """The faults that are found, by rule."""
    found: Found = {}
    for fault in faults(await examine(place.home, place.urls, wanted)):
        assert fault.mend, f"{fault.check} does not say how to mend it"
        found.setdefault(fault.check, []).append(fault)
    return found


async def test_nothing_is_wrong_with_a_sound_installation(tmp_path: Path) -> None:
    """No rule has anything against what `bursar up` makes."""
    async with site(tmp_path) as place:
        assert await wrong(place) == {}


def extra(**settings: object) -> Changed:
    return lambda options: replace(options, extra={**options.extra, **settings})


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda options: replace(options, fsync=False), "sync_interval"),
        (lambda options: replace(options, host="0.0.0.0"), "tls"),
        (extra(max_payload=8 * MiB), "max_payload"),
        (extra(ping_interval="2m"), "ping_interval"),
        (extra(write_deadline="40s"), "write_deadline"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_server_that_is_not_set_up_as_it_must_be(tmp_path: Path, change: Changed, check: str) -> None:
    """What counts is what the running server says, whatever its file does."""
    async with site(tmp_path, change) as place:
        assert set(await wrong(place)) == {check}


async def test_accounts_that_are_promised_more_than_there_is(tmp_path: Path) -> None:
    """An account whose share does not fit gets no JetStream, so that its streams cannot be made."""
    place = await _home(tmp_path)
    shutil.rmtree(place.home.store_dir)
    async with NatsServer(options=replace(options_of(place.home), max_file_store=40 * 1024**3)) as server:
        found = await wrong(Site(place.home, [server.url]))
    assert [fault.wanted for fault in found["jetstream_limits"]] == ["48 GiB"]
    assert set(found) == {"jetstream_limits", "stream"}


async def test_a_server_that_is_too_old(tmp_path: Path) -> None:
    """The floor is that of the services, which would not start on it."""
    async with old_server(tmp_path, "2.14.9") as place:
        found = await wrong(place)
        assert set(found) == {"server_version"}
        assert found["server_version"][0].found == "2.14.9"


async def test_rights_that_the_home_does_not_give(tmp_path: Path) -> None:
    """The accounts in force are compared role by role with the tables of permissions."""

    def more(options: ServerOptions) -> ServerOptions:
        return with_rights(options, place_home, "agent", "$JS.API.>")

    place_home = (await _home(tmp_path)).home
    async with NatsServer(options=more(options_of(place_home))) as server:
        await settle(place_home, server.url)
        found = await wrong(Site(place_home, [server.url]))
    assert set(found) == {"permissions"}
    assert [(fault.subject, fault.found) for fault in found["permissions"]] == [("AGENTS", "role agent differs")]


async def _home(directory: Path) -> Site:
    async with site(directory) as place:
        return place


async def test_a_stream_that_somebody_has_changed(tmp_path: Path) -> None:
    """A journal that forgets by age has lost its promise."""
    async with site(tmp_path) as place:
        await edit_stream(place, "limiter", "BURSAR_LOG_LIMITER", max_age=3_600_000_000_000)
        found = await wrong(place)
        assert set(found) == {"stream_settings"}
        assert "max_age is 3600000000000" in found["stream_settings"][0].found


async def test_a_stream_that_is_missing(tmp_path: Path) -> None:
    """Streams are those of all services of the home."""
    async with site(tmp_path) as place:
        shutil.copytree(place.home.path, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "jetstream")
    home = type(place.home)(tmp_path / "other")
    async with NatsServer(options=options_of(home)) as server:
        found = await wrong(Site(home, [server.url]))
    assert set(found) == {"stream"}
    assert len(found["stream"]) == 6


async def test_fewer_copies_than_wanted(tmp_path: Path) -> None:
    """Three copies are asked for, and one is there."""
    async with site(tmp_path) as place:
        assert set(await wrong(place, ALONE._replace(replicas=3))) == {"stream_replicas"}


async def test_a_journal_that_is_almost_full(tmp_path: Path) -> None:
    """At 70 % it is time to look, since a full one refuses everything."""
    async with site(tmp_path, sizes=StreamSizes(log=2 * MiB)) as place:
        home = place.home
        bus = await connect(place.urls, home.creds("svc-limiter-log"), principal="svc-limiter-log")
        for _ in range(2):
            await bus.request("bursar.log.limiter.0", bytes(800_000), 5.0)
        await bus.close()
        found = await wrong(place)
    assert [fault.subject for fault in found["stream_room"]] == ["BURSAR_LOG_LIMITER"]
    assert set(found) == {"stream_room", "stream_settings"}, "its size is not the usual one either"


async def test_anybody_may_come_in(tmp_path: Path) -> None:
    """A server without identities lets everybody in and knows nobody."""
    home = create_home(tmp_path / "home", ("limiter",))
    async with NatsServer(options=replace(options_of(home), trust=None)) as server:
        found = await wrong(Site(home, [server.url]))
    assert set(found) == {"anonymous", "system_account"}


async def test_credentials_that_others_can_read(tmp_path: Path) -> None:
    """Files are their owner's alone, and so is the home."""
    async with site(tmp_path) as place:
        place.home.creds("ops").chmod(0o644)
        place.home.keys_dir.chmod(0o755)
        found = await wrong(place)
        assert set(found) == {"file_modes"}
        assert "creds/ops.creds is 0644" in found["file_modes"][1].found


async def test_credentials_that_no_longer_count(tmp_path: Path) -> None:
    """Revoked in the home: void from the next start on, and told before."""
    async with site(tmp_path) as place:
        place.home.revoke("svc-limiter")
        found = await wrong(place)
        assert [fault.found for fault in found["credentials"]] == ["svc-limiter: revoked"]
        assert set(found) == {"credentials", "permissions"}, "the server does not know of it yet"


async def test_a_service_that_signs_with_another_key(tmp_path: Path) -> None:
    """Whoever verifies by trust.json would refuse all its broadcasts."""
    async with site(tmp_path) as place:
        path = place.home.service_dir("limiter") / "signing.nk"
        path.unlink()
        Signer.generate().save(path)
        assert set(await wrong(place)) == {"trust"}


async def test_addresses_of_two_clusters(tmp_path: Path) -> None:
    """Two servers that do not know each other are two journals, each of which would grant everything."""
    async with site(tmp_path) as place:
        apart = replace(options_of(place.home), store=tmp_path / "b" / "store", run_dir=tmp_path / "b")
        async with NatsServer(options=apart) as other:
            found = await wrong(Site(place.home, [*place.urls, other.url]))
    assert found["one_cluster"][0].found == "2 separate clusters"


async def test_an_address_where_nobody_answers(tmp_path: Path) -> None:
    """The others are examined all the same."""
    async with site(tmp_path) as place:
        dead = f"nats://127.0.0.1:{free_port()}"
        assert set(await wrong(place._replace(urls=[*place.urls, dead]))) == {"address"}


async def test_a_clock_that_is_off(tmp_path: Path) -> None:
    """This machine's clock is half a minute behind that of the server."""
    async with site(tmp_path) as place:
        found = await wrong(place, ALONE._replace(clock=lambda: time.time() - 30))
        assert set(found) == {"clock"}
        assert 29_000 < int(found["clock"][0].found.removesuffix(" ms")) <= 30_000


async def test_a_disk_without_room(tmp_path: Path) -> None:
    """The disk that the running server stores on has less left than is asked for."""
    async with site(tmp_path) as place:
        assert set(await wrong(place, ALONE._replace(min_free=1 << 60))) == {"disk"}


async def test_tls_without_certificates_of_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encryption alone says nothing about who is there."""
    place = await _home(tmp_path)
    made = issue(place.home, "nats", ("127.0.0.1",))
    files = {name: str(tmp_path / name) for name in ("ca_file", "cert_file", "key_file")}
    for name, pem in zip(files, made, strict=True):
        (tmp_path / name).write_bytes(pem)
    monkeypatch.setenv("BURSAR_TLS_CA", files["ca_file"])
    change = extra(tls={**files, "verify": False, "min_version": "1.3"})
    async with NatsServer(options=change(options_of(place.home))) as server:
        assert set(await wrong(Site(place.home, [server.url.replace("nats://", "tls://")]))) == {"tls"}


async def test_services_that_do_not_run(tmp_path: Path) -> None:
    """Each service of the home must answer."""
    async with site(tmp_path) as place:
        found = await wrong(place, ALONE._replace(instances=1))
        assert [fault.subject for fault in found["instances"]] == ["limiter", "scheduler"]
        assert set(found) == {"instances"}


async def test_a_cluster_with_a_server_away(tmp_path: Path) -> None:
    """It goes on deciding, with one failure less to spare."""
    place = await _home(tmp_path)
    async with NatsCluster(tmp_path / "cluster", home=place.home) as cluster:
        await settle(place.home, cluster.url, replicas=3)
        three = Site(place.home, cluster.urls)
        wanted = ALONE._replace(replicas=3)
        await _until(lambda: wrong(three, wanted), lambda found: not found)
        leader = await cluster.leader_of("BURSAR_LOG_LIMITER")
        next(node for node in cluster.nodes if node is not leader).kill()
        dead = {"address", "cluster", "stream_health"}
        await _until(lambda: wrong(three, wanted), lambda found: dead <= set(found) <= {*dead, "server_health"})


async def _until(ask: Callable[[], Awaitable[Found]], is_it: Callable[[Found], bool]) -> None:
    found: Found = {}
    for _ in range(8):
        found = await ask()
        if is_it(found):
            return
    raise AssertionError(found)


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[None]:
    """`bursar up`, until all its services answer."""
    command = [sys.executable, "-m", "bursar.cli.main", "up", "--home", str(home), "--port", "0", "--no-probes"]
    process = await asyncio.create_subprocess_exec(
        *command, "--context", "", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(asyncio.timeout(60))
            while b"Bursar is up" not in (line := await process.stdout.readline()):
                assert line or process.returncode is None, "bursar up has ended"
        yield
    finally:
        process.terminate()
        await process.communicate()


async def test_the_command_is_silent_about_what_runs_well(tmp_path: Path) -> None:
    """The whole of `bursar up`: status 0 and nothing to mend; and status 1, with the fault in the document, once a
    file is open to others."""
    home = tmp_path / "home"
    async with running(home):
        whole = await _doctor(home)
        assert whole.returncode == 0, whole.stdout
        assert whole.stdout.splitlines()[-1].endswith("nothing to mend")
        assert len(whole.stdout.splitlines()) == 1
        (home / "creds" / "ops.creds").chmod(0o640)
        told = await _doctor(home, "--json")
    assert told.returncode == 1
    document = json.loads(told.stdout)
    assert document["ok"] is False
    [fault] = [finding for finding in document["findings"] if finding["level"] == "fault"]
    assert fault["check"] == "file_modes"
    assert "chmod 600" in fault["mend"]


async def _doctor(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bursar.cli.main", "doctor", "--home", str(home), "--min-free", "0", *arguments]
    env = {key: value for key, value in os.environ.items() if key != "BURSAR_URL"}
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False, env=env)
