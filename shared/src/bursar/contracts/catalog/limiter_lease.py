"""Leases, and what holds when the limiter cannot be reached: a part of its catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import limiter_lease as wire
from bursar.contracts.catalog.base import Event, Operation, Word

_NOTHING = [0, 0, 0, 0, 0, 0, 0]
_REPORT = {
    "lease": "1.1.7",
    "period": 3,
    "hand": [4, 5_200, 2_100, 3, 0, 0, 0],
    "unused": _NOTHING,
    "back": [[2, [0, 310, 95, 0, 0, 0, 0]]],
    "done": _NOTHING,
    "open": [0, 0, 0, 1, 0, 0, 0],
    "calls": 11,
}

OPERATIONS: Final = (
    Operation(
        "req",
        "lease",
        wire.Lease,
        "An advance over the whole path of a budget, to be spent without asking.",
        replies=(wire.Leased, wire.LeaseRefused),
        errors=("unknown_budget", "too_many", "too_many_agents", "too_many_objects"),
        example={
            "budget": "demo",
            "want": [20, 30_000, 9_000, 8, 0, 0, 0],
            "demand": [30, 40_000, 12_000, 8, 0, 0, 0],
        },
    ),
    Operation(
        "req",
        "renew",
        wire.Renew,
        "What has become of an advance, and a further one.",
        replies=(wire.Renewed,),
        errors=("unknown_lease", "not_yours", "old_report"),
        example={**_REPORT, "want": [20, 30_000, 9_000, 8, 0, 0, 0], "demand": [30, 40_000, 12_000, 8, 0, 0, 0]},
    ),
    Operation(
        "req",
        "return",
        wire.Return,
        "The last report of a lease, or of what its open calls have come to since.",
        replies=(wire.Returned,),
        errors=("unknown_lease", "not_yours", "old_report"),
        example=_REPORT,
    ),
    Operation(
        "req",
        "terms",
        wire.Terms,
        "What holds for a budget beside its limits: leases, and what to do when the limiter cannot be reached.",
        replies=(wire.TermsReply,),
        errors=("unknown_budget",),
        example={"budget": "demo"},
    ),
    Operation(
        "req",
        "island",
        wire.Island,
        "Hold a slice of a budget that was set aside for agents that cannot reach the limiter.",
        replies=(wire.Slice, wire.SliceRefused),
        errors=("unknown_budget",),
        example={"budget": "demo"},
    ),
    Operation(
        "req",
        "uncovered",
        wire.Uncovered,
        "Calls that were made without a permit while the limiter could not be reached.",
        replies=(wire.Charged,),
        errors=("unknown_budget", "not_open", "too_many_agents", "too_many_objects"),
        example={"budget": "demo", "calls": 3, "amounts": [3, 2_700, 940, 0, 0, 3_640, 0]},
    ),
)

EVENTS: Final = (
    Event(
        wire.UNCOVERED,
        "the agent",
        wire.UncoveredCalls,
        "An agent that could not reach the limiter has made calls without a permit.",
    ),
)

_SEVEN = "of the dimension"

WORDS: Final = {
    "want": Word("What to have in hand, by dimension: seven amounts in their order.", _SEVEN),
    "demand": Word("What the holder would use in a second, by dimension; of calls in flight how many.", _SEVEN),
    "period": Word("Counts the reports of a lease; of a new one, the number of its first report.", "reports"),
    "lease": Word("Names the lease."),
    "add": Word("What the holder may spend in addition, by dimension.", _SEVEN),
    "length_ms": Word("How long it is good from the moment at which the request was sent.", "ms"),
    "renew_in_ms": Word("When to renew it.", "ms"),
    "good_for_ms": Word("How long a permit is good for.", "ms"),
    "limited": Word("Bit d: an object on the path limits dimension d.", "bits"),
    "held": Word("Bit d: dimension d counts until calls end.", "bits"),
    "rates": Word("What the lease has of the rate of every object on its path, by dimension.", "per second"),
    "bursts": Word("What a holder that keeps to the rates may take at once, by dimension.", _SEVEN),
    "excess": Word("What to give up as soon as it is free, by dimension.", _SEVEN),
    "over": Word("Nothing is added and the lease is not prolonged: ask for another when it has ended."),
    "hand": Word("What is left, by dimension; below zero: used beyond it.", _SEVEN),
    "unused": Word("What is given up, by dimension.", _SEVEN),
    "back": Word("Refunds of what was taken in earlier periods: pairs of the period and seven amounts.", _SEVEN),
    "done": Word("What calls that have ended used of the dimensions that count until then.", _SEVEN),
    "Renew.open": Word("What open calls hold of the dimensions that count until they end.", _SEVEN),
    "Return.open": Word("What open calls hold of the dimensions that count until they end.", _SEVEN),
    "Returned.open": Word("Whether calls are still in flight, to be reported when they have ended."),
    "calls": Word("How many permits were taken, or calls made.", "calls"),
    "principal": Word("The agent."),
    "when_unreachable": Word("What an agent may do that cannot reach the limiter: nothing, all, or spend its slice."),
    "lease_ms": Word("How long leases last; 0: there are none.", "ms"),
    "slice": Word("Names the slice."),
    "Slice.amounts": Word("How much may be spent in any window, by dimension.", _SEVEN),
    "Slice.window_ms": Word("The window, by dimension; 0: at any moment.", "ms"),
    "Uncovered.amounts": Word("What they have used, by dimension.", _SEVEN),
    "islands": Word("How many slices there are for agents that cannot reach the limiter.", "slices"),
    "island_permille": Word("How much of the limits all slices are together.", "thousandths of the limit"),
}
