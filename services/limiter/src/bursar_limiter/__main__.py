"""``python -m bursar_limiter``: one instance of the limiter."""

from __future__ import annotations

import sys

from bursar.kernel.host import run
from bursar_limiter.service import SPEC
from bursar_limiter.settings import LimiterSettings


def main() -> None:
    """Entry point of the console script; ends with the process's status."""
    sys.exit(run(SPEC, LimiterSettings()))


if __name__ == "__main__":
    main()
