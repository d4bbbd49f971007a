"""The circuit breaker registry on the wire: agents report what they saw, one registry judges, everybody is told.

A *target* is what calls go to: ``provider/region/model/key``, from the general to the special, up to eight segments.
A circuit stands in the way of calls to its target and to everything below it. Targets that nobody is told of are
closed: only the others are stored, broadcast and listed.

Times that end in ``_ms`` are spans from the moment of the message, never moments of somebody's clock.

Reports are observations (``bursar.obs.breaker.report.<principal>``): plain messages that nobody answers. Changes are
broadcast, signed, as `Changed` on ``bursar.evt.breaker.state.<token of the target>``. Each change of any circuit has
the next ``revision`` of the registry, so that whoever listens knows when it has missed one; `Snapshot` then tells all.
Every two seconds the owner broadcasts `Pulse` on ``bursar.evt.breaker.pulse.registry``: whoever has that revision and
digest has missed nothing, and need not ask.
After a loss of data the incarnation (the first number of ``fence``) is higher and revisions may begin anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message, Name, Query, Request, event_subject

SERVICE = "breaker"
CHANGED = "state"
"""The kind of the broadcasts of changes."""
PULSE = "pulse"
"""The kind of the broadcast that says how far the registry is; its name is `REGISTRY`."""
REGISTRY = "registry"
PULSE_MS = 2_000
"""From one pulse to the next."""
MAX_FREE = 64
"""Targets that a pulse names."""

CircuitName = Literal["closed", "open", "half_open", "forced_open", "forced_closed"]
Outcome = Literal["ok", "slow", "timeout", "error", "overload", "rate_limited", "auth", "cancelled"]
"""How a call ended. ``slow``: well, but later than the caller calls quick. ``error``: 5xx, or no connection.
``overload``: 503 and 529. ``rate_limited``: 429, which is the limiter's matter. ``auth``: 401, 402, 403.
``cancelled``: given up by the caller, or no fault of the target (any other 4xx)."""

OUTCOMES: tuple[Outcome, ...] = ("ok", "slow", "timeout", "error", "overload", "rate_limited", "auth", "cancelled")

MAX_DELTAS = 64
"""Targets in one report."""

Calls = Annotated[int, Field(ge=0, le=100_000)]
Span = Annotated[int, Field(ge=0, le=86_400_000)]
Note = Annotated[str, Field(max_length=200)]
LeaseId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]


class Delta(Message):
    """How many calls to one target ended in which way since the last report. ``retry_after_ms``: the longest time,
    from now on, that an overloaded target has asked for."""

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


class Report(Message):
    """What one agent has seen in the last 100 to 250 ms; sent only when there was something."""

    deltas: Annotated[tuple[Delta, ...], Field(min_length=1, max_length=MAX_DELTAS)]


class CircuitState(Message):
    """One circuit. ``generation``: the revision at which it came into this state. ``remaining_ms``: until the next
    try, where a time is set. ``reason``: a stable word; see the service's README."""

    target: Name
    state: CircuitName
    revision: Amount
    generation: Amount
    reason: str
    remaining_ms: Amount | None


class Changed(CircuitState):
    """The broadcast: a circuit has come into this state."""

    fence: str


