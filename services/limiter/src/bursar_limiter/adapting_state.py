"""What the limiter knows of how the provider treats a budget: freezes and cuts, durable; samples, volatile.

It is kept only for budgets that the provider has spoken of: of others there is nothing to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bursar.kernel.bugs import seeded
from bursar_limiter import adapting_bugs as bugs
from bursar_limiter.adapting_cubic import FULL, Cut
from bursar_limiter.adapting_voices import Voices

NEVER: Final = 1 << 62

MOST_VIEWS: Final = 64

Place = tuple[int, int]
"""Which limit of a budget: (index of the dimension, length of its window in ms)."""


class Allowance(NamedTuple):
    """How many ms of freezing a reporter has left, as of ``at``."""

    left: int
    at: int


class Share(NamedTuple):
    """The part of its pace that a budget has by the word of a breaker's registry (thousandths), which of its words that
    was, and until when it holds (0: it has ended, and the pace is back)."""

    incarnation: int
    revision: int
    permille: int
    until: int

    def at(self, now: int) -> int:
        """What of it holds."""
        return self.permille if now < self.until else FULL


class Adapted:
    """Durable, of one budget. ``strikes``: 429s in a row without a time to wait; ``until``: the end of the last freeze;
    ``allowances``: of who has reported 429s, until they are full again; ``cuts``: by limit, until the pace is back;
    ``share``: what a breaker said last."""

    __slots__ = ("allowances", "cuts", "share", "strikes", "until")

    def __init__(self) -> None:
        self.strikes = 0
        self.until = 0
        self.allowances: dict[str, Allowance] = {}
        self.cuts: dict[Place, Cut] = {}
        self.share: Share | None = None

    def dump(self) -> list[Any]:
        allowances = [[who, *left] for who, left in sorted(self.allowances.items())]
        cuts = [] if seeded(bugs.CUT_FORGOTTEN) else [[*place, *cut] for place, cut in sorted(self.cuts.items())]
        return [self.strikes, self.until, allowances, cuts, list(self.share or ())]

    def load(self, value: Any) -> None:
        self.strikes, self.until, allowances, cuts, share = value
        self.share = Share(*share) if share else None
        self.allowances = {who: Allowance(left, at) for who, left, at in allowances}
        self.cuts = {(index, window): Cut(most, at) for index, window, most, at in cuts}


class Watch:
    """Volatile, of one limit: what reporters say of it, and how the pace is steered. ``views``: (when, what counted and
    was in flight), for samples that arrive late. ``quiet_since``: since when a learned limit holds and nobody has said
    a word on it (`NEVER`: somebody has). ``foreign``: (when, how much) was charged for others. ``bias`` and
    ``ramp``: thousandths of the pace. ``above_since``: since when more is in use than should be (`NEVER`: it is not).
    ``wanted_since``: since when there is demand (`NEVER`: there is none), and
    ``wanted_at``: when there was last."""

    __slots__ = (
        "above_since", "bias", "excess", "foreign", "limits", "quiet_since", "ramp", "views", "wanted_at",
        "wanted_since",
    )  # fmt: skip

    def __init__(self) -> None:
        self.limits = Voices()
        self.excess = Voices()
        self.views: list[tuple[int, int]] = []
        self.foreign: list[tuple[int, int]] = []
        self.bias = 0
        self.above_since = NEVER
        self.ramp = -1
        self.wanted_at = 0
        self.wanted_since = NEVER
        self.quiet_since = NEVER

    def foreign_within(self, now: int, window: int) -> int:
        """How much others have used in the last window, as far as it was noticed."""
        return sum(amount for at, amount in self.foreign if now - at < window)

    def view(self, now: int, counted: int) -> None:
        """Note what counts now."""
        self.views.append((now, counted))
        del self.views[:-MOST_VIEWS]

    def charged(self, now: int, amount: int, window: int) -> None:
        """Note what was charged for others; what is over is forgotten."""
        self.foreign = [(at, was) for at, was in self.foreign if now - at < window][-MOST_VIEWS:]
        self.foreign.append((now, amount))


class Adapting:
    """All of it. ``look_at``: when paces are to be looked at again; ``ramps``: budgets whose pace is to rise slowly;
    ``refused``: those that somebody was refused since the last look; ``learned``: those with a learned limit."""

    __slots__ = ("budgets", "learned", "look_at", "ramps", "refused", "watches")

    def __init__(self) -> None:
        self.budgets: dict[str, Adapted] = {}
        self.watches: dict[tuple[str, Place], Watch] = {}
        self.look_at = 0
        self.ramps: tuple[str, ...] = ()
        self.learned: tuple[str, ...] = ()
        self.refused: dict[str, None] = {}

    def of(self, name: str) -> Adapted:
        found = self.budgets.get(name)
        if found is None:
            found = self.budgets[name] = Adapted()
        return found

    def watch(self, name: str, place: Place) -> Watch:
        found = self.watches.get((name, place))
        if found is None:
            found = self.watches[name, place] = Watch()
        return found

    def keep(self, names: Mapping[str, Any]) -> None:
        """Forget the budgets that are not there any more."""
        self.budgets = {name: adapted for name, adapted in self.budgets.items() if name in names}
        self.watches = {key: watch for key, watch in self.watches.items() if key[0] in names}

    def dump(self) -> list[Any]:
        return [[name, *adapted.dump()] for name, adapted in sorted(self.budgets.items())]

    def load(self, value: Any) -> None:
        for name, *adapted in value:
            self.of(name).load(adapted)
