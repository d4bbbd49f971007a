"""What a request would take from, for the rights of who asks: its budget, and other objects that it names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bursar.contracts.limiter import Reserve
from bursar.contracts.limiter_control import Simulate
from bursar.contracts.limiter_lease import Island, Lease, Uncovered
from bursar.contracts.limiter_observed import RateLimited, Seen
from bursar.kernel.rights import Use, Uses


def _path(body: Any) -> Iterator[Use]:
    yield "budgets", body.budget
    for name in body.also:
        yield "budgets", name


def _budget(body: Any) -> Iterator[Use]:
    yield "budgets", body.budget


USES: Final[Uses] = {
    **dict.fromkeys((Reserve, Lease, Simulate), _path),
    **dict.fromkeys((Island, Uncovered, RateLimited, Seen), _budget),
}
"""Who may not use a budget may not report on it either: a report can stop it for everybody."""
