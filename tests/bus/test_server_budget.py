"""How much of the machine's memory a server may use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bursar.bus.identity import JETSTREAM_LIMITS, create_home
from bursar.bus.server import NatsServer
from bursar.bus.server.budget import ACCOUNTS, environment, machine_bytes, memory_store
from bursar.contracts.monitor_quota import POOLS, pool_bytes

GB = 10**9


def test_pools_are_the_whole_of_what_is_handed_out() -> None:
    """80 % of the memory: 40 % agents, 30 % shared state, 20 % communication, 10 % overhead."""
    assert sum(POOLS.values()) == 1_000
    assert [pool_bytes(pool, 100 * GB) // GB for pool in POOLS] == [32, 24, 16, 8]


def test_streams_in_memory_have_half_of_the_shared_pool() -> None:
    """And never less than what the journals are promised, without which the server does not start."""
    assert memory_store(100 * GB) == 12 * GB
    assert memory_store(0) == ACCOUNTS * JETSTREAM_LIMITS["mem_storage"]


def test_the_process_is_told_its_limit_unless_somebody_has_set_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool of communication; nothing where the machine does not tell its memory."""
    monkeypatch.delenv("GOMEMLIMIT", raising=False)
    assert environment(100 * GB)["GOMEMLIMIT"] == str(16 * GB)
    assert "GOMEMLIMIT" not in environment(0)
    monkeypatch.setenv("GOMEMLIMIT", "1GiB")
    assert environment(100 * GB)["GOMEMLIMIT"] == "1GiB"


@pytest.mark.integration
async def test_a_real_server_runs_within_its_pools(tmp_path: Path) -> None:
    """Its own configuration and environment say so."""
    home = create_home(tmp_path / "home", ("limiter",))
    server = NatsServer(home)
    await server.start()
    try:
        told = (Path("/proc") / str(server.process.pid) / "environ").read_bytes()
        limit = pool_bytes("communication", machine_bytes())
        assert f"GOMEMLIMIT={limit}".encode() in told.split(b"\0")
        (config,) = (tmp_path / "home" / "run").glob("*.conf")
        assert json.loads(config.read_text())["jetstream"]["max_memory_store"] == memory_store(machine_bytes())
    finally:
        await server.stop()
