"""The budgets of the limiter's benchmark, and the limits that the oracle holds its histories against."""

from __future__ import annotations

from typing import Any, Final

from bench.stack import BUDGET
from bursar.contracts.limiter import BudgetSpec, LimitSpec
from tests.oracle.history import Limit

PLENTY: Final = 10**12
US_PER_MS: Final = 1_000
"""Histories are in microseconds."""


def rate(limit: int, window_ms: int, **more: Any) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=window_ms, **more)


def in_flight(limit: int) -> LimitSpec:
    return LimitSpec(limit=limit, window_ms=0)


def wide(name: str, parent: str | None = None) -> BudgetSpec:
    """Four dimensions that never run out; output is charged as it is produced."""
    limits: dict[Any, Any] = {
        "requests": rate(PLENTY, 1_000),
        "input_tokens": rate(PLENTY, 1_000),
        "output_tokens": rate(PLENTY, 1_000, charge="production"),
        "concurrent": in_flight(10**9),
    }
    return BudgetSpec(
        name=name, parent=parent, limits=limits, utilisation_permille=1_000, burst_permille=1_000, jitter_ms=100,
        send_within_ms=100,
    )  # fmt: skip


# ---- durable decisions: four levels, four dimensions at each of them

PATH: Final = ("org", "org/team", "org/team/agent", "org/team/agent/run")
LEAF: Final = PATH[-1]
TREE: Final = tuple(wide(name, above) for name, above in zip(PATH, (None, *PATH), strict=False))

# ---- a saturated key with two teams below it, and one whose calls want up to all of it. Its pace is a little above the
# usual 92 %: owners are killed meanwhile, and the second in which nobody decides is lost

WINDOW_MS: Final = 10_000
JITTER_MS: Final = 200
SEND_WITHIN_MS: Final = 140
KEY_TOKENS: Final = 120_000
TEAM_TOKENS: Final = 84_000
KEY_REQUESTS: Final = 2_000
CONCURRENT: Final = 64
LARGE_TOKENS: Final = 4_000
LARGE_WINDOW_MS: Final = 2_000


def _saturated(name: str, tokens: int, parent: str | None = None, **limits: LimitSpec) -> BudgetSpec:
    every: dict[Any, Any] = {"input_tokens": rate(tokens, WINDOW_MS), **limits}
    return BudgetSpec(
        name=name, parent=parent, jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=5_000, limits=every,
        utilisation_permille=945,
    )  # fmt: skip


SATURATED: Final = (
    _saturated("key", KEY_TOKENS, requests=rate(KEY_REQUESTS, WINDOW_MS), concurrent=in_flight(CONCURRENT)),
    _saturated("key/a", TEAM_TOKENS, "key"),
    _saturated("key/b", TEAM_TOKENS, "key"),
    BudgetSpec(
        name="large", jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=5_000,
        limits={"input_tokens": rate(LARGE_TOKENS, LARGE_WINDOW_MS)},
    ),
)  # fmt: skip

KEY_LIMIT: Final = Limit("key", "input_tokens", KEY_TOKENS, WINDOW_MS * US_PER_MS)
JUDGED: Final = (
    KEY_LIMIT,
    Limit("key", "requests", KEY_REQUESTS, WINDOW_MS * US_PER_MS),
    Limit("key", "concurrent", CONCURRENT, 0),
    Limit("key/a", "input_tokens", TEAM_TOKENS, WINDOW_MS * US_PER_MS),
    Limit("key/b", "input_tokens", TEAM_TOKENS, WINDOW_MS * US_PER_MS),
    Limit("large", "input_tokens", LARGE_TOKENS, LARGE_WINDOW_MS * US_PER_MS),
)

# ---- what a lease is taken over: a key with four dimensions, and a purse

HOT: Final = "hot"
LEASED: Final = (
    BudgetSpec(name="purse", kind="purse", limits={"usd_micros": LimitSpec(limit=PLENTY, window_ms=0)}),
    BudgetSpec(
        name=HOT, also=("purse",), jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=120_000,
        limits={
            "requests": rate(10**9, WINDOW_MS),
            "input_tokens": rate(PLENTY, WINDOW_MS),
            "output_tokens": rate(PLENTY, WINDOW_MS),
            "concurrent": in_flight(10**6),
        },
    ),
)  # fmt: skip

# ---- two groups that share a budget by halves when both want it

SHARED_TOKENS: Final = 20_000
SHARED_WINDOW_MS: Final = 2_000
SHARED: Final = tuple(
    BudgetSpec(
        name=f"shared-{number}", jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=5_000,
        limits={"input_tokens": rate(SHARED_TOKENS, SHARED_WINDOW_MS)},
    )
    for number in range(3)
)  # fmt: skip

# ---- the load that every peer gets, too

PEER_TOKENS: Final = 1_000
PEER_WINDOW_S: Final = 2
PEER: Final = BudgetSpec(
    name="peer", jitter_ms=JITTER_MS, send_within_ms=SEND_WITHIN_MS, max_ttl_ms=5_000,
    limits={"input_tokens": rate(PEER_TOKENS, PEER_WINDOW_S * 1_000, paced=False)},
)  # fmt: skip
PEER_LIMIT: Final = Limit("peer", "input_tokens", PEER_TOKENS, PEER_WINDOW_S * 1_000_000)

# ---- one budget for each 429

FREEZES: Final = 60


def frozen(number: int) -> str:
    return f"frozen-{number}"


ALL: Final = (
    wide(BUDGET), *TREE, *SATURATED, *LEASED, *SHARED, PEER,
    *(BudgetSpec(name=frozen(number), limits={"requests": rate(1_000, 1_000)}) for number in range(FREEZES)),
)  # fmt: skip
