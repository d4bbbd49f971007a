"""Is this instance alive, and is it of use? Plain values, noted by the event loop and read by HTTP threads.

*Alive*: the event loop has turned within the last seconds. *Ready*: connected, and owner or standby, with a journal
that moves (an owner writes at least every ten seconds, and a standby reads that).
"""

from __future__ import annotations

from typing import Any, Final

STALLED_MS: Final = 5_000
COMMIT_MS: Final = 30_000
"""A journal in which nothing has moved for so long is out of reach."""

READY: Final = frozenset({"owner", "standby"})


class Health:
    """What the event loop last noted; times in ms of the monotonic clock."""

    def __init__(self, now: int) -> None:
        self._turned_at = now
        self._moved_at: int | None = None
        self._sequence = 0
        self.role = "loading"
        self.is_connected = False

    def note(self, now: int, role: str, is_connected: bool, sequence: int) -> None:
        self._turned_at = now
        self.role = role
        self.is_connected = is_connected
        if sequence != self._sequence:
            self._sequence, self._moved_at = sequence, now

    def is_alive(self, now: int) -> bool:
        return now - self._turned_at < STALLED_MS

    def last_commit_age(self, now: int) -> int | None:
        """Milliseconds since an entry of the journal was written or read here; None when none was."""
        return None if self._moved_at is None else max(0, now - self._moved_at)

    def is_ready(self, now: int) -> bool:
        moved = self.last_commit_age(now)
        fresh = moved is not None and moved < COMMIT_MS
        return self.is_alive(now) and self.is_connected and self.role in READY and fresh

    def facts(self, now: int) -> dict[str, Any]:
        return {
            "ready": self.is_ready(now),
            "alive": self.is_alive(now),
            "role": self.role,
            "connected": self.is_connected,
            "last_commit_age_ms": self.last_commit_age(now),
        }
