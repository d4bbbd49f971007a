"""Rights in a decider: which budgets, models, GPUs and targets a principal may use (`bursar.contracts.rights`).

A decider keeps `Rights` in its durable state (None until there is a set) and asks `forbidden` before it decides. What a
request would use, a table says: type of the request to (kind, name) of each thing. Looked up once, an answer stands in
a dictionary until other rules come, so that a decision pays for one look-up a thing; and without rules for one test.

A refusal is an error with the code ``forbidden`` that names the thing. It changes nothing. Orders of operators and what
the service makes due itself are in no table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

import msgpack  # type: ignore[import-untyped]

from bursar.contracts.rights import RightsRule, SetRights
from bursar.kernel.bugs import declare, seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject

Kind = Literal["budgets", "models", "gpus", "targets"]
Use = tuple[Kind, str]
Uses = Mapping[type, Callable[[Any], Iterable[Use]]]

KINDS: Final[tuple[Kind, ...]] = ("budgets", "models", "gpus", "targets")
RIGHTS: Final = "rights"
"""Kind of the event: (kind, time, by whom, closed, rules)."""

REMEMBERED: Final = 65_536
"""Answers that are kept; with more the dictionary begins anew."""

NEIGHBOURS_ALLOWED: Final = "rights_of_names_that_only_begin_alike"
declare(NEIGHBOURS_ALLOWED)


class Ruled(Protocol):
    """A state that keeps rights."""

    at: int
    rights: Rights | None


class Rights:
    """One set of rules. ``source``: a digest of it."""

    __slots__ = ("_known", "_patterns", "closed", "rows", "source")

    def __init__(self, rows: Iterable[Sequence[Any]] = (), *, closed: bool = False) -> None:
        self.rows = [[None if part is None else tuple(part) for part in row] for row in rows]
        self.closed = closed
        packed: bytes = msgpack.packb([closed, self.rows])
        self.source = hashlib.blake2b(packed, digest_size=8).hexdigest()
        self._known: dict[tuple[str, str, str], bool] = {}
        self._patterns: dict[tuple[str, str], tuple[str, ...] | None] = {}

    def may(self, principal: str, kind: Kind, name: str) -> bool:
        """Whether the principal may use the thing of this name."""
        known = self._known.get((principal, kind, name))
        if known is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            patterns = self.patterns(principal, kind)
            known = self._known[principal, kind, name] = patterns is None or any(covers(p, name) for p in patterns)
        return known

    def patterns(self, principal: str, kind: Kind) -> tuple[str, ...] | None:
        """What of a kind the principal may use; None: everything."""
        key = principal, kind
        if key not in self._patterns:
            if len(self._patterns) >= REMEMBERED:
                self._patterns.clear()
            self._patterns[key] = self._named(principal, kind)
        return self._patterns[key]

    def _named(self, principal: str, kind: Kind) -> tuple[str, ...] | None:
        column = 1 + KINDS.index(kind)
        mine = [row[column] for row in self.rows if _is_of(principal, row[0] or ())]
        named = [patterns for patterns in mine if patterns is not None]
        if not named:
            return () if self.closed else None
        return tuple(pattern for patterns in named for pattern in patterns)

    def dump(self) -> list[Any]:
        return [self.closed, [list(row) for row in self.rows]]


def load(value: Any) -> Rights | None:
    """What `dump` wrote, or None."""
    return None if value is None else Rights(value[1], closed=value[0])


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern names this thing."""
    if pattern.endswith("*"):
        return name.startswith(pattern[:-1])
    return name == pattern or name.startswith(pattern if seeded(NEIGHBOURS_ALLOWED) else f"{pattern}/")


def _is_of(principal: str, who: Iterable[str]) -> bool:
    return any(principal == one or (one.endswith("*") and principal.startswith(one[:-1])) for one in who)


def forbidden(rights: Rights, command: Command, uses: Uses) -> Reject | None:
    """Why this may not be asked for; None: it may."""
    named = uses.get(type(command.body))
    if named is None or not command.principal:
        return None
    for kind, name in named(command.body):
        if not rights.may(command.principal, kind, name):
            return refused(command.principal, kind, name)
    return None


def refused(principal: str, kind: Kind, name: str) -> Reject:
    """The error for a thing that somebody may not use."""
    text = f"{principal} has no right to {kind[:-1]} {name}" if name else f"{principal} has no right to all {kind}"
    return Reject("forbidden", text, {"kind": kind[:-1], "name": name})


def rows_of(rules: Iterable[RightsRule]) -> list[list[Any]]:
    return [[rule.who, *(getattr(rule, kind) for kind in KINDS)] for rule in rules]


def decide_rights(state: Ruled, command: Command, now: int, fence: Fence) -> Outcome:
    """Another set of rules; the same one again changes nothing."""
    body: SetRights = command.body
    found = Rights(rows_of(body.rules), closed=body.closed)
    reply = {"ok": True, "rules": len(found.rows), "closed": found.closed}
    if (state.rights or Rights()).source == found.source:
        return Refuse(reply | {"changed": False})
    return Accept([(RIGHTS, now, command.principal, *found.dump())], reply | {"changed": True})


def apply_rights(state: Ruled, event: Event) -> None:
    _, now, _, closed, rows = event
    state.at = now
    state.rights = Rights(rows, closed=closed)


def in_words(who: str, closed: bool, rows: Sequence[Any]) -> str:
    """The event for an operator."""
    rest = "nothing" if closed else "everything"
    return f"{who or 'the file'} set rights: {len(rows)} rules; of what they do not speak of, {rest} may be used"
