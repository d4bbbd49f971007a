"""Chance from a counter: the same seed and number give the same draw, so that a state needs to keep only the number.

SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014): good enough to choose workers and to spread retries, and
not meant for anything that has to be unpredictable.
"""

from __future__ import annotations

from typing import Final

_MASK: Final = (1 << 64) - 1
_STEP: Final = 0x9E3779B97F4A7C15
SEED: Final = 0x6275727361720001


def draw(number: int, below: int) -> int:
    """A number from 0 to ``below`` - 1 (below at most 2**32), the same for the same ``number``."""
    mixed = (SEED + number * _STEP) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    mixed ^= mixed >> 31
    return (mixed >> 32) * below >> 32


MAX_PAUSE_MS: Final = 300_000


def pause_of(backoff_ms: int, failures: int, order: int) -> int:
    """The pause after so many failures (1 or more) in ms: doubling, at most five minutes, 20 % either way."""
    full = min(MAX_PAUSE_MS, backoff_ms << min(failures - 1, 20))
    return full * (800 + draw(order * 128 + failures, 401)) // 1000
