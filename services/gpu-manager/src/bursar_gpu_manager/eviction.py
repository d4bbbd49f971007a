"""Making somebody give memory back, and believing only what the card says.

::

    ask -> sleep -> kill -> quarantine        each has its time; at any of them:  -> freed

An engine is asked to unload, then put to sleep, then killed; after each the device's own figures decide: freed is when
at least 95 % of what was observed of it is gone. An answer of "done" is no proof (vLLM has answered 200 and kept its
memory), and a failed observation is none either: the time runs on, nothing is taken for free. What is not back after a
kill is quarantined: it stays charged, nothing is placed on its account, and an operator is told. It leaves quarantine
by itself when the memory comes back after all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

Step = Literal["ask", "sleep", "kill", "quarantine", "freed"]

NEXT: Final[Mapping[Step, Step]] = {"ask": "sleep", "sleep": "kill", "kill": "quarantine"}
TIME_MS: Final[Mapping[str, int]] = {"ask": 5_000, "sleep": 10_000, "kill": 10_000}
"""So long each step has before the next one, unless it is set."""

FREED_PERCENT: Final = 95


class Eviction(NamedTuple):
    """``expected``: bytes observed of it when it began. ``until``: when the next step follows; 0: none does."""

    key: str
    expected: int
    step: Step
    until: int

    @property
    def is_over(self) -> bool:
        return self.step == "freed"


def begin(key: str, expected: int, now: int, times: Mapping[str, int] = TIME_MS) -> Eviction:
    """Nothing observed is nothing to wait for. ``times``: of each step, as `TIME_MS`."""
    if expected <= 0:
        return Eviction(key, 0, "freed", 0)
    return Eviction(key, expected, "ask", now + times["ask"])


def advance(eviction: Eviction, observed: int | None, now: int, times: Mapping[str, int] = TIME_MS) -> Eviction:
    """What follows from an observation (None: unknown) and from the time; the same one when nothing does."""
    if eviction.step == "freed":
        return eviction
    if observed is not None and is_freed(eviction.expected, observed):
        return eviction._replace(step="freed", until=0)
    if eviction.step == "quarantine" or now < eviction.until:
        return eviction
    step = NEXT[eviction.step]
    return eviction._replace(step=step, until=now + times[step] if step in times else 0)


def is_freed(expected: int, observed: int) -> bool:
    """Whether 95 % or more of what was expected is back."""
    return (expected - observed) * 100 >= expected * FREED_PERCENT
