"""The window by count: the last calls to a target, however old.

What was reported stands in a line, in the order of arrival; a report leaves it when the younger ones alone make up the
number that the rule names. So the window holds that many calls, and at most one report's more. Calls that say nothing
about the target (429, given up) take no place of their own, and go with what stands before them; the line has a length
of its own, so that a flood of them fills no memory.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from bursar.contracts.breaker import Rule
from bursar.kernel.bugs import seeded
from bursar_breaker.bugs import LINE_STAYS
from bursar_breaker.window import AUTH, SIZE, Counts, Seen, Window, calls

IDLE_MS: Final = 3_600_000
"""A window that nobody reports to for so long may be forgotten when room is needed."""
SLACK: Final = 64


class CountWindow(Window):
    """``size``: calls in the line."""

    __slots__ = ("_line", "size")

    def __init__(self, rule: Rule, company: dict[str, int] | None = None) -> None:
        super().__init__(rule, company)
        self._line: deque[tuple[Seen, list[int], int]] = deque()
        self.size = 0

    @property
    def idle_ms(self) -> int:
        return IDLE_MS

    def note(self, now: int, reporter: str, counts: Counts, *, has_room: bool = True) -> None:
        """As in `Window`; without room the oldest report leaves."""
        self._meet(reporter, now)
        if not has_room and self._line:
            self._drop_first()
        seen, cell = self._reporter(reporter), [0] * SIZE
        self._add(seen, cell, counts)
        size = calls(cell) + cell[AUTH]
        self._line.append((seen, cell, size))
        self.size += size
        self.cells += 1
        most = self.rule.window_calls + seeded(LINE_STAYS)
        while self.size - self._line[0][2] >= most or self.cells > 2 * most + SLACK:
            self._drop_first()

    def advance(self, now: int) -> int:
        """Time takes nothing away."""
        return 0

    def _drop_first(self) -> None:
        seen, cell, size = self._line.popleft()
        self.size -= size
        self._take_away(seen, cell)


def window_of(rule: Rule, company: dict[str, int] | None = None) -> Window:
    """An empty window as the rule wants it."""
    return CountWindow(rule, company) if rule.window_calls else Window(rule, company)
