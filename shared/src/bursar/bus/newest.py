"""Protection of signed broadcasts against replay: a listener takes each once, and none that is older than another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

SUBJECTS: Final = 4_096
"""How many subjects a listener keeps in mind."""
SAID_AT_ONCE: Final = 64
"""Different broadcasts with one fence on one subject: what one decision may say there."""


class Newest:
    """Takes each broadcast once, and none that is older than what was heard on its subject: what somebody has recorded
    and says again is signed as well as it was then.

    By the fence in the signed body, which never goes back. One for each listener, since those of a process share a
    `Verifier`. What this listener has never heard, being young, it cannot know to be old: whoever acts on a broadcast
    gives it an end, and asks the service for what holds now.
    """

    def __init__(self) -> None:
        self._heard: dict[str, tuple[tuple[int, ...], set[bytes]]] = {}

    def admits(self, subject: str, payload: bytes, body: Mapping[str, Any]) -> bool:
        """Whether this is news. ``body``: what a `Verifier` has opened ``payload`` to."""
        fence = _order(body.get("fence"))
        newest, said = self._heard.pop(subject, ((), set()))
        if fence > newest:
            newest, said = fence, set()
        is_news = fence == newest and payload not in said and len(said) < SAID_AT_ONCE
        if is_news:
            said.add(payload)
        if len(self._heard) >= SUBJECTS:
            self._heard.pop(next(iter(self._heard)))
        self._heard[subject] = (newest, said)
        return is_news


def _order(fence: Any) -> tuple[int, ...]:
    """Incarnation, epoch and number of a sealed fence; the lowest for what is none."""
    parts = str(fence).split(".")[:3]
    return tuple(map(int, parts)) if len(parts) == 3 and all(part.isdecimal() for part in parts) else (0,)
