"""Fleets of the limiter's simulation, and their load: how many agents, under which budgets, asking for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bursar.contracts.limiter import BudgetSpec, LimitSpec
from tests.oracle.history import Limit, Path

WINDOW_MS: Final = 4_000
JITTER_MS: Final = 300
SEND_WITHIN_MS: Final = 180
US: Final = 1_000
"""The history is in microseconds: a wrong order within a millisecond would be the judge's mistake."""


@dataclass(frozen=True)
class Shape:
    """A fleet and its load. ``budgets``: what each agent may call under (drawn by its number). ``largest``: the part of
    calls that want the whole limit. ``think``: mean seconds between the calls of an agent; ``call``: the longest call;
    ``ttl``: that of a reservation, in seconds, too. ``output``: the most output that a call reserves; the provider
    charges it as it is produced. ``lines``: calls that an agent makes at the same time; with many it is a holder of
    leases."""

    agents: int = 60
    seconds: float = 16.0
    specs: tuple[BudgetSpec, ...] = ()
    limits: tuple[Limit, ...] = ()
    budgets: tuple[tuple[str, Path], ...] = ()
    tokens: int = 120
    largest: float = 0.004
    think: float = 0.5
    wait: float = 20.0
    call: float = 0.3
    ttl: float = 1.5
    output: int = 0
    lines: int = 1


def flat(
    requests: int, tokens: int, concurrent: int, paced: bool = True, window_ms: int = WINDOW_MS, **shape: Any
) -> Shape:
    """One budget for all; not ``paced``: all that a window has may go at once."""
    limits: dict[Any, Any] = {
        "requests": LimitSpec(limit=requests, window_ms=window_ms, paced=paced),
        "input_tokens": LimitSpec(limit=tokens, window_ms=window_ms, paced=paced),
        "concurrent": LimitSpec(limit=concurrent, window_ms=0),
    }
    spec = BudgetSpec(
        name="key/main", limits=limits, jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=8_000
    )
    judged = (
        Limit("key/main", "requests", requests, window_ms * US),
        Limit("key/main", "input_tokens", tokens, window_ms * US),
        Limit("key/main", "concurrent", concurrent, 0),
    )
    return Shape(specs=(spec,), limits=judged, budgets=(("key/main", ("key/main",)),), **shape)


def teams(tokens: int, output: int, concurrent: int, **shape: Any) -> Shape:
    """An organisation with two teams, each of which may have more than half of it: limits at both levels, on tokens in
    (charged as they come), tokens out (charged as they are produced) and calls in flight."""
    specs, judged = [], []
    for name, above, part in (("org", None, 10), ("org/a", "org", 7), ("org/b", "org", 6)):
        limits: dict[Any, Any] = {
            "input_tokens": LimitSpec(limit=tokens * part // 10, window_ms=WINDOW_MS),
            "output_tokens": LimitSpec(limit=output * part // 10, window_ms=WINDOW_MS, charge="production"),
            "concurrent": LimitSpec(limit=concurrent * part // 10, window_ms=0),
        }
        spec = BudgetSpec(name=name, parent=above, limits=limits, jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS)
        specs.append(spec)
        judged += [
            Limit(name, "input_tokens", limits["input_tokens"].limit, WINDOW_MS * US),
            Limit(name, "output_tokens", limits["output_tokens"].limit, WINDOW_MS * US),
            Limit(name, "concurrent", limits["concurrent"].limit, 0),
        ]
    below = (("org/a", ("org", "org/a")), ("org/b", ("org", "org/b")))
    return Shape(specs=tuple(specs), limits=tuple(judged), budgets=below, output=200, **shape)


SMALL: Final = flat(requests=120, tokens=8_000, concurrent=20, think=0.15)
TIGHT: Final = flat(requests=24, tokens=3_000, concurrent=6, agents=24, largest=0.03, think=0.3)
LARGE: Final = flat(
    requests=2_400, tokens=120_000, concurrent=400, agents=1_000, seconds=8.0, think=2.0, largest=0.0005
)
BURSTY: Final = flat(requests=60, tokens=4_500, concurrent=60, paced=False, agents=40, think=0.1, call=1.2, ttl=2.5)
WHOLE: Final = flat(
    requests=30, tokens=3_000, concurrent=30, paced=False, window_ms=1_000, agents=8, largest=0.5, think=0.05, wait=60.0
)
TEAMS: Final = teams(tokens=8_000, output=6_000, concurrent=30, think=0.2, call=0.8, ttl=2.5)
HOLDERS: Final = flat(
    requests=800, tokens=40_000, concurrent=60, agents=8, lines=12, seconds=8.0, think=0.02, call=0.15, largest=0.0
)
LEASED: Final = flat(
    requests=480, tokens=28_000, concurrent=60, paced=False, agents=6, lines=10, seconds=7.0, think=0.02, call=0.1,
    largest=0.0, wait=0.0,
)  # fmt: skip
"""Nobody stands in line, so most permits are taken from leases."""
SHAPES: Final = (SMALL, TIGHT, BURSTY, WHOLE, TEAMS, HOLDERS, LEASED)
