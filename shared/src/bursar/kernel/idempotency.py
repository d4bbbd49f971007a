"""The table of answered requests, part of the folded state.

A request is named by ``(principal, request id)``. While it is in the table a retry gets the same answer, and the same
id with other content is refused. Requests carry a watermark: the answers of that session up to a number have arrived,
so they are dropped. For clients that never do, age (2 minutes) and count (10,000 a principal) bound the table.

Everything here is a function of what was recorded, in order, so that a replay rebuilds the same table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bursar.kernel.decider import Fence

MAX_AGE_MS: Final = 120_000
MAX_PER_PRINCIPAL: Final = 10_000


class Answered(NamedTuple):
    """``digest`` of the request's content, the fence it was decided under, the packed reply, when (decider ms)."""

    digest: bytes
    fence: Fence
    reply: bytes
    time: int


Key = tuple[str, int]
"""(session, number) of a request id ``session-number``; a bare word is its own session, number 0."""


def parse_id(request_id: str) -> Key:
    session, dash, number = request_id.rpartition("-")
    return (session, int(number)) if dash else (number, 0)


class IdempotencyTable:
    """Answered requests by principal; see the module's text for what bounds it."""

    def __init__(self, max_age_ms: int = MAX_AGE_MS, max_per_principal: int = MAX_PER_PRINCIPAL) -> None:
        self._max_age = max_age_ms
        self._max_count = max_per_principal
        self._principals: dict[str, dict[Key, Answered]] = {}
        self._by_age: deque[tuple[int, str, Key]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, principal: str, request_id: str) -> Answered | None:
        table = self._principals.get(principal)
        return table.get(parse_id(request_id)) if table else None

    def record(self, principal: str, request_id: str, acked: int, answer: Answered) -> None:
        """Remember an answer, and forget what the watermark, the age and the count say may go."""
        key = parse_id(request_id)
        table = self._principals.setdefault(principal, {})
        if acked:
            self._forget_acked(table, key[0], acked)
        if len(table) >= self._max_count and key not in table:
            del table[next(iter(table))]
            self._count -= 1
        self._count += key not in table
        table[key] = answer
        self._by_age.append((answer.time, principal, key))
        self._forget_old(answer.time)

    def _forget_acked(self, table: dict[Key, Answered], session: str, acked: int) -> None:
        """Drop from the oldest on; answers of other sessions in between end the sweep and leave by age."""
        while table:
            first = next(iter(table))
            if first[0] != session or first[1] > acked:
                return
            del table[first]
            self._count -= 1

    def _forget_old(self, now: int) -> None:
        by_age = self._by_age
        while by_age and by_age[0][0] + self._max_age <= now:
            time, principal, key = by_age.popleft()
            table = self._principals.get(principal)
            if table is None:
                continue
            known = table.get(key)
            if known is not None and known.time == time:
                del table[key]
                self._count -= 1
            if not table:
                del self._principals[principal]
        # what the watermark dropped leaves stale places in the queue: rebuild when most are
        if len(by_age) > 1024 and len(by_age) > 4 * self._count:
            self._by_age = deque(self._ages())

    def _ages(self) -> list[tuple[int, str, Key]]:
        rows = [(a.time, p, k) for p, table in self._principals.items() for k, a in table.items()]
        rows.sort()
        return rows

    def dump(self) -> list[Any]:
        return [
            [principal, [[*key, *answer] for key, answer in table.items()]]
            for principal, table in sorted(self._principals.items())
            if table
        ]

    @classmethod
    def load(
        cls, value: Any, max_age_ms: int = MAX_AGE_MS, max_per_principal: int = MAX_PER_PRINCIPAL
    ) -> IdempotencyTable:
        table = cls(max_age_ms, max_per_principal)
        for principal, rows in value:
            table._principals[principal] = {
                (session, number): Answered(bytes(digest), tuple(fence), bytes(reply), time)
                for session, number, digest, fence, reply, time in rows
            }
        table._by_age = deque(table._ages())
        table._count = len(table._by_age)
        return table

    def __iter__(self) -> Iterator[tuple[str, Key, Answered]]:
        for principal, table in self._principals.items():
            for key, answer in table.items():
                yield principal, key, answer
