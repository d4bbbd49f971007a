"""Encryption of every link by certificates on both ends, which are renewed while everything runs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import stat
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from bursar.bus.base import ConnectFailed
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.identity.certificates import new_authority, write_for, write_own
from bursar.bus.server import NatsCluster, NatsServer, ServerError
from bursar.bus.server.system import reload_servers
from bursar.bus.tls import Encryption, TlsFiles
from bursar.cli.context import context
from bursar.cli.main import available, build
from tests.bus.support import eventually

HOSTS = ("localhost", "127.0.0.1")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = create_home(tmp_path / "home", ["limiter"])
    mint_agent(made, "a1")
    write_own(made, HOSTS)
    return made


def sha256(pem: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.read_text())).hexdigest()


# ---- files


def test_keys_are_private_and_certificates_say_who_they_are_for(home: Home) -> None:
    """0600, in a directory of 0700; the authority's key never leaves it."""
    folder = write_for(home, "gpu-host-1", days=3)
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    for path in (home.path / "tls").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    assert len(context.get_ca_certs()) == 1


def test_another_authority_is_trusted_beside_the_last_one_and_no_other(home: Home) -> None:
    """Two at a time: what the last one has signed is good until everybody has something new."""
    folder = home.path / "tls"
    own = (folder / "ca.pem").read_text()
    new_authority(home)
    assert own in (folder / "ca.pem").read_text()
    new_authority(home)
    trusted = (folder / "ca.pem").read_text()
    assert trusted.count("BEGIN CERTIFICATE") == 2
    assert own not in trusted


def test_a_context_follows_its_files_and_keeps_the_old_ones_while_they_do_not_fit(home: Home) -> None:
    """A certificate without its key, half of a rotation, is not used."""
    folder = home.path / "tls"
    made = Encryption(TlsFiles(*(str(folder / name) for name in ("ca.pem", "client.pem", "client.key"))))
    before, loaded = (folder / "client.pem").read_bytes(), made._loaded
    write_own(home, HOSTS)
    after = (folder / "client.pem").read_bytes()
    (folder / "client.pem").write_bytes(before)
    made.renew()
    assert made._loaded == loaded
    (folder / "client.pem").write_bytes(after)
    made.renew()
    assert made._loaded != loaded


def test_context_of_the_nats_tool_names_the_files(home: Home) -> None:
    """An operator needs no option."""
    fields = context("tls://localhost:4222", home.creds("ops"))
    assert fields["cert"] == str(home.path / "tls" / "client.pem")
    assert "ca" not in context("nats://localhost:4222", home.creds("ops"))


# ---- a server


@pytest.fixture
async def server(home: Home) -> AsyncIterator[NatsServer]:
    async with NatsServer(home) as running:
        yield running


async def joined(server: NatsServer, home: Home, name: str = "a1") -> NatsBus:
    return await connect(server.url, home.creds(name), principal=name, timeout=5.0)


async def greeted(server: NatsServer, context: ssl.SSLContext | None) -> bytes:
    """What a stranger hears when it shakes hands so; empty when it is not let in."""
    place = urlsplit(server.url)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        hostname = place.hostname if context else None
        reader, writer = await asyncio.open_connection(
            place.hostname, place.port, ssl=context, server_hostname=hostname
        )
        try:
            said = await asyncio.wait_for(reader.readline(), 5)
            writer.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
            return said if await asyncio.wait_for(reader.readline(), 5) else b""
        finally:
            writer.transport.abort()
    return b""


@pytest.mark.integration
async def test_server_speaks_tls_13_alone_and_asks_for_a_certificate(server: NatsServer, home: Home) -> None:
    """Who uses the home's credentials finds the files; nothing else gets in."""
    assert server.url.startswith("tls://")
    bus = await joined(server, home)
    await bus.close()
    folder = home.path / "tls"
    plain = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    assert await greeted(server, plain) == b""
    plain.load_cert_chain(folder / "client.pem", folder / "client.key")
    assert (await greeted(server, plain)).startswith(b"INFO")
    plain.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await greeted(server, plain) == b""
    stranger = create_home(home.path.parent / "stranger", ["limiter"])
    write_own(stranger, HOSTS)
    foreign = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    foreign.load_cert_chain(stranger.path / "tls/client.pem", stranger.path / "tls/client.key")
    assert await greeted(server, foreign) == b""
    place = urlsplit(server.url)
    with pytest.raises(ConnectFailed):
        await connect(f"nats://{place.netloc}", home.creds("a1"), principal="a1", timeout=2.0)


async def peer(server: NatsServer) -> str:
    """The certificate of the only agent that is connected, as the server sees it."""
    page = await server.monitor("connz?auth=1")
    certs = [c["tls_peer_certs"][0]["cert_sha256"] for c in page["connections"] if c.get("tls_peer_certs")]
    assert len(certs) == 1, page
    return str(certs[0])


