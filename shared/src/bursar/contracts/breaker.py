"""The circuit breaker registry on the wire: agents report what they saw, one registry judges, everybody is told.

A *target* is what calls go to: ``provider/region/model/key`` or ``service/instance``, from the general to the special,
up to eight segments. A circuit stands in the way of calls to its target and to everything below it; the circuit of a
group (``group/<name>``) in the way of calls to its members. Targets that nobody is told of are closed: only the others
are stored, broadcast and listed.

Times that end in ``_ms`` are spans from the moment of the message, never moments of somebody's clock.

Reports are observations (``bursar.obs.breaker.report.<principal>``): plain messages that nobody answers. Changes are
broadcast, signed, as `Changed` on ``bursar.evt.breaker.state.<token of the target>``. Each change of any circuit has
the next ``revision`` of the registry, so that whoever listens knows when it has missed one; `Snapshot` then tells all.
Every second, and more often after a change, the owner broadcasts `Pulse` on ``bursar.evt.breaker.pulse.registry``:
whoever has that revision and digest has missed nothing, and need not ask; and it repeats the latest changes. After a
loss of data the incarnation (the first number of ``fence``) is higher and revisions may begin anew.

The words stand in `bursar.contracts.breaker_words`, the rules in `bursar.contracts.breaker_rules`, operators' orders in
`bursar.contracts.breaker_orders`, what explains a circuit in `bursar.contracts.breaker_explain`; all are found here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message, Name, Query, Request, event_subject
from bursar.contracts.breaker_explain import MAX_HISTORY, MAX_WITNESSES, Explain, Explained, Transition, Witness
from bursar.contracts.breaker_orders import (
    Annotate,
    Disable,
    ForceClose,
    ForceOpen,
    MetricsOnly,
    Release,
    Reset,
    Steered,
)
from bursar.contracts.breaker_rules import (
    MAX_CHAIN,
    ClientRule,
    Configure,
    Configured,
    Fallback,
    FallbackKind,
    Group,
    Guard,
    Rule,
    Settings,
    SettingsReply,
    closest,
)
from bursar.contracts.breaker_words import (
    ALL,
    GROUPS,
    OUTCOMES,
    STOPPING,
    Calls,
    CircuitName,
    CircuitState,
    LeaseId,
    Outcome,
    Share,
    Span,
    digest_of,
    group_target,
    path_of,
    token_of,
    way_of,
)

__all__ = [
    "ALL",
    "CHANGED",
    "GROUPS",
    "MAX_CHAIN",
    "MAX_DELTAS",
    "MAX_FREE",
    "MAX_HISTORY",
    "MAX_RECENT",
    "MAX_WITNESSES",
    "OUTCOMES",
    "PULSE",
    "PULSE_MS",
    "REGISTRY",
    "SERVICE",
    "SHARE",
    "STOPPING",
    "Annotate",
    "BudgetShare",
    "Changed",
    "CircuitName",
    "CircuitState",
    "CircuitStatus",
    "ClientRule",
    "Configure",
    "Configured",
    "Delta",
    "Disable",
    "Explain",
    "Explained",
    "Fallback",
    "FallbackKind",
    "ForceClose",
    "ForceOpen",
    "Group",
    "Guard",
    "LeaseId",
    "MetricsOnly",
    "Outcome",
    "Probe",
    "ProbeGranted",
    "ProbeRefused",
    "Probed",
    "ProbedReply",
    "Pulse",
    "Release",
    "Report",
    "Reset",
    "Rule",
    "Settings",
    "SettingsReply",
    "Share",
    "Snapshot",
    "SnapshotReply",
    "Status",
    "StatusReply",
    "Steered",
    "Transition",
    "Witness",
    "closest",
    "digest_of",
    "group_target",
    "path_of",
    "state_subject",
    "token_of",
    "way_of",
]

SERVICE = "breaker"
CHANGED = "state"
"""The kind of the broadcasts of changes."""
PULSE = "pulse"
"""The kind of the broadcast that says how far the registry is; its name is `REGISTRY`."""
SHARE = "share"
"""The kind of the broadcasts for budgets: which part of the calls that one pays for may go."""
REGISTRY = "registry"
PULSE_MS = 1_000
"""From one pulse to the next when nothing happens."""
MAX_FREE = 64
"""Targets that a pulse names."""
MAX_RECENT = 16
"""Changes that a pulse repeats."""
MAX_DELTAS = 64
"""Targets in one report."""


class Delta(Message):
    """How many calls to one target ended in which way since the last report. ``retry_after_ms``: the longest time,
    from now on, that an overloaded target has asked for. ``shut``: after so many failures in a row the reporter has
    stopped calling it by itself, ahead of the fleet (0: it has not); said again each second while that lasts, so that
    who stops has a voice although it sees nothing any more."""

    target: Name
    ok: Calls = 0
    slow: Calls = 0
    timeout: Calls = 0
    error: Calls = 0
    overload: Calls = 0
    rate_limited: Calls = 0
    auth: Calls = 0
    cancelled: Calls = 0
    retry_after_ms: Span | None = None
    shut: Calls = 0


class Report(Message):
    """What one agent has seen in the last 100 to 250 ms; sent only when there was something."""

    deltas: Annotated[tuple[Delta, ...], Field(min_length=1, max_length=MAX_DELTAS)]


class Changed(CircuitState):
    """The broadcast: a circuit has come into this state."""

    fence: str


class Pulse(Message):
    """The broadcast of every second, and of several in each of the two seconds after a change: how far the registry
    is. ``recent``: the latest changes, so that who missed their broadcasts has them now. ``free``: half-open targets
    that a permit would be given for just now (the first of them, if there are many); told at once when a permit comes
    back. ``edition``: which rules hold; who has others asks for `Settings`."""

    now_ms: int
    revision: int
    digest: str
    edition: int
    recent: Annotated[list[CircuitState], Field(max_length=MAX_RECENT)]
    free: Annotated[list[str], Field(max_length=MAX_FREE)]
    fence: str


class BudgetShare(Message):
    """The broadcast for a limiter's budget that a rule links to its target: the part of the calls that may go there
    now, in thousandths. 0 while the circuit is open or half-open (probes need no share), the steps of the ramp, then
    all. Newer revisions win."""

    budget: Name
    target: Name
    share: Share
    revision: Amount
    fence: str


class Probe(Request):
    """Ask for a permit to try a half-open target with one call; answered by `ProbeGranted` or `ProbeRefused`."""

    target: Name


class ProbeGranted(Message):
    """Make one call within ``ttl_ms`` of asking, and say how it ended with `Probed`. ``lease`` is the fence of the
    grant. It covers every half-open circuit on the way to the target: ``circuits``."""

    ok: Literal[True] = True
    lease: LeaseId
    ttl_ms: Amount
    circuits: list[CircuitState]
    fence: str


class ProbeRefused(Message):
    """No probe. ``busy``: all are out; the first runs out in ``retry_in_ms``, and a pulse says if one is free before.
    ``open``: not before then. ``closed``: none is needed. ``circuits``: those on the way to the target that are not
    closed. ``spread_ms``: those who wait ask again within so long of that moment, each at a time of its own; the more
    have asked, the longer it is, so that no fleet is too large for the registry."""

    ok: Literal[False] = False
    reason: Literal["busy", "open", "closed"]
    retry_in_ms: Amount | None
    spread_ms: Amount
    circuits: list[CircuitState]
    fence: str


class Probed(Request):
    """How the probe ended. ``ok`` counts towards closing, a fault opens again; ``rate_limited``, ``auth`` and
    ``cancelled`` count as nothing and give the permit back. ``slow`` counts as ``ok``."""

    lease: LeaseId
    outcome: Outcome
    retry_after_ms: Span | None = None


class ProbedReply(Message):
    """``ok`` is False when the result counts for nothing: ``stale`` (the circuit has changed since the grant) or
    ``unknown`` (it has run out, or was reported before). ``circuits``: as they are now, those that are not closed."""

    ok: bool
    reason: Literal["counted", "neutral", "stale", "unknown"]
    circuits: list[CircuitState]
    fence: str


class Snapshot(Query):
    """All circuits that are not closed, unless ``revision`` and ``digest`` show that the asker has them."""

    revision: Amount = 0
    digest: Annotated[str, Field(max_length=32)] = ""


class SnapshotReply(Message):
    ok: Literal[True] = True
    revision: int
    digest: str
    same: bool
    circuits: list[CircuitState]
    edition: int
    fence: str


class Status(Query):
    """What the registry knows, for people and monitors: of one target and what is below it, or of all."""

    target: Name | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 200


class CircuitStatus(Message):
    """One target: its circuit, and the window of what was reported of it and of what lies below it.

    ``for_ms``: how long it has been in this state (0 when it never changed). ``opened``: how often in a row.
    ``calls`` are those that count (ok, slow, faults). Rates in thousandths. ``reporters``: who reported within the
    window; ``failing``: those of them whose own calls fail at the rate that trips; ``excluded``: who alone disagrees
    with all others, and is left out of the rates. ``probes``: permits that are out. ``evidence``: what it opened on:
    calls, failed, slow, reporters, voices. ``would_open``: what a circuit in the state metrics_only would have opened
    on last. ``note``: of the operator.
    """

    target: str
    state: CircuitName
    revision: int
    generation: int
    reason: str
    share: int
    for_ms: int
    remaining_ms: int | None
    opened: int
    calls: int
    counts: dict[str, int]
    failure_permille: int
    slow_permille: int
    reporters: int
    failing: int
    excluded: list[str]
    probes: int
    evidence: dict[str, int]
    would_open: str
    note: str


class StatusReply(Message):
    """``more``: how many targets were left out. ``dropped``: deltas ignored because their sender reported on too many
    targets. Those that are not closed come first, then those that were reported of last."""

    ok: Literal[True] = True
    now_ms: int
    revision: int
    circuits: list[CircuitStatus]
    more: int
    dropped: int
    fence: str


def state_subject(target: str) -> str:
    """Where the changes of a target's circuit are broadcast: its name is one token, with ``:`` for ``/``."""
    return event_subject(SERVICE, CHANGED, token_of(target))
