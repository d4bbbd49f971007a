"""Which of the workers that could have a task gets it: one interface, chosen by name.

A policy looks at the fleet's arrays, at what the task wants and at a number that counts up with the assignments; it
keeps nothing itself. What it chose stands in the event, so that a replay of the journal does not ask it, and whoever
does ask gets the same answer.

* ``score``: the lowest score (`scoring`): expected latency, price and variance of the load in one number, so that local
  and remote workers stand side by side, and regions by what was measured of them.
* ``earliest_completion``: wait and run time alone.
* ``least_loaded``: who has the smallest part of its slots taken.
* ``power_of_two``: the less loaded one of two that are drawn (Mitzenmacher, 1996; Sparrow, SOSP 2013).
* ``round_robin``, ``random``: as they say.
* ``hybrid``: Ray's: a load below a half counts as none; drawn from the best fifth; the task's own host if it is among
  the best, which packs few hosts until they are half full and then spreads.
* ``token_budget``: who has the most of its batch's token budget free and enough for this one. No worker idles while a
  task waits that fits, which is what makes batching throughput-optimal (Li, Dai and Peng, arXiv 2504.07347).
* ``locality``: calls with a short prompt to the least loaded, long ones to who has most of it in its cache (Autellix's
  rule), unless that one is much more loaded than the others (SGLang's).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

import numpy as np

from bursar_scheduler.dice import draw
from bursar_scheduler.fleet import FAR, PPM, Column, Fleet
from bursar_scheduler.scoring import Ask, Verdict, best, forbid, lowest, score

Policy = Callable[[Fleet, Ask, int], Verdict | None]
"""(fleet, what the task wants, how many assignments there were before) -> who gets it, or nobody."""

SHORT_TOKENS: Final = 2_048
"""Prompts up to this are computed again as fast as they are sent after their cache (Autellix, section 4)."""

HALF: Final = PPM // 2
TOP_PART: Final = 5
UNEVEN: Final = (PPM // 4, 3, 2)
"""The one with the cache is passed over when it has a quarter of its slots more taken than the least loaded one, and
half as much again."""


def keys_of(fleet: Fleet, ask: Ask, values: Column) -> Column:
    """Values of those that may have it, and `FAR` or more for all others."""
    keys = values + (fleet.base >= FAR) * FAR + fleet.closed(ask.lane)
    forbid(fleet, ask, keys)
    return keys


def candidates(fleet: Fleet, ask: Ask) -> Column:
    """The rows that may have it, in the order of registration."""
    return np.flatnonzero(keys_of(fleet, ask, np.zeros(len(fleet.offers), dtype=np.int64)) < FAR)


def by_score(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    return best(fleet, ask)


def earliest_completion(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    return lowest(fleet, ask, keys_of(fleet, ask, fleet.wait + fleet.costs(ask.task_class)[0]))


def least_loaded(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    return lowest(fleet, ask, keys_of(fleet, ask, fleet.fill))


def token_budget(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    return lowest(fleet, ask, keys_of(fleet, ask, fleet.fill - (np.minimum(fleet.tokens, 1 << 30) << 20)))


def round_robin(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    rows = candidates(fleet, ask)
    if not len(rows):
        return None
    place = int(np.searchsorted(rows, fleet.rows.get(fleet.last.get(ask.lane, ""), -1), side="right"))
    return Verdict(fleet, ask, [int(rows[(place + step) % len(rows)]) for step in range(min(4, len(rows)))])


def at_random(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    rows = candidates(fleet, ask)
    return Verdict(fleet, ask, [int(rows[draw(number, len(rows))])]) if len(rows) else None


def power_of_two(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    rows = candidates(fleet, ask)
    if not len(rows):
        return None
    one = draw(2 * number, len(rows))
    other = (one + 1 + draw(2 * number + 1, len(rows) - 1)) % len(rows) if len(rows) > 1 else one
    drawn = [int(rows[one]), int(rows[other])]
    if fleet.fill[drawn[1]] < fleet.fill[drawn[0]]:
        drawn.reverse()
    return Verdict(fleet, ask, drawn if one != other else drawn[:1])


def hybrid(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    rows = candidates(fleet, ask)
    if not len(rows):
        return None
    load = fleet.fill[rows]
    load[load < HALF] = 0
    home = np.flatnonzero((fleet.host[rows] == fleet.hosts.get(ask.host, -1)) & (load == load.min()))
    if ask.host and len(home):
        return Verdict(fleet, ask, [int(rows[home[0]])])
    among = draw(number, max(1, len(rows) // TOP_PART))
    order = rows[np.argsort(load, kind="stable")].tolist()
    return Verdict(fleet, ask, list(dict.fromkeys([order[among], *order[:4]]))[:4])


def locality(fleet: Fleet, ask: Ask, number: int) -> Verdict | None:
    if ask.prompt <= SHORT_TOKENS or not ask.prefix:
        return least_loaded(fleet, ask, number)
    rows = candidates(fleet, ask)
    if not len(rows):
        return None
    known = {fleet.rows.get(worker, -1): tokens for worker, tokens in ask.prefix if tokens > 0}
    having = [int(row) for row in rows if int(row) in known]
    if having:
        chosen = max(having, key=lambda row: (known[row], -row))
        least = int(fleet.fill[rows].min())
        fill = int(fleet.fill[chosen])
        more, above, below = UNEVEN
        if fill - least <= more or fill * below <= least * above:
            return Verdict(fleet, ask, [chosen])
    return best(fleet, ask)


POLICIES: Final[dict[str, Policy]] = {
    "score": by_score,
    "earliest_completion": earliest_completion,
    "least_loaded": least_loaded,
    "power_of_two": power_of_two,
    "round_robin": round_robin,
    "random": at_random,
    "hybrid": hybrid,
    "token_budget": token_budget,
    "locality": locality,
}


def gang(fleet: Fleet, ask: Ask, size: int) -> tuple[str, ...]:
    """Workers for all members of a set at once, or none: on as few hosts as possible, then with the lowest scores.
    Members talk to each other, so hosts count for more than scores."""
    total = score(fleet, ask).tolist()
    by_host: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, value in enumerate(total):
        if value < FAR >> 1:
            by_host[int(fleet.host[row])].append((value, row))
    chosen: list[int] = []
    while len(chosen) < size and by_host:
        missing = size - len(chosen)
        host = min(by_host, key=lambda host: _suits(by_host[host], missing))
        chosen += [row for _, row in sorted(by_host.pop(host))[:missing]]
    return tuple(fleet.offers[row].name for row in chosen) if len(chosen) == size else ()


def _suits(there: list[tuple[int, int]], missing: int) -> tuple[int, int, int]:
    """Enough workers first, then the most, then the lowest scores, then who registered first."""
    taken = sorted(there)[:missing]
    return -len(taken), sum(value for value, _ in taken), min(row for _, row in there)
