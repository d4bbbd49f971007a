"""``python -m bursar_breaker``: one instance of the breaker, told by environment variables (see `settings`)."""

from __future__ import annotations

import sys

from bursar.kernel.host import run
from bursar.kernel.settings import told
from bursar_breaker.circuitfile import BadRules
from bursar_breaker.service import SPEC
from bursar_breaker.settings import BreakerSettings, read_rules


def main() -> int:
    """Run until told to stop; returns the exit status (2: the file of rules is wrong)."""
    settings = told(BreakerSettings, "python -m bursar_breaker")
    try:
        read_rules(settings.circuits)
    except BadRules as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run(SPEC, settings)


if __name__ == "__main__":
    sys.exit(main())
