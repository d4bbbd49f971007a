"""Why a circuit is as it is: what the registry answers to `Explain`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import Message, Name, Query
from bursar.contracts.breaker_words import CircuitName, CircuitState

MAX_HISTORY = 16
"""Transitions of one circuit that the registry keeps at hand; older ones stand in the journal."""

MAX_WITNESSES = 16
"""Reporters that are named."""


class Explain(Query):
    """Why is this target as it is? ``history``: at most so many transitions."""

    target: Name
    history: Annotated[int, Field(ge=0, le=MAX_HISTORY)] = MAX_HISTORY


class Witness(Message):
    """What one reporter has seen within the window. ``view``: ``failing`` (its own calls fail at the rate that trips),
    ``stopped`` (it has stopped calling by itself), ``slow``, ``locked_out`` (401, 402, 403 and no success), ``fine``,
    or ``excluded`` (it alone disagrees with all others, and its calls are left out of the sums)."""

    reporter: str
    calls: int
    failed: int
    slow: int
    view: Literal["failing", "stopped", "slow", "locked_out", "fine", "excluded"]


class Transition(Message):
    """One change of a circuit, from the journal. ``ago_ms``: how long ago. ``who``: the operator who ordered it, or
    empty. ``counts``: what it opened on."""

    ago_ms: int
    revision: int
    before: CircuitName
    after: CircuitName
    reason: str
    who: str
    note: str
    counts: dict[str, int]


class Explained(Message):
    """``why``: a sentence. ``since_ms``: how long it has been in this state. ``next_probe_ms``: when a probe may be
    tried, 0 now, None when none is due. ``counts``: what it opened on (calls, failed, slow, reporters, voices, and by
    how the calls ended); ``witnesses``: who said so then; ``excluded``: who was left out. ``now``, ``reporters``: the
    same of the window as it is now. ``stopped_by``: all circuits that keep calls to this target from simply going,
    itself included, those above and of its groups too."""

    ok: Literal[True] = True
    now_ms: int
    target: str
    state: CircuitName
    reason: str
    why: str
    since_ms: int
    next_probe_ms: int | None
    share: int
    opened: int
    probes: int
    note: str
    counts: dict[str, int]
    witnesses: list[Witness]
    excluded: list[str]
    now: dict[str, int]
    reporters: list[Witness]
    would_open: str
    stopped_by: list[CircuitState]
    history: list[Transition]
    fence: str
