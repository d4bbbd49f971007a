"""The words of the breaker's messages: targets and groups, states, how calls end, one circuit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Final, Literal

from pydantic import Field

from bursar.contracts.base import Amount, Message, Name

GROUPS: Final = "group"
"""The first segment of the targets that stand for groups: ``group/<name>``."""

CircuitName = Literal[
    "closed", "open", "half_open", "ramping", "forced_open", "forced_closed", "disabled", "metrics_only"
]
STOPPING: Final[frozenset[CircuitName]] = frozenset({"open", "half_open", "ramping", "forced_open"})
"""States in which not every call may simply go."""

Outcome = Literal["ok", "slow", "timeout", "error", "overload", "rate_limited", "auth", "cancelled"]
"""How a call ended. ``slow``: well, but later than the caller calls quick. ``error``: 5xx, or no connection.
``overload``: 503 and 529. ``rate_limited``: 429, which is the limiter's matter. ``auth``: 401, 402, 403.
``cancelled``: given up by the caller, or no fault of the target (any other 4xx)."""

OUTCOMES: tuple[Outcome, ...] = ("ok", "slow", "timeout", "error", "overload", "rate_limited", "auth", "cancelled")

ALL: Final = 1_000
"""The share of calls that may go, in thousandths: all of them."""

Share = Annotated[int, Field(ge=0, le=ALL)]
Permille = Annotated[int, Field(ge=1, le=1000)]
Calls = Annotated[int, Field(ge=0, le=100_000)]
Span = Annotated[int, Field(ge=0, le=86_400_000)]
Note = Annotated[str, Field(max_length=200)]
LeaseId = Annotated[str, Field(pattern=r"^[0-9]{1,15}\.[0-9]{1,15}\.[0-9]{1,15}$", max_length=48)]
GroupName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", max_length=63)]


class CircuitState(Message):
    """One circuit. ``generation``: the revision at which it came into this state. ``remaining_ms``: until the next
    try, the next step of a ramp, or the end of an order, where a time is set. ``share``: the part of the calls that
    may go without a probe permit, in thousandths. ``reason``: a stable word; see the service's README."""

    target: Name
    state: CircuitName
    revision: Amount
    generation: Amount
    reason: str
    remaining_ms: Amount | None
    share: Share


def token_of(target: str) -> str:
    """A target's name as one token of a subject: with ``:`` for ``/``."""
    return target.replace("/", ":")


@lru_cache(maxsize=8_192)
def path_of(target: str) -> tuple[str, ...]:
    """The targets whose circuits stand in the way of a call, from the provider down to the target itself; without
    those of groups, which `way_of` adds."""
    parts = target.split("/")
    return tuple("/".join(parts[:end]) for end in range(1, len(parts) + 1))


def group_target(name: str) -> str:
    """The target that stands for a group."""
    return f"{GROUPS}/{name}"


def way_of(target: str, groups: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """All targets whose circuits stand in the way of a call: those of the groups (name -> members) that the target or
    something above it is a member of, in the order of the groups, then `path_of`."""
    path = path_of(target)
    return (*(group_target(name) for name, members in groups.items() if not set(path).isdisjoint(members)), *path)


def digest_of(circuits: Iterable[tuple[str, str, int]]) -> str:
    """What two views of the registry share when they are the same: (target, state, revision) of all that is not
    closed, in any order."""
    rows = sorted(f"{target} {state} {revision}\n" for target, state, revision in circuits)
    return hashlib.blake2b("".join(rows).encode(), digest_size=12).hexdigest()
