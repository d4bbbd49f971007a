"""Three servers on one machine, for tests of replicated streams.

::

    async with NatsCluster(tmp_path) as cluster:        # or NatsCluster(tmp_path, home=home)
        leader = await cluster.leader_of("BURSAR_LOG_LIMITER")
        leader.kill()
"""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from bursar.bus.identity import Home
from bursar.bus.server.binary import ServerError
from bursar.bus.server.config import ClusterPlace, ServerOptions, tls_of
from bursar.bus.server.process import NatsServer


class NatsCluster:
    """A cluster of ``size`` servers named n1, n2, ...; with a home it has its identities, otherwise none."""

    def __init__(self, directory: Path, *, size: int = 3, home: Home | None = None) -> None:
        ports = tuple(_free_ports(size))
        self.nodes = [
            NatsServer(
                home,
                options=ServerOptions(
                    store=directory / name / "jetstream",
                    run_dir=directory / name / "run",
                    name=name,
                    cluster=ClusterPlace("bursar", port, ports),
                    tls=None if home is None else tls_of(home.path),
                ),
            )
            for name, port in zip((f"n{i + 1}" for i in range(size)), ports, strict=True)
        ]

    @property
    def url(self) -> str:
        """All servers, separated by commas."""
        return ",".join(node.url for node in self.nodes)

    @property
    def urls(self) -> list[str]:
        return [node.url for node in self.nodes]

    async def start(self, timeout: float = 40.0) -> None:
        """Start all and wait until they have elected a leader and each is healthy."""
        try:
            await asyncio.gather(*(node.start(timeout) for node in self.nodes))
            await self._await_meta_leader(time.monotonic() + timeout)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes))

    async def leader_of(self, stream: str, timeout: float = 15.0) -> NatsServer:
        """The server that leads a stream now; waits for an election. Raises `ServerError` when there is none."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for node in self._alive():
                if (leader := await _leader_seen_by(node, stream)) is not None:
                    return next(n for n in self.nodes if n.name == leader)
            await asyncio.sleep(0.1)
        raise ServerError(f"stream {stream} has no leader")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def _alive(self) -> list[NatsServer]:
        return [node for node in self.nodes if node.running]

    async def _await_meta_leader(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            pages = await asyncio.gather(*(node.monitor("jsz") for node in self.nodes))
            if all(page.get("meta_cluster", {}).get("leader") for page in pages):
                return
            await asyncio.sleep(0.1)
        raise ServerError("the cluster has not elected a leader in time")


async def _leader_seen_by(node: NatsServer, stream: str) -> str | None:
    """The stream's leader as that leader itself reports it (others may still name the previous one)."""
    try:
        page = await node.monitor("jsz?accounts=true&streams=true")
    except OSError:
        return None
    for account in page.get("account_details") or []:
        for detail in account.get("stream_detail") or []:
            if detail["name"] == stream and (detail.get("cluster") or {}).get("leader") == node.name:
                return node.name
    return None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(s.getsockname()[1]) for s in sockets]
    finally:
        for s in sockets:
            s.close()
