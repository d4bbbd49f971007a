"""How far each region is and how many calls succeed there, as measured: what `fleet.Region` is made of. Volatile.

Workers tell with their heartbeats how long the way is to what they work with; of the attempts that end in a region
those count as failures that have failed, were lost, or took too long. Both are exponentially weighted means, with an
eighth and a thirty-second for the newest; failures are forgotten while workers there go on telling, so that a region
that was avoided is tried again. A change goes into the score of all workers of a region, so it is told only
when it is larger than an eighth of what was told before.
"""

from __future__ import annotations

from typing import Final

from bursar_scheduler.fleet import Region

LATENCY_SHARE: Final = 8
HEALTH_SHARE: Final = 32
FORGOTTEN: Final = 512
"""With each measurement a part of this of the failures is forgotten."""

MAX_REGIONS: Final = 1_024
CHANGE: Final = 8
LEAST_US: Final = 200
"""Smaller changes are noise."""

WHOLE: Final = 1_000_000


class Regions:
    """By region the latency in us, and ``health``: of a million calls those that succeed, where some have failed;
    ``told``: as the placement knows it."""

    __slots__ = ("_latency", "health", "told")

    def __init__(self) -> None:
        self._latency: dict[str, int] = {}
        self.health: dict[str, int] = {}
        self.told: dict[str, Region] = {}

    def measured(self, region: str, latency_us: int) -> Region | None:
        """A worker there has measured its way. What is to be told, if it has changed by enough."""
        if region not in self._latency and len(self._latency) >= MAX_REGIONS:
            return None
        before = self._latency.get(region, latency_us)
        self._latency[region] = before + (latency_us - before) // LATENCY_SHARE
        if region in self.health:
            self.health[region] += (WHOLE - self.health[region]) // FORGOTTEN
        return self._changed(region)

    def ended(self, region: str, is_well: bool) -> Region | None:
        """An attempt has ended there. The same."""
        if region not in self.health:
            if is_well or len(self.health) >= MAX_REGIONS:
                return None
            self.health[region] = WHOLE
        before = self.health[region]
        self.health[region] = before + ((WHOLE if is_well else 0) - before) // HEALTH_SHARE
        return self._changed(region)

    def _changed(self, region: str) -> Region | None:
        now = Region(self._latency.get(region, 0), self.health.get(region, WHOLE) * 1_000 // WHOLE)
        before = self.told.get(region, Region())
        if abs(now.reach_us - before.reach_us) <= max(LEAST_US, before.reach_us // CHANGE):
            return None
        self.told[region] = now
        return now
