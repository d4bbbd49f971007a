"""The breaker's rules on the wire: when circuits open and close, and what clients do around a target on their own.

A `Rule` holds for its target and all below it, unless something closer has a rule of its own; nothing is mixed. The
registry keeps to the rule; the parts of it that clients follow (`Guard`, `Fallback`) they fetch with `Settings`, by the
``edition`` that a pulse names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from bursar.contracts.base import Message, Name, Query, Request
from bursar.contracts.breaker_words import GroupName, Permille, Span, path_of

MAX_RULES = 256
MAX_GROUPS = 64
MAX_MEMBERS = 128
MAX_CHAIN = 8

FallbackKind = Literal["region", "model", "local", "cached", "degraded"]


class Fallback(Message):
    """One link of a chain, tried in order when the target may not be called or the call has failed.

    ``region``, ``model``, ``local``: call the target ``to`` instead (the same model elsewhere, another model, a model
    on an own machine). ``cached``: an answer kept from before, at most ``max_age_ms`` old (None: of any age).
    ``degraded``: ``answer`` itself.
    """

    kind: FallbackKind
    to: Name | None = None
    max_age_ms: Span | None = None
    answer: Annotated[str, Field(max_length=2_000)] = ""

    @model_validator(mode="after")
    def _fits(self) -> Fallback:
        if (self.to is not None) != (self.kind in {"region", "model", "local"}):
            raise ValueError("region, model and local name another target in 'to'; cached and degraded do not")
        if self.max_age_ms is not None and self.kind != "cached":
            raise ValueError("only a cached answer has an age")
        if self.answer and self.kind != "degraded":
            raise ValueError("only a degraded answer has a text")
        return self


class Guard(Message):
    """What each client does around a target on its own, so that no trouble spreads.

    - ``slow_ms``: a call that takes longer counts as slow (0: as the caller says).
    - ``deadline_ms``: the longest time for a call with all its retries and fallbacks (0: as the caller says).
    - ``retry_permille``, ``retry_per_minute``, ``retry_ttl_ms``: retries are this part of the calls within the span,
      plus so many a minute for who calls seldom; ``retry_timeout_cost``: one after a time-out costs as many.
    - ``concurrency``: calls under way at once, at most (0: no bulkhead). The bound begins at
      ``concurrency_initial``, never falls below ``concurrency_least``, and falls when latency exceeds
      ``concurrency_tolerance_permille`` of the usual one; it grows by ``concurrency_queue``.
    """

    slow_ms: Span = 0
    deadline_ms: Span = 0
    retry_permille: Annotated[int, Field(ge=0, le=10_000)] = 200
    retry_per_minute: Annotated[int, Field(ge=0, le=600_000)] = 6
    retry_ttl_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 10_000
    retry_timeout_cost: Annotated[int, Field(ge=1, le=100)] = 2
    concurrency: Annotated[int, Field(ge=0, le=100_000)] = 0
    concurrency_initial: Annotated[int, Field(ge=1, le=100_000)] = 20
    concurrency_least: Annotated[int, Field(ge=1, le=100_000)] = 2
    concurrency_tolerance_permille: Annotated[int, Field(ge=1_000, le=10_000)] = 1_500
    concurrency_queue: Annotated[int, Field(ge=0, le=10_000)] = 4


class Rule(Message):
    """When a circuit opens and how it closes again; for ``target`` and all below it, or (None) for all others.

    - ``window_ms``: how far back reports count; kept in ten buckets, so that a report counts for at least nine tenths.
      ``window_calls``: the last so many calls count instead, however old (0: by time).
    - ``minimum_calls``: below so many calls in the window no rate is judged.
    - ``failure_permille``, ``slow_permille``: rates that trip, in thousandths of the calls.
    - ``consecutive``: so many failures without a success between them trip, whatever the rate (0: off). It trips, too,
      when such a part of the reporters as ``failure_permille`` says, and a quorum, have each stopped by themselves
      after so many in a row of their own (`Delta.shut`).
    - ``quorum``, ``quorum_permille``: at least so many reporters, and such a part of those in the window, must see it
      themselves; or all, where there are fewer. ``quorum_traffic_permille``: at least two who see it suffice if they
      made such a part of all calls (0: off).
    - ``auth_failures``: so many 401, 402, 403 without a success open a key (0: off).
    - ``open_ms``, ``growth_permille``, ``max_open_ms``: how long it stays open, by what this grows each time that it
      opens again, up to which time. ``jitter_permille``: up to this part of it is added at random. ``calm_ms``: after
      so long closed it begins anew.
    - ``max_retry_after_ms``: the longest time that an overloaded target is believed.
    - ``probes``: permits out at a time in the whole fleet; ``probe_ttl_ms``: for how long one is good;
      ``successes``: so many must succeed, and none fail, for the circuit to begin to close.
    - ``ramp``: the shares of the calls that may go then, one after the other, each for ``ramp_step_ms``, before all
      may; empty: all at once.
    - ``budget``: the limiter's budget that pays for calls to this very target; the share is broadcast for it.
    - ``guard``, ``fallbacks``: what clients do around it.
    """

    target: Name | None = None
    window_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 10_000
    window_calls: Annotated[int, Field(ge=0, le=100_000)] = 0
    minimum_calls: Annotated[int, Field(ge=1, le=1_000_000)] = 10
    failure_permille: Permille = 500
    slow_permille: Permille = 800
    consecutive: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    quorum: Annotated[int, Field(ge=1, le=100_000)] = 2
    quorum_permille: Annotated[int, Field(ge=0, le=1000)] = 100
    quorum_traffic_permille: Annotated[int, Field(ge=0, le=1000)] = 0
    auth_failures: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    open_ms: Annotated[int, Field(ge=10, le=86_400_000)] = 5_000
    growth_permille: Annotated[int, Field(ge=1000, le=10_000)] = 2_000
    max_open_ms: Annotated[int, Field(ge=10, le=86_400_000)] = 300_000
    jitter_permille: Annotated[int, Field(ge=0, le=1000)] = 100
    calm_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 60_000
    max_retry_after_ms: Annotated[int, Field(ge=0, le=86_400_000)] = 600_000
    probes: Annotated[int, Field(ge=1, le=10_000)] = 1
    probe_ttl_ms: Annotated[int, Field(ge=10, le=3_600_000)] = 30_000
    successes: Annotated[int, Field(ge=1, le=10_000)] = 2
    ramp: Annotated[tuple[Annotated[int, Field(ge=1, le=999)], ...], Field(max_length=16)] = (50, 250, 500)
    ramp_step_ms: Annotated[int, Field(ge=10, le=86_400_000)] = 1_000
    budget: Name | None = None
    guard: Guard = Guard()
    fallbacks: Annotated[tuple[Fallback, ...], Field(max_length=MAX_CHAIN)] = ()


class Group(Message):
    """Targets that stand or fall together, whatever their names: what is reported of a member, or below it, counts for
    the group's circuit too, and that stands in the way of calls to all members. Its target is ``group/<name>``."""

    name: GroupName
    members: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_MEMBERS)]


