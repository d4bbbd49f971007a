"""When is a target down? The rules, over the sums of its window.

*Quorum.* A reporter counts as a voice when what it saw itself says so: a rate of its own, or (for the streak) a failure
since anybody's last success. At least `Rule.quorum` voices are needed, and `Rule.quorum_permille` of those who reported
within the window; but never more than there are reporters (within the last minute, not only in the window), so that a
fleet of one can trip. Where the rule allows it, two voices suffice that made a large enough part of all calls. One
reporter among others that succeed trips nothing, however much it reports, even where the others have not yet been heard
of since the window began.

*Stopped.* A process may stop calling a target by itself, ahead of the fleet, and sees nothing of it then. It says so,
and goes on saying so: where reporters that have stopped are a quorum, and such a part of all as the failure rate says
of calls, the circuit opens as by a streak. Each of them has seen a streak of its own. (Otherwise a fleet in which all
have stopped would know too little to open the circuit for all, and each would go on trying for itself.)

*Excluded.* One reporter that alone disagrees with all others, in whichever direction, is left out of the sums: a liar
can neither make the rate look bad nor bury it under successes that nobody else has. It is shown in the status. And
among three reporters or more none is decisive: rates and streaks must hold without the one who has reported most of it,
so that a liar and somebody's bad luck are no quorum.

*Causes.* Time-outs and 5xx follow the rates and the streak. An overloaded target that names a time opens at once, for
that time. 429 is the limiter's matter and counts for nothing here, nor does what the caller gave up. 401, 402 and 403
speak about the key, which is the last segment of the target: they open that alone, nothing above it, and a target of
one segment names no key.

*Ramps.* While only a share of the calls goes, the rules want only that share of the calls that they count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import nsmallest
from typing import Any, Final, NamedTuple

from bursar.contracts.breaker import ALL, MAX_WITNESSES, OUTCOMES, Rule
from bursar.kernel.bugs import seeded
from bursar_breaker import lifecycle, window
from bursar_breaker.bugs import MINIMUM_IGNORED, ONE_DECIDES, SINGLE_TRIPS, STOPPED_UNHEARD
from bursar_breaker.rules import scaled
from bursar_breaker.window import AUTH, FAILING, LOCKED_OUT, SLOW, SLOWED, STOPPED, TOLD, TOLD_OFF, Seen, Window


class Found(NamedTuple):
    """Why a circuit opens, what that rests on (as it is journaled), and the latest moment that it has asked to be left
    alone until."""

    cause: str
    evidence: dict[str, Any]
    retry_until: int = 0


def needed(rule: Rule, active: int, known: int) -> int:
    """How many voices make a quorum among so many reporters in the window, ``known`` in the last minute."""
    if seeded(SINGLE_TRIPS):
        return 1
    share = -(-active * rule.quorum_permille // 1000)
    return max(1, min(max(active, known), max(rule.quorum, share)))


def excluded(seen: Window) -> Seen | None:
    """Who is left out; nobody where one voice is enough for the rule."""
    alone = seen.dissenter
    return None if alone is None or needed(seen.rule, seen.active, seen.known) == 1 else alone


_FAULTS: Final = (FAILING, SLOWED, TOLD_OFF, LOCKED_OUT, STOPPED)
COMPANY: Final = 3
"""Among so many reporters none is decisive, unless the rule takes one for a quorum."""


class _Sums:
    """What is judged: the window without who is excluded, and what the rule wants of it at this share of calls."""

    __slots__ = ("active", "alone", "failed", "failing", "is_company", "made", "minimum", "quorum", "rule", "seen",
                 "stopped", "total", "traffic")  # fmt: skip

    def __init__(self, seen: Window, share: int) -> None:
        rule, alone = seen.rule, excluded(seen)
        self.rule, self.seen, self.total, self.alone = rule, seen, seen.total, alone
        self.active, self.failing, self.traffic = seen.active, seen.voices[FAILING], seen.weight
        self.stopped = seen.voices[STOPPED]
        if alone is not None:
            self.total = [total - one for total, one in zip(seen.total, alone.sums, strict=True)]
            self.active -= 1
            self.failing -= bool(alone.view & FAILING)
            self.stopped -= bool(alone.view & STOPPED)
            self.traffic -= alone.weight
        self.made, self.failed = window.calls(self.total), window.failed(self.total)
        self.quorum = needed(rule, self.active, seen.known)
        self.is_company = self.active >= COMPANY and self.quorum > 1 and not seeded(ONE_DECIDES)
        self.minimum = 1 if seeded(MINIMUM_IGNORED) else scaled(rule.minimum_calls, share)

    def has_quorum(self, voices: int) -> bool:
        if voices >= self.quorum:
            return True
        part = self.rule.quorum_traffic_permille
        return bool(part) and voices >= 2 and self.traffic * 1000 >= part * self.made

    def reaches(self, part: int, rate: int, of: Callable[[Sequence[int]], int]) -> bool:
        """Whether so many of the calls are the rate, and also without the reporter that has most of them."""
        if not (part > 0 and self.made >= self.minimum and part * 1000 >= rate * self.made):
            return False
        if not self.is_company:
            return True
        loudest = max((one.sums for one in self.seen.reporters.values() if one is not self.alone), key=of)
        part, made = part - of(loudest), self.made - window.calls(loudest)
        return part > 0 and part * 1000 >= rate * made

    @property
    def have_stopped(self) -> bool:
        """Whether a quorum, and such a part of the reporters, have stopped by themselves; also but for one of them."""
        one, rate = int(self.is_company), self.rule.failure_permille
        if self.stopped < self.quorum or seeded(STOPPED_UNHEARD):
            return False
        return self.stopped > one and (self.stopped - one) * 1000 >= rate * (self.active - one)

    @property
    def streak(self) -> int:
        """Failures in a row, but for those of the reporter that has most of them."""
        return self.seen.streak - (max(self.seen.streak_of.values(), default=0) if self.is_company else 0)


def judge(seen: Window, *, is_named: bool, names_key: bool, share: int = ALL) -> Found | None:
    """Why the circuit opens now, if it does. ``is_named``: the report was about this very target, not about one
    below it; ``names_key``: its last segment may be a key; ``share``: the part of the calls that go."""
    heard, rule = seen.voices, seen.rule
    loudest = max(*(heard[bit] for bit in _FAULTS), len(seen.streak_of))
    if loudest < needed(rule, seen.active - 1, seen.known - 1) and not rule.quorum_traffic_permille:
        return None  # whoever is left out, there is no quorum
    sums = _Sums(seen, share)
    cause, voices = _cause(sums, is_named, names_key, share)
    if not cause:
        return None
    return Found(cause, {"cause": cause} | _evidence(sums, voices), seen.retry_until)


def _cause(sums: _Sums, is_named: bool, names_key: bool, share: int) -> tuple[str, int]:
    seen, rule, total, voices = sums.seen, sums.rule, sums.total, sums.seen.voices
    if is_named and total[TOLD] and voices[TOLD_OFF] >= sums.quorum:
        return lifecycle.OVERLOAD, voices[TOLD_OFF]
    if sums.has_quorum(sums.failing) and sums.reaches(sums.failed, rule.failure_permille, window.failed):
        return lifecycle.FAILURE_RATE, sums.failing
    if rule.consecutive and len(seen.streak_of) >= sums.quorum and sums.streak >= scaled(rule.consecutive, share):
        return lifecycle.CONSECUTIVE, len(seen.streak_of)
    if rule.consecutive and sums.have_stopped:
        return lifecycle.CONSECUTIVE, sums.stopped
    if voices[SLOWED] >= sums.quorum and sums.reaches(total[SLOW], rule.slow_permille, window.slow):
        return lifecycle.SLOW_RATE, voices[SLOWED]
    if is_named and names_key and voices[LOCKED_OUT] >= sums.quorum and _is_shut(sums):
        return lifecycle.AUTH, voices[LOCKED_OUT]
    return "", 0


def _is_shut(sums: _Sums) -> bool:
    """Nobody has got in: one key of several agents that works for some of them is not the key's fault."""
    least = sums.rule.auth_failures
    return bool(least) and sums.total[AUTH] >= least and window.good(sums.total) == 0


