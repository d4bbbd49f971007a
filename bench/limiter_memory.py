"""How many bytes a lease takes in an agent that does nothing with it, and a budget at the authority."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from bench.limiter_budgets import HOT, in_flight, rate
from bursar.client.local import HeldLease
from bursar.client.local_book import Book
from bursar.contracts.limiter import BudgetSpec
from bursar_limiter.budget import Budget

COUNT = 2_000


def bytes_each(make: Callable[[int], Any]) -> float:
    """Traced bytes of one of many."""
    made: list[Any] = [None] * COUNT
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(COUNT):
        made[number] = make(number)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / COUNT


def spec() -> BudgetSpec:
    """Five dimensions."""
    limits: dict[Any, Any] = {
        "requests": rate(4_000, 60_000),
        "input_tokens": rate(400_000, 60_000),
        "output_tokens": rate(80_000, 60_000, charge="production"),
        "concurrent": in_flight(64),
        "usd_micros": rate(25_000_000, 86_400_000, paced=False),
    }
    return BudgetSpec(name="memory", limits=limits)


def memory() -> dict[str, float]:
    """``lease_bytes``: what the hot path has of a lease; ``lease_and_book_bytes``: with the account behind it.
    ``budget_bytes``: without its specification, which is as long as the operator's text."""
    rules, book = spec(), Book(HOT)
    return {
        "lease_bytes": bytes_each(lambda number: HeldLease(book)),
        "lease_and_book_bytes": bytes_each(lambda number: HeldLease(Book(HOT))),
        "budget_bytes": bytes_each(lambda number: Budget(rules, {})),
    }
