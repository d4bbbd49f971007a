"""The monitor: what its probes save and cost, how it tells incidents, and its page.

    python -m bench.monitor --quick --json bench/out/monitor.json

Every figure is measured in the run: `bench.monitor_sampling` (samples that are not sent, events that are missed),
`bench.monitor_discovery`, `bench.monitor_incidents` and `bench.monitor_crowd` (real processes: who is there; causes,
notifications, cost of a probe; what a thousand hosts cost the monitor) and `bench.monitor_page` (first paint and
updates with a thousand hosts, in a real Chromium; left out where there is none, which is said).
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from bench import monitor_incidents, monitor_page, monitor_sampling
from bench.chromium import BrowserError
from bench.figures import say, write


def page(quick: bool) -> dict[str, Any]:
    """The figures of the page; why there are none, where there is no browser."""
    try:
        found = monitor_page.run(quick=quick)
    except (BrowserError, OSError) as error:
        say(f"--- no figures of the page: {error}")
        return {"page_why_not": str(error)}
    return {key: value for key, value in found.items() if key.startswith(("first_", "update_"))} | {
        "page_hosts": found["hosts"]
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--json", type=Path, default=Path("bench/out/monitor.json"), help="where the figures go")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended then, too
    say("--- samples")
    figures = monitor_sampling.run(*((8, 3_600) if options.quick else (40, 14_400)))
    say("--- real processes")
    figures |= asyncio.run(monitor_incidents.run(*((2.0, 30, 1.5) if options.quick else (30.0, 200, 15.0))))
    say("--- the page")
    figures |= page(options.quick)
    write(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
