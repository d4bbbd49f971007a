"""A lease of this host, end to end: a real monitor, a real probe, a process that is kept within its limit."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import bursar
from bursar.bus.connection import connect
from bursar.cli.main import build
from bursar.client.fleet import Fleet
from bursar.client.gpu import started_at
from tests.integration.monitor_site import HOST, Site
from tests.integration.support import until

pytestmark = pytest.mark.integration

MB = 1 << 20


def bursar_host(site: Site, *words: str) -> str:
    """What the command line says."""
    told = CliRunner().invoke(
        build(["bursar.cli.host"]), ["host", *words, "--home", str(site.home.path), "--url", site.server.url]
    )
    assert told.exit_code == 0, told.output
    return told.output


async def test_a_lease_is_kept_by_the_probe_and_told_with_what_is_used(tmp_path: Path) -> None:
    """The probe limits the process and tells what it uses; a quota refuses more; and after the block the process has
    what it had before."""
    async with Site(tmp_path) as site:
        await site.start("monitor", "m-1")
        site.start_node(BURSAR_CGROUP=str(tmp_path / "none"))
        await site.sees(lambda reply: any(row.memory_total_bytes for row in reply.hosts), 20, "the host is seen")
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
        started = started_at(worker.pid)
        assert started is not None
        bus = await connect(site.server.url, site.home.creds("ann"), principal="ann")

        def soft() -> int:
            return resource.prlimit(worker.pid, resource.RLIMIT_DATA)[0]

        try:
            async with Fleet(None, bus=bus) as fleet:
                want: dict[str, Any] = {"host": HOST, "processes": [(worker.pid, started)], "ttl": 3.0, "wait": 20.0}
                async with fleet.host.lease(cpu=0.5, memory=100 * MB, most_cpu=1.0, **want) as lease:
                    assert lease.is_whole
                    await until(lambda: soft() != resource.RLIM_INFINITY, 15, "the process is limited")
                    assert soft() < 200 * MB
                    await until(lambda: lease.used.memory is not None, 15, "what it uses is known")
                    assert lease.used.held_by == "rlimit"
                    await site.sees(
                        lambda reply: any(row.agent == "ann" and row.used_memory_bytes for row in reply.leases),
                        20,
                        "it is in the picture",
                    )
                    shown = await asyncio.to_thread(bursar_host, site, "leases", HOST)
                    assert f"ann on {HOST}: CPU" in shown
                    assert f"pool context of {HOST}: " in shown
                    assert "ann: set" in await asyncio.to_thread(
                        bursar_host, site, "quota", "ann", "--memory", "150MiB"
                    )
                    with pytest.raises(bursar.HostRefused) as refused:
                        await fleet.host.lease(memory=100 * MB, host=HOST, processes=[])
                    assert (refused.value.reason, refused.value.retry_in) == ("over_quota", None)
                    lease.check()
                await until(lambda: soft() == resource.RLIM_INFINITY, 15, "the process has what it had")
        finally:
            worker.kill()
            await worker.wait()
            await bus.close()
