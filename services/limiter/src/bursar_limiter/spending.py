"""What each principal has spent of each budget since the ledger began: the sums that a bill is made from.

Counted where a reservation or a lease is charged, in the events themselves, so once: whatever was repeated, lost or
replayed on the way. What timed out, or was not accounted for, counts as used in full, as it does for the limits; a
correction that comes later adds what is missing. Of leases it is what they report: the dimensions that something on
their path limits. Budgets of agents and runs count for the declared budget that they were made below; who spends of a
budget that is declared no more stays in the book.

It does no deciding, and costs the hot path a look-up and four additions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from bursar.contracts.base import MAX_INT
from bursar.contracts.limiter_control import Spending
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Command, Fence, Outcome, Refuse
from bursar_limiter import bugs
from bursar_limiter.budget import Budget
from bursar_limiter.dimensions import INPUT, MONEY, OUTPUT, REQUESTS, Quantities
from bursar_limiter.parts import Part, Rule
from bursar_limiter.state import State

MAX_ENTRIES: Final = 50_000
"""Pairs of a budget and a principal; who comes later is counted with all others."""
OTHERS: Final = "others"
PAGE: Final = 200
PART: Final = 1 << 62


def spend(state: State, budget: Budget, principal: str, used: Quantities) -> None:
    """Part of applying a charge."""
    base = budget.base
    key = (budget.name if base is None else base.name, principal)
    entry = state.spent.get(key)
    if entry is None:
        entry = _open(state, key)
    entry[0] += used[REQUESTS]
    entry[1] += used[INPUT]
    entry[2] += used[OUTPUT]
    entry[3] += used[MONEY]


def give_back(state: State, budget: Budget, principal: str, amounts: Quantities) -> None:
    """Part of applying a refund of what was charged before."""
    if not seeded(bugs.REFUND_STAYS_ON_THE_BILL):
        requests, tokens_in, tokens_out, concurrent, money, total, traffic = (-amount for amount in amounts)
        spend(state, budget, principal, (requests, tokens_in, tokens_out, concurrent, money, total, traffic))


def _open(state: State, key: tuple[str, str]) -> list[int]:
    if len(state.spent) >= MAX_ENTRIES:
        key = (OTHERS, OTHERS)
    return state.spent.setdefault(key, [0, 0, 0, 0])


def decide_spending(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Pages in the order in which the entries were made; so none moves to another page."""
    body: Spending = command.body
    page = list(islice(state.spent.items(), body.offset, body.offset + PAGE))
    rows = [_row(state, *key, entry) for key, entry in page]
    return Refuse({"ok": True, "now_ms": now, "rows": rows, "more": body.offset + len(page) < len(state.spent)})


def _row(state: State, name: str, principal: str, entry: Sequence[int]) -> dict[str, Any]:
    budget = state.budgets.get(name)
    requests, tokens_in, tokens_out, money = (min(MAX_INT, amount) for amount in entry)
    return {
        "budget": name,
        "parent": None if budget is None or budget.parent is None else budget.parent.name,
        "principal": principal,
        "requests": requests,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "usd_micros": money,
    }


class SpendingPart(Part):
    """The book of `state.State.spent`."""

    name = "spending"
    rules: Mapping[type, Rule] = {Spending: decide_spending}

    def dump(self, state: State) -> Any:
        """In two parts each: a sum of absurd reports is larger than what msgpack has numbers for."""
        return [[*key, *(list(divmod(amount, PART)) for amount in entry)] for key, entry in state.spent.items()]

    def load(self, state: State, value: Any) -> None:
        state.spent = {
            (budget, principal): [high * PART + low for high, low in amounts] for budget, principal, *amounts in value
        }

    def validate(self, state: State, now: int) -> None:
        assert all(min(entry) >= 0 for entry in state.spent.values()), "somebody has spent less than nothing"
