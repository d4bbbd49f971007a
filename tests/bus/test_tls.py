"""A connection that is encrypted after its first line: the reader is another one then, and after each reconnection."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from bursar.bus.connection import connect
from tests.bus.support import RealServer, eventually

pytestmark = pytest.mark.integration

MESSAGES = 2_000


class Certificate(NamedTuple):
    """Paths of PEM files."""

    key: Path
    cert: Path
    authority: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of 127.0.0.1, by an authority made for the test."""
    directory = tmp_path_factory.mktemp("tls")
    key, cert, authority = directory / "key.pem", directory / "cert.pem", directory / "ca.pem"
    made = trustme.CA()
    made.cert_pem.write_to_path(str(authority))
    own = made.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(str(key))
    own.cert_chain_pems[0].write_to_path(str(cert))
    return Certificate(key, cert, authority)


@pytest.fixture
def server(certificate: Certificate) -> Iterator[RealServer]:
    server = RealServer("--tls", "--tlscert", str(certificate.cert), "--tlskey", str(certificate.key))
    server.start()
    yield server
    server.stop()


async def test_everything_is_heard_in_order_over_an_encrypted_connection(
    server: RealServer, certificate: Certificate
) -> None:
    """Messages of all sizes, in the turn in which they come, before and after the server was killed."""
    bus = await connect(server.url, principal="svc", tls=ssl.create_default_context(cafile=str(certificate.authority)))
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
