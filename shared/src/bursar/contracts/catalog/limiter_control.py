"""Progress, questions of what if, quotas that change live: a part of the limiter's catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import limiter_control as wire
from bursar.contracts.catalog.base import Operation, Word

OPERATIONS: Final = (
    Operation(
        "req",
        "progress",
        wire.Progress,
        "What a call has used so far, while it goes on.",
        replies=(wire.Progressed,),
        errors=("unknown_reservation", "already_settled", "not_yours", "usage_shrank"),
        example={"reservation": "1.1.7", "usage": {"input_tokens": 870, "output_tokens": 120}},
    ),
    Operation(
        "req",
        "simulate",
        wire.Simulate,
        "What if: how many of these would fit now, and when the next.",
        replies=(wire.Simulated,),
        errors=("unknown_budget", "not_on_path", "bad_budget", "too_many_agents", "too_many_objects"),
        example={"budget": "demo", "amounts": {"input_tokens": 900, "output_tokens": 400}, "count": 5},
    ),
    Operation(
        "req",
        "holders",
        wire.Holders,
        "Who holds what of a budget now, by principal.",
        replies=(wire.HoldersReply,),
        errors=("unknown_budget",),
        example={"budget": "demo"},
    ),
    Operation(
        "req",
        "spending",
        wire.Spending,
        "What each principal has spent of each budget since the ledger began.",
        replies=(wire.SpendingReply,),
        example={"offset": 0},
    ),
    Operation(
        "adm",
        "adjust",
        wire.Adjust,
        "Another weight or other limits for one budget, or for one agent's own below it, from now on.",
        replies=(wire.Adjusted,),
        errors=("unknown_budget", "bad_budget", "no_agents"),
        example={"budget": "demo", "weight": 200},
    ),
)

WORDS: Final = {
    "Progress.usage": Word("What the call has used so far: everything up to now."),
    "left": Word("What of the reservation is not used yet, by dimension; below zero: beyond it.", "of the dimension"),
    "count": Word("How many of them, one after the other.", "requests"),
    "Simulate.changed": Word("Budgets that the request takes from, with other rules."),
    "asked": Word("How many were asked about.", "requests"),
    "fits": Word("How many of them would be granted now.", "requests"),
    "Simulated.object": Word("What stands in the way of the next one; null: nothing."),
    "Simulated.dimension": Word("The dimension in its way; null: none."),
    "Simulated.retry_at_ms": Word(
        "When the next one would fit if those before it stay in flight until their time-out; null: never.",
        "ms of the limiter's clock",
    ),
    "Simulated.text": Word("Why the next one would not fit now, in words; empty if it would."),
    "Spending.offset": Word("Entries of the pages before.", "entries"),
    "SpendingReply.rows": Word("One for each budget and principal, at most 200."),
    "SpendingReply.more": Word("There are others behind them."),
    "Spent.parent": Word("The budget above it; null: none."),
    "Spent.principal": Word("Who."),
    "Spent.requests": Word("Calls.", "requests"),
    "Spent.input_tokens": Word("Tokens of prompts.", "tokens"),
    "Spent.output_tokens": Word("Tokens of answers.", "tokens"),
    "Spent.usd_micros": Word("Money, as it was settled.", "millionths of a US dollar"),
    "holders": Word("Those who hold something, those with the most first."),
    "HoldersReply.more": Word("Others, who are not listed.", "principals"),
    "Holding.principal": Word("Who."),
    "Holding.reservations": Word("Its reservations that have not ended.", "reservations"),
    "Holding.leases": Word("Its leases.", "leases"),
    "Holding.reserved": Word("What these reservations hold, by dimension.", "of the dimension"),
    "Holding.leased": Word("What is lent to these leases and not spent, by dimension.", "of the dimension"),
    "Holding.used": Word("What it has used of its own part, by dimension; empty without one.", "of the dimension"),
    "rooms": Word("What every limit on the way leaves after them."),
    "Room.object": Word("The budget."),
    "Room.dimension": Word("The dimension."),
    "agent": Word("Whose own budget below it; null: the budget itself."),
    "Adjust.weight": Word("Its share beside the others that want something; null: as it is.", "parts"),
    "Adjust.limits": Word("All its limits, by dimension; null: as they are."),
    "Adjust.highest": Word("The best priority that a request in it may have; null: as it is."),
    "Adjusted.budget": Word("The budget that has changed."),
}
