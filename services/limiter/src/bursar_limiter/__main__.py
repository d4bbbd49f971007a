"""``python -m bursar_limiter``: one instance of the limiter, told by environment variables (see `settings`)."""

from __future__ import annotations

import sys

from bursar.contracts.breaker import SERVICE as BREAKER
from bursar.contracts.breaker import SHARE, BudgetShare
from bursar.kernel.hearing import Heard, hearing
from bursar.kernel.host import run
from bursar.kernel.settings import told
from bursar_limiter.budgets import BadBudgets
from bursar_limiter.service import SPEC
from bursar_limiter.settings import LimiterSettings, read_budgets


def main() -> int:
    """Run until told to stop; returns the exit status (2: the file of budgets is wrong)."""
    settings = told(LimiterSettings, "python -m bursar_limiter")
    try:
        read_budgets(settings.budgets)
    except BadBudgets as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run(SPEC, settings, hearing(settings.trust, Heard(BREAKER, SHARE, BudgetShare)))


if __name__ == "__main__":
    sys.exit(main())
