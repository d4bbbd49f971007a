"""The table of answered requests, part of the folded state.

A request is named by ``(principal, request id)``. While it is in the table a retry gets the same answer, and the same
id with other content is refused. Requests carry a watermark: the answers of that session up to a number have arrived,
so they are dropped, and a late copy of such a request is turned away rather than decided once more: messages may
overtake one another on the way through a cluster. For clients that never acknowledge, age (2 minutes) and count (10,000
a principal) bound the table.

Everything here is a function of what was recorded, in order, so that a replay rebuilds the same table.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from bursar.kernel.decider import Fence

MAX_AGE_MS: Final = 120_000
MAX_PER_PRINCIPAL: Final = 10_000
MAX_SESSIONS: Final = 1_000
"""Watermarks remembered per principal, for as long as it has an answer in the table."""


class Answered(NamedTuple):
    """``digest`` of the request's content, the fence it was decided under, the packed reply, when (decider ms)."""

    digest: bytes
    fence: Fence
    reply: bytes
    time: int


_HEAD: Final = struct.Struct("<QQQQB")
_HEAD_SIZE: Final = _HEAD.size
_read_head = _HEAD.unpack_from
_write_head = _HEAD.pack


def _pack(digest: bytes, fence: Fence, reply: bytes, time: int) -> bytes:
    """An answer as it is kept: one object of bytes, of which the table holds hundreds of thousands. Half the memory
    of a tuple, and nothing for the garbage collection and little for the fork of a snapshot to do."""
    incarnation, epoch, number = fence
    return _write_head(time, incarnation, epoch, number, len(digest)) + digest + reply


def _read(packed: bytes) -> Answered:
    """What `_pack` wrote."""
    time, incarnation, epoch, number, size = _read_head(packed)
    at = _HEAD_SIZE + size
    return Answered(packed[_HEAD_SIZE:at], (incarnation, epoch, number), packed[at:], time)


def _time_of(packed: bytes) -> int:
    return int.from_bytes(packed[:8], "little")


class _Answers:
    """One principal's answers. They are forgotten from the oldest on, whatever the reason, so that ``order`` and
    ``by_id`` always hold the same ids. ``acked``: the watermark of each session."""

    __slots__ = ("acked", "by_id", "latest", "order")

    def __init__(self) -> None:
        self.acked: dict[str, int] = {}
        self.by_id: dict[str, bytes] = {}
        self.order: deque[str] = deque()
        self.latest = -1

    def forget_oldest(self) -> None:
        del self.by_id[self.order.popleft()]


class IdempotencyTable:
    """Answered requests by principal; see the module's text for what bounds it."""

    def __init__(self, max_age_ms: int = MAX_AGE_MS, max_per_principal: int = MAX_PER_PRINCIPAL) -> None:
        self._max_age = max_age_ms
        self._max_count = max_per_principal
        self._principals: dict[str, _Answers] = {}
        self._by_age: deque[tuple[int, str]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, principal: str, request_id: str) -> Answered | None:
        answers = self._principals.get(principal)
        packed = answers.by_id.get(request_id) if answers is not None else None
        return None if packed is None else _read(packed)

    def is_acked(self, principal: str, request_id: str) -> bool:
        """Whether the caller has said that the answer to this request has arrived."""
        answers = self._principals.get(principal)
        if answers is None or not answers.acked:
            return False
        session, dash, number = request_id.rpartition("-")
        return bool(dash) and int(number) <= answers.acked.get(session, 0)

    def record(
        self, principal: str, request_id: str, acked: int, digest: bytes, fence: Fence, reply: bytes, time: int
    ) -> None:
        """Remember the answer (see `Answered`) to a request that is not in the table, and forget what the watermark,
        the count and the age say may go."""
        answers = self._principals.get(principal)
        if answers is None:
            answers = self._principals[principal] = _Answers()
        if acked:
            self._forget_acked(answers, request_id, acked)
        if len(answers.order) >= self._max_count:
            answers.forget_oldest()
            self._count -= 1
        answers.by_id[request_id] = _pack(digest, fence, reply, time)
        answers.order.append(request_id)
        self._count += 1
        if answers.latest != time:  # one place in the queue for all that this principal was told at that time
            answers.latest = time
            by_age = self._by_age
            by_age.append((time, principal))
            if by_age[0][0] <= time - self._max_age or len(by_age) > 1024 + 4 * self._count:
                self._forget_old(time)

    def _forget_acked(self, answers: _Answers, request_id: str, acked: int) -> None:
        """Note the watermark, and drop from the oldest on; an answer of another session in between ends the sweep."""
        session = request_id.rpartition("-")[0]
        marks = answers.acked
        if acked > marks.get(session, 0):
            if len(marks) >= MAX_SESSIONS and session not in marks:
                del marks[next(iter(marks))]
            marks[session] = acked
        while answers.order:
            oldest, _, number = answers.order[0].rpartition("-")
            if not oldest or oldest != session or int(number) > acked:
                return
            answers.forget_oldest()
            self._count -= 1

    def _forget_old(self, now: int) -> None:
        by_age, oldest_kept = self._by_age, now - self._max_age
        while by_age and by_age[0][0] <= oldest_kept:
            principal = by_age.popleft()[1]
            answers = self._principals.get(principal)
            if answers is None:
                continue
            while answers.order and _time_of(answers.by_id[answers.order[0]]) <= oldest_kept:
                answers.forget_oldest()
                self._count -= 1
            if not answers.order:
                del self._principals[principal]
        # what left by watermark or count is still in this queue: make it anew when most of it is such
        if len(by_age) > 1024 + 4 * self._count:
            self._by_age = self._ages()

    def _ages(self) -> deque[tuple[int, str]]:
        principals = self._principals.items()
        return deque(sorted({(_time_of(packed), p) for p, answers in principals for packed in answers.by_id.values()}))

    def dump(self) -> list[Any]:
        return [
            [
                principal,
                [[request_id, answers.by_id[request_id]] for request_id in answers.order],
                list(answers.acked.items()),
            ]
            for principal, answers in sorted(self._principals.items())
            if answers.order
        ]

    @classmethod
    def load(
        cls, value: Any, max_age_ms: int = MAX_AGE_MS, max_per_principal: int = MAX_PER_PRINCIPAL
    ) -> IdempotencyTable:
        table = cls(max_age_ms, max_per_principal)
        for principal, rows, marks in value:
            answers = table._principals[principal] = _Answers()
            answers.acked.update(marks)
            for request_id, packed in rows:
                answers.by_id[request_id] = bytes(packed)
                answers.order.append(request_id)
            answers.latest = _time_of(answers.by_id[answers.order[-1]])
            table._count += len(answers.order)
        table._by_age = table._ages()
        return table

    def __iter__(self) -> Iterator[tuple[str, str, Answered]]:
        for principal, answers in self._principals.items():
            for request_id, packed in answers.by_id.items():
                yield principal, request_id, _read(packed)