class Configure(Request):
    """Administration: replace all rules and groups. Circuits keep their states and times; windows begin anew."""

    rules: Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES)]
    groups: Annotated[tuple[Group, ...], Field(max_length=MAX_GROUPS)] = ()


class Configured(Message):
    ok: Literal[True] = True
    added: list[str]
    changed: list[str]
    removed: list[str]
    fence: str


class Settings(Query):
    """What clients have to know of the rules, unless ``edition`` shows that the asker has it (-1: nothing)."""

    edition: Annotated[int, Field(ge=-1, le=2**53 - 1)] = -1


class ClientRule(Message):
    """The part of a rule that clients follow, for ``target`` and all below it; None: for all others."""

    target: Name | None
    probe_ttl_ms: int
    consecutive: int = 0
    guard: Guard
    fallbacks: list[Fallback]


class SettingsReply(Message):
    """``edition`` counts the changes of the rules. ``same``: the asker has it all; the lists are empty then."""

    ok: Literal[True] = True
    edition: int
    same: bool
    rules: list[ClientRule]
    groups: list[Group]
    fence: str


def closest(rules: Iterable[ClientRule], target: str) -> ClientRule | None:
    """The rule that holds for a target: the one of the longest prefix that has one, else the one for all others."""
    by_target = {rule.target: rule for rule in rules}
    for name in reversed(path_of(target)):
        if name in by_target:
            return by_target[name]
    return by_target.get(None)
