"""What the fleet has to do: arrivals of requests with their sizes, from a recorded trace or from a generator.

The recorded one is the Azure LLM inference trace of 2023 (Splitwise, ISCA 2024): a CSV with TIMESTAMP, ContextTokens
and GeneratedTokens. The generator makes arrivals with the same published statistics when there is no file: 8,819
requests, inter-arrival times with a coefficient of variation of about 13 (long bursts, long silences), the quantiles of
both token counts.
"""

from __future__ import annotations

import csv
import itertools
import math
import random
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

REQUESTS: Final = 8_819
SPAN_S: Final = 3_436.0
CONTEXT_QUANTILES: Final = ((0.0, 3), (0.10, 147), (0.25, 578), (0.50, 1469), (0.75, 2744), (0.90, 5186), (0.99, 7436), (1.0, 7437))  # fmt: skip  # noqa: E501
GENERATED_QUANTILES: Final = ((0.0, 6), (0.10, 7), (0.25, 9), (0.50, 13), (0.75, 24), (0.90, 55), (0.95, 90), (0.98, 169), (0.99, 249), (1.0, 450))  # fmt: skip  # noqa: E501
_COLUMNS: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MAX_TOKENS: Final = 10_000_000


class BadTrace(ValueError):
    """A trace that cannot be used; the text names the file and the line."""


class Arrival(NamedTuple):
    """One request: when it comes (s after the first), its prompt and its answer in tokens."""

    at: float
    context_tokens: int
    generated_tokens: int


def read_azure(path: Path) -> list[Arrival]:
    """The arrivals of an Azure CSV, in order of time. Raises `BadTrace`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if rows.fieldnames is None or not set(_COLUMNS) <= set(rows.fieldnames):
                raise BadTrace(f"{path}: line 1: wants the columns {', '.join(_COLUMNS)}")
            found = [_row(path, number, row) for number, row in enumerate(rows, 2)]
    except (OSError, UnicodeDecodeError) as error:
        raise BadTrace(f"{path}: cannot be read: {error}") from error
    if not found:
        raise BadTrace(f"{path}: has no requests")
    found.sort()
    first = found[0].at
    return [arrival._replace(at=arrival.at - first) for arrival in found]


def _row(path: Path, number: int, row: dict[str, str]) -> Arrival:
    try:
        # seven digits of a second's fraction are more than Python reads
        moment = datetime.fromisoformat(row["TIMESTAMP"].strip()[:26]).timestamp()
        context, generated = int(row["ContextTokens"]), int(row["GeneratedTokens"])
    except (ValueError, TypeError, AttributeError) as error:
        raise BadTrace(f"{path}: line {number}: {error}") from None
    if not (0 <= context <= _MAX_TOKENS and 0 <= generated <= _MAX_TOKENS):
        raise BadTrace(f"{path}: line {number}: token counts must lie between 0 and {_MAX_TOKENS}")
    return Arrival(moment, context, generated)


def generate(seed: int, requests: int = REQUESTS, span_s: float = SPAN_S) -> list[Arrival]:
    """Arrivals with the statistics of the Azure code trace; the same seed gives the same ones.

    Bursts of requests a few tens of milliseconds apart, and heavy-tailed pauses between the bursts.
    """
    draw = random.Random(seed)
    gaps = [_gap(draw) for _ in range(requests - 1)]
    scale = span_s / sum(gaps)
    moment, arrivals = 0.0, []
    for gap in [0.0, *gaps]:
        moment += gap * scale
        context = _from_quantiles(CONTEXT_QUANTILES, draw.random())
        generated = _from_quantiles(GENERATED_QUANTILES, draw.random())
        arrivals.append(Arrival(moment, context, generated))
    return arrivals


def _gap(draw: random.Random) -> float:
    """Mostly short and exponential; one in 150 is a pause, lognormal with a heavy tail, at most 220 s."""
    if draw.random() < 1 / 150:
        return min(220.0, draw.lognormvariate(math.log(20.0), 1.35))
    return draw.expovariate(1 / 0.12)


def _from_quantiles(table: Sequence[tuple[float, int]], share: float) -> int:
    """The value at a share of a distribution that is given by some of its quantiles; straight lines between."""
    for (low, at_low), (high, at_high) in itertools.pairwise(table):
        if share <= high:
            return round(at_low + (at_high - at_low) * (share - low) / (high - low))
    return table[-1][1]


def scaled(arrivals: Sequence[Arrival], duration_s: float) -> list[Arrival]:
    """The same arrivals in another time, so that the last one comes after ``duration_s``."""
    span = arrivals[-1].at - arrivals[0].at
    factor = duration_s / span if span > 0 else 0.0
    return [arrival._replace(at=(arrival.at - arrivals[0].at) * factor) for arrival in arrivals]
