"""Six rules of admission that are in use, side by side, and a small model of one card that shows which is right.

A card of `TOTAL` units. Holders are granted some units and load them bit by bit, later, or never; somebody else on the
card takes units and gives them back. The manager sees the card only in samples: at random times, and (so that no rule
is blamed for a slow probe) whenever memory is given back or what is foreign changes. What it must not do is known
exactly: a grant is *oversubscribed* when all grants and what is foreign come to more than the card has, and a refusal
is *needless* when they would not have.

| rule | its mistake |
|---|---|
| `sampled_free` | what is granted and not loaded yet is promised again |
| `free_less_leases` | what is loaded counts twice |
| `free_less_newer` | a sample taken *while* a holder loads takes the lease for loaded |
| `grants_only` | others on the card are not seen |
| `smaller_of_both` | free memory that is granted already, beside somebody who asks nobody |
| `charge_and_foreign` | none: sum of max(grant, observed) + foreign; the rule of `admission` |

The first is a manager that asks the driver; the second subtracts all reservations from what is free; the third those
that are younger than the sample; the fourth is a ledger that never looks; the fifth takes the smaller of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from bursar_gpu_manager.admission import Claim, charge, foreign, room

TOTAL: Final = 8
"""Units of the modelled card."""

SEEDS: Final = 2_000
STEPS: Final = 400


class Known(NamedTuple):
    """A lease as a manager knows it: granted, observed in the last sample, and whether it is younger than that."""

    granted: int
    observed: int
    is_newer: bool


class Picture(NamedTuple):
    """A card as a manager knows it; ``used``: by all, in the last sample."""

    total: int
    used: int
    leases: Sequence[Known]


Rule = Callable[[Picture, int], bool]
"""Whether so many more units are granted."""


def sampled_free(card: Picture, ask: int) -> bool:
    return ask <= card.total - card.used


def free_less_leases(card: Picture, ask: int) -> bool:
    return ask <= card.total - card.used - sum(lease.granted for lease in card.leases)


def free_less_newer(card: Picture, ask: int) -> bool:
    return ask <= card.total - card.used - sum(lease.granted for lease in card.leases if lease.is_newer)


def grants_only(card: Picture, ask: int) -> bool:
    return ask <= card.total - sum(lease.granted for lease in card.leases)


def smaller_of_both(card: Picture, ask: int) -> bool:
    return sampled_free(card, ask) and grants_only(card, ask)


def charge_and_foreign(card: Picture, ask: int) -> bool:
    """By the functions that the manager itself decides with."""
    observed = {str(number): lease.observed for number, lease in enumerate(card.leases)}
    claims = (Claim(str(number), lease.granted, ()) for number, lease in enumerate(card.leases))
    return ask <= room(card.total, 0, charge(claims, observed), foreign(card.used, observed), 0)


RULES: Final[Mapping[str, Rule]] = {
    rule.__name__: rule
    for rule in (sampled_free, free_less_leases, free_less_newer, grants_only, smaller_of_both, charge_and_foreign)
}
RIGHT: Final = "charge_and_foreign"


class Tally(NamedTuple):
    grants: int
    oversubscribed: int
    needless: int


class Holder:
    __slots__ = ("granted", "is_newer", "loaded", "observed")

    def __init__(self, granted: int) -> None:
        self.granted = granted
        self.loaded = 0
        self.observed = 0
        self.is_newer = True


class Model:
    """One card, one rule, one history. ``seed`` decides the history as far as the rule does not."""

    def __init__(self, rule: Rule, seed: int) -> None:
        self.rule = rule
        self.holders: list[Holder] = []
        self.foreign = 0
        self.used = 0
        self.grants = self.oversubscribed = self.needless = 0
        self._random = seed * 2_654_435_761 + 88_172_645_463_325_252

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1, by a linear congruence (Knuth's MMIX)."""
        self._random = (self._random * 6_364_136_223_846_793_005 + 1_442_695_040_888_963_407) & 0xFFFF_FFFF_FFFF_FFFF
        return (self._random >> 33) % limit

    def step(self) -> None:
        what = self.below(10)
        if what < 4:
            self.ask(1 + self.below(4))
        elif what < 7:
            self.load()
        elif what == 7:
            self.release()
        elif what == 8:
            self.others()
        else:
            self.sample()

    def ask(self, units: int) -> None:
        known = [Known(holder.granted, holder.observed, holder.is_newer) for holder in self.holders]
        granted = self.rule(Picture(TOTAL, self.used, known), units)
        fits = self.foreign + sum(holder.granted for holder in self.holders) + units <= TOTAL
        if granted:
            self.grants += 1
            self.oversubscribed += not fits
            self.holders.append(Holder(units))
        else:
            self.needless += fits

    def load(self) -> None:
        """A holder loads one unit, as far as the driver has it."""
        loading = [holder for holder in self.holders if holder.loaded < holder.granted]
        if loading and self._in_use() < TOTAL:
            loading[self.below(len(loading))].loaded += 1

    def release(self) -> None:
        if self.holders:
            self.holders.pop(self.below(len(self.holders)))
            self.sample()

    def others(self) -> None:
        """Somebody who asks nobody has another amount from now on, as far as the driver has it."""
        self.foreign = min(self.below(4), TOTAL - (self._in_use() - self.foreign))
        self.sample()

    def sample(self) -> None:
        self.used = self._in_use()
        for holder in self.holders:
            holder.observed, holder.is_newer = holder.loaded, False

    def _in_use(self) -> int:
        return self.foreign + sum(holder.loaded for holder in self.holders)


def tally(rule: Rule, seeds: int = SEEDS, steps: int = STEPS) -> Tally:
    """What the rule does over so many histories of so many steps."""
    grants = oversubscribed = needless = 0
    for seed in range(seeds):
        model = Model(rule, seed)
        for _ in range(steps):
            model.step()
        grants, oversubscribed = grants + model.grants, oversubscribed + model.oversubscribed
        needless += model.needless
    return Tally(grants, oversubscribed, needless)
