"""What this process sends to each target at most: bulkheads, budgets of retries, the times of a call.

By the registry's rules, and by what the agent has set itself (`Breaker.limit`), which goes before them. A bulkhead that
a rule makes is shared by everything that the rule holds for; budgets of retries are those of single targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from bursar.client.breaker_errors import RetryDenied
from bursar.client.breaker_policy import Policy
from bursar.client.bulkhead import Bounds, Bulkhead, BulkheadFull
from bursar.client.retry_budget import RetryBudget
from bursar.client.time import Clock
from bursar.contracts.breaker import Guard, Outcome, path_of

MAX_KEPT: Final = 4_096


class Terms(NamedTuple):
    """For one target. ``slow_ms``, ``deadline_ms``: None where the rules leave it to the caller."""

    bulkheads: tuple[Bulkhead, ...]
    retries: RetryBudget
    slow_ms: int | None
    deadline_ms: int | None


class Load:
    """``policy`` gives the edition of the rules that holds; `renew` when there is another."""

    def __init__(self, clock: Clock, policy: Callable[[], Policy]) -> None:
        self._clock = clock
        self._policy = policy
        self._own: dict[str, Bulkhead] = {}
        self._ruled: dict[str, tuple[Bounds, Bulkhead]] = {}
        self._budgets: dict[str, tuple[tuple[float, ...], RetryBudget]] = {}
        self._terms: dict[str, Terms] = {}

    def renew(self) -> None:
        self._terms.clear()

    def limit(self, target: str, bounds: Bounds | None) -> None:
        """The agent's own bulkhead for a target and all below it; None: no more."""
        self._own.pop(target, None)
        if bounds is not None:
            self._own[target] = Bulkhead(target, bounds)
        self.renew()

    def of(self, target: str) -> Terms:
        """Looked up; made when a target is called for the first time under an edition."""
        terms = self._terms.get(target)
        if terms is None:
            policy = self._policy()
            rule = policy.rule_for(target)
            guard = policy.guard(rule)
            bulkheads = self._bulkheads(target, rule, guard)
            terms = Terms(bulkheads, self._budget(target, guard), guard.slow_ms or None, guard.deadline_ms or None)
            if len(self._terms) >= MAX_KEPT:
                self._terms.clear()
            self._terms[target] = terms
        return terms

    def occupy(self, target: str, again_after: Outcome | None) -> Terms:
        """A place in each bulkhead on the way, for a call or (``again_after``: how the last one ended) a retry. Raises
        `BulkheadFull` or `RetryDenied`, and has taken nothing then."""
        terms = self.of(target)
        for bulkhead in terms.bulkheads:
            if not bulkhead.has_room:
                bulkhead.refused += 1
                raise BulkheadFull(bulkhead.target, bulkhead.limit)
        if again_after is None:
            terms.retries.deposit(self._clock.now())
        elif not terms.retries.withdraw(self._clock.now(), after_timeout=again_after == "timeout"):
            raise RetryDenied(target)
        for bulkhead in terms.bulkheads:
            bulkhead.enter()
        return terms

    def _bulkheads(self, target: str, rule: str | None, guard: Guard) -> tuple[Bulkhead, ...]:
        found = tuple(self._own[name] for name in path_of(target) if name in self._own)
        if found or not guard.concurrency:
            return found
        name = rule or target
        bounds = _bounds(guard)
        kept = self._ruled.get(name)
        if kept is None or kept[0] != bounds:
            kept = self._ruled[name] = (bounds, Bulkhead(name, bounds))
        return (kept[1],)

    def _budget(self, target: str, guard: Guard) -> RetryBudget:
        told = (guard.retry_permille / 1000, guard.retry_per_minute / 60, guard.retry_ttl_ms / 1000)
        terms = (*told, float(guard.retry_timeout_cost))
        kept = self._budgets.get(target)
        if kept is None or kept[0] != terms:
            if len(self._budgets) >= MAX_KEPT:
                del self._budgets[next(iter(self._budgets))]
            kept = self._budgets[target] = (terms, RetryBudget(*told, timeout_cost=guard.retry_timeout_cost))
        return kept[1]


def _bounds(guard: Guard) -> Bounds:
    most = guard.concurrency
    least = min(guard.concurrency_least, most)
    return Bounds(
        initial=max(least, min(guard.concurrency_initial, most)),
        least=least,
        most=most,
        tolerance=guard.concurrency_tolerance_permille / 1000,
        queue=guard.concurrency_queue,
    )
