"""How soon the monitor's page is there, and how soon it shows what is new, with a thousand hosts in a real Chromium.

- ``first_paint_ms``: from the start of the navigation to the first contentful paint, as the browser itself says; the
  median of several loads, each in a fresh context without any cache. ``first_numbers_ms``: until the first numbers of
  the fleet stand in the page.
- ``update_p50_ms``, ``update_p95_ms``: from the moment at which the monitor has drawn a new picture to the frame in
  which the table of hosts shows it, beside the overview and all the rest that is on the screen. One clock measures
  both ends: page and monitor run on one machine.

    python -m bench.monitor_page --quick
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bench.chromium import Chromium, Page
from bench.monitor_fleet import Fleet
from bursar.kernel.clock import SystemClock
from bursar_monitor.health import Health
from bursar_monitor.metrics import Exposition
from bursar_monitor.page import Page as Application
from bursar_monitor.page_door import Door
from bursar_monitor.page_feed import Feed
from bursar_monitor.page_lines import Lines
from bursar_monitor.web import serve_http

HOSTS: Final = 1_000
TOKEN: Final = "a-token-of-the-benchmark"  # noqa: S105 - for a server that ends with it
PORT: Final = 23_464
NUMBERS: Final = "document.querySelector('.tile-value') !== null"

WATCH: Final = """
(() => {
  window.seen = {};
  const look = () => requestAnimationFrame(() => {
    const name = document.querySelector('#hosts tbody th')?.textContent;
    if (name && !(name in window.seen)) window.seen[name] = performance.timeOrigin + performance.now();
  });
  const all = { subtree: true, childList: true, characterData: true };
  new MutationObserver(look).observe(document.getElementById('hosts'), all);
  return true;
})()
"""


def run(*, hosts: int = HOSTS, quick: bool = False) -> dict[str, float | int]:
    """Both figures, in one run; about ten seconds with ``quick``."""
    loads, updates = (3, 15) if quick else (9, 100)
    fleet = Fleet(hosts)
    with _served(fleet) as (feed, address), Chromium() as browser:
        browser.open(address).until(NUMBERS)  # the browser itself has started by now
        browser.close_pages()
        opened = [_load(browser, address) for _ in range(loads)]
        latencies = _updates(browser.open(address), feed, fleet, updates)
    return {
        "hosts": hosts,
        "loads": loads,
        "first_paint_ms": round(statistics.median(paint for paint, _ in opened), 1),
        "first_numbers_ms": round(statistics.median(numbers for _, numbers in opened), 1),
        "updates": len(latencies),
        "update_p50_ms": round(statistics.median(latencies), 1),
        "update_p95_ms": round(_p95(latencies), 1),
    }


@contextmanager
def _served(fleet: Fleet) -> Iterator[tuple[Feed, str]]:
    clock = SystemClock()
    feed, lines = Feed(clock), Lines(clock)

    def page(port: int) -> Application:
        return Application("monitor-1", Door(TOKEN, port), feed, None, lines)

    server = serve_http("127.0.0.1", PORT, Exposition(Health(0), clock), page)
    assert server is not None, "no port is free"
    try:
        for _ in range(3):
            feed.show(fleet.tick())
        yield feed, f"http://127.0.0.1:{server.server_port}/?token={TOKEN}"
    finally:
        feed.close()
        server.shutdown()
        server.server_close()


def _load(browser: Chromium, address: str) -> tuple[float, float]:
    """First contentful paint and first numbers of one load, ms since the navigation began."""
    page = browser.open()
    page.call("Page.addScriptToEvaluateOnNewDocument", source=f"""
      new MutationObserver((_, self) => {{
        if ({NUMBERS}) {{ window.numbersAt ??= performance.now(); self.disconnect(); }}
      }}).observe(document, {{ subtree: true, childList: true }});
    """)  # fmt: skip
    page.go(address)
    page.until("window.numbersAt && performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = page.value("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    numbers = page.value("window.numbersAt")
    browser.close_pages()
    return float(paint), float(numbers)


def _updates(page: Page, feed: Feed, fleet: Fleet, count: int) -> list[float]:
    """In each picture another host is the busiest one: it has to be the first row of the table."""
    page.until(NUMBERS)
    page.value("document.getElementById('hosts').scrollIntoView()")
    page.until("document.querySelectorAll('#hosts tbody tr').length > 5")
    page.value(WATCH)
    latencies = []
    for name in fleet.names[100 : 100 + count]:
        drawn = fleet.tick(cpu={name: 1_000})
        shown = time.time() * 1_000
        feed.show(drawn)
        page.until(f"window.seen[{name!r}]")
        latencies.append(float(page.value(f"window.seen[{name!r}]")) - shown)
    return latencies


def _p95(values: list[float]) -> float:
    return sorted(values)[max(0, -(-len(values) * 95 // 100) - 1)]


def main() -> None:
    """Print the figures as JSON."""
    asked = argparse.ArgumentParser(description="The monitor's page with a thousand hosts in headless Chromium.")
    asked.add_argument("--quick", action="store_true", help="fewer loads and updates")
    asked.add_argument("--hosts", type=int, default=HOSTS)
    given = asked.parse_args()
    print(json.dumps(run(hosts=given.hosts, quick=given.quick), indent=2))


if __name__ == "__main__":
    main()
