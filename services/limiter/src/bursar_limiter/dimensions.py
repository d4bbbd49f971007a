"""The order of the dimensions in every tuple of amounts, and what each is called in a sentence."""

from __future__ import annotations

from bursar.contracts.limiter import DIMENSIONS, Amounts, Usage

REQUESTS, INPUT, OUTPUT, CONCURRENT, MONEY = range(5)

INDEX = {name: index for index, name in enumerate(DIMENSIONS)}

WORDS = ("requests", "input tokens", "output tokens", "calls in flight", "micro-dollars")

Quantities = tuple[int, int, int, int, int]
"""One amount per dimension, in the order of `DIMENSIONS`."""


def from_amounts(amounts: Amounts) -> Quantities:
    return (amounts.requests, amounts.input_tokens, amounts.output_tokens, amounts.concurrent, amounts.usd_micros)


def from_usage(usage: Usage) -> Quantities:
    """Usage has no concurrency: a call that has ended is not in flight."""
    return (usage.requests, usage.input_tokens, usage.output_tokens, 0, usage.usd_micros)
