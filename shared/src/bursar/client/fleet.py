"""The way in: ``async with bursar.connect() as fleet:``.

One fleet object is one connection; share it between all tasks of a process. It must be used in the event loop that it
was entered in.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bursar.bus.base import Bus
from bursar.client.limiter import PATIENCE, Limiter
from bursar.client.target import Target, resolve
from bursar.client.time import Clock, process_age_ms
from bursar.errors import CallerError
from bursar.telemetry import traces

if TYPE_CHECKING:
    import httpx2

    from bursar.bus.signing import Verifier
    from bursar.client.breaker import Breaker
    from bursar.client.discovery import Discovery
    from bursar.client.gpu import Gpu
    from bursar.client.host import Host
    from bursar.client.notices import Notices
    from bursar.client.scheduler import Scheduler

DRAIN: float = 5.0
"""Seconds that closing waits for settlements."""


class Fleet:
    """A connection to Bursar as one agent. Made by `connect`; enter it with ``async with``."""

    def __init__(
        self,
        target: Target | None,
        *,
        bus: Bus | None = None,
        clock: Clock | None = None,
        patience: float = PATIENCE,
        trust: Path | None = None,
        threads: bool = False,
        local_trip: int = 0,
    ) -> None:
        self._target = target
        self._bus = bus
        self._own_bus = bus is None
        self._clock = clock
        self._patience = patience
        self._trust = trust
        self._threads = threads
        self._local_trip = local_trip
        self._limiter: Limiter | None = None
        self._breaker: Breaker | None = None
        self._gpu: Gpu | None = None
        self._host: Host | None = None
        self._scheduler: Scheduler | None = None
        self._notices: Notices | None = None
        self._discovery: Discovery | None = None

    @property
    def principal(self) -> str:
        """Who this agent is, as its credentials say."""
        return self._open_bus.principal

    @property
    def limiter(self) -> Limiter:
        if self._limiter is None:
            raise CallerError("not_connected", "use the fleet inside `async with bursar.connect() as fleet:`")
        return self._limiter

    @property
    def breaker(self) -> Breaker:
        """Circuit breakers. It begins to listen when it is first used, and works without a registry, too."""
        if self._breaker is None:
            from bursar.client.breaker import Breaker  # noqa: PLC0415 - whoever does not use it pays nothing

            self._breaker = Breaker(self._open_bus, clock=self._clock, trust=self._verifier, failures=self._local_trip)
            self._breaker.start()
        return self._breaker

    def _verifier(self) -> Verifier | None:
        from bursar.client.trust import trust_file, verifier_of  # noqa: PLC0415 - as above

        return verifier_of(self._trust or (trust_file(self._target.creds) if self._target else None))

    @property
    def gpu(self) -> Gpu:
        """Leases of GPU memory."""
        if self._gpu is None:
            from bursar.client.gpu import Gpu  # noqa: PLC0415 - most agents need none

            self._gpu = Gpu(self._open_bus, clock=self._clock, notices=self._heard, patience=self._patience)
        return self._gpu

    @property
    def host(self) -> Host:
        """Leases of CPU, memory and disk of hosts."""
        if self._host is None:
            from bursar.client.host import Host  # noqa: PLC0415 - most agents need none

            self._host = Host(self._open_bus, clock=self._clock, patience=self._patience)
        return self._host

    @property
    def scheduler(self) -> Scheduler:
        """Tasks for workers."""
        if self._scheduler is None:
            from bursar.client.scheduler import Scheduler  # noqa: PLC0415 - most agents need none

            self._scheduler = Scheduler(self._open_bus, clock=self._clock, notices=self._heard, patience=self._patience)
        return self._scheduler

    @property
    def discovery(self) -> Discovery:
        """Who of the services is there, how well, and whom to ask; needs the extra ``discovery``."""
        if self._discovery is None:
            from bursar.client.discovery import Discovery  # noqa: PLC0415 - aiocache is an extra

            self._discovery = Discovery(self._open_bus, clock=self._clock)
            self._discovery.start()
        return self._discovery

    @property
    def _heard(self) -> Notices:
        """What this agent is told, for all who listen to it."""
        if self._notices is None:
            from bursar.client.notices import Notices  # noqa: PLC0415 - as above

            self._notices = Notices(self._open_bus)
        return self._notices

    @property
    def _open_bus(self) -> Bus:
        if self._bus is None:
            raise CallerError("not_connected", "use the fleet inside `async with bursar.connect() as fleet:`")
        return self._bus

    async def __aenter__(self) -> Self:
        traces.begin("bursar-agent")
        if self._bus is None and self._target is not None:
            self._bus = await _dial(self._target)
        self._limiter = Limiter(
            self._open_bus, clock=self._clock, patience=self._patience, trust=self._verifier, threads=self._threads
        )
        await self._limiter.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, drain: float = DRAIN) -> None:
        """Cancel what was never sent, finish the settlements (at most ``drain`` seconds), disconnect."""
        discovery, self._discovery = self._discovery, None
        if discovery is not None:
            await discovery.close()
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            await scheduler.close()
        gpu, self._gpu = self._gpu, None
        if gpu is not None:
            await gpu.close(drain)
        host, self._host = self._host, None
        if host is not None:
            await host.close(drain)
        breaker, self._breaker = self._breaker, None
        if breaker is not None:
            await breaker.close()
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            await limiter.close(drain)
        if self._own_bus and self._bus is not None:
            bus, self._bus = self._bus, None
            await bus.close()

    def ready(self, seconds: float | None = None) -> None:
        """Say that this agent can begin to work, ``seconds`` after it was ordered (None: after its process was
        started, where that is known): the monitor's objective ``spawn`` is about that. Nobody waits for it."""
        ms = process_age_ms() if seconds is None else seconds * 1000.0
        if ms is not None:
            self.scheduler.took.note("spawn", ms)
            self.scheduler.took.flush()

    def http_client(self, budget: str | Callable[[httpx2.Request], str], **options: Any) -> httpx2.AsyncClient:
        """An ``httpx2.AsyncClient`` whose every request stands under ``budget``, for the ``http_client`` argument of
        the official SDKs. Options: see `bursar.client.http.http_client`."""
        from bursar.client.http import http_client  # noqa: PLC0415 - httpx2 is an extra

        if options.get("breaker") is not None:
            options["circuits"] = self.breaker
        return http_client(self.limiter, budget, **options)


def connect(
    url: str | None = None,
    *,
    creds: str | os.PathLike[str] | None = None,
    home: str | os.PathLike[str] | None = None,
    name: str | None = None,
    patience: float = PATIENCE,
    local_trip: int = 0,
) -> Fleet:
    """A fleet to enter with ``async with``; nothing is sent before.

    ``url``, ``creds``, ``home``, ``name``: see `bursar.client.target`; none is needed when BURSAR_CREDS is set or
    ``./.bursar`` has one agent. ``patience``: seconds to keep asking a service that does not answer. ``local_trip``:
    so many failures in a row shut a target in this process ahead of the fleet, never fewer than its rule wants of the
    fleet, and none where it wants none (0: only while the registry is away).

    Raises `NoCredentials` here; entering raises `bursar.bus.base.ConnectFailed`.
    """
    return Fleet(resolve(url, creds, home, name), patience=patience, local_trip=local_trip)


async def _dial(target: Target) -> Bus:
    from bursar.bus import connection  # noqa: PLC0415 - only a real connection needs nats

    urls = [part.strip() for part in target.url.split(",") if part.strip()]
    return await connection.connect(urls, target.creds, principal=target.principal, jitter=2.0)
