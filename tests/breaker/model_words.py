"""What the executable model of the registry's rules (`tests.breaker.model`) keeps of circuits, permits and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Counts = Mapping[str, int]
FAULTS = ("timeout", "error", "overload")
AT_ONCE = 500
MINUTE = 60_000
ORDERS = {"open": "forced_open", "closed": "forced_closed", "disabled": "disabled", "metrics": "metrics_only"}
REASONS = {"open": "force_open", "closed": "force_close", "disabled": "disable", "metrics": "metrics_only"}


@dataclass
class Row:
    at: int
    who: str
    counts: dict[str, int]
    told: bool
    claim: str = ""


@dataclass
class Log:
    """What was reported of one target since its window began. ``streak_of``: failures in a row, and whose."""

    rows: list[Row] = field(default_factory=list)
    streak_of: dict[str, int] = field(default_factory=dict)
    retry_until: int = 0


@dataclass(frozen=True)
class Circuit:
    state: str = "closed"
    since: int = 0
    until: int = 0
    share: int = 1000
    opened: int = 0
    successes: int = 0
    reason: str = ""
    generation: int = 0
    by_evidence: bool = False


@dataclass
class Lease:
    who: str
    ends: int
    covers: dict[str, int]


def bad(counts: Counts) -> int:
    return sum(counts.get(name, 0) for name in FAULTS)


def made(counts: Counts) -> int:
    return bad(counts) + counts.get("ok", 0) + counts.get("slow", 0)


def added(many: Sequence[Counts]) -> dict[str, int]:
    return {name: sum(one.get(name, 0) for one in many) for name in {name for one in many for name in one}}
