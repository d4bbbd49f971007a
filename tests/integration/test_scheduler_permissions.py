"""Who may say what to the scheduler: the real permissions, a real scheduler, real credentials."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.base import BusError, PermissionDenied
from bursar.bus.codec import decode_error, decode_value, encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer, provision
from bursar.client.fleet import Fleet
from bursar.client.worker import Worker
from bursar.contracts.scheduler import SERVICE
from tests.integration.scheduler_worker import equip
from tests.integration.support import ROOT

pytestmark = pytest.mark.integration

NAME = f"svc-{SERVICE}"


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[tuple[Home, str]]:
    """A server with credentials, and the scheduler."""
    home = create_home(directory / "home", [SERVICE])
    for name in ("ann", "bob"):
        mint_agent(home, name)
    for name in ("w1", "w2"):
        mint_agent(home, name, role="worker")
    server = NatsServer(home)
    await server.start()
    env = {
        **os.environ,
        "BURSAR_URL": server.url,
        "BURSAR_CREDS": str(home.creds(NAME)),
        "BURSAR_LOG_CREDS": str(home.creds(f"{NAME}-log")),
        "BURSAR_KEYS_DIR": str(home.service_dir(SERVICE)),
    }
    process = None
    try:
        bus = await connect(server.url, home.creds(f"{NAME}-provisioner"), principal=f"{NAME}-provisioner")
        await provision(bus, SERVICE, inbox=True)
        await bus.close()
        process = _launch(env)
        yield home, server.url
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        if process is not None:
            process.kill()
            process.wait()
        await server.stop()


def _launch(env: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "bursar_scheduler"]
    return subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL, cwd=ROOT)


async def code(bus: NatsBus, subject: str, **fields: Any) -> str:
    """The code of the error that a request meets: of the scheduler, or ``not heard``; empty when it was accepted."""
    try:
        answer = await bus.request(subject, encode({"v": 1, **fields}), 0.5)
    except BusError:
        return "not heard"
    error = decode_error(answer.headers, answer.data)
    return "" if error is None else error.code


async def test_everybody_speaks_for_itself_only(tmp_path: Path) -> None:
    """Agents do no work, workers end only their own attempts, results are the submitter's, notices the scheduler's."""
    async with running(tmp_path) as (home, url):
        names = ("ann", "bob", "w1", "w2", "ops")
        buses = {name: await connect(url, home.creds(name), principal=name) for name in names}
        async with Fleet(None, bus=buses["ann"]) as fleet, Fleet(None, bus=buses["w1"]) as at_work:
            worker = equip(Worker(at_work, slots=2, grace=1.0))
            working = asyncio.create_task(worker.run(signals=False))
            done = await fleet.scheduler.submit("echo", {"secret": 1})
            assert await done.result(15) == {"secret": 1}
            napping = await fleet.scheduler.submit("nap", {"s": 60})
            async with asyncio.timeout(10):
                while (await napping.status()).state != "running":  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await _agents_do_no_work(buses["ann"])
            await _no_worker_ends_anothers_attempt(buses["w2"], napping.id, worker.running[0])
            await _nobody_sees_or_cancels_anothers_task(buses["bob"], done.id, napping.id)
            await _only_operators_administrate(buses)
            await _only_the_scheduler_gives_notice(buses, at_work)
            assert (await napping.status()).state == "running"
            assert await fleet.scheduler.handle(await fleet.scheduler.post("echo", "posted")).result(10) == "posted"
            await napping.cancel()
            worker.stop()
            await asyncio.wait_for(working, 10)
        for bus in buses.values():
            await bus.close()


async def _agents_do_no_work(agent: NatsBus) -> None:
    for verb, fields in (
        ("register", {"id": "x-1", "session": "s", "classes": ["echo"]}),
        ("finish", {"id": "x-2", "task": "ann.x", "token": "1.1.1"}),
    ):
        assert await code(agent, f"bursar.work.{SERVICE}.{verb}.ann", **fields) == "not heard"
        assert await code(agent, f"bursar.work.{SERVICE}.{verb}.w1", **fields) == "not heard"


async def _no_worker_ends_anothers_attempt(other: NatsBus, task: str, token: str) -> None:
    """Not in its own name, with the right token, and not in the other's name; nor does it hear the other's notices."""
    fields = {"id": "x-1", "task": task, "token": token}
    assert await code(other, f"bursar.work.{SERVICE}.finish.w2", **fields) == "not_yours"
    assert await code(other, f"bursar.work.{SERVICE}.finish.w1", **fields) == "not heard"
    with pytest.raises(PermissionDenied):
        await other.subscribe("bursar.assign.w1", lambda _: None)


async def _nobody_sees_or_cancels_anothers_task(bob: NatsBus, done: str, napping: str) -> None:
    assert await code(bob, f"bursar.req.{SERVICE}.find.bob", task=done) == "not_yours"
    assert await code(bob, f"bursar.req.{SERVICE}.find.ann", task=done) == "not heard"
    assert await code(bob, f"bursar.req.{SERVICE}.cancel.bob", id="x-1", task=napping) == "not_yours"
    assert await code(bob, f"bursar.req.{SERVICE}.cancel.ann", id="x-2", task=napping) == "not heard"
    told = await bob.request(f"bursar.req.{SERVICE}.list.bob", encode({"v": 1}), 2.0)
    assert decode_value(told.data)[0]["tasks"] == []


async def _only_operators_administrate(buses: dict[str, NatsBus]) -> None:
    for name in ("ann", "w1"):
        for verb, fields in (("configure", {"id": "x-1", "max_tasks": 1}), ("list-all", {})):
            assert await code(buses[name], f"bursar.adm.{SERVICE}.{verb}.{name}", **fields) == "not heard"
    assert await code(buses["ops"], f"bursar.adm.{SERVICE}.configure.ops", id="x-1", max_tasks=1_000) == ""
    assert await code(buses["ops"], f"bursar.adm.{SERVICE}.list-all.ops") == ""


async def _only_the_scheduler_gives_notice(buses: dict[str, NatsBus], at_work: Fleet) -> None:
    """A false assignment, or a false stop, does not arrive; nor does a heartbeat in another's name."""
    heard: list[dict[str, Any]] = []
    at_work.scheduler.notices.listen("stop", heard.append)
    stop = msgpack.packb({"v": 1, "what": "stop", "task": None, "token": "9.9.9"})
    for name in ("ann", "w2", "ops"):
        buses[name].publish("bursar.assign.w1", stop)
        beat = encode({"v": 1, "session": "s", "running": []})
        buses[name].publish(f"bursar.obs.{SERVICE}.heartbeat.w1", beat)
        await buses[name].flush()
    await buses["w1"].flush()
    assert heard == []
