"""The monitor's eyes: asks the services how they are, beside the decider and in the same process.

Only the owner looks: a standby would ask the same questions for nobody. What is seen is handed to the decider as
observations and is never journaled. A question that is not answered is an observation too; one that cannot even be
asked (no connection) is none, so that a monitor which is cut off does not call everybody dead.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from bursar.bus.base import BusError
from bursar.client.monitor import BOOKS, FleetWatch
from bursar.client.monitor_rows import SOURCES
from bursar.kernel.clock import Clock, SystemClock
from bursar.kernel.decider import Command
from bursar.kernel.desk import Request
from bursar.kernel.host import Host
from bursar.kernel.roles import Role
from bursar_monitor.health import Health
from bursar_monitor.metrics import Exposition
from bursar_monitor.observing import Polled, Swept
from bursar_monitor.page import Page
from bursar_monitor.page_asking import Asker
from bursar_monitor.page_door import Door, token_of
from bursar_monitor.page_feed import Feed
from bursar_monitor.page_lines import SUBJECT, Lines, store_of
from bursar_monitor.settings import MonitorSettings
from bursar_monitor.state import Pool, State
from bursar_monitor.web import serve_http
from bursar_monitor.webhook import Webhook

if TYPE_CHECKING:
    from bursar_monitor.keda import Keda

log = logging.getLogger("bursar.monitor")

LOOK_SECONDS = 0.25
"""Between two looks at the own health."""
RETRY_SECONDS = 0.5


class Collector:
    """Runs beside the host of one instance."""

    def __init__(self, host: Host, settings: MonitorSettings, clock: Clock | None = None) -> None:
        self._host = host
        self._settings = settings
        self._clock = clock or SystemClock()
        self._watch = FleetWatch(host.service.bus)
        self.health = Health(self._clock.monotonic_ms())
        self.exposition = Exposition(self.health, self._clock)
        self.feed = Feed(self._clock)
        self._keda: Keda | None = None
        self.lines = Lines(self._clock, store_of(settings))

    async def run(self) -> None:
        """Until cancelled."""
        host = self._settings.metrics_host
        server = serve_http(host, self._settings.metrics_port, self.exposition, self._page)
        where = "off" if server is None else f"http://{host}:{server.server_port}/metrics"
        self._host.service.metadata["metrics"] = where
        self._start_keda()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_at_self())
                group.create_task(self.lines.write_for_ever())
                await self._start_watch()
                group.create_task(self._sweep_for_ever())
                for service in SOURCES:
                    group.create_task(self._poll_for_ever(service))
                group.create_task(self._read_books_for_ever())
                if self._settings.webhook:
                    secret = self._settings.webhook_secret
                    group.create_task(Webhook(self._settings.webhook, secret, self._committed, self._observe).run())
        finally:
            self.feed.close()
            if self._keda is not None:
                self._keda.close()
            if server is not None:
                server.shutdown()
                server.server_close()

    def _page(self, port: int) -> Page | None:
        """The page for a port; None when there is no token that somebody could know."""
        try:
            token = token_of(self._settings.keys_dir, self._settings.page_token)
        except OSError as error:
            log.warning("page_off", extra={"error": type(error).__name__})
            return None
        if not token:
            log.info("page_off")
            return None
        service = self._host.service
        asker = Asker(asyncio.get_running_loop(), service.bus, self._clock)
        return Page(service.id, Door(token, port), self.feed, asker, self.lines)

    async def _start_watch(self) -> None:
        while True:
            try:
                await self._watch.start()
                await self._host.service.bus.subscribe(SUBJECT, self.lines.hear)
                return
            except BusError as error:
                log.warning("cannot_listen", extra={"code": error.code})
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def _is_owner(self) -> bool:
        return self._host.runner.replica.role is Role.OWNER

    def _observe(self, body: Any) -> None:
        self._host.runner.offer(Request(None, Command(self._host.service.bus.principal, "", body), b"", 0))

    def _start_keda(self) -> None:
        """The external scaler, when its port is set and its packages are there."""
        if not self._settings.keda_port:
            return
        try:
            from bursar_monitor.keda import Keda  # noqa: PLC0415 - its packages are an extra
        except ImportError as error:
            log.warning("keda_off", extra={"why": "install bursar-monitor[keda]", "missing": error.name})
            return
        keda = Keda()
        if keda.start(self._settings.metrics_host, self._settings.keda_port):
            self._keda = keda

    def _show_pools(self) -> None:
        """Hand the external scaler what is durable, on a standby too."""
        replica = self._host.runner.replica
        is_durable = replica.role is Role.STANDBY or (self._is_owner and replica.is_idle)
        if self._keda is not None and is_durable:
            pools: dict[str, Pool] = replica.folded.state.pools
            self._keda.show({name: pool.desired for name, pool in pools.items() if pool.desired})

    def _committed(self) -> tuple[State, tuple[int, ...]] | None:
        """The state of the owner, and up to which decision it is durable; None on a standby."""
        replica = self._host.runner.replica
        return (replica.folded.state, replica.committed) if self._is_owner else None

    async def _sweep_for_ever(self) -> None:
        while True:
            if self._is_owner:
                instances = await self._watch.sweep(min(0.3, self._settings.sweep_ms / 2000))
                if instances is not None:
                    draw = self._settings.metrics_port > 0
                    self._observe(Swept(instances, draw, await self._round_trip()))
            await asyncio.sleep(self._settings.sweep_ms * 0.7 / 1000)

    async def _round_trip(self) -> int | None:
        """To the server and back, ms; None without a connection."""
        asked = self._clock.monotonic_ms()
        try:
            await self._host.service.bus.flush()
        except BusError:
            return None
        return self._clock.monotonic_ms() - asked

    async def _poll_for_ever(self, service: str) -> None:
        while True:
            if self._is_owner and self._host.service.bus.is_connected:
                asked = self._clock.monotonic_ms()
                rows = await self._watch.rows(service)
                self._observe(Polled(service, rows, self._clock.monotonic_ms() - asked))
            await asyncio.sleep(self._settings.poll_ms / 1000)

    async def _read_books_for_ever(self) -> None:
        """What was spent, less often than how things are."""
        while True:
            for service in BOOKS:
                if self._is_owner and self._host.service.bus.is_connected:
                    rows = await self._watch.book(service)
                    self._observe(Polled(f"{service}/spending", None if rows is None else {"spent": rows}))
            await asyncio.sleep(2 * self._settings.poll_ms / 1000)

    async def _look_at_self(self) -> None:
        """Note what `/healthz` and `/readyz` tell, and hand the newest picture to `/metrics`."""
        while True:
            replica, bus = self._host.runner.replica, self._host.service.bus
            self.health.note(self._clock.monotonic_ms(), str(replica.role), bus.is_connected, replica.head.sequence)
            drawn = replica.folded.state.drawn if self._is_owner else None
            self.exposition.show(drawn)
            self.exposition.verbs = self._watch.verbs
            self.feed.show(drawn)
            self._show_pools()
            await asyncio.sleep(LOOK_SECONDS)
