"""The order of the dimensions in every tuple of amounts, and what each is called in a sentence."""

from __future__ import annotations

from collections.abc import Iterable

from bursar.contracts.limiter import DIMENSIONS, Amounts, Usage

REQUESTS, INPUT, OUTPUT, CONCURRENT, MONEY, TOTAL, BYTES = range(7)

INDEX = {name: index for index, name in enumerate(DIMENSIONS)}

WORDS = (
    "requests",
    "input tokens",
    "output tokens",
    "calls in flight",
    "micro-dollars",
    "tokens in and out",
    "bytes on the network",
)

Quantities = tuple[int, int, int, int, int, int, int]
"""One amount per dimension, in the order of `DIMENSIONS`."""

NOTHING: Quantities = (0, 0, 0, 0, 0, 0, 0)


def as_quantities(values: Iterable[int]) -> Quantities:
    r, i, o, c, u, t, b = values
    return (r, i, o, c, u, t, b)


def from_amounts(given: Amounts) -> Quantities:
    tokens_in, tokens_out = given.input_tokens, given.output_tokens
    total = given.total_tokens or tokens_in + tokens_out
    return (given.requests, tokens_in, tokens_out, given.concurrent, given.usd_micros, total, given.network_bytes)


def from_usage(given: Usage) -> Quantities:
    """Usage has no concurrency: a call that has ended is not in flight."""
    tokens_in, tokens_out = given.input_tokens, given.output_tokens
    total = given.total_tokens or tokens_in + tokens_out
    return (given.requests, tokens_in, tokens_out, 0, given.usd_micros, total, given.network_bytes)
