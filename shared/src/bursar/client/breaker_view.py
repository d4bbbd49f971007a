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
from bursar.contracts.breaker import ALL, digest_of

MAX_AHEAD: Final = 10_000
_KEPT: Final = 64
_digests: dict[int, str] = {}
"""By what a view holds, as a number (`View._mark`)."""

_STOPPING: Final = frozenset({"open", "half_open", "forced_open"})
_FREE: Final = frozenset({"forced_closed", "disabled", "metrics_only"})


class Known(NamedTuple):
    """One circuit that is not closed. ``until``: local ms at which its state is over (inf: none is known).
    ``share``: thousandths of the calls that may go while it recovers."""

    target: str
    state: str
    revision: int
    reason: str
    until: float
    share: int = ALL


class View:
    """By target: ``known``, all that are not closed; of these ``stopping``, which keep calls from going freely,
    ``partly``, which let a share of them go, and ``free``, where nothing that is seen may stop calls. ``changes``
    counts what was applied; ``told`` are the targets that it was about, until somebody takes them."""

    __slots__ = (
        *("_ahead", "_latest", "_mark", "changes", "free", "incarnation", "known", "partly", "revision", "stopping"),
        "told",
    )

    def __init__(self) -> None:
        self.known: dict[str, Known] = {}
        self.stopping: dict[str, Known] = {}
        self.partly: dict[str, Known] = {}
        self.free: dict[str, Known] = {}
        self.told: list[str] = []
        self.incarnation = 0
        self.revision = 0
        self.changes = 0
        self._ahead: set[int] = set()
        self._latest: dict[str, int] = {}
        self._mark = 0

    @property
    def has_gap(self) -> bool:
        return bool(self._ahead)

    @property
    def digest(self) -> str:
        """Made once for all views of a process that know the same."""
        found = _digests.get(self._mark)
        if found is None:
            found = digest_of((row.target, row.state, row.revision) for row in self.known.values())
            if len(_digests) >= _KEPT:
                del _digests[next(iter(_digests))]
            _digests[self._mark] = found
        return found

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
            before, self.known = self.known, {row.target: row for row in rows if row.target not in newer} | kept
            self._refresh(before)
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
        before = self.known.pop(row.target, None)
        if before is not None:
            self._mark ^= hash((before.target, before.state, before.revision))
        if row.state != "closed":
            self.known[row.target] = row
            self._mark ^= hash((row.target, row.state, row.revision))
        self._sort(row)

    def _sort(self, row: Known) -> None:
        target, state = row.target, row.state
        for names, belongs in (
            (self.stopping, state in _STOPPING),
            (self.partly, state == "ramping" and row.share < ALL),
            (self.free, state in _FREE),
        ):
            if belongs:
                names[target] = row
            else:
                names.pop(target, None)
        self.told.append(target)
        self.changes += 1

    def _refresh(self, before: Mapping[str, Known]) -> None:
        """After all was replaced."""
        self._mark = 0
        for row in self.known.values():
            self._mark ^= hash((row.target, row.state, row.revision))
        for target, row in before.items():
            if target not in self.known:
                self._sort(row._replace(state="closed"))
        for target, row in self.known.items():
            if before.get(target) != row:
                self._sort(row)


def _row(told: Mapping[str, Any], now: float) -> Known:
    try:
        target, state, revision, reason = told["target"], told["state"], told["revision"], told["reason"]
        remaining = told["remaining_ms"]
    except (LookupError, TypeError):
        raise BadReply("a circuit cannot be read") from None
    if not (type(target) is type(state) is type(reason) is str and type(revision) is int):
        raise BadReply("a circuit cannot be read")
    share = told.get("share")
    until = now + remaining if type(remaining) is int else math.inf
    return Known(target, state, revision, reason, until, share if type(share) is int else ALL)


def _incarnation(body: Mapping[str, Any]) -> int:
    try:
        return int(body["fence"].split(".", 1)[0])
    except (LookupError, AttributeError, ValueError):
        raise BadReply("what the registry says carries no fence") from None
