"""How the capacity of a host is shared between its leases: plain integers.

A lease has a *guarantee* and a *want* (what it would use now). Everybody gets the smaller of the two. What is left goes
to those who want more than their guarantee, weighted max-min fair: nobody gets more than he wants, and of two who want
more, each has the same part of his weight. What then is left goes back to those who use less than their guarantee, so
that a guarantee is only lent as far as somebody borrows it.

`step` moves from the limits as they are to those: a limit that shrinks counts in full until its holder has had the time
to give back, and only what nobody holds is given. So the sum of what is held never exceeds the capacity, and a lender
has back what is his within that time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

GIVE_BACK_MS: Final = {"cpu": 2_000, "memory": 10_000}
"""From the order to give back until others count on it: a probe hears at once, and asks every 30 s what it may have
missed; a process needs longer to free memory than to run less."""
NEAR_PERMILLE: Final = 800
"""Who uses that much of his limit wants more."""
HEADROOM_PERMILLE: Final = 1_250
"""What is wanted, of what is used: room to grow until the next look."""
KEPT_PERMILLE: Final = 100
"""Of its guarantee a lease always keeps so much."""
STALE_MS: Final = 1_500
"""So long after a change of a limit a sample may still be about the one before."""
DEAD_PERMILLE: Final = 50
"""Changes smaller than that part of the guarantee are not worth an entry."""


class Want(NamedTuple):
    """``most``: it may borrow up to there (at least its guarantee)."""

    guarantee: int
    most: int
    weight: int
    want: int


class Held(NamedTuple):
    """``limit``: what its processes are kept to, since ``changed_at`` (ms); ``held``: what nobody else may count on,
    until ``settles_at`` (0: the limit has grown), then the limit."""

    limit: int
    held: int
    settles_at: int
    changed_at: int = 0

    def at(self, now: int) -> int:
        """What nobody else may count on now."""
        return self.limit if now >= self.settles_at else max(self.held, self.limit)


def fair(capacity: int, wants: Sequence[tuple[int, int]]) -> list[int]:
    """Weighted max-min: (weight, want) of each -> what it gets. The sum is at most the capacity."""
    found = [0] * len(wants)
    left = max(0, capacity)
    waiting = sorted((i for i, (_, want) in enumerate(wants) if want > 0), key=lambda i: (wants[i][1] / wants[i][0], i))
    weights = sum(wants[i][0] for i in waiting)
    for i in waiting:
        weight, want = wants[i]
        found[i] = min(want, left * weight // weights)
        left -= found[i]
        weights -= weight
    return found


def desired(capacity: int, wants: Sequence[Want]) -> list[int]:
    """The limits that everybody should have."""
    first = fair(capacity, [(one.guarantee or 1, min(one.want, one.guarantee)) for one in wants])
    left = capacity - sum(first)
    more = fair(left, [(one.weight, min(one.want, one.most) - one.guarantee) for one in wants])
    left -= sum(more)
    back = fair(left, [(one.weight, one.guarantee - got) for one, got in zip(wants, first, strict=True)])
    return [sum(parts) for parts in zip(first, more, back, strict=True)]


def wanted(guarantee: int, most: int, limit: int, used: int | None) -> int:
    """What a lease would use now. Not known: its guarantee. Near its limit: all that it may, at least its guarantee."""
    if used is None:
        return guarantee
    if used * 1_000 >= limit * NEAR_PERMILLE:
        return max(guarantee, min(most, max(limit, used) * 2))
    return min(most, max(guarantee * KEPT_PERMILLE // 1_000, used * HEADROOM_PERMILLE // 1_000))


def wanted_by(want: Want, held: Held, used: int | None, used_at: int) -> int:
    """The same, of what was used at ``used_at``. What was used under another limit says nothing: whoever has
    just got more wants it, and whoever has just given back does with it."""
    if used is not None and used_at < held.changed_at + STALE_MS:
        return held.limit if held.settles_at else max(want.guarantee, held.limit)
    return wanted(want.guarantee, want.most, held.limit, used)


def step(capacity: int, wants: Sequence[Want], held: Sequence[Held], now: int, give_back_ms: int) -> list[Held]:
    """The next limits. Those that shrink do at once, and count as they were for so long; those that grow get what
    nobody holds, the guaranteed part of all first. Nobody shrinks while there is enough for those who want to grow."""
    goal = desired(capacity, wants)
    found = list(held)
    entitled = [min(target, want.guarantee) for target, want in zip(goal, wants, strict=True)]
    somebody_lacks = any(mine > one.at(now) for mine, one in zip(entitled, held, strict=True))
    needed = sum(
        max(0, min(target, want.want) - one.at(now)) for target, want, one in zip(goal, wants, held, strict=True)
    )
    is_short = needed > capacity - sum(one.at(now) for one in held)
    for i, one in enumerate(held):
        shrinks = one.limit - goal[i] if is_short else 0
        if shrinks > 0 and (somebody_lacks or not _is_small(shrinks, wants[i].guarantee)):
            found[i] = Held(goal[i], one.at(now), now + give_back_ms, now)
    free = capacity - sum(one.at(now) for one in found)
    owed = fair(free, [(1, max(0, entitled[i] - one.at(now))) for i, one in enumerate(found)])
    lent = fair(free - sum(owed), [(wants[i].weight, goal[i] - one.at(now) - owed[i]) for i, one in enumerate(found)])
    for i, one in enumerate(found):
        limit = min(goal[i], one.at(now) + owed[i] + lent[i])
        whole = limit >= wants[i].guarantee > one.limit
        if limit > one.limit and (whole or not _is_small(limit - one.limit, wants[i].guarantee)):
            found[i] = Held(limit, 0, 0, now) if limit >= one.at(now) else one._replace(limit=limit, changed_at=now)
    return found


def _is_small(change: int, guarantee: int) -> bool:
    """Whether it is not worth an entry."""
    return change * 1_000 < max(1, guarantee) * DEAD_PERMILLE
