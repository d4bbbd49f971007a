"""What is known here of the registry's circuits: snapshots and broadcasts, in whatever order they come.

Every change has the next revision. `revision` is the one up to which nothing is missing; changes beyond it are
applied, too, and noted until the gap is filled by a late message or by a snapshot. What is not newer is ignored, so
that a message that is repeated, or kept and sent again by somebody, changes nothing. After a loss of data (a higher
incarnation) revisions begin anew: what was known stays until a snapshot replaces it.

A time in a message is a span from its arrival: what arrives late holds for longer here, never for shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from bursar.client.errors import BadReply
from bursar.contracts.breaker import digest_of

MAX_AHEAD: Final = 10_000
_STOPPING: Final = frozenset({"open", "half_open", "forced_open"})


class Known(NamedTuple):
    """One circuit that is not closed. ``until``: local ms at which its open time is over (inf: none is known)."""

    target: str
    state: str
    revision: int
    reason: str
    until: float


class View:
    """``stopping``: the circuits that keep calls from going freely, by target. ``changes`` counts what was applied."""

    __slots__ = ("_ahead", "_digest", "_latest", "changes", "incarnation", "known", "revision", "stopping")

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.stopping: dict[str, Known] = {}
        self.incarnation = 0
        self.revision = 0
        self.changes = 0
        self._ahead: set[int] = set()
        self._latest: dict[str, int] = {}
        self._digest = (-1, "")

    @property
    def has_gap(self) -> bool:
        return bool(self._ahead)

    @property
    def digest(self) -> str:
        """Made once per change."""
        if self._digest[0] != self.changes:
            rows = ((row.target, row.state, row.revision) for row in self.known.values())
            self._digest = (self.changes, digest_of(rows))
        return self._digest[1]

    def is_behind(self, incarnation: int, revision: int, digest: str) -> bool:
        """Whether the registry, at this revision, knows what is not known here."""
        if (incarnation, revision) != (self.incarnation, self.revision):
            return (incarnation, revision) > (self.incarnation, self.revision)
        return digest != self.digest

    def hear(self, body: Mapping[str, Any], now: float) -> bool:
        """Apply a broadcast; False when it is not newer. Raises `BadReply` when it cannot be read."""
        row, incarnation = _row(body, now), _incarnation(body)
        if incarnation < self.incarnation:
            return False
        if incarnation > self.incarnation:
            self._begin(incarnation)
        if row.revision <= self.revision or row.revision in self._ahead:
            return False
        if len(self._ahead) >= MAX_AHEAD:
            return False
        self._ahead.add(row.revision)
        if row.revision > self._latest.get(row.target, 0):
            self._latest[row.target] = row.revision
            self._put(row)
        self._close_up()
        return True

    def load(self, body: Mapping[str, Any], now: float) -> bool:
        """Apply a snapshot; False when it is older than what is known. Raises `BadReply` when it cannot be read."""
        try:
            revision, same, rows = body["revision"], body["same"], [_row(told, now) for told in body["circuits"]]
            incarnation = _incarnation(body)
        except (LookupError, TypeError):
            raise BadReply("the snapshot of the circuits cannot be read") from None
        if type(revision) is not int or (incarnation, revision) < (self.incarnation, self.revision):
            return False
        if incarnation > self.incarnation:
            self._begin(incarnation)
        if not same:
            newer = {target for target, known in self._latest.items() if known > revision}
            kept = {target: row for target, row in self.known.items() if target in newer}
            self.known = {row.target: row for row in rows if row.target not in newer} | kept
            self._refresh()
        self.revision = revision
        self._close_up()
        return True

    def merge(self, rows: Any, body: Mapping[str, Any], now: float) -> None:
        """Apply single circuits from another answer, each if it is newer than what is known of it."""
        if _incarnation(body) != self.incarnation:
            return
        for told in rows if isinstance(rows, list) else ():
            row = _row(told, now)
            known = self.known.get(row.target)
            if row.revision > max(self.revision, self._latest.get(row.target, 0)) or (
                known is not None and row.revision > known.revision
            ):
                self._latest[row.target] = row.revision
                self._put(row)

    def _begin(self, incarnation: int) -> None:
        self.incarnation, self.revision = incarnation, 0
        self._ahead.clear()
        self._latest.clear()

    def _close_up(self) -> None:
        """Move `revision` up to the first that is missing."""
        while self.revision + 1 in self._ahead:
            self.revision += 1
            self._ahead.discard(self.revision)
        if not self._latest or min(self._latest.values()) > self.revision:
            return
        self._ahead = {revision for revision in self._ahead if revision > self.revision}
        self._latest = {target: known for target, known in self._latest.items() if known > self.revision}

    def _put(self, row: Known) -> None:
        if row.state == "closed":
            self.known.pop(row.target, None)
        else:
            self.known[row.target] = row
        self._refresh()

    def _refresh(self) -> None:
        self.stopping = {target: row for target, row in self.known.items() if row.state in _STOPPING}
        self.changes += 1


def _row(told: Mapping[str, Any], now: float) -> Known:
    try:
        target, state, revision, reason = told["target"], told["state"], told["revision"], told["reason"]
        remaining = told["remaining_ms"]
    except (LookupError, TypeError):
        raise BadReply("a circuit cannot be read") from None
    if not (type(target) is type(state) is type(reason) is str and type(revision) is int):
        raise BadReply("a circuit cannot be read")
    return Known(target, state, revision, reason, now + remaining if type(remaining) is int else math.inf)


def _incarnation(body: Mapping[str, Any]) -> int:
    try:
        return int(body["fence"].split(".", 1)[0])
    except (LookupError, AttributeError, ValueError):
        raise BadReply("what the registry says carries no fence") from None
