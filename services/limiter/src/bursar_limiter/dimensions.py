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

made = tuple.__new__
"""Makes a named tuple of all its values, for hot paths: its own constructor is a function in Python, and takes twice as
long."""


def as_quantities(values: Iterable[int]) -> Quantities:
    r, i, o, c, u, t, b = values
    return (r, i, o, c, u, t, b)


def from_amounts(given: Amounts) -> Quantities:
    """On the hot path, as the next: a model's dictionary is read faster than its attributes."""
    of = given.__dict__
    tokens_in, tokens_out = of["input_tokens"], of["output_tokens"]
    total = of["total_tokens"] or tokens_in + tokens_out
    return (of["requests"], tokens_in, tokens_out, of["concurrent"], of["usd_micros"], total, of["network_bytes"])


def from_usage(given: Usage) -> Quantities:
    """Usage has no concurrency: a call that has ended is not in flight."""
    of = given.__dict__
    tokens_in, tokens_out = of["input_tokens"], of["output_tokens"]
    total = of["total_tokens"] or tokens_in + tokens_out
    return (of["requests"], tokens_in, tokens_out, 0, of["usd_micros"], total, of["network_bytes"])
