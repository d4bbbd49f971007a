"""A connection that is encrypted after its first line: the reader is another one then, and after each reconnection."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bursar.bus.connection import connect
from tests.bus.support import RealServer, eventually

pytestmark = pytest.mark.integration

MESSAGES = 2_000


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert = directory / "key.pem", directory / "cert.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *about, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return key, cert


@pytest.fixture
def server(certificate: tuple[Path, Path]) -> Iterator[RealServer]:
    key, cert = certificate
    server = RealServer("--tls", "--tlscert", str(cert), "--tlskey", str(key))
    server.start()
    yield server
    server.stop()


async def test_everything_is_heard_in_order_over_an_encrypted_connection(
    server: RealServer, certificate: tuple[Path, Path]
) -> None:
    """Messages of all sizes, in the turn in which they come, before and after the server was killed."""
    bus = await connect(server.url, principal="svc", tls=ssl.create_default_context(cafile=str(certificate[1])))
    heard: list[bytes] = []
    await bus.subscribe("t.x", lambda msg: heard.append(msg.data))
    sent = [b"%d-" % number + b"x" * (number * 37 % 900 if number % 100 else 40_000) for number in range(MESSAGES)]
    for _ in range(2):
        heard.clear()
        for start in range(0, MESSAGES, 100):
            for data in sent[start : start + 100]:
                bus.publish("t.x", data)
            await asyncio.sleep(0)
        await eventually(lambda: len(heard) == MESSAGES)
        assert heard == sent
        reconnected = bus.counters.reconnects
        server.stop()
        server.start()
        await eventually(lambda before=reconnected: bus.counters.reconnects > before)  # type: ignore[misc]
    await bus.close()
