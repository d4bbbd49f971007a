"""Tasks per second, and how soon a task starts. ``python -m bench.scheduler [--seconds S] [--out FILE]``.

A real server and a real scheduler, its journal fsynced, and empty tasks. *Raw*: one process with plain nats-py plays
submitter and worker (submit, start, finish: three durable requests and an assignment for each task), so that the
scheduler is measured rather than a client. *Client*: the same through `bursar.client`, submitter and worker in one
process, from `submit` to the function and to the result. *Decide*: the core alone, in this process, with 1,000 workers.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import nats
from nats.aio.client import Client

from bench.figures import quantile, write
from bursar.bus.connection import connect
from bursar.bus.server import NatsServer, provision
from bursar.client.fleet import Fleet
from bursar.client.worker import Worker
from bursar.client.worker_task import WorkerTask
from bursar.contracts.scheduler import Finish, Register, Start, Submit
from bursar.kernel.decider import Accept, Command
from bursar_scheduler.core import SchedulerDecider

RAW_IN_FLIGHT = 64
CLIENT_IN_FLIGHT = 32
WORKERS = 1_000


@asynccontextmanager
async def scheduler(directory: Path) -> AsyncIterator[NatsServer]:
    """A server with a running scheduler; ends both."""
    keys = directory / "keys"
    keys.mkdir()
    (keys / "fence.key").write_bytes(secrets.token_bytes(32))
    async with NatsServer.plain(directory / "nats") as server:
        bus = await connect(server.url, principal="provisioner")
        await provision(bus, "scheduler", inbox=True)
        await bus.close()
        env = {**os.environ, "BURSAR_URL": server.url, "BURSAR_KEYS_DIR": str(keys)}
        with (directory / "scheduler.log").open("wb") as log:
            command = [sys.executable, "-m", "bursar_scheduler"]
            process = subprocess.Popen(command, env=env, stderr=log)  # noqa: ASYNC220 - at start
        try:
            yield server
        finally:
            process.kill()
            process.wait()


class Raw:
    """Plays submitter and worker, both as the principal ``bench``, on one connection."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._session = secrets.token_hex(4)
        self._numbers = 0
        self._tokens: dict[str, asyncio.Future[tuple[str, float]]] = {}
        self.assigned: list[float] = []
        self.ended = 0

    async def start(self) -> None:
        """Register, as soon as the scheduler listens."""
        await self._client.subscribe("bursar.assign.bench", cb=self._hear)
        fields = {"session": self._session, "slots": 256, "classes": ["empty"]}
        while not (await self._ask("work", "register", fields)).get("ok"):  # noqa: ASYNC110 - asks again
            await asyncio.sleep(0.1)

    async def beat(self) -> None:
        """A heartbeat every second, for ever."""
        while True:
            await self._client.publish(
                "bursar.obs.scheduler.heartbeat.bench", msgpack.packb({"session": self._session})
            )
            await asyncio.sleep(1)

    async def one(self) -> None:
        """A task from its submission to its accepted end."""
        began = time.perf_counter()
        task = (await self._ask("req", "submit", {"task_class": "empty", "payload": b"x"}))["task"]
        token, at = await self._token(task)
        del self._tokens[task]
        self.assigned.append(at - began)
        attempt = {"task": task, "token": token}
        if not (await self._ask("work", "start", attempt)).get("ok"):
            raise RuntimeError(f"{task} was not started")
        if (await self._ask("work", "finish", {**attempt, "result": b"y"})).get("state") != "done":
            raise RuntimeError(f"{task} was not finished")
        self.ended += 1

    async def _ask(self, space: str, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        self._numbers += 1
        payload = msgpack.packb(
            {"id": f"{self._session}-{self._numbers}", "acked": max(0, self._numbers - 2_000), **fields}
        )
        try:
            answer = await self._client.request(f"bursar.{space}.scheduler.{verb}.bench", payload, 10.0)
        except nats.errors.Error:
            return {}
        told: dict[str, Any] = msgpack.unpackb(answer.data)
        return told

    async def _hear(self, msg: Any) -> None:
        body = msgpack.unpackb(msg.data)
        if body["what"] == "assign":
            future = self._token(body["task"])
            if not future.done():
                future.set_result((body["token"], time.perf_counter()))

    def _token(self, task: str) -> asyncio.Future[tuple[str, float]]:
        if task not in self._tokens:
            self._tokens[task] = asyncio.get_running_loop().create_future()
        return self._tokens[task]


async def measure_raw(url: str, seconds: float, in_flight: int) -> tuple[float, list[float]]:
    """Lifecycles per second, and seconds from each submission to its assignment."""
    client = await nats.connect(url, inbox_prefix=b"_R.bench")
    raw = Raw(client)
    await raw.start()
    beating = asyncio.ensure_future(raw.beat())
    began = time.perf_counter()

    async def loop() -> None:
        while time.perf_counter() < began + seconds:
            await raw.one()

    await asyncio.gather(*(loop() for _ in range(in_flight)))
    elapsed = time.perf_counter() - began
    beating.cancel()
    await client.close()
    return raw.ended / elapsed, raw.assigned


async def measure_client(url: str, seconds: float) -> tuple[float, list[float]]:
    """Tasks per second through the client, and seconds from each call of submit to its function."""
    begun: list[float] = []
    ended = 0
    agent_bus, worker_bus = [await connect([url], principal=name) for name in ("agent", "hands")]
    async with Fleet(None, bus=agent_bus) as agent, Fleet(None, bus=worker_bus) as hands:
        worker = Worker(hands, slots=CLIENT_IN_FLIGHT)

        @worker.task("blank")
        async def blank(task: WorkerTask) -> float:
            begun.append(time.perf_counter() - task.payload)
            return 1.0

        working = asyncio.ensure_future(worker.run(signals=False))
        await (await agent.scheduler.submit("blank", time.perf_counter())).result(20)
        begun.clear()
        began = time.perf_counter()

        async def loop() -> None:
            nonlocal ended
            while time.perf_counter() < began + seconds:
                await (await agent.scheduler.submit("blank", time.perf_counter())).result(20)
                ended += 1

        await asyncio.gather(*(loop() for _ in range(CLIENT_IN_FLIGHT)))
        elapsed = time.perf_counter() - began
        worker.stop()
        await working
    await agent_bus.close()
    await worker_bus.close()
    return ended / elapsed, begun


def measure_decide(rounds: int) -> list[float]:
    """Seconds of each decision with its events: submit (with its assignment), start, finish; 1,000 workers."""
    decider = SchedulerDecider()
    state: Any = decider.initial()
    numbers = iter(range(1, 10**9))
    taken: list[float] = []

    def decide(who: str, body: Any) -> Accept:
        number = next(numbers)
        began = time.perf_counter()
        outcome = decider.decide(state, Command(who, body.id, body), number // 100, (1, 1, number))
        assert isinstance(outcome, Accept)
        for event in outcome.events:
            decider.evolve(state, event)
        taken.append(time.perf_counter() - began)
        return outcome

    for number in range(WORKERS):
        decide(f"w{number}", Register(id=f"r-{number}", session="s", slots=4, classes=("empty",)))
    taken.clear()
    for number in range(rounds):
        task = decide("bench", Submit(id=f"s-{number}", task_class="empty", payload=b"x")).reply["task"]
        token, worker = state.tasks[task].token, state.tasks[task].worker
        decide(worker, Start(id=f"b-{number}", task=task, token=token))
        decide(worker, Finish(id=f"f-{number}", task=task, token=token, result=b"y"))
    return taken


async def main(seconds: float, out: Path) -> None:
    figures: dict[str, Any] = {}
    decided = measure_decide(5_000)
    with tempfile.TemporaryDirectory() as directory:
        async with scheduler(Path(directory)) as server:
            _, idle = await measure_raw(server.url, seconds / 2, 1)
            raw_rate, loaded = await measure_raw(server.url, seconds, RAW_IN_FLIGHT)
            client_rate, begun = await measure_client(server.url, seconds)
    figures["raw_lifecycles_per_s"] = round(raw_rate)
    figures["client_tasks_per_s"] = round(client_rate)
    for name, values, unit in (
        ("submit_to_assigned_idle", idle, 1e3),
        ("submit_to_assigned_loaded", loaded, 1e3),
        ("client_submit_to_function", begun, 1e3),
        ("decide", decided, 1e6),
    ):
        for quant, q in (("p50", 0.5), ("p99", 0.99)):
            figures[f"{name}_{quant}_{'us' if unit > 1e3 else 'ms'}"] = round(quantile(values, q) * unit, 2)
    write(out, figures)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.scheduler", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each of the measurements")
    parser.add_argument("--out", type=Path, default=Path("bench/out/scheduler.json"))
    chosen = parser.parse_args()
    asyncio.run(main(chosen.seconds, chosen.out))
