"""The window from scratch: every report is kept, and everything is added up anew whenever somebody asks."""

from __future__ import annotations

from typing import NamedTuple

from bursar.contracts.breaker import Rule


class Seen(NamedTuple):
    at: int
    who: str
    counts: dict[str, int]


class Sums(NamedTuple):
    total: dict[str, int]
    reporters: int
    failing: int
    slowed: int


class Oracle:
    """``rule`` as in the registry; a bucket is a tenth of the window, ten of them count, the present one included."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.reports: list[Seen] = []

    def note(self, at: int, who: str, **counts: int) -> None:
        self.reports.append(Seen(at, who, counts))

    def sums(self, now: int) -> Sums:
        length = self.rule.window_ms // 10
        recent = [seen for seen in self.reports if seen.at // length > now // length - 10]
        people = sorted({seen.who for seen in recent})
        each = {who: _add(seen.counts for seen in recent if seen.who == who) for who in people}
        failing = [who for who in people if self._is_part(_bad(each[who]), each[who], self.rule.failure_permille)]
        slowed = [who for who in people if self._is_part(each[who].get("slow", 0), each[who], self.rule.slow_permille)]
        active = [who for who in people if _calls(each[who]) + each[who].get("auth", 0)]
        return Sums(_add(seen.counts for seen in recent), len(active), len(failing), len(slowed))

    def _is_part(self, part: int, counts: dict[str, int], permille: int) -> bool:
        return part > 0 and 1000 * part >= permille * _calls(counts)


def _add(counts: object) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:  # type: ignore[attr-defined]
        for name, count in one.items():
            total[name] = total.get(name, 0) + count
    return {name: count for name, count in total.items() if count}


def _bad(counts: dict[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("timeout", "error", "overload"))


def _calls(counts: dict[str, int]) -> int:
    return _bad(counts) + counts.get("ok", 0) + counts.get("slow", 0)
