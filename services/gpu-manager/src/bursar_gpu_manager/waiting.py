"""Standing in line instead of being refused: first come, first served where two want the same devices.

The line is volatile. Nobody in it has been promised anything, and after a take-over the agents ask again. A device
that somebody earlier in the line could use is not given to somebody later, so that a large request cannot starve;
requests for other devices pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Any

from bursar.contracts.gpu import Lease, Wanted
from bursar.kernel.decider import Command

Kind = tuple[str | None, tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...], tuple[str, ...] | None]
"""What a request asks for of its devices: part of the model's name, hosts, what not, labels; and among which its rights
let it choose (None: all). All of one kind could use the same devices."""


class RuledLease(Lease):
    """A request of somebody who may use these GPUs ``only``: patterns of the rights, never of the wire."""

    only: tuple[str, ...]


def kind_of(body: Wanted) -> Kind:
    only = body.only if isinstance(body, RuledLease) else None
    return (body.model, body.hosts, body.exclude, tuple(body.labels.items()) if body.labels else (), only)


class Waiter:
    """One request in line. ``deadline`` in ms of the manager's clock; ``order`` counts up."""

    __slots__ = ("command", "deadline", "gone", "kind", "order")

    def __init__(self, command: Command, deadline: int, order: int) -> None:
        self.command = command
        self.kind = kind_of(command.body)
        self.deadline = deadline
        self.order = order
        self.gone = False


class Line:
    """``changed``: something may fit that did not when everybody in line was looked at. ``look_at``: look again then.
    ``handed``: who was handed out to be decided, with the devices that were found (None: it is told no). ``kinds``: how
    many of each stand in line."""

    __slots__ = ("_deadlines", "_order", "changed", "handed", "kinds", "look_at", "waiters")

    def __init__(self) -> None:
        self.waiters: dict[tuple[str, str], Waiter] = {}
        self.kinds: dict[Kind, int] = {}
        self.changed = False
        self.look_at: int | None = None
        self.handed: tuple[Waiter, Any] | None = None
        self._deadlines: list[tuple[int, int, Waiter]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self.waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self.waiters.values())

    def find(self, command: Command) -> Waiter | None:
        return self.waiters.get((command.principal, command.request_id))

    def join(self, command: Command, deadline: int) -> None:
        self._order += 1
        waiter = Waiter(command, deadline, self._order)
        self.waiters[command.principal, command.request_id] = waiter
        self.kinds[waiter.kind] = self.kinds.get(waiter.kind, 0) + 1
        if len(self._deadlines) > 2 * len(self.waiters) + 64:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].gone]
            heapify(self._deadlines)
        heappush(self._deadlines, (deadline, waiter.order, waiter))

    def leave(self, waiter: Waiter) -> None:
        del self.waiters[waiter.command.principal, waiter.command.request_id]
        waiter.gone = True
        self.changed = True
        self.kinds[waiter.kind] -= 1
        if not self.kinds[waiter.kind]:
            del self.kinds[waiter.kind]

    def take_handed(self, command: Command) -> tuple[Waiter, Any] | None:
        """Who was handed out, if it is this one; nobody is then."""
        handed, self.handed = self.handed, None
        if handed is None or handed[0].gone or handed[0].command[:2] != command[:2]:
            return None
        return handed

    def overdue(self, now: int) -> Waiter | None:
        deadline = self.next_deadline()
        return self._deadlines[0][2] if deadline is not None and deadline <= now else None

    def next_deadline(self) -> int | None:
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].gone:
            heappop(deadlines)
        return deadlines[0][0] if deadlines else None

    def validate(self) -> None:
        """Raise AssertionError unless everybody in line has a deadline."""
        known = {id(entry[2]) for entry in self._deadlines}
        assert all(id(waiter) in known for waiter in self), "a waiter without a deadline"
        assert self.kinds == Counter(waiter.kind for waiter in self), "kinds that do not stand in line"
        assert not any(waiter.gone for waiter in self), "somebody who has left stands in line"