async def shown(server: NatsServer) -> str:
    """The certificate that the server shows now."""
    place = urlsplit(server.url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection(place.hostname, place.port, ssl=context, server_hostname="localhost")
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return hashlib.sha256(found).hexdigest()


@pytest.mark.integration
async def test_certificates_are_renewed_without_a_restart(server: NatsServer, home: Home) -> None:
    """A connection goes on as it is; one that is made again shows the new certificate and is shown one; also when the
    authority is another, and the first one is trusted no more."""
    folder, pid = home.path / "tls", server.pid
    bus = await joined(server, home)
    assert await shown(server) == sha256(folder / "server.pem")
    for turn in range(3):
        old = await peer(server)
        if turn:
            new_authority(home)
            await reload_servers([server.url], home)
        write_own(home, HOSTS)
        assert await reload_servers([server.url], home) == ["bursar"]
        assert await shown(server) == sha256(folder / "server.pem")
        await bus.flush()
        assert (bus.counters.reconnects, await peer(server)) == (turn, old)
        await bus._force_reconnect()
        await eventually(lambda wanted=turn + 1: bus.counters.reconnects == wanted, within=10.0)  # type: ignore[misc]
        assert await peer(server) == sha256(folder / "client.pem") != old
    assert server.pid == pid
    await bus.close()


@pytest.mark.integration
async def test_a_server_that_cannot_use_its_certificate_says_so_and_keeps_the_old_one(
    server: NatsServer, home: Home
) -> None:
    """A mistake of a rotation cuts nobody off."""
    before = await shown(server)
    (home.path / "tls" / "server.pem").write_text("no certificate")
    with pytest.raises(ServerError, match="does not take its files"):
        await reload_servers([server.url], home)
    assert await shown(server) == before
    await (await joined(server, home)).close()


@pytest.mark.integration
async def test_routes_of_a_cluster_are_encrypted_and_take_new_certificates(home: Home, tmp_path: Path) -> None:
    """Neighbours show each other theirs; after a rotation whoever comes back does so with the new one."""
    async with NatsCluster(tmp_path / "cluster", home=home) as cluster:

        async def routed() -> bool:
            pages = [await node.monitor("routez") for node in cluster.nodes]
            seen = [{page["server_name"], *(route["remote_name"] for route in page["routes"])} for page in pages]
            return seen == [names] * 3

        names = {node.name for node in cluster.nodes}
        assert await routed()
        varz = await cluster.nodes[0].monitor("varz")
        assert (varz["cluster"]["tls_required"], varz["cluster"]["tls_verify"]) == (True, True)
        new_authority(home)
        await reload_servers(cluster.urls, home)
        write_own(home, HOSTS)
        assert await reload_servers(cluster.urls, home) == sorted(names)
        await cluster.nodes[1].restart(40.0)
        deadline = time.monotonic() + 20
        while not await routed():
            assert time.monotonic() < deadline
        assert [await shown(node) for node in cluster.nodes] == [sha256(home.path / "tls" / "server.pem")] * 3


# ---- the command line


@pytest.fixture
def bursar() -> Callable[..., Result]:
    app = build(available())
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


def test_init_makes_what_is_not_there_and_keeps_what_is(bursar: Callable[..., Result], tmp_path: Path) -> None:
    """Names of the server add up; a name that cannot be is refused in one sentence."""
    common = ("--home", tmp_path)
    made = bursar("tls", "init", *common, "--client", "gpu-host-1")
    assert made.exit_code == 0, made.output
    listed = [Path(line).name for line in made.stdout.splitlines()]
    assert sorted(listed) == ["client.key", "client.pem", "gpu-host-1", "server.key", "server.pem"]
    kept = (tmp_path / "tls/server.pem").read_bytes()
    assert bursar("tls", "init", *common).stdout == ""
    assert (tmp_path / "tls/server.pem").read_bytes() == kept
    bursar("tls", "init", *common, "--host", "nats.example.org")
    assert (tmp_path / "tls/server.pem").read_bytes() != kept
    assert '"127.0.0.1", "nats.example.org"' in (tmp_path / "tls/hosts.json").read_text()
    bad = bursar("tls", "init", *common, "--host", "a b")
    assert (bad.exit_code, "cannot stand in a certificate" in bad.stderr) == (1, True)
    none = bursar("tls", "rotate", "--home", create_home(tmp_path / "other", []).path)
    assert (none.exit_code, "tls init" in none.stderr) == (1, True)


@pytest.mark.integration
async def test_rotate_renews_all_and_tells_the_running_servers(
    server: NatsServer, home: Home, bursar: Callable[..., Result]
) -> None:
    """Those of others, too, which then have to be brought to them."""
    write_for(home, "gpu-host-1")
    other = (home.path / "tls/clients/gpu-host-1/cert.pem").read_bytes()
    options: list[Any] = ["--home", home.path, "--nats", server.url]
    for command in ("authority", "rotate", "reload", "authority", "rotate"):
        done = await asyncio.to_thread(bursar, "tls", command, *options)
        assert (done.exit_code, "In use by bursar" in done.stderr) == (0, True), done.output
    assert await shown(server) == sha256(home.path / "tls" / "server.pem")
    assert (home.path / "tls/clients/gpu-host-1/cert.pem").read_bytes() != other
