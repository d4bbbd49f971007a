"""``python -m bursar_monitor``: one instance of the monitor, told by environment variables (see `settings`)."""

from __future__ import annotations

import sys

from bursar.kernel.host import Host, run
from bursar.kernel.settings import told
from bursar_monitor.collector import Collector
from bursar_monitor.rules import BadRules
from bursar_monitor.service import SPEC
from bursar_monitor.settings import MonitorSettings, read_rules


def main() -> int:
    """Run until told to stop; returns the exit status (2: the file of rules is wrong)."""
    settings = told(MonitorSettings, "python -m bursar_monitor")
    try:
        read_rules(settings.rules)
    except BadRules as error:
        sys.stderr.write(f"{error}\n")
        return 2

    async def collect(host: Host) -> None:
        await Collector(host, settings).run()

    return run(SPEC, settings, beside=collect)


if __name__ == "__main__":
    sys.exit(main())
