"""When is a target down? The rules, over the sums of its window.

*Quorum.* A reporter counts as a voice when what it saw itself says so: a rate of its own, or (for the streak) a failure
since anybody's last success. At least `Rule.quorum` voices are needed, and `Rule.quorum_permille` of those who reported
within the window; but never more than there are reporters, so that a fleet of one can trip. One reporter among others
that succeed trips nothing, however much it reports.

*Causes.* Time-outs and 5xx follow the rates and the streak. An overloaded target that names a time opens at once, for
that time. 429 is the limiter's matter and counts for nothing here, nor does what the caller gave up. 401, 402 and 403
speak about the key, which is the last segment of the target: they open that alone, nothing above it, and a target of
one segment names no key.
"""

from __future__ import annotations

from typing import NamedTuple

from bursar.contracts.breaker import Rule
from bursar.kernel.bugs import seeded
from bursar_breaker import lifecycle, window
from bursar_breaker.bugs import SINGLE_TRIPS
from bursar_breaker.window import AUTH, FAILING, LOCKED_OUT, SLOW, SLOWED, TOLD, TOLD_OFF, Window


class Evidence(NamedTuple):
    """What an opening rests on: calls that count, failures among them, slow ones, reporters, voices."""

    calls: int
    failed: int
    slow: int
    reporters: int
    voices: int


def needed(rule: Rule, active: int) -> int:
    """How many voices make a quorum among so many reporters."""
    if seeded(SINGLE_TRIPS):
        return 1
    share = -(-active * rule.quorum_permille // 1000)
    return max(1, min(active, max(rule.quorum, share)))


def judge(seen: Window, *, is_named: bool, names_key: bool) -> tuple[str, Evidence] | None:
    """Why the circuit opens now, if it does. ``is_named``: the report was about this very target, not about one
    below it; ``names_key``: its last segment may be a key."""
    rule, total = seen.rule, seen.total
    quorum = needed(rule, seen.active)
    made, failed = window.calls(total), window.failed(total)
    cause, voices = "", 0
    if is_named and total[TOLD] and seen.counts[TOLD_OFF] >= quorum:
        cause, voices = lifecycle.OVERLOAD, seen.counts[TOLD_OFF]
    elif failed and seen.counts[FAILING] >= quorum and _fails(seen, made, failed):
        cause, voices = lifecycle.FAILURE_RATE, seen.counts[FAILING]
    elif rule.consecutive and seen.streak >= rule.consecutive and len(seen.streak_of) >= quorum:
        cause, voices = lifecycle.CONSECUTIVE, len(seen.streak_of)
    elif total[SLOW] and seen.counts[SLOWED] >= quorum and _drags(seen, made):
        cause, voices = lifecycle.SLOW_RATE, seen.counts[SLOWED]
    elif is_named and names_key and seen.counts[LOCKED_OUT] >= quorum and _is_shut(seen):
        cause, voices = lifecycle.AUTH, seen.counts[LOCKED_OUT]
    if not cause:
        return None
    return cause, Evidence(made, failed, total[SLOW], seen.active, voices)


def _fails(seen: Window, made: int, failed: int) -> bool:
    return made >= seen.rule.minimum_calls and failed * 1000 >= seen.rule.failure_permille * made


def _drags(seen: Window, made: int) -> bool:
    return made >= seen.rule.minimum_calls and seen.total[SLOW] * 1000 >= seen.rule.slow_permille * made


def _is_shut(seen: Window) -> bool:
    """Nobody has got in: one key of several agents that works for some of them is not the key's fault."""
    least = seen.rule.auth_failures
    return bool(least) and seen.total[AUTH] >= least and window.good(seen.total) == 0
