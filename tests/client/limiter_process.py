"""The real limiter as a process with three budgets: ``python -m tests.client.limiter_process``.

``wide`` has room for everything; ``narrow`` allows two calls at a time, ``few`` so many that they are held by lease.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from bursar.contracts import limiter as wire
from bursar.kernel.host import run
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec
from bursar_limiter import service
from bursar_limiter.core import LimiterDecider

HUGE = wire.LimitSpec(limit=10**9, window_ms=10_000)
BUDGETS = (
    wire.BudgetSpec(name="wide", limits={"requests": HUGE, "input_tokens": HUGE, "output_tokens": HUGE}),
    wire.BudgetSpec(name="narrow", limits={"concurrent": wire.LimitSpec(limit=2, window_ms=0)}),
    wire.BudgetSpec(name="few", limits={"concurrent": wire.LimitSpec(limit=8, window_ms=0)}),
)


def first_budgets(_settings: Any, state: Any) -> Sequence[Any]:
    """Offered when the log is empty."""
    return () if state.budgets else (wire.Reload(id="start", budgets=BUDGETS),)


SPEC = ServiceSpec(
    name=wire.SERVICE,
    version="0.1.0",
    description="the limiter, for tests of the client",
    decider=LimiterDecider,
    verbs=service.SPEC.verbs,
    start=first_budgets,
)

if __name__ == "__main__":
    sys.exit(run(SPEC, ServiceSettings()))