def is_bad(seen: Window, cause: str) -> bool:
    """Whether a window says by itself what something above it is about to open for."""
    made = window.calls(seen.total)
    if cause == lifecycle.CONSECUTIVE:
        return seen.streak > 0 or seen.voices[STOPPED] > 0
    if cause == lifecycle.SLOW_RATE:
        return seen.total[SLOW] > 0 and seen.total[SLOW] * 1000 >= seen.rule.slow_permille * made
    return window.failed(seen.total) * 1000 >= seen.rule.failure_permille * max(1, made)


# ---- what is told of it


def _evidence(sums: _Sums, voices: int) -> dict[str, Any]:
    alone = excluded(sums.seen)
    return {
        "counts": _numbers(sums) | {"voices": voices},
        "causes": {name: count for name, count in zip(OUTCOMES, sums.total, strict=False) if count},
        "witnesses": [list(row) for row in witnesses(sums.seen)],
        "excluded": [] if alone is None else [alone.name],
    }


def witnesses(seen: Window) -> list[tuple[str, int, int, int, str]]:
    """Who has seen what, those with most failures first: name, calls, failed, slow, view; some of them."""
    alone = excluded(seen)
    first = nsmallest(MAX_WITNESSES, seen.reporters.values(), key=lambda one: (-window.failed(one.sums), one.name))
    return [_witness(one, alone) for one in first]


def _witness(one: Seen, alone: Seen | None) -> tuple[str, int, int, int, str]:
    sums = one.sums
    return one.name, window.calls(sums), window.failed(sums), sums[SLOW], _view(one, alone)


def _view(one: Seen, alone: Seen | None) -> str:
    if one is alone:
        return "excluded"
    names = ((STOPPED, "stopped"), (FAILING, "failing"), (SLOWED, "slow"), (LOCKED_OUT, "locked_out"))
    return next((name for bit, name in names if one.view & bit), "fine")


def counted(seen: Window) -> dict[str, int]:
    """The window as it is: calls, failures, slow ones, reporters, voices; and by how the calls ended."""
    sums = _Sums(seen, ALL)
    numbers = _numbers(sums)
    return numbers | {name: count for name, count in zip(OUTCOMES, seen.total, strict=False) if count}


def _numbers(sums: _Sums) -> dict[str, int]:
    return {
        "calls": sums.made,
        "failed": sums.failed,
        "slow": sums.total[SLOW],
        "reporters": sums.active,
        "voices": sums.failing,
        **({"stopped": sums.stopped} if sums.stopped else {}),
    }
