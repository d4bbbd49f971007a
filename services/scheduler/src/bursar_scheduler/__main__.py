"""``python -m bursar_scheduler``: one instance of the scheduler, told by environment variables (see `settings`)."""

from __future__ import annotations

import sys

from bursar.kernel.host import run
from bursar.kernel.settings import told
from bursar_scheduler.service import SPEC
from bursar_scheduler.settings import SchedulerSettings


def main() -> int:
    """Run until told to stop; returns the exit status."""
    return run(SPEC, told(SchedulerSettings, "python -m bursar_scheduler"))


if __name__ == "__main__":
    sys.exit(main())
