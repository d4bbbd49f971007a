"""The decider: what a service must say so that the kernel can make it durable.

A service is a pure state machine. ``decide`` reads the state and says what should happen; ``evolve`` is the only
writer of the durable state and is also what replays the journal. Neither reads a clock, does IO, or draws random
numbers from anywhere but the state. Between the two the kernel puts the journal: nothing that ``decide`` accepted is
answered or broadcast before its events are on disk.

The durable state is what ``dump`` returns and the journal rebuilds. A state may also carry volatile parts
(observations, requests that wait in line): ``decide`` and ``due`` may touch those, they are not dumped, and after a
take-over they start empty.

After Chassaing, "Functional Event Sourcing Decider" (2021); DESIGN in ARCHITECTURE.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

Event = tuple[Any, ...]
"""A past fact: a NamedTuple or tuple of msgpack values whose first item is the event's kind (a short string)."""

Fence = tuple[int, int, int]
"""(incarnation, epoch, number of the decision): grows with every decision, through crashes and data loss."""


class Command(NamedTuple):
    """What somebody asks for. ``request_id`` is empty for commands that the state itself made due."""

    principal: str
    request_id: str
    body: Any


class Broadcast(NamedTuple):
    """Something to tell everybody, after the commit. ``name`` is the last subject token."""

    kind: str
    name: str
    body: dict[str, Any]


class Notice(NamedTuple):
    """Something to tell one principal, after the commit; not signed, since only the service may publish there."""

    principal: str
    body: dict[str, Any]


class Accept(NamedTuple):
    """Journal these events, then answer. ``reply`` is remembered: a retry gets it again."""

    events: Sequence[Event]
    reply: dict[str, Any]
    broadcasts: Sequence[Broadcast | Notice] = ()


class Refuse(NamedTuple):
    """An ordinary answer that changes nothing: a refusal, or the answer to a query. A retry is decided afresh."""

    reply: dict[str, Any]


class Reject(NamedTuple):
    """The caller is wrong. ``code`` is stable; ``facts`` go into the error body."""

    code: str
    text: str
    facts: dict[str, Any] = {}  # noqa: RUF012


class Park(NamedTuple):
    """No answer yet: the state keeps the command (volatile) and ``due`` will hand it out again."""


Outcome = Accept | Refuse | Reject | Park

S = TypeVar("S")


class Decider(Protocol[S]):
    """One service's rules. All times are milliseconds of the decider's clock (integers, never going back).

    ``version`` is that of the form of `dump`. A decider may have a mapping ``conversions``: from an older version to
    the function that brings its dumped state into the form of the next one (`bursar.kernel.fold.converted`).
    """

    name: str
    version: int

    def initial(self) -> S:
        """The state before the first event."""
        ...

    def decide(self, state: S, command: Command, now: int, fence: Fence) -> Outcome:
        """Say what should happen; must not change the durable state.

        ``fence`` is the token that this decision will carry if it is accepted.
        """
        ...

    def evolve(self, state: S, event: Event) -> None:
        """Apply one event; total (never raises on an event that ``decide`` made) and deterministic."""
        ...

    def due(self, state: S, now: int) -> Command | None:
        """The next command that the passing of time or a change has made due; None when there is none.

        Each call hands out another one. The kernel decides it and applies its events before it asks again.
        """
        ...

    def wake_at(self, state: S) -> int | None:
        """When ``due`` should be asked next, even if nothing arrives; None for "only after a command"."""
        ...

    def recover(self, state: S, now: int) -> Sequence[Event]:
        """The journal lost acknowledged entries: events that make the state safe (charge what may have been
        granted, refuse new grants until it must have ended)."""
        ...

    def dump(self, state: S) -> Any:
        """The durable state as msgpack values, the same for equal states."""
        ...

    def load(self, value: Any) -> S:
        """The state that ``dump`` wrote (lists may come back as tuples and the reverse)."""
        ...

    def describe(self, event: Event) -> str:
        """One line of words for an operator."""
        ...
