"""Arithmetic of discovery: how often an instance is checked, and how much of the traffic it should get."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

FIRST_S: Final = 1.0
SLOWEST_S: Final = 60.0
WHOLE: Final = 1_000
"""What all weights of a service add up to."""
DOWN_AFTER: Final = 2
"""Checks that fail one after the other before an instance counts as down."""


class Health(NamedTuple):
    """``interval``: seconds to the next check; ``failures``: checks that failed one after the other; ``latency``: a
    moving average of the answers, seconds, None before the first."""

    interval: float = FIRST_S
    failures: int = 0
    latency: float | None = None

    @property
    def is_up(self) -> bool:
        return self.failures < DOWN_AFTER

    def answered(self, seconds: float | None) -> Health:
        """The longer it is well, the more seldom it is checked: from one second to sixty. None: it is there, and how
        long it took is not known."""
        if seconds is None or self.latency is None:
            latency = self.latency if seconds is None else seconds
        else:
            latency = 0.7 * self.latency + 0.3 * seconds
        return Health(min(SLOWEST_S, self.interval * 2) if self.failures == 0 else FIRST_S, 0, latency)

    def failed(self) -> Health:
        """One that does not answer is checked again in a second."""
        return Health(FIRST_S, self.failures + 1, self.latency)


class Candidate(NamedTuple):
    """``latency``: seconds, None when not known; ``errors_permille``: of its answers; ``takes``: whether it takes
    requests (a standby does not)."""

    is_up: bool
    takes: bool
    latency: float | None = None
    errors_permille: int = 0


def weights(candidates: Mapping[str, Candidate]) -> dict[str, int]:
    """How much of the traffic each should get, thousandths of all: the more, the quicker and the fewer its errors; one
    whose latency is not known counts as the slowest of them. Nothing goes to who is down or takes no requests; all are
    0 when nobody is left."""
    left = {name: one for name, one in candidates.items() if one.is_up and one.takes}
    known = [one.latency for one in left.values() if one.latency is not None]
    slowest = max(known, default=1.0)
    scores = {name: _score(one, slowest) for name, one in left.items()}
    total = sum(scores.values())
    found = {name: int(score * WHOLE / total) for name, score in scores.items()}
    for name in sorted(found, key=lambda name: (-scores[name], name))[: WHOLE - sum(found.values())]:
        found[name] += 1
    return {name: found.get(name, 0) for name in candidates}


def _score(one: Candidate, slowest: float) -> float:
    latency = max(1e-4, slowest if one.latency is None else one.latency)
    return max(0.01, 1 - one.errors_permille / 1_000) / latency
