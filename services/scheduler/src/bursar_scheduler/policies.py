"""Which of the workers that could have a task gets it: one interface, chosen by name.

A policy looks at the pool of the task's lane, which holds only workers with a free slot, and at numbers that count up
with the assignments; it keeps nothing itself. What it chose stands in the event, so that a replay does not ask it.

* ``round_robin``: one after the other, in the order of their registration.
* ``least_loaded``: who has the smallest part of its slots taken.
* ``power_of_two``: the less loaded one of two that are drawn. Nearly as even as the least loaded one, and it does not
  send everybody to the same worker when loads are known late (Mitzenmacher, 1996; Sparrow, SOSP 2013).
"""

from __future__ import annotations

from typing import Final, Protocol

from bursar_scheduler.dice import draw
from bursar_scheduler.pool import Pool
from bursar_scheduler.task import Worker


class Policy(Protocol):
    name: str

    def pick(self, pool: Pool, number: int) -> Worker:
        """One worker of a pool that is not empty. ``number``: how many assignments there were before."""
        ...


class RoundRobin:
    name = "round_robin"

    def pick(self, pool: Pool, number: int) -> Worker:
        return pool.after_last()


class LeastLoaded:
    name = "least_loaded"

    def pick(self, pool: Pool, number: int) -> Worker:
        return pool.least_loaded()


class PowerOfTwo:
    name = "power_of_two"

    def pick(self, pool: Pool, number: int) -> Worker:
        count = len(pool)
        one = draw(2 * number, count)
        other = (one + 1 + draw(2 * number + 1, count - 1)) % count if count > 1 else one
        first, second = pool[one], pool[other]
        return second if second.fill < first.fill else first


POLICIES: Final[dict[str, Policy]] = {policy.name: policy for policy in (RoundRobin(), LeastLoaded(), PowerOfTwo())}
