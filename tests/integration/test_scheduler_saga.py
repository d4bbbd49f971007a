"""A task takes a budget, a circuit and GPU memory from real services: all, or none, also when its worker dies."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Self

import pytest

import bursar
from bursar.client.fleet import Fleet
from bursar.client.scheduler_handle import Handle
from tests.examples.installation import Installation, running
from tests.integration.support import ROOT

pytestmark = pytest.mark.integration
GIB = 1024**3
BUDGETS = """\
[budgets.shared]
limits.requests = { limit = 6_000, window = "60s" }
limits.concurrent = 1
"""
TAKES: dict[str, Any] = {"budget": "shared", "circuit": "provider", "gpu_bytes": 4 * GIB}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """All services, one simulated card of 8 GiB, and a budget for one call at a time."""
    directory = tmp_path_factory.mktemp("saga")
    budgets = directory / "budgets.toml"
    budgets.write_text(BUDGETS)
    with running(directory / "home", "--gpus", "1x8GiB", "--budgets", str(budgets)) as installation:
        yield installation


class Worker:
    """A process of `tests.integration.saga_worker`."""

    def __init__(self, site: Installation, name: str, *more: str) -> None:
        command = [sys.executable, "-m", "tests.integration.saga_worker", *more]
        self.process = subprocess.Popen(command, env=site.env(name), cwd=ROOT, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def until_paused(handle: Handle, why: str) -> None:
    """Until it was given back for this reason."""
    async with asyncio.timeout(20):
        while why not in (await handle.status()).error:  # noqa: ASYNC110 - the scheduler tells when asked
            await asyncio.sleep(0.05)


async def leases(fleet: Fleet) -> int:
    return len((await fleet.gpu.status()).leases)


async def until_free(fleet: Fleet) -> None:
    async with asyncio.timeout(20):
        while await leases(fleet):  # noqa: ASYNC110 - the manager tells when asked
            await asyncio.sleep(0.05)


async def test_all_is_taken_or_nothing_and_all_comes_back(site: Installation) -> None:
    """One after the other: all is there; the last of the three is refused; the worker dies with two of them."""
    async with bursar.connect(site.url, creds=site.creds("agent-1")) as fleet:
        submit = fleet.scheduler.submit
        async with asyncio.timeout(20):
            while not (await fleet.gpu.status()).devices:  # noqa: ASYNC110 - the probe has to report first
                await asyncio.sleep(0.05)
        with Worker(site, "worker-1"):
            done = await (await submit("all", 0.0, takes=TAKES)).result(20)
            assert done == {"memory": 4 * GIB, "permit": "sent", "target": "provider"}
            await until_free(fleet)
            async with fleet.limiter.reserve("shared", ttl=60):
                late = await submit("all", 0.0, takes=TAKES)
                await until_paused(late, "refused")
                await until_free(fleet)
            assert await late.result(30) == done
            wrong = await submit("all", 0.0, takes={**TAKES, "budget": "nowhere"})
            with pytest.raises(bursar.TaskFailed, match="it cannot be had"):
                await wrong.result(20)
            await until_free(fleet)
        with Worker(site, "worker-2", "die") as doomed:
            handle = await submit("all", 0.0, takes=TAKES)
            assert await asyncio.to_thread(doomed.process.wait, 20) == 9
        await until_free(fleet)
        with Worker(site, "worker-3"):
            assert await handle.result(40) == done
            await until_free(fleet)
            assert (await handle.status()).attempts >= 2
