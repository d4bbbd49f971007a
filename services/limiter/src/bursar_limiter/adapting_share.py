"""A circuit breaker lets only a part of the calls go to what a budget pays for: then the pace is that part of its own.

The breaker says so in a broadcast for the budget that its rule names, with each step of a recovery: 5, 25, 50 % and
all. Rates follow the pace, so a lease's next advance is smaller, too. It is a bound beside that of the clients, who
keep to the share of their own calls by themselves: this one bounds the sum, whoever is behind the budget.

- *While a circuit is open* nothing is said here (a share of 0 is no share): calls end where they are made, and a probe
  needs its permit.
- *Newer revisions win*, of the newest incarnation: a broadcast that is said again changes nothing.
- *It ends* `LONGEST_MS` after it was heard, for one that says more may be lost.
"""

from __future__ import annotations

from typing import Final

from bursar.contracts.breaker import ALL, BudgetShare
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse
from bursar_limiter import adapting_events as events
from bursar_limiter.adapting_state import Share
from bursar_limiter.state import State

LONGEST_MS: Final = 60_000


def decide_share(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: BudgetShare = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or not budget.is_offered:
        return Refuse({})
    adapted = state.adapting.budgets.get(body.budget)
    known = None if adapted is None else adapted.share
    heard = (int(body.fence.partition(".")[0]), body.revision)
    if known is not None and heard <= known[:2]:
        return Refuse({})
    permille = body.share or ALL
    if permille == ALL and (known is None or not known.until):
        return Refuse({})
    return Accept([(events.SHARED, now, body.budget, *heard, permille, now + LONGEST_MS)], {})


def apply_shared(state: State, event: Event) -> None:
    _, now, name, incarnation, revision, permille, until = event
    state.at = now
    state.adapting.of(name).share = Share(incarnation, revision, permille, until)
    state.adapting.look_at = min(state.adapting.look_at, now)