class Pulse(Message):
    """The broadcast of every two seconds: how far the registry is. ``free``: half-open targets that a permit would be
    given for just now (the first of them, if there are many)."""

    now_ms: int
    revision: int
    digest: str
    free: Annotated[list[str], Field(max_length=MAX_FREE)]
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
    closed."""

    ok: Literal[False] = False
    reason: Literal["busy", "open", "closed"]
    retry_in_ms: Amount | None
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
    fence: str


class Status(Query):
    """What the registry knows, for people and monitors: of one target and what is below it, or of all."""

    target: Name | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 200


class CircuitStatus(Message):
    """One target: its circuit, and the window of what was reported of it and of what lies below it.

    ``for_ms``: how long it has been in this state (0 when it never changed). ``opened``: how often in a row.
    ``calls`` are those that count (ok, slow, faults). Rates in thousandths. ``reporters``: who reported within the
    window; ``failing``: those of them whose own calls fail at the rate that trips. ``probes``: permits that are out.
    ``evidence``: what it opened on: calls, failed, slow, reporters, voices. ``note``: of the operator.
    """

    target: str
    state: CircuitName
    revision: int
    generation: int
    reason: str
    for_ms: int
    remaining_ms: int | None
    opened: int
    calls: int
    counts: dict[str, int]
    failure_permille: int
    slow_permille: int
    reporters: int
    failing: int
    probes: int
    evidence: dict[str, int]
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


class ForceOpen(Request):
    """Administration: let nobody call this target, or anything below it, until `Reset`. ``note``: why, for the
    audit."""

    target: Name
    note: Note = ""


class ForceClose(Request):
    """Administration: let everybody call this target, whatever is reported, until `Reset`. Circuits above and below
    it are not touched."""

    target: Name
    note: Note = ""


class Reset(Request):
    """Administration: close the circuit and forget what was reported of it; the rules hold again."""

    target: Name
    note: Note = ""


class Steered(Message):
    """The circuit as it is now."""

    ok: Literal[True] = True
    circuit: CircuitState
    fence: str


Permille = Annotated[int, Field(ge=1, le=1000)]


class Rule(Message):
    """When a circuit opens and how it closes again; for ``target`` and all below it, or (None) for all others.

    - ``window_ms``: how far back reports count; kept in ten buckets, so that a report counts for at least nine tenths.
    - ``minimum_calls``: below so many calls in the window no rate is judged.
    - ``failure_permille``, ``slow_permille``: rates that trip, in thousandths of the calls.
    - ``consecutive``: so many failures without a success between them trip, whatever the rate (0: off).
    - ``quorum``, ``quorum_permille``: at least so many reporters, and such a part of those in the window, must see it
      themselves; or all, where there are fewer.
    - ``auth_failures``: so many 401, 402, 403 without a success open a key (0: off).
    - ``open_ms``, ``growth_permille``, ``max_open_ms``: how long it stays open, by what this grows each time that it
      opens again, up to which time. ``calm_ms``: after so long closed it begins anew.
    - ``max_retry_after_ms``: the longest time that an overloaded target is believed.
    - ``probes``: permits out at a time in the whole fleet; ``probe_ttl_ms``: for how long one is good;
      ``successes``: so many must succeed, and none fail, to close.
    """

    target: Name | None = None
    window_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 10_000
    minimum_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    failure_permille: Permille = 500
    slow_permille: Permille = 800
    consecutive: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    quorum: Annotated[int, Field(ge=1, le=100_000)] = 2
    quorum_permille: Annotated[int, Field(ge=0, le=1000)] = 100
    auth_failures: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    open_ms: Annotated[int, Field(ge=10, le=86_400_000)] = 5_000
    growth_permille: Annotated[int, Field(ge=1000, le=10_000)] = 2_000
    max_open_ms: Annotated[int, Field(ge=10, le=86_400_000)] = 300_000
    calm_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 60_000
    max_retry_after_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 600_000
    probes: Annotated[int, Field(ge=1, le=10_000)] = 1
    probe_ttl_ms: Annotated[int, Field(ge=10, le=3_600_000)] = 30_000
    successes: Annotated[int, Field(ge=1, le=10_000)] = 2


class Configure(Request):
    """Administration: replace all rules. Circuits keep their states and times; windows begin anew."""

    rules: Annotated[tuple[Rule, ...], Field(max_length=256)]


class Configured(Message):
    ok: Literal[True] = True
    added: list[str]
    changed: list[str]
    removed: list[str]
    fence: str


def state_subject(target: str) -> str:
    """Where the changes of a target's circuit are broadcast: its name is one token, with ``:`` for ``/``."""
    return event_subject(SERVICE, CHANGED, token_of(target))


def token_of(target: str) -> str:
    return target.replace("/", ":")


@lru_cache(maxsize=8_192)
def path_of(target: str) -> tuple[str, ...]:
    """The targets whose circuits stand in the way of a call, from the provider down to the target itself."""
    parts = target.split("/")
    return tuple("/".join(parts[:end]) for end in range(1, len(parts) + 1))


def digest_of(circuits: Iterable[tuple[str, str, int]]) -> str:
    """What two views of the registry share when they are the same: (target, state, revision) of all that is not
    closed, in any order."""
    rows = sorted(f"{target} {state} {revision}\n" for target, state, revision in circuits)
    return hashlib.blake2b("".join(rows).encode(), digest_size=12).hexdigest()
