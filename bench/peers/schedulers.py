"""One schedulers' peer at work: ``python -m bench.peers.schedulers PEER ADDRESS COUNT NAP MARKS``.

Submits so many tasks of which each naps (s) and then leaves a mark: a line in a file. A first few warm everything up.
Prints ``accepted`` when all are submitted, and the seconds from the first submission to the last mark as JSON. The
worker programs of Celery and taskiq import this module, too, with the address in BENCH_ADDRESS. Imports are by name,
since the packages exist only in the environment of the peers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

WARM = 20
ADDRESS = os.environ.get("BENCH_ADDRESS", "")


def mark(number: int, nap: float, path: str) -> None:
    """The task."""
    if nap:
        time.sleep(nap)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, b"%d\n" % number)
    os.close(file)


def marks(path: str) -> int:
    """How many different tasks have left theirs."""
    return len(set(Path(path).read_text().split())) if Path(path).exists() else 0


def celery_app() -> Any:
    """With its defaults."""
    app = import_module("celery").Celery("bench", broker=ADDRESS)
    app.task(name="mark", ignore_result=True)(mark)
    return app


def taskiq_broker() -> Any:
    """Tasks in JetStream, pulled by the workers."""
    broker = import_module("taskiq_nats").PullBasedJetStreamBroker([ADDRESS], queue="bench")
    broker.register_task(mark, task_name="mark")
    return broker


if ADDRESS.startswith("redis"):
    celery = celery_app()
elif ADDRESS.startswith("nats"):
    broker = taskiq_broker()


async def by_celery(address: str, play: Callable[[Callable[..., Any]], Any]) -> None:
    task = celery.tasks["mark"]

    async def send(*arguments: Any) -> None:
        task.delay(*arguments)

    await play(send)


async def by_taskiq(address: str, play: Callable[[Callable[..., Any]], Any]) -> None:
    await broker.startup()
    task = broker.find_task("mark")
    await play(task.kiq)
    await broker.shutdown()


async def by_dask(address: str, play: Callable[[Callable[..., Any]], Any]) -> None:
    distributed = import_module("distributed")
    client = distributed.Client(address)

    async def send(*arguments: Any) -> None:
        distributed.fire_and_forget(client.submit(mark, *arguments, pure=False))

    await play(send)


async def by_ray(address: str, play: Callable[[Callable[..., Any]], Any]) -> None:
    ray = import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    remote = ray.remote(mark)
    kept = []

    async def send(*arguments: Any) -> None:
        kept.append(remote.remote(*arguments))

    await play(send)


PEERS = {"celery": by_celery, "taskiq_nats": by_taskiq, "dask": by_dask, "ray": by_ray}


async def main(peer: str, address: str, count: int, nap: float, path: str) -> None:
    async def play(send: Callable[..., Any]) -> None:
        for number in range(WARM):
            await send(number, 0.0, f"{path}.warm")
        while marks(f"{path}.warm") < WARM:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.02)
        began = time.perf_counter()
        for number in range(count):
            await send(number, nap, path)
        print("accepted", flush=True)
        while marks(path) < count:  # noqa: ASYNC110 - another process makes it so
            await asyncio.sleep(0.02)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)

    await PEERS[peer](address, play)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5]))
