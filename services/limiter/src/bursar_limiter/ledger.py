"""The hard guard: what was admitted in the last window, with room for the provider charging late.

The promise: if every permit is charged between its grant and J later, then no window of the provider, wherever it
starts, sees more than the limit. Two charges that fall into one window of W are at most W apart, so their grants are
at most W + J apart. Hence it is enough that any stretch of W + J holds grants for no more than the limit: the ledger
keeps each amount for ``hold`` = W + J, and nothing is admitted beyond the limit.

That covers windows that start on the clock, windows that roll, and a token bucket of capacity L refilled at L/W: in
a stretch of kW + r (0 <= r < W) the bucket lets pass L + (k + r/W)·L, the ledger at most (k + 1)·L.

Amounts are kept per grain of time (about hold/512, at least 1 ms): the present grain in ``open``, the earlier ones in
two arrays that hold only grains in which something was granted, so that a budget at rest is small. A grain leaves as a
whole when its youngest possible grant is older than the hold: never too early, and too late by one grain at most. A
refund takes the amount out of the grain of its grant, if that is still there, and never turns up in another.

``room`` is what the limit leaves at the moment of the last `age`; whoever asks on a hot path asks for `age` only from
``look_at`` on. A decision may do that: it moves a view, and does not change what `entries` tells.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.pacing import Pace

GRAINS: Final = 512
"""How finely the hold is divided."""

CEILING: Final = 1 << 54
"""Most that a grain holds: no limit is above half of it, so what is cut off would not change a decision, not even
after all grants of the grain were refunded. It keeps absurd reports of usage from growing without bound."""


class Past:
    """The grains before the present one: which, and how much in each. ``first``: the first that counts still."""

    __slots__ = ("amounts", "first", "grains")

    def __init__(self, grains: Iterable[int] = (), amounts: Iterable[int] = ()) -> None:
        self.grains = array("q", grains)
        self.amounts = array("q", amounts)
        self.first = 0


NONE: Final = Past()
"""What the ledgers that hold nothing share; never written to."""

NEVER: Final = 1 << 62


class Span(NamedTuple):
    """How long amounts count (ms), in which grains, and the pace in thousandths: shared by all ledgers of a kind."""

    window: int
    hold: int
    grain: int
    utilisation: int


@lru_cache(maxsize=4096)
def span_of(window: int, hold: int, utilisation: int = 1000) -> Span:
    return Span(window, hold, max(1, -(-hold // GRAINS)), utilisation)


class Ledger(Pace):
    """Amounts by time of grant. Times in ms, never going back; amounts are integers. It stands on the pace so that a
    meter is one object."""

    __slots__ = ("limit", "look_at", "open", "open_grain", "past", "room", "span")

    def __init__(self, span: Span, limit: int) -> None:
        self.span = span
        self.limit = limit
        self.room = limit
        self.open = 0
        self.open_grain = 0
        self.past = NONE
        self.look_at = 0

    @property
    def used(self) -> int:
        return self.limit - self.room

    def age(self, now: int) -> None:
        """Let go of the grains whose youngest possible grant is older than the hold, and open the grain of now."""
        if now < self.look_at:
            return
        _, hold, grain, _ = self.span
        index = now // grain
        if index > self.open_grain:
            if self.open:
                self._close()
            self.open_grain = index
        past = self.past
        gone, grains, first = (now - hold) // grain, past.grains, past.first
        while first < len(grains) and grains[first] < gone:
            self.room += past.amounts[first]
            first += 1
        if first != past.first:
            past.first = first
        leaves_at = (grains[first] + 1) * grain + hold if first < len(grains) else NEVER
        self.look_at = min(leaves_at, (self.open_grain + 1) * grain)

    def _close(self) -> None:
        """Put the open grain into the arrays, and drop what had left before its time."""
        index = self.open_grain
        if self.past is NONE:
            self.past = Past()
        past = self.past
        if past.first > 16 and past.first * 2 > len(past.grains):
            keep = min(past.first, bisect_left(past.grains, index - self.span.hold // self.span.grain - 2))
            del past.grains[:keep]
            del past.amounts[:keep]
            past.first -= keep
        if past.grains and past.grains[-1] == index:
            past.amounts[-1] += self.open
        else:
            past.grains.append(index)
            past.amounts.append(self.open)
        self.open = 0

    def add(self, now: int, amount: int) -> None:
        """Charge an amount granted now."""
        if now >= self.look_at:
            self.age(now)
        self.open += amount
        self.room -= amount

    def add_excess(self, now: int, amount: int) -> None:
        """Charge an amount that no limit bounds: what an agent reports."""
        if now >= self.look_at:
            self.age(now)
        if amount > CEILING - self.open:  # noqa: PLR1730 - the hot path
            amount = CEILING - self.open
        self.open += amount
        self.room -= amount

    def take_back(self, granted_at: int, now: int, amount: int) -> int:
        """Remove an amount from the grain of its grant; returns what was still there to remove (0 when it left)."""
        if now >= self.look_at:
            self.age(now)
        index = granted_at // self.span.grain
        if index == self.open_grain:
            amount = min(amount, self.open)
            self.open -= amount
            self.room += amount
            return amount
        past = self.past
        at = bisect_left(past.grains, index, past.first)
        if at == len(past.grains) or past.grains[at] != index:
            if seeded(bugs.WRONG_GRAIN):
                self.room += amount
                self.open -= amount
                return amount
            return 0
        amount = min(amount, past.amounts[at])
        past.amounts[at] -= amount
        self.room += amount
        return amount

    def free_at(self, now: int, need: int) -> int:
        """When so much will have left by itself; the time when all has left if that is less."""
        self.age(now)
        when = now
        for last, here in self._counting():
            need -= here
            when = last + 1 + self.span.hold
            if need <= 0:
                break
        return when

    def leaves_when(self, granted_at: int) -> int:
        """When an amount granted then stops counting."""
        return (granted_at // self.span.grain + 1) * self.span.grain + self.span.hold

    def _counting(self) -> Iterable[tuple[int, int]]:
        """(last ms of the grain, amount) of all that counts, oldest first."""
        grain, past = self.span.grain, self.past
        for at in range(past.first, len(past.grains)):
            if past.amounts[at]:
                yield (past.grains[at] + 1) * grain - 1, past.amounts[at]
        if self.open:
            yield (self.open_grain + 1) * grain - 1, self.open

    def entries(self, at: int) -> list[list[int]]:
        """What counts at a moment not before the last change: [last ms of the grain, amount], oldest first."""
        _, hold, grain, _ = self.span
        gone = (at - hold) // grain
        stored = zip(self.past.grains, self.past.amounts, strict=True)
        kept = {index: amount for index, amount in stored if amount and index >= gone}
        if self.open and self.open_grain >= gone:
            kept[self.open_grain] = kept.get(self.open_grain, 0) + self.open
        return [[(index + 1) * grain - 1, amount] for index, amount in kept.items()]

    def restore(self, entries: Iterable[Sequence[int]]) -> None:
        """Fill a new ledger with what `entries` told of this one or of another (nothing leaves earlier for that)."""
        kept: dict[int, int] = {}
        for last, amount in entries:
            index = last // self.span.grain
            kept[index] = min(CEILING, kept.get(index, 0) + amount)
        if not kept:
            return
        *earlier, self.open_grain = kept
        self.open = kept[self.open_grain]
        if earlier:
            self.past = Past(earlier, (kept[index] for index in earlier))
        self.room = self.limit - sum(kept.values())
        self.look_at = 0
