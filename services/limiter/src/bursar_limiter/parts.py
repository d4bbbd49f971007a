"""Where larger parts of the limiter plug in: leases, and what is learned from the provider.

A part is an object with the attributes of `Part`; its state is an attribute of `State` of its own. It is listed in
`PARTS`, and nothing else has to know of it: its commands are decided, its events applied and told in words, what it
keeps is dumped and loaded, what it holds in flight is counted in every meter of its path, and it has its say when time
passes, after a reload and after a loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bursar.kernel.decider import Command, Event, Fence, Outcome
from bursar_limiter.dimensions import NOTHING, Quantities
from bursar_limiter.state import State

Rule = Callable[[State, Command, int, Fence], Outcome]
Holding = tuple[str, tuple[str, ...], Quantities]


class Part:
    """``name``: its key in a dump. ``rules``: by the type of a command's body; ``apply`` and ``words``: by the kind of
    an event. What a part does not need it leaves as it is here."""

    name = ""
    rules: Mapping[type, Rule] = {}
    apply: Mapping[str, Callable[[State, Event], None]] = {}
    words: Mapping[str, Callable[..., str]] = {}

    def dump(self, state: State) -> Any:
        """Its durable state as of the last event: a msgpack value."""
        return None

    def load(self, state: State, value: Any) -> None:
        """The inverse; the budgets are there, and connected."""

    def holdings(self, state: State) -> Iterator[Holding]:
        """(leaf, other objects, amounts) of everything it has taken that has not ended: beside reservations. It stands
        in ``in_flight`` of every meter of that path."""
        yield from ()

    def due(self, state: State, now: int) -> Command | None:
        """What time has made due: a command of its own (principal and id empty)."""
        return None

    def wake_at(self, state: State) -> int | None:
        """When `due` is to be asked again; may be early."""
        return None

    def reloaded(self, state: State, now: int) -> None:
        """Part of applying a reload: the budgets have their new rules and places."""

    def lost(self, state: State, now: int) -> None:
        """Part of applying a loss: acknowledged entries are gone."""

    def safe_at(self, state: State, now: int) -> int:
        """After a loss: when all that it may have granted is over. Nothing is granted before."""
        return now

    def refused(self, state: State, budget: str) -> None:
        """A request for this budget was refused or had to wait (volatile: demand)."""

    def validate(self, state: State, now: int) -> None:
        """Raise AssertionError unless its parts agree."""


PARTS: list[Part] = []
"""Filled by `core`, which imports every part; the order is that of `due` and of a dump."""


def holdings(state: State) -> Iterator[tuple[str, tuple[str, ...], Quantities, Quantities]]:
    """Everything that may be in flight, and what of it was reported as used."""
    for entry in state.live.values():
        yield entry.budget, entry.also, entry.most, entry.done
    for part in PARTS:
        for leaf, also, amounts in part.holdings(state):
            yield leaf, also, amounts, NOTHING
