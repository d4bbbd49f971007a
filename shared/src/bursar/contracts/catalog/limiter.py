"""The limiter's part of the catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import limiter as wire
from bursar.contracts.catalog import limiter_control as control
from bursar.contracts.catalog import limiter_lease as lease
from bursar.contracts.catalog import limiter_observed as observed
from bursar.contracts.catalog.base import Operation, ServiceCatalog, Word
from bursar.contracts.catalog.common import SET_RIGHTS

_MS_CLOCK = "ms of the limiter's clock"

OPERATIONS: Final = (
    Operation(
        "req",
        "reserve",
        wire.Reserve,
        "Ask for a permit for one call, of all dimensions at once; may stand in line for it.",
        replies=(wire.Granted, wire.Refused),
        errors=("unknown_budget", "too_many", "too_many_agents", "too_many_objects"),
        example={
            "budget": "demo",
            "amounts": {"input_tokens": 900, "output_tokens": 400},
            "wait_ms": 30_000,
            "ttl_ms": 60_000,
        },
    ),
    Operation(
        "req",
        "settle",
        wire.Settle,
        "End a reservation: with what the call used, or cancelled when it was never sent.",
        replies=(wire.Settled,),
        errors=("unknown_reservation", "already_settled", "not_yours"),
        example={
            "reservation": "1.1.7",
            "outcome": "used",
            "usage": {"input_tokens": 870, "output_tokens": 312},
        },
    ),
    Operation(
        "req",
        "redeclare",
        wire.Redeclare,
        "After the limiter has lost data: state a reservation that is still in use.",
        replies=(wire.Redeclared,),
        errors=("unknown_budget", "unknown_reservation", "not_plausible", "bad_fence"),
        example={
            "budget": "demo",
            "reservation": "1.1.7",
            "amounts": {"input_tokens": 900, "output_tokens": 400},
            "granted_at_ms": 81_250,
            "fence": "1.1.7.0123456789abcdef",
            "ttl_ms": 60_000,
        },
    ),
    Operation(
        "req",
        "withdraw",
        wire.Withdraw,
        "Take back a reserve whose answer nobody waits for any more: it leaves the line, or its permit is cancelled.",
        replies=(wire.Withdrawn,),
        example={"budget": "demo", "request": "f3a9-16"},
    ),
    Operation(
        "req",
        "status",
        wire.Status,
        "Limits, use and headroom of one budget, or of all.",
        replies=(wire.StatusReply,),
        errors=("unknown_budget",),
        example={"budget": "demo"},
    ),
    Operation(
        "req",
        "clock",
        wire.Clock,
        "The limiter's time, to learn the offset of one's own clock: permits are void after a time of the limiter.",
        replies=(wire.ClockReply,),
    ),
    Operation(
        "adm",
        "reload",
        wire.Reload,
        "Replace the set of budgets; what is charged and reserved stays so.",
        replies=(wire.Reloaded,),
        errors=("bad_budget",),
        example={
            "budgets": [
                {
                    "name": "demo",
                    "limits": {
                        "requests": {"limit": 2_000, "window_ms": 20_000},
                        "input_tokens": {"limit": 400_000, "window_ms": 20_000},
                        "output_tokens": {"limit": 40_000, "window_ms": 20_000},
                        "concurrent": {"limit": 200, "window_ms": 0},
                    },
                }
            ]
        },
    ),
)

WORDS: Final = {
    # amounts
    "requests": Word("Number of provider calls.", "calls"),
    "input_tokens": Word("Tokens sent to the provider.", "tokens"),
    "output_tokens": Word("Tokens produced by the provider.", "tokens"),
    "concurrent": Word("Calls in flight at the same time.", "calls"),
    "usd_micros": Word("Money.", "millionths of a US dollar"),
    "total_tokens": Word("Tokens sent and produced; 0 stands for their sum.", "tokens"),
    "network_bytes": Word("Bytes sent and received.", "bytes"),
    # reserve, settle, redeclare
    "budget": Word("Name of the budget."),
    "run": Word("The agent's run, where runs have budgets of their own; null: none."),
    "also": Word("Other objects to take from in the same decision: a purse, a host, a destination."),
    "priority": Word("Who goes first of those who wait."),
    "amounts": Word("What to reserve of each dimension; also what counts when nothing is settled."),
    "Redeclare.fence": Word("The fence that came with the reservation."),
    "Redeclare.amounts": Word("What was reserved of each dimension."),
    "wait_ms": Word("How long to stand in line instead of being refused at once; 0: not at all.", "ms"),
    "ttl_ms": Word("After so long without a settlement the reservation counts as used in full.", "ms"),
    "reservation": Word("Names the reservation."),
    "granted_at_ms": Word("When it was granted.", _MS_CLOCK),
    "send_by_at_ms": Word("Send the call before this time; later the permit is void: cancel it instead.", _MS_CLOCK),
    "expires_at_ms": Word("When it counts as used in full unless it is settled before.", _MS_CLOCK),
    "outcome": Word("How it ends: used, or cancelled (never sent, everything is refunded)."),
    "Settled.outcome": Word("How it ended; timed_out: it had counted as used in full before this report came."),
    "usage": Word("What the call really used; null: as reserved."),
    "refunded": Word("What was given back, by dimension, in its unit.", "of the dimension"),
    "overage": Word("What was used beyond the reservation, by dimension, in its unit.", "of the dimension"),
    "adopted": Word("Whether it was taken over; false when it was known, has ended, or no longer matters."),
    "request": Word("The id of the reserve."),
    "Withdrawn.outcome": Word("What has become of it."),
    # refusal
    "reason": Word("Why not."),
    "object": Word("The budget in the way; null when none is."),
    "depth": Word("Steps up from the budget that the request takes from; 0: that itself.", "steps"),
    "dimension": Word("The dimension in the way; null when it is not a limit."),
    "Refused.window_ms": Word("The window of the limit in the way; 0: none; null when it is not a limit.", "ms"),
    "Refused.limit": Word("Its limit, in its unit.", "of the dimension"),
    "Refused.level": Word("How much of it counts as used or reserved.", "of the dimension"),
    "ahead": Word("How many stand in line before it.", "requests"),
    "ahead_amount": Word("What those ask for that are certain to go first.", "of the dimension"),
    "now_ms": Word("The time of the answer.", _MS_CLOCK),
    "retry_at_ms": Word(
        "When the same request will be granted if nothing else happens; null when no waiting helps.", _MS_CLOCK
    ),
    "retry_in_ms": Word("The same from the moment of the answer.", "ms"),
    # status
    "recovering": Word("Whether a loss of data still keeps grants back."),
    "budgets": Word("The budgets."),
    "Reload.budgets": Word("The whole new set of budgets."),
    "name": Word("Name of the budget."),
    "parent": Word("The budget above it, whose limits count too; null: none."),
    "BudgetSpec.also": Word("Other budgets whose limits count too."),
    "kind": Word("A purse is spent once; everything else is limited per window or in flight."),
    "weight": Word("Its share of what its parent has, beside other children that want something.", "parts"),
    "highest": Word("The best priority that a request in it may have."),
    "each_agent": Word("What every agent gets of its own below this budget; null: nothing."),
    "each_run": Word("What every run of an agent gets of its own below this budget; null: nothing."),
    "LimitSpec.in_flight": Word("Said of another dimension than calls that is limited in flight."),
    "dimensions": Word("State of each limit, by its dimension (further windows: dimension/window)."),
    "limit": Word("The limit, in the unit of the dimension.", "of the dimension"),
    "window_ms": Word(
        "Length of the window; 0: a level (calls in flight), or for money an amount that is spent once.", "ms"
    ),
    "used": Word("What counts as used in the window.", "of the dimension"),
    "in_flight": Word("What is reserved and not settled.", "of the dimension"),
    "headroom": Word("How much of the limit is left.", "of the dimension"),
    "available": Word("How much of it fits now in one go.", "of the dimension"),
    "pace_per_s": Word("How much more the pace lets go each second; 0: it is not paced.", "of the dimension"),
    "BudgetStatus.below": Word("Budgets that stand below it.", "budgets"),
    "Status.path": Word("Whether to show also everything else that a request for this budget would take from."),
    "debt": Word("How far use is ahead of the pace; grants wait until it is paid back.", "of the dimension"),
    "reservations": Word("Reservations that have not ended.", "reservations"),
    "waiting": Word("Requests that stand in line.", "requests"),
    "granted": Word("Grants since the budget exists.", "requests"),
    "refused": Word("Refusals since the present owner started.", "requests"),
    # budgets
    "limits": Word("The limits, by dimension."),
    "charge": Word("When the provider charges: as the call arrives, or output as it is produced."),
    "bucket": Word(
        "Capacity of the provider's own token bucket, where it is smaller than the limit.", "of the dimension"
    ),
    "paced": Word("Whether to spread the use over the window; otherwise the whole limit may go at once."),
    "utilisation_permille": Word("The pace, as a part of the limit.", "thousandths"),
    "burst_permille": Word("How much of the limit may be used in one go.", "thousandths of the limit"),
    "jitter_ms": Word("J: the longest time from the permit to the provider's charge.", "ms"),
    "send_within_ms": Word("How long a permit is good for.", "ms"),
    "max_ttl_ms": Word("The longest time to live of a reservation; a longer one is cut to it.", "ms"),
    "max_waiting": Word("How many may stand in line.", "requests"),
    "added": Word("Budgets that are new."),
    "changed": Word("Budgets that have other limits now."),
    "removed": Word("Budgets that are no longer offered; what they have reserved still settles."),
}

CATALOG: Final = ServiceCatalog(
    name=wire.SERVICE,
    summary="Budgets that agents share: reserve before a call, settle after it.",
    operations=(*OPERATIONS, SET_RIGHTS, *control.OPERATIONS, *observed.OPERATIONS, *lease.OPERATIONS),
    words={**WORDS, **control.WORDS, **observed.WORDS, **lease.WORDS},
    events=(*observed.EVENTS, *lease.EVENTS),
)
