"""A policy beside the live one: what it would have chosen, and how much better or worse that would have been.

Both are asked the same question of the same arrays; only the live one is followed. The *regret* of the live policy is
the score of its choice less that of the shadow's, by the common objective (`scoring`): positive where the shadow would
have done better. So a new policy is seen at work on real traffic before it is let loose on it. Volatile.
"""

from __future__ import annotations

from typing import Any, Final

from bursar_scheduler.fleet import Fleet
from bursar_scheduler.placing import POLICIES
from bursar_scheduler.scoring import Ask, Verdict, best

KEPT: Final = 64
"""Latest decisions in which the two differed."""


class Shadow:
    """``policy``: whose choices are watched, by name. Microseconds of the score throughout."""

    __slots__ = ("agreed", "decisions", "differences", "gap_us", "policy", "regret_us")

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self.decisions = 0
        self.agreed = 0
        self.regret_us = 0
        self.gap_us = 0
        self.differences: list[tuple[str, str, int]] = []

    def watch(self, fleet: Fleet, ask: Ask, number: int, live: Verdict) -> int:
        """Ask the shadow what the live policy has just been asked; the regret of this decision."""
        other = POLICIES[self.policy](fleet, ask, number)
        optimum = best(fleet, ask)
        if other is None or optimum is None:
            return 0
        regret = live.chosen.score - other.chosen.score
        self.decisions += 1
        self.regret_us += regret
        self.gap_us += other.chosen.score - optimum.chosen.score
        if other.chosen.worker == live.chosen.worker:
            self.agreed += 1
        else:
            self.differences = [*self.differences[1 - KEPT :], (live.chosen.worker, other.chosen.worker, regret)]
        return regret

    def told(self) -> dict[str, Any]:
        """For a status: means per decision."""
        count = max(1, self.decisions)
        return {
            "policy": self.policy,
            "decisions": self.decisions,
            "agreed_permille": self.agreed * 1_000 // count,
            "regret_us": self.regret_us // count,
            "gap_us": self.gap_us // count,
        }
