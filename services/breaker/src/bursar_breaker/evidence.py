"""The windows of all targets that somebody reports on: volatile, bounded, rebuilt from live traffic.

A report on a target counts for it, for everything above it and for its groups, so that a fleet in which each agent has
its own key still sees together that the provider is down. What speaks about the key alone (401, 402, 403) is not passed
on.

Bounds. At most `MAX_TARGETS` windows: the one that was reported of least recently makes room. At most
`MAX_INTRODUCED` of them were brought in by the same reporter, so that one that makes up names drives out nobody else's;
what it reports beyond is dropped and counted. At most `MAX_CELLS` counts of one reporter in one bucket: beyond, new
reporters are counted together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bursar.contracts.breaker import OUTCOMES, Delta, Rule
from bursar.kernel.bugs import seeded
from bursar_breaker.bugs import CLAIM_UNCHECKED
from bursar_breaker.counting import window_of
from bursar_breaker.window import AUTH, COMPANY_MS, NAMELESS, SHUT, SHUT_BELOW, TOLD, Counts, Window

MAX_TARGETS: Final = 4_096
MAX_INTRODUCED: Final = 256
MAX_CELLS: Final = 250_000
SWEEP_MS: Final = 1_000
STRANGE_MS: Final = 2_000
"""For so long after its first report a new owner takes nobody for a fleet of one: it has not heard the others yet."""

_INDEXED: Final = tuple((at, name) for at, name in enumerate(OUTCOMES))


def counts_of(delta: Delta) -> Counts:
    """The counts that are not zero, in the order of `OUTCOMES`."""
    told = delta.__dict__
    found = [(at, told[name]) for at, name in _INDEXED if told[name]]
    if delta.retry_after_ms is not None and delta.overload:
        found.append((TOLD, delta.overload))
    return found


def passed_on(counts: Counts) -> Counts:
    """What a report says about the targets above, and about groups."""
    return [(at, count) for at, count in counts if at not in {AUTH, TOLD}]


def claim_of(delta: Delta, rule: Rule, *, is_named: bool) -> Counts:
    """That its reporter has stopped by itself, if it has seen as many failures in a row as the rule wants of all: the
    rule is the operators', and no agent's."""
    if seeded(CLAIM_UNCHECKED) or 0 < rule.consecutive <= delta.shut:
        return [(SHUT if is_named else SHUT_BELOW, 1)]
    return []


class Windows:
    """Windows by target, the least recently reported first. ``dropped``: deltas that were ignored. ``below``: the
    targets with a window directly below one, by its name. Who was heard of lately is remembered beyond the window, so
    that a target whose window has just begun has no fleet of one. ``began``: when the first report came."""

    __slots__ = ("_brought", "_cells", "_company", "_introduced", "_swept_at", "began", "below", "dropped", "windows")

    def __init__(self) -> None:
        self.windows: dict[str, Window] = {}
        self.below: dict[str, dict[str, None]] = {}
        self._brought: dict[str, str] = {}
        self._company: dict[str, dict[str, int]] = {}
        self._introduced: dict[str, int] = {}
        self.began: int | None = None
        self._cells = 0
        self._swept_at = -SWEEP_MS
        self.dropped = 0

    def __len__(self) -> int:
        return len(self.windows)

    def get(self, target: str) -> Window | None:
        return self.windows.get(target)

    def open(self, target: str, rule_of: Callable[[str], Rule], reporter: str, now: int) -> Window | None:
        """The window of a target, made if need be; None when this reporter has brought in too many."""
        seen = self.windows.pop(target, None)
        if seen is None:
            if self._introduced.get(reporter, 0) >= MAX_INTRODUCED:
                self._sweep(now)
                if self._introduced.get(reporter, 0) >= MAX_INTRODUCED:
                    self.dropped += 1
                    return None
            if len(self.windows) >= MAX_TARGETS:
                self.forget(next(iter(self.windows)))
            self._bring(target, reporter)
            seen = window_of(rule_of(target), self._company_of(target, now))
        self.windows[target] = seen
        return seen

    def _bring(self, target: str, reporter: str) -> None:
        self._brought[target] = reporter
        self._introduced[reporter] = self._introduced.get(reporter, 0) + 1
        above, _, _ = target.rpartition("/")
        if above:
            self.below.setdefault(above, {})[target] = None

    def _company_of(self, target: str, now: int) -> dict[str, int]:
        """Who was heard of lately; at first somebody without a name."""
        self.began = now if self.began is None else self.began
        if len(self._company) > 2 * MAX_TARGETS:
            self._company = {name: people for name, people in self._company.items() if name in self._brought}
        strangers = {NAMELESS: self.began + STRANGE_MS - COMPANY_MS} if now < self.began + STRANGE_MS else {}
        return self._company.setdefault(target, strangers)

    def note(self, seen: Window, now: int, reporter: str, counts: Counts) -> None:
        if self._cells >= MAX_CELLS:
            self._cells -= seen.advance(now)
            self._sweep(now)
        before = seen.cells
        seen.note(now, reporter, counts, has_room=self._cells < MAX_CELLS)
        self._cells += seen.cells - before

    def look(self, target: str, now: int) -> Window | None:
        """The window as it is at this time."""
        seen = self.windows.get(target)
        if seen is not None:
            self._cells -= seen.advance(now)
        return seen

    def forget(self, target: str) -> None:
        seen = self.windows.pop(target, None)
        if seen is None:
            return
        self._cells -= seen.cells
        reporter = self._brought.pop(target)
        self._introduced[reporter] -= 1
        if not self._introduced[reporter]:
            del self._introduced[reporter]
        above, _, _ = target.rpartition("/")
        if above:
            del self.below[above][target]
            if not self.below[above]:
                del self.below[above]

    def clear(self) -> None:
        for target in list(self.windows):
            self.forget(target)

    def _sweep(self, now: int) -> None:
        """Forget windows that nothing was reported to for their whole length; not too often, for it looks at all."""
        if now - self._swept_at < SWEEP_MS:
            return
        self._swept_at = now
        idle = [target for target, seen in self.windows.items() if now - seen.seen_at > seen.idle_ms]
        for target in idle:
            self.forget(target)

    def validate(self, now: int) -> None:
        assert len(self.windows) <= MAX_TARGETS
        assert self._brought.keys() == self.windows.keys()
        assert sum(self._introduced.values()) == len(self.windows)
        assert self._cells == sum(seen.cells for seen in self.windows.values()), "cells"
        assert {name for names in self.below.values() for name in names} == {n for n in self.windows if "/" in n}
        for seen in self.windows.values():
            assert seen.seen_at <= now
            seen.validate()
