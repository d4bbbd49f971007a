"""One append that has not been settled yet."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from bursar.kernel.desk import Batch
from bursar.kernel.effects import Inspection
from bursar.kernel.fold import Head

CONFLICT_CODES: Final = frozenset({10071, 10164})
"""JetStream's "wrong last sequence": 10071 with the number, 10164 on replicated streams, without one."""


class Phase(Enum):
    """Where an attempt stands: a recovery looks around and stores its base before it appends."""

    INSPECT = auto()
    BASE = auto()
    APPEND = auto()


class Attempt:
    """What was asked to be appended, where, and what to do when it has landed.

    ``token`` stays the same over repetitions: any acknowledgement of any of them settles the attempt. For a recovery:
    ``left`` is what it found in the journal, ``base_data`` what it stores first, ``head`` what its entry follows.
    ``is_full``: the journal had no room for it. ``may_land``: one that was sent has no known outcome, so that the entry
    may be in the journal already.
    """

    __slots__ = (
        "base_data", "batch", "expected", "head", "id", "is_full", "kind", "left",
        "may_land", "payload", "phase", "retries", "retry_at", "sent_at", "token",
    )  # fmt: skip

    def __init__(
        self, token: int, kind: str, entry_id: bytes, payload: bytes, expected: int, batch: Batch | None, sent_at: int
    ) -> None:
        self.token = token
        self.kind = kind
        self.id = entry_id
        self.payload = payload
        self.expected = expected
        self.batch = batch
        self.sent_at = sent_at
        self.retries = 0
        self.retry_at: int | None = None
        self.left: Inspection | None = None
        self.base_data = b""
        self.phase = Phase.APPEND
        self.head: Head | None = None
        self.is_full = False
        self.may_land = False

    def back_off(self, mono: int, first_ms: int, most_ms: int) -> None:
        """Have it repeated after a wait that doubles."""
        self.retry_at = mono + min(most_ms, first_ms << min(self.retries, 10))
        self.retries += 1
