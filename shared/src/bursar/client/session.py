"""Names for requests: ``<session>-<number>``, and the watermark that lets the service forget.

The session is drawn anew for every connection of every process, so that no restart ever uses a name twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable


def new_session() -> str:
    return secrets.token_hex(8)


class Session:
    """Counts requests and knows up to where all are answered (or given up for good)."""

    __slots__ = ("_ended", "_next", "acked", "name")

    def __init__(self, name: str = "", make_name: Callable[[], str] = new_session) -> None:
        self.name = name or make_name()
        self.acked = 0
        self._next = 1
        self._ended: set[int] = set()

    def begin(self) -> int:
        """The number of a new request."""
        number = self._next
        self._next = number + 1
        return number

    def end(self, number: int) -> None:
        """That request will not be sent again; moves the watermark when all before it have ended too."""
        if number != self.acked + 1:
            if number > self.acked:
                self._ended.add(number)
            return
        self.acked = number
        ended = self._ended
        while ended and self.acked + 1 in ended:
            self.acked += 1
            ended.discard(self.acked)

    def id_of(self, number: int) -> str:
        return f"{self.name}-{number}"
