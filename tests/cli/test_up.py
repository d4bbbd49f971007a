"""`bursar up` from nothing to serving and back, with a tiny service as a real process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.connection import connect
from bursar.bus.identity import create_home, load_home, mint_agent
from bursar.bus.server import NatsServer, StoreInUse
from bursar.cli import top, up
from bursar.cli.probes import host_name
from bursar.cli.services import Installed, discover
from bursar.client.target import Target
from tests.bus.support import eventually

pytestmark = pytest.mark.integration

SERVICE = """
import asyncio, os, signal
from bursar.bus.connection import connect
from bursar.bus.micro import Service

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    bus = await connect(os.environ["BURSAR_URL"], os.environ["BURSAR_CREDS"], principal="svc-tiny")
    log = await connect(os.environ["BURSAR_URL"], os.environ["BURSAR_LOG_CREDS"], principal="svc-tiny-log")
    await log.request("bursar.log.tiny.0", b"entry", 5.0)
    service = Service(bus, "tiny", "1.0.0", instance=os.environ["BURSAR_INSTANCE"])
    await service.add_endpoint("pid", "bursar.req.tiny.pid.*", lambda call: call.respond(b"%d" % os.getpid()))
    await service.start()
    print("serving", sorted(n for n in os.listdir(os.environ["BURSAR_KEYS_DIR"]) if "." in n), flush=True)
    await stop.wait()
    await service.drain()
    for each in (bus, log):
        await each.close()
    print("drained", flush=True)

asyncio.run(main())
"""


class Running:
    """One `bursar up` in this process."""

    def __init__(self, options: up.UpOptions) -> None:
        self.lines: list[str] = []
        self.stop = asyncio.Event()
        self.home = options.home
        self.task = asyncio.create_task(up.run(options, self.lines.append, self.stop))

    async def said(self, text: str) -> None:
        await eventually(lambda: self.task.done() or any(text in line for line in self.lines), 30)
        if self.task.done():
            self.task.result()
        assert any(text in line for line in self.lines), self.lines

    @property
    def url(self) -> str:
        return str(json.loads((self.home / "run" / "lock").read_text())["url"])

    async def pid(self) -> int:
        """Ask the tiny service for its process, as an agent; retried while nobody listens."""
        home = load_home(self.home)
        creds = home.creds("asker")
        bus = await connect(self.url, creds if creds.exists() else mint_agent(home, "asker"), principal="asker")
        try:
            return int((await bus.request("bursar.req.tiny.pid.asker", b"{}", 5.0)).data)
        finally:
            await bus.close()


@pytest.fixture
async def bring_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Running]]:
    """Starts `bursar up` on ``tmp_path/home`` with one tiny service; stops what is still running."""
    package = tmp_path / "packages" / "bursar_tiny"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(SERVICE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), *os.environ.get("PYTHONPATH", "").split()]))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(up, "discover", lambda: [Installed("tiny", "bursar_tiny")])
    started: list[Running] = []

    def start(**options: object) -> Running:
        arguments = {"home": tmp_path / "home", "port": 0} | options
        started.append(Running(up.UpOptions(**arguments)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for running in started:
        running.stop.set()
        with contextlib.suppress(StoreInUse):
            await running.task


async def test_up_goes_from_nothing_to_serving_and_stops_in_order(bring_up: Callable[..., Running]) -> None:
    """Keys, server, streams, service, how to connect; and down: the service drains before the server ends."""
    running = bring_up()
    await running.said("Bursar is up")
    assert await running.pid() > 0
    running.stop.set()
    await running.task
    assert "tiny-1 | serving ['fence.key', 'signing.nk']" in running.lines
    told = [line for line in running.lines if not line.startswith("audit")]
    assert told[-4:] == ["stopping", "tiny-1 | drained", "tiny-1 stopped", "stopped"]


async def test_state_survives_a_second_start(bring_up: Callable[..., Running], tmp_path: Path) -> None:
    """Credentials minted in the first run are good in the second, and the journal goes on."""
    for _ in range(2):
        running = bring_up()
        await running.said("Bursar is up")
        await running.pid()
        running.stop.set()
        await running.task
    home = load_home(tmp_path / "home")
    async with NatsServer(home) as server:
        log = await connect(server.url, home.creds("svc-tiny-log"), principal="svc-tiny-log")
        answer = await log.request("$JS.API.STREAM.INFO.BURSAR_LOG_TINY", b"", 5.0)
        assert json.loads(answer.data)["state"]["messages"] == 2
        await log.close()


async def test_second_up_on_the_same_home_says_who_holds_it(bring_up: Callable[..., Running]) -> None:
    """It names the process and the address, and the first goes on."""
    first = bring_up()
    await first.said("Bursar is up")
    second = bring_up()
    with pytest.raises(StoreInUse, match=rf"process {os.getpid()}, whose server runs at {first.url}"):
        await second.task
    assert await first.pid() > 0


async def test_killed_service_and_killed_server_come_back(bring_up: Callable[..., Running]) -> None:
    """kill -9 of either is repaired without anybody's help."""
    running = bring_up()
    await running.said("Bursar is up")
    pid = await running.pid()
    os.kill(pid, signal.SIGKILL)
    await running.said("was ended by SIGKILL")
    await eventually(lambda: sum("tiny-1 | serving" in line for line in running.lines) == 2, 20)
    assert await running.pid() != pid
    os.kill(json.loads((running.home / "run" / "lock").read_text())["server"], signal.SIGKILL)
    await eventually(lambda: sum("NATS server ready" in line for line in running.lines) == 2, 20)
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(Exception):
                await running.pid()
                return
            await asyncio.sleep(0.1)


