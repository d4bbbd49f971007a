"""The hard guard: what was admitted in the last window, with room for the provider charging late.

The promise: if every permit is charged between its grant and J later, then no window of the provider, wherever it
starts, sees more than the limit. Two charges that fall into one window of W are at most W apart, so their grants are
at most W + J apart. Hence it is enough that any stretch of W + J holds grants for no more than the limit: the ledger
keeps each amount for ``hold`` = W + J, and nothing is admitted beyond the limit.

That covers windows that start on the clock, windows that roll, and a token bucket of capacity L refilled at L/W: in
a stretch of kW + r (0 <= r < W) the bucket lets pass L + (k + r/W)·L, the ledger at most (k + 1)·L.

Amounts are kept per grain of time (about hold/512, at least 1 ms) in a ring, so that adding and leaving cost O(1)
amortised. A grain leaves as a whole when its youngest possible grant is older than the hold: never too early, and too
late by one grain at most. A refund takes the amount out of the grain of its grant, if that is still there, and never
turns up in another.

Only `add`, `take_back` and `fill` write the durable part (the ring). ``tail``, ``used`` and ``leaves_at`` are a view
of it at some moment, moved on by `age`; a decision may do that without changing what `entries` tells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bursar.kernel.bugs import seeded
from bursar_limiter import bugs

GRAINS = 512
"""How finely the hold is divided."""

CEILING = 1 << 54
"""Most that a grain holds: no limit is above half of it, so what is cut off would not change a decision, not even
after all grants of the grain were refunded. It keeps absurd reports of usage from growing without bound."""


class Ledger:
    """Amounts by time of grant. Times in ms, never going back; amounts are integers.

    ``used`` is what counts against the limit at the moment of the last `age`; ``leaves_at`` is when it next may
    fall, so that a caller on a hot path asks for `age` only from then on.
    """

    __slots__ = ("grain", "head", "hold", "leaves_at", "ring", "size", "tail", "used")

    def __init__(self, hold: int) -> None:
        self.hold = hold
        self.grain = max(1, -(-hold // GRAINS))
        self.size = hold // self.grain + 3
        self.ring = [0] * self.size
        self.head = 0
        self.tail = 0
        self.used = 0
        self.leaves_at = self.grain + hold

    def age(self, now: int) -> None:
        """Let go of the grains whose youngest possible grant is older than the hold."""
        gone = (now - self.hold) // self.grain
        if gone <= self.tail:
            return
        ring, size, used = self.ring, self.size, self.used
        for index in range(self.tail, min(gone, self.head + 1)):
            used -= ring[index % size]
        self.used = used
        self.tail = gone
        self.leaves_at = (gone + 1) * self.grain + self.hold

    def add(self, now: int, amount: int) -> None:
        """Charge an amount granted now."""
        if now >= self.leaves_at:
            self.age(now)
        index = now // self.grain
        if index > self.head:
            self._roll(index)
        self.ring[index % self.size] += amount
        self.used += amount

    def add_excess(self, now: int, amount: int) -> None:
        """Charge an amount that no limit bounds: what an agent reports."""
        here = self.ring[now // self.grain % self.size] if now // self.grain == self.head else 0
        self.add(now, min(amount, CEILING - here))

    def take_back(self, granted_at: int, now: int, amount: int) -> int:
        """Remove an amount from the grain of its grant; returns what was still there to remove (0 when it left)."""
        if now >= self.leaves_at:
            self.age(now)
        index = granted_at // self.grain
        if index < self.tail and not seeded(bugs.WRONG_GRAIN):
            return 0
        slot = index % self.size
        amount = min(amount, self.ring[slot])
        self.ring[slot] -= amount
        self.used -= amount
        return amount

    def free_at(self, now: int, need: int) -> int:
        """When so much will have left by itself; the time when all has left if that is less."""
        self.age(now)
        when = now
        for index in range(self.tail, self.head + 1):
            here = self.ring[index % self.size]
            if here:
                need -= here
                when = (index + 1) * self.grain + self.hold
                if need <= 0:
                    break
        return when

    def leaves_when(self, granted_at: int) -> int:
        """When an amount granted then stops counting."""
        return (granted_at // self.grain + 1) * self.grain + self.hold

    def entries(self, at: int) -> list[list[int]]:
        """What counts at a moment not before the last change: [last ms of the grain, amount], oldest first."""
        first = max(self.head - self.size + 1, (at - self.hold) // self.grain, 0)
        return [
            [(index + 1) * self.grain - 1, self.ring[index % self.size]]
            for index in range(first, self.head + 1)
            if self.ring[index % self.size]
        ]

    def restore(self, entries: Iterable[Sequence[int]]) -> None:
        """Fill a new ledger with what `entries` told of this one or of another (nothing leaves earlier for that)."""
        for last, amount in entries:
            index = last // self.grain
            if index > self.head:
                self._roll(index)
            slot = index % self.size
            self.ring[slot] = min(CEILING, self.ring[slot] + amount)
        self.used = sum(self.ring)
        self.tail = max(0, self.head - self.size + 1)
        self.leaves_at = (self.tail + 1) * self.grain + self.hold

    def _roll(self, index: int) -> None:
        """Move the head to a later grain, emptying those in between."""
        ring, size = self.ring, self.size
        for passed in range(max(self.head, index - size) + 1, index + 1):
            ring[passed % size] = 0
        self.head = index
