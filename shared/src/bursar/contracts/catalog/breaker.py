"""The breaker's part of the catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts import breaker as wire
from bursar.contracts.catalog.base import Event, Operation, ServiceCatalog, Word

_TARGET = "provider-a/eu/gpt-x"
_PERMILLE = "thousandths"

OPERATIONS: Final = (
    Operation(
        "obs",
        "report",
        wire.Report,
        "How calls ended since the last report; sent every 100 to 250 ms when there was something, and never answered.",
        example={"deltas": [{"target": _TARGET, "ok": 11, "timeout": 2}]},
    ),
    Operation(
        "req",
        "probe",
        wire.Probe,
        "Ask for a permit to try a half-open target with one call.",
        replies=(wire.ProbeGranted, wire.ProbeRefused),
        example={"target": _TARGET},
    ),
    Operation(
        "req",
        "probed",
        wire.Probed,
        "How the probe ended.",
        replies=(wire.ProbedReply,),
        errors=("not_yours",),
        example={"lease": "1.1.7", "outcome": "ok"},
    ),
    Operation(
        "req",
        "query",
        wire.Snapshot,
        "All circuits that are not closed; nothing when revision and digest show that the asker has them.",
        replies=(wire.SnapshotReply,),
        example={"revision": 0, "digest": ""},
    ),
    Operation(
        "req",
        "status",
        wire.Status,
        "What the registry knows of one target and what is below it, or of all; for people and monitors.",
        replies=(wire.StatusReply,),
        example={"target": "provider-a", "limit": 50},
    ),
    Operation(
        "adm",
        "force-open",
        wire.ForceOpen,
        "Let nobody call this target, or anything below it, until it is reset.",
        replies=(wire.Steered,),
        errors=("too_many",),
        example={"target": "provider-a/eu", "note": "maintenance until ten"},
    ),
    Operation(
        "adm",
        "force-close",
        wire.ForceClose,
        "Let everybody call this target, whatever is reported, until it is reset.",
        replies=(wire.Steered,),
        errors=("too_many",),
        example={"target": "provider-a/eu", "note": "false alarm"},
    ),
    Operation(
        "adm",
        "reset",
        wire.Reset,
        "Close the circuit and forget what was reported of it; the rules hold again.",
        replies=(wire.Steered,),
        errors=("too_many",),
        example={"target": "provider-a/eu", "note": "done"},
    ),
    Operation(
        "adm",
        "configure",
        wire.Configure,
        "Replace all rules; circuits keep their states and times.",
        replies=(wire.Configured,),
        errors=("bad_rule",),
        example={"rules": [{"target": None}, {"target": "provider-a", "minimum_calls": 20, "open_ms": 10_000}]},
    ),
)

EVENTS: Final = (
    Event(
        wire.CHANGED,
        "the target, with ':' for '/'",
        wire.Changed,
        "A circuit has come into this state. Each change has the next revision: who misses one asks by query.",
    ),
    Event(
        wire.PULSE,
        "registry",
        wire.Pulse,
        "How far the registry is, every two seconds: who has another revision or digest asks by query.",
    ),
)

WORDS: Final = {
    # reports
    "deltas": Word("What happened, by target."),
    "target": Word("What calls go to: provider/region/model/key, from the general to the special."),
    "Rule.target": Word("The rule holds for this target and all below it; null: for all that have no other rule."),
    "Status.target": Word("Only this target and what is below it; null: all."),
    "Delta.ok": Word("Calls that ended well.", "calls"),
    "slow": Word("Calls that ended well, but later than the caller calls quick.", "calls"),
    "timeout": Word("Calls without an answer in time.", "calls"),
    "error": Word("Calls that ended with 5xx, or without a connection.", "calls"),
    "overload": Word("Calls that ended with 503 or 529.", "calls"),
    "rate_limited": Word("Calls that ended with 429, which is the limiter's matter.", "calls"),
    "auth": Word("Calls that ended with 401, 402 or 403.", "calls"),
    "cancelled": Word("Calls that were given up, or failed through no fault of the target.", "calls"),
    "retry_after_ms": Word("The longest time, from now on, that an overloaded target has asked for.", "ms"),
    # circuits
    "state": Word("State of the circuit."),
    "revision": Word("Revision of the registry: each change of any circuit has the next one.", "changes"),
    "CircuitState.revision": Word("Revision of the registry at which the circuit last changed.", "changes"),
    "Changed.revision": Word("Revision of the registry at which the circuit last changed.", "changes"),
    "generation": Word("Revision at which the circuit came into this state.", "changes"),
    "reason": Word("Stable word for why."),
    "remaining_ms": Word("Time until the next try; null where no time is set.", "ms"),
    "circuits": Word("Circuits that are not closed."),
    "free": Word("Half-open targets that a permit would be given for just now."),
    "StatusReply.circuits": Word("The targets, those that are not closed first."),
    "circuit": Word("The circuit as it is now."),
    # probes
    "lease": Word("Names the permit to probe."),
    "ProbeGranted.ttl_ms": Word("Make the call and report within this time of asking.", "ms"),
    "retry_in_ms": Word("Ask again after this time; null when none is known.", "ms"),
    "outcome": Word("How the call ended."),
    "ProbedReply.ok": Word("Whether the result counts."),
    # snapshot and status
    "Snapshot.revision": Word("The last revision that the asker has; 0: none.", "changes"),
    "digest": Word("Names a set of circuits: equal when two views are the same; empty: none."),
    "same": Word("Whether the asker has it all already; the list is empty then."),
    "limit": Word("At most so many targets.", "targets"),
    "Pulse.now_ms": Word("When it was said; never the same twice of one owner.", "ms of the breaker's clock"),
    "now_ms": Word("The time of the answer.", "ms of the breaker's clock"),
    "for_ms": Word("How long it has been in this state; 0 when it never changed.", "ms"),
    "opened": Word("How often it has opened in a row.", "times"),
    "calls": Word("Calls in the window that count: ok, slow, faults.", "calls"),
    "counts": Word("Calls in the window by how they ended.", "calls"),
    "failure_permille": Word("Part of the calls that failed.", _PERMILLE),
    "slow_permille": Word("Part of the calls that were slow.", _PERMILLE),
    "reporters": Word("Who has reported within the window.", "principals"),
    "failing": Word("Those whose own calls fail at the rate that trips.", "principals"),
    "CircuitStatus.probes": Word("Permits that are out.", "permits"),
    "evidence": Word("What it opened on: calls, failed, slow, reporters, voices.", "calls or principals"),
    "note": Word("Why, in the operator's words."),
    "more": Word("How many targets were left out.", "targets"),
    "dropped": Word("Deltas ignored because their sender reported on too many targets.", "deltas"),
    # rules
    "rules": Word("The whole new set of rules."),
    "window_ms": Word("How far back reports count.", "ms"),
    "minimum_calls": Word("Below so many calls in the window no rate is judged.", "calls"),
    "Rule.failure_permille": Word("Rate of failures that trips.", _PERMILLE),
    "Rule.slow_permille": Word("Rate of slow calls that trips.", _PERMILLE),
    "consecutive": Word("So many failures without a success between them trip; 0: off.", "calls"),
    "quorum": Word("At least so many reporters must see it themselves, or all where there are fewer.", "principals"),
    "quorum_permille": Word("And such a part of those who report.", _PERMILLE),
    "auth_failures": Word("So many 401, 402, 403 without a success open a key; 0: off.", "calls"),
    "open_ms": Word("How long the circuit stays open at first.", "ms"),
    "growth_permille": Word("By what that grows each time it opens again.", _PERMILLE),
    "max_open_ms": Word("The longest that it stays open.", "ms"),
    "calm_ms": Word("After so long closed the time begins anew.", "ms"),
    "max_retry_after_ms": Word("The longest time that an overloaded target is believed.", "ms"),
    "probes": Word("Permits out at a time in the whole fleet.", "permits"),
    "probe_ttl_ms": Word("How long a permit is good for.", "ms"),
    "successes": Word("So many probes must succeed, and none fail, to close.", "calls"),
    "added": Word("Targets that have a rule now and had none."),
    "changed": Word("Targets that have another rule now."),
    "removed": Word("Targets that have no rule any more."),
    "Configured": Word("What the new set of rules changed, by target."),
    "SnapshotReply": Word("The circuits that are not closed, and which revision of the registry that is."),
}

CATALOG: Final = ServiceCatalog(
    name=wire.SERVICE,
    summary="Circuit breakers for a whole fleet: agents report, one registry judges, everybody hears of it.",
    operations=OPERATIONS,
    words=WORDS,
    events=EVENTS,
)
