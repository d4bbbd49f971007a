"""One real Chromium for all tests here, and a page of a fleet whose server can be stopped and started again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIServer

import axe_core_python  # type: ignore[import-untyped]
import pytest

from bench.chromium import Chromium, Page
from bench.monitor_fleet import Fleet
from bursar.bus.base import Message
from bursar.kernel.clock import SystemClock
from bursar_monitor.health import Health
from bursar_monitor.metrics import Exposition
from bursar_monitor.page import Page as Application
from bursar_monitor.page_door import Door
from bursar_monitor.page_feed import Feed
from bursar_monitor.page_lines import Lines
from bursar_monitor.web import serve_http

TOKEN = "a-token-of-the-tests-alone"
AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()


class Site:
    """A server of the page over a made-up fleet. ``tick`` shows the next picture; `stop` and `start` are a restart."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.port = 0
        self.token = TOKEN
        self._clock = SystemClock()
        self._server: WSGIServer | None = None
        self.lines = Lines(self._clock)
        self.start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.origin}/?token={TOKEN}"

    def start(self) -> None:
        self.feed = Feed(self._clock)

        def page(port: int) -> Application:
            return Application("m-1", Door(self.token, port), self.feed, None, self.lines)

        server = serve_http("127.0.0.1", self.port or 21_464, Exposition(Health(0), self._clock), page)
        assert server is not None
        assert self.port in {0, server.server_port}, "the port of before is free again"
        self._server, self.port = server, server.server_port
        self.tick()
        self.tick()

    def stop(self) -> None:
        server, self._server = self._server, None
        self.feed.close()
        if server is not None:
            server.shutdown()
            server.server_close()

    def tick(self, silent: tuple[str, ...] = (), cpu: dict[str, int] | None = None) -> None:
        self.feed.show(self.fleet.tick(silent, cpu))

    def say(self, **fields: Any) -> None:
        """One line of a service's log."""
        self.lines.hear(Message("bursar.line.x.info", "", json.dumps({"ts": 1_763_769_600, **fields}).encode()))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


@pytest.fixture
def browser(chromium: Chromium) -> Iterator[Chromium]:
    """Its pages are closed after each test."""
    yield chromium
    chromium.close_pages()


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site(Fleet(14, quiet=True))
    yield made
    made.stop()


@pytest.fixture
def page(browser: Chromium, site: Site) -> Page:
    """The page, logged in, with its first numbers."""
    opened = browser.open(site.address)
    opened.until("document.querySelector('.tile-value') && document.querySelector('#alerts .panel-body').innerText")
    return opened


def violations(page: Page) -> list[str]:
    """What axe-core finds: WCAG 2.1 A and AA, and its best practices."""
    page.value(f"{AXE}; true")
    found = page.value("axe.run(document, { resultTypes: ['violations'] }).then((told) => told.violations)")
    return [f"{rule['id']}: {node['html'][:160]} {node['failureSummary']}" for rule in found for node in rule["nodes"]]