async def test_replicas_run_side_by_side(bring_up: Callable[..., Running]) -> None:
    """Two instances, each with a name and a data directory of its own."""
    running = bring_up(replicas=2)
    await running.said("tiny ready (2 running")
    assert {line.split(" | ")[0] for line in running.lines if "serving" in line} == {"tiny-1", "tiny-2"}


async def test_existing_server_is_used_and_left_running(bring_up: Callable[..., Running], tmp_path: Path) -> None:
    """With --nats nothing is started but the services, and nothing else is stopped."""
    elsewhere = create_home(tmp_path / "elsewhere", ["tiny"])
    async with NatsServer(elsewhere) as server:
        running = bring_up(nats=server.url, creds_dir=elsewhere.creds_dir)
        await running.said(f"Bursar is up: {server.url}")
        assert running.url == server.url
        running.stop.set()
        await running.task
        assert server.running


async def test_context_for_the_nats_tool_is_written(bring_up: Callable[..., Running], tmp_path: Path) -> None:
    """`nats --context bursar` works after the first start."""
    running = bring_up()
    await running.said("nats --context bursar req")
    written = json.loads((tmp_path / "config/nats/context/bursar.json").read_text())
    assert (written["url"], written["inbox_prefix"]) == (running.url, "_R.ops")


async def test_command_stops_on_a_signal_with_status_0_and_fails_on_a_held_home(tmp_path: Path) -> None:
    """The console command itself: SIGINT ends it cleanly; a second one on the same home ends with status 1."""
    command = [sys.executable, "-m", "bursar.cli.main", "up", "--home", str(tmp_path), "--port", "0", "--context", ""]
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    first = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, env=environment)
    assert first.stdout is not None
    async with asyncio.timeout(30):
        while b"NATS server ready" not in await first.stdout.readline():
            pass
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode == 1
    assert f"is in use by process {first.pid}" in second.stderr
    first.send_signal(signal.SIGINT)
    output, _ = await asyncio.wait_for(first.communicate(), 30)
    assert first.returncode == 0
    assert output.endswith(b"stopped\n")


async def test_server_without_authentication_can_be_used(bring_up: Callable[..., Running], tmp_path: Path) -> None:
    """A NATS server that asks for no credentials ignores ours."""
    async with NatsServer.plain(tmp_path / "plain") as server:
        running = bring_up(nats=server.url)
        await running.said(f"Bursar is up: {server.url}")


async def test_nothing_is_left_behind_by_kill_9(tmp_path: Path) -> None:
    """The server and the services end with `bursar up`, even when it could not stop them, and a new start finds the
    home free. With all services that are installed, so that this is also their first start together."""
    home = tmp_path / "home"
    command = [
        sys.executable,
        "-c",
        "from bursar.cli.main import main; main()",
        "up",
        "--home",
        str(home),
        "--port",
        "0",
    ]
    env = os.environ | {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(  # noqa: ASYNC220 - it is to be killed as a person does
            command, stdout=said, stderr=said, env=env
        )
        try:
            await eventually(lambda: "Bursar is up" in (tmp_path / "said").read_text(), 40)
            left = {process.pid, json.loads((home / "run" / "lock").read_text())["server"], *_children(process.pid)}
            assert len(left) >= 1 + 1 + len(discover())
        finally:
            process.kill()
            process.wait()
    await eventually(lambda: not any(map(_runs, left)), 20)
    async with NatsServer(load_home(home)):
        pass


def _children(pid: int) -> set[int]:
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return {int(word) for word in found.stdout.split()}


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_this_host_is_watched_and_the_monitor_is_told_of(tmp_path: Path) -> None:
    """With what is really installed: the probes' samples arrive as those of this host, simulated cards are there to be
    leased, and files of rules are taken. `bursar top` and the metrics' address are named."""
    rules = tmp_path / "alerts.toml"
    rules.write_text('[rules.any-cpu]\nsignal = "cpu_permille"\nat_least = "99%"\nhold = "60s"\n')
    running = Running(
        up.UpOptions(home=tmp_path / "home", port=0, context="", probes=True, gpus="2x24GiB", rules=rules)
    )
    try:
        await running.said("Bursar is up")
        text = "\n".join(running.lines)
        assert "bursar top --home" in text
        assert "/metrics" in text
        name = host_name()
        async with asyncio.timeout(20):
            frame = await _look(running, lambda found: bool(found["hosts"]) and len(found.get("devices", [])) == 2)
        assert [row["host"] for row in frame["hosts"]] == [name]
        assert {row["host"] for row in frame["devices"]} == {name}
        assert all(frame["answers"].values())
    finally:
        running.stop.set()
        await running.task
    assert {"host-probe stopped", "gpu-probe stopped"} <= set(running.lines)


async def _look(running: Running, check: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    home = load_home(running.home)
    async with top.looker(Target(running.url, home.creds("ops"), "ops")) as looker:
        while True:
            found = (await looker.look(1.0)).to_json()
            if found.get("hosts") is not None and check(found):
                return found
