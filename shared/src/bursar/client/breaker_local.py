"""What this process sees itself, for when the registry is away.

The rule is simple on purpose: so many failures in a row of one target shut it, for a time that grows each time, and an
overloaded target is left alone for as long as it asks. When the time is over one call at a time tries it. What the
registry said last holds until its time; then this process tries by itself, one call at a time, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from bursar.client.breaker_view import Known
from bursar.contracts.breaker import Outcome

FAILURES: Final = 5
OPEN_MS: Final = 1_000.0
MAX_OPEN_MS: Final = 30_000.0
MAX_RETRY_AFTER_MS: Final = 600_000.0
TRIAL_MS: Final = 30_000.0
MAX_TARGETS: Final = 4_096
BAD: Final = frozenset({"timeout", "error", "overload"})
GOOD: Final = frozenset({"ok", "slow"})


class Shut(NamedTuple):
    """``until``: local ms; ``opened``: times in a row; ``busy_until``: a trial is under way until then at most."""

    until: float
    opened: int
    busy_until: float = 0.0


class LocalEvidence:
    """Streaks of failures by target, and what they have shut."""

    __slots__ = ("_streaks", "shut", "well")

    def __init__(self) -> None:
        self._streaks: dict[str, int] = {}
        self.shut: dict[str, Shut] = {}
        self.well: set[tuple[str, int]] = set()

    def note(self, target: str, outcome: Outcome, now: float, retry_after_ms: float | None, *, alone: bool) -> bool:
        """How a call ended; ``alone``: the registry is away. True when the target is shut now and was not."""
        if outcome in GOOD:
            self._streaks.pop(target, None)
            self.shut.pop(target, None)
            return False
        if outcome not in BAD:
            return False
        streak = self._streaks.pop(target, 0) + 1
        if len(self._streaks) >= MAX_TARGETS:
            del self._streaks[next(iter(self._streaks))]
        self._streaks[target] = streak
        if not alone or not (streak >= FAILURES or retry_after_ms):
            return False
        asked = now + min(retry_after_ms or 0.0, MAX_RETRY_AFTER_MS)
        self._close_for(target, now, asked, is_new=streak >= FAILURES)
        return True

    def _close_for(self, target: str, now: float, asked: float, *, is_new: bool) -> None:
        before = self.shut.get(target)
        if before is not None and now < before.until:  # calls that were under way already
            self.shut[target] = before._replace(until=max(before.until, asked))
            return
        opened = (0 if before is None else before.opened) + is_new
        own = now + min(MAX_OPEN_MS, OPEN_MS * 2.0 ** (min(opened, 16) - 1)) if opened else now
        if len(self.shut) >= MAX_TARGETS:
            del self.shut[next(iter(self.shut))]
        self.shut[target] = Shut(max(asked, own), opened)

    def inherit(self, known: Known, now: float) -> None:
        """The registry's last word, whose time is over: from now on it is tried here."""
        if (known.target, known.revision) not in self.well and known.target not in self.shut:
            self.shut[known.target] = Shut(now, 1)

    def in_the_way(self, names: Iterable[str], now: float) -> tuple[str, float] | None:
        """What must not be called now and until when, if anything."""
        for name in names:
            shut = self.shut.get(name)
            if shut is not None and now < max(shut.until, shut.busy_until):
                return name, max(shut.until, shut.busy_until)
        return None

    def begin_trial(self, names: Iterable[str], now: float) -> tuple[str, ...]:
        """One call may go: those that it tries. Ask `in_the_way` before."""
        tried = tuple(name for name in names if name in self.shut)
        for name in tried:
            self.shut[name] = self.shut[name]._replace(busy_until=now + TRIAL_MS)
        return tried

    def end_trial(self, tried: Iterable[str], outcome: Outcome | None, now: float, known: dict[str, Known]) -> None:
        for name in tried:
            shut = self.shut.get(name)
            if shut is None:
                continue
            if outcome in GOOD:
                del self.shut[name]
                if name in known:
                    self.well.add((name, known[name].revision))
            elif outcome in BAD:
                self.shut[name] = shut._replace(busy_until=0.0)
                self._close_for(name, max(now, shut.until), now, is_new=True)
            else:
                self.shut[name] = shut._replace(busy_until=0.0)

    def forget(self) -> None:
        """The registry is back: its word counts."""
        self.shut.clear()
        self.well.clear()
