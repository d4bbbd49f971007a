"""Which targets a request or a report is about, for the rights of who sends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from bursar.contracts.breaker import Probe, Report
from bursar.kernel.rights import Use, Uses


def _probed(body: Probe) -> Iterator[Use]:
    yield "targets", body.target


def _reported(body: Report) -> Iterator[Use]:
    for delta in body.deltas:
        yield "targets", delta.target


USES: Final[Uses] = {Probe: _probed, Report: _reported}
"""A report of which one part may not be is dropped as a whole: who says so has other things wrong, too."""
