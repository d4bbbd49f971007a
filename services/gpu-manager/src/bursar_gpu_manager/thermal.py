"""How warm a card is for placement: by its margin to slowdown, with hysteresis, and by where the margin is going.

| heat | margin | meaning |
|---|---|---|
| `OK` | 15 °C and more | |
| `WARM` | 5 to 15 °C, or not known | the last choice |
| `HOT` | below 5 °C, or it slows down for heat, or will within a minute at this rate | it is drained |

A margin that falls is believed at once. A card counts as cooler only when it has been cooler by 5 °C for 30 s, so that
work does not swing between two cards. A limit of power is not heat. A card whose margin nobody knows is not cold:
unknown is the last choice, and hot as soon as it says that it slows down.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

WARM_BELOW: Final = 15
HOT_BELOW: Final = 5
COOLER_BY: Final = 5
COOLER_MS: Final = 30_000
AHEAD_MS: Final = 60_000
"""A card that would reach its slowdown within this time is drained now."""
TREND_MS: Final = 30_000
"""The rate is taken over this time; over less than a third of it nothing is foretold."""
FORETOLD_BELOW: Final = 25
"""With a larger margin nothing is foretold: a card that has just got work warms up quickly at first."""
SAMPLES: Final = 32

HW_SLOWDOWN: Final = 0x8
SW_THERMAL: Final = 0x20
HW_THERMAL: Final = 0x40
HW_POWER_BRAKE: Final = 0x80
"""NVML's reasons for lower clocks."""


class Heat(IntEnum):
    OK = 0
    WARM = 1
    HOT = 2


class Sample(NamedTuple):
    """``margin``: °C below the slowdown threshold; None: unknown."""

    at: int
    margin: int


def heat_of(margin: int | None, reasons: int = 0) -> Heat:
    """Without memory: what one reading says."""
    if slows_for_heat(reasons):
        return Heat.HOT
    if margin is None:
        return Heat.WARM
    return Heat.OK if margin >= WARM_BELOW else Heat.WARM if margin >= HOT_BELOW else Heat.HOT


def slows_for_heat(reasons: int) -> bool:
    """Whether clocks are lowered for heat: said so, or forced by the hardware without saying that it is for power."""
    if reasons & (SW_THERMAL | HW_THERMAL):
        return True
    return bool(reasons & HW_SLOWDOWN) and not reasons & HW_POWER_BRAKE


class Thermometer:
    """One card's readings. ``heat`` is what placement uses."""

    __slots__ = ("_cooler_since", "_is_known", "_samples", "heat")

    def __init__(self) -> None:
        self.heat = Heat.WARM
        self._is_known = False
        self._cooler_since: int | None = None
        self._samples: list[Sample] = []

    def read(self, margin: int | None, reasons: int, now: int) -> Heat:
        """Fold a reading in; returns the heat from now on. Readings older than the last are ignored."""
        if self._samples and now < self._samples[-1].at:
            return self.heat
        is_first, self._is_known = not self._is_known and margin is not None, self._is_known or margin is not None
        if margin is not None:
            recent = [sample for sample in self._samples if now - sample.at <= TREND_MS]
            self._samples = [*recent, Sample(now, margin)][-SAMPLES:]
        told = heat_of(margin, reasons)
        if slowdown_in(self._samples, now) is not None:
            told = Heat.HOT
        if told >= self.heat or is_first:
            self.heat, self._cooler_since = told, None
        elif not self._is_clearly_cooler(margin, reasons):
            self._cooler_since = None
        elif self._cooler_since is None:
            self._cooler_since = now
        elif now - self._cooler_since >= COOLER_MS:
            self.heat, self._cooler_since = told, None
        return self.heat

    def _is_clearly_cooler(self, margin: int | None, reasons: int) -> bool:
        """Beyond the edge of its present class by the hysteresis."""
        if margin is None:
            return self.heat is Heat.HOT and not slows_for_heat(reasons)
        edge = HOT_BELOW if self.heat is Heat.HOT else WARM_BELOW
        return margin >= edge + COOLER_BY

    def dump(self) -> Any:
        return [int(self.heat), self._is_known, self._cooler_since, [list(sample) for sample in self._samples]]

    @classmethod
    def load(cls, value: Any) -> Thermometer:
        found = cls()
        found.heat, found._is_known, found._cooler_since = Heat(value[0]), value[1], value[2]
        found._samples = [Sample(*row) for row in value[3]]
        return found


def slowdown_in(samples: Sequence[Sample], now: int) -> int | None:
    """Milliseconds until the margin is used up, if that is within a minute; None when it is not, when the card cools,
    when the fall slows down so that it ends before (a card that has got work warms up and then stays), or when too
    little is known."""
    if len(samples) < 2 or samples[-1].margin >= FORETOLD_BELOW or samples[-1].at - samples[0].at < TREND_MS // 3:
        return None
    first, last = samples[0], samples[-1]
    half = first.at + (last.at - first.at) // 2
    middle = min(samples, key=lambda sample: abs(sample.at - half)) if len(samples) > 2 else first
    earlier, lost = first.margin - middle.margin, middle.margin - last.margin
    if lost <= 0 or (lost < earlier and lost * (lost - 1) < last.margin * (earlier - lost + 1)):
        return None  # as a geometric series what is still to come is less than the margin; readings are whole degrees
    left = max(0, last.margin) * (last.at - middle.at) // lost - (now - last.at)
    return max(0, left) if left <= AHEAD_MS else None
