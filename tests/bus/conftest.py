"""Fixtures of the tests of the bus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.bus.support import RealServer


@pytest.fixture(scope="session")
def real_server() -> Iterator[RealServer]:
    """A server that all tests share; a test that harms it makes its own."""
    server = RealServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_server() -> Iterator[RealServer]:
    server = RealServer()
    server.start()
    yield server
    server.stop()
