"""What this process sees itself: it may shut a target here ahead of the fleet, and goes by it while the registry is
away.

The rule is simple on purpose: so many failures in a row of one target shut it, for a time that grows each time. When
the time is over one call at a time tries it. Who has stopped says so to the registry, again and again (`claims`): it
sees nothing of the target any more, and that must not look as if all were well. Whatever the registry says of a circuit
replaces what was seen here of it and below it. While the registry is away its last word holds until its time; then this
process tries by itself, one call at a time, too, and leaves an overloaded target alone for as long as that asks.
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
    """``until``: local ms; ``opened``: times in a row; ``busy_until``: a trial is under way until then at most;
    ``streak``: failures in a row that it rests on (0: on something else)."""

    until: float
    opened: int
    busy_until: float = 0.0
    streak: int = 0


class LocalEvidence:
    """Streaks of failures by target, and what they have shut."""

    __slots__ = ("_streaks", "shut", "well")

    def __init__(self) -> None:
        self._streaks: dict[str, int] = {}
        self.shut: dict[str, Shut] = {}
        self.well: set[tuple[str, int]] = set()

    def note(
        self, target: str, outcome: Outcome, now: float, retry_after_ms: float | None, needed: int, *, alone: bool
    ) -> bool:
        """How a call ended; ``needed``: so many failures in a row shut it here (0: none do); ``alone``: the registry is
        away. True when something is shut now, or no more."""
        if outcome in GOOD:
            if self._streaks:
                self._streaks.pop(target, None)
            return bool(self.shut) and self.shut.pop(target, None) is not None
        if outcome not in BAD:
            return False
        streak = self._streaks.pop(target, 0) + 1
        if len(self._streaks) >= MAX_TARGETS:
            del self._streaks[next(iter(self._streaks))]
        self._streaks[target] = streak
        if not needed or not (streak >= needed or (alone and retry_after_ms)):
            return False  # what an overloaded target asks for the registry tells all, this process too
        asked = now + min(retry_after_ms or 0.0, MAX_RETRY_AFTER_MS)
        self._close_for(target, now, asked, streak if streak >= needed else 0, is_new=streak >= needed)
        return True

    def _close_for(self, target: str, now: float, asked: float, streak: int, *, is_new: bool) -> None:
        before = self.shut.get(target)
        if before is not None and now < before.until:  # calls that were under way already
            self.shut[target] = before._replace(until=max(before.until, asked), streak=max(before.streak, streak))
            return
        opened = (0 if before is None else before.opened) + is_new
        own = now + min(MAX_OPEN_MS, OPEN_MS * 2.0 ** (min(opened, 16) - 1)) if opened else now
        if len(self.shut) >= MAX_TARGETS:
            del self.shut[next(iter(self.shut))]
        self.shut[target] = Shut(max(asked, own), opened, 0.0, streak)

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

    def claims(self, now: float) -> dict[str, int]:
        """What is not called now because of failures in a row, and how many they are."""
        rows = self.shut.items()
        return {target: row.streak for target, row in rows if row.streak and now < max(row.until, row.busy_until)}

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
                self._close_for(name, max(now, shut.until), now, shut.streak, is_new=True)
            else:
                self.shut[name] = shut._replace(busy_until=0.0)

    def drop(self, circuits: Iterable[str]) -> None:
        """The registry has said something of these: what was seen here of them and below them is over."""
        if not self.shut:
            return
        for circuit in circuits:
            below = circuit + "/"
            for target in [name for name in self.shut if name == circuit or name.startswith(below)]:
                del self.shut[target]
                self._streaks.pop(target, None)

    def forget(self) -> None:
        """The registry is back: its word counts."""
        self.shut.clear()
        self.well.clear()
