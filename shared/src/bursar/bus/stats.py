"""Counts and latencies of one endpoint, cheap enough for every call.

Latencies go into buckets of 1/8 of a power of two (an error of at most 12.5 %), 512 integers in all.
"""

from __future__ import annotations

from typing import Final

from bursar.errors import BursarError

MAX_PRINCIPALS = 1024
"""How many principals violations are counted for one by one; the rest is counted together."""

_BUCKETS = 512

BOUNDS_NS: Final = tuple(
    round(us * 1_000)
    for us in (100, 250, 500, 1e3, 2.5e3, 5e3, 1e4, 2.5e4, 5e4, 1e5, 2.5e5, 5e5, 1e6, 2.5e6, 5e6, 1e7, 3e7)
)
"""Bounds of the histogram that is told: 0.1 ms to 30 s."""


def bucket_of(ns: int) -> int:
    """The bucket of a latency in nanoseconds; grows with the latency."""
    if ns < 8:
        return max(ns, 0)
    shift = ns.bit_length() - 4
    return min((shift << 3) + (ns >> shift), _BUCKETS - 1)


def top_of(bucket: int) -> int:
    """The largest latency in nanoseconds that falls into a bucket."""
    if bucket < 16:
        return bucket
    shift = (bucket >> 3) - 1
    return (((bucket & 7) + 9) << shift) - 1


_LAST: Final = tuple(bucket_of(bound) for bound in BOUNDS_NS)


class EndpointStats:
    """What $SRV.STATS tells about one endpoint. ``open``: accepted and not yet answered."""

    __slots__ = ("_buckets", "bad_reply", "dropped", "last_error", "no_reply", "num_errors", "num_requests", "open",
                 "processing_ns", "undelivered")  # fmt: skip

    def __init__(self) -> None:
        self.num_requests = 0
        self.num_errors = 0
        self.last_error = ""
        self.processing_ns = 0
        self.open = 0
        self.no_reply = 0
        self.bad_reply = 0
        self.dropped = 0
        self.undelivered = 0
        self._buckets = [0] * _BUCKETS

    def answered(self, ns: int) -> None:
        self.open -= 1
        self.processing_ns += ns
        self._buckets[bucket_of(ns)] += 1

    def failed(self, error: BursarError) -> None:
        self.num_errors += 1
        self.last_error = f"{error.status}:{error.code}"

    def percentile(self, permille: int) -> int:
        """Latency in nanoseconds that so many thousandths of the answers did not exceed; 0 without answers."""
        total = sum(self._buckets)
        left = -(-total * permille // 1000)
        for bucket, count in enumerate(self._buckets):
            left -= count
            if count and left <= 0:
                return top_of(bucket)
        return 0

    def histogram(self) -> list[int]:
        """How many answers took no longer than each of `BOUNDS_NS`, and in the end how many there were."""
        found, below, first = [], 0, 0
        for last in _LAST:
            below += sum(self._buckets[first : last + 1])
            found.append(below)
            first = last + 1
        return [*found, below + sum(self._buckets[first:])]

    def data(self) -> dict[str, int]:
        """The free part of the statistics; times in nanoseconds."""
        return {
            "p50_ns": self.percentile(500),
            "p95_ns": self.percentile(950),
            "p99_ns": self.percentile(990),
            "open": self.open,
            "no_reply": self.no_reply,
            "bad_reply": self.bad_reply,
            "dropped": self.dropped,
            "undelivered": self.undelivered,
        }


class Violations:
    """How often each principal broke a rule of the border, by kind; bounded in size."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}

    def add(self, principal: str, kind: str) -> None:
        kinds = self._counts.get(principal)
        if kinds is None:
            if len(self._counts) >= MAX_PRINCIPALS:
                principal = "*"
            kinds = self._counts.setdefault(principal, {})
        kinds[kind] = kinds.get(kind, 0) + 1

    def of(self, principal: str) -> dict[str, int]:
        return dict(self._counts.get(principal, {}))

    def total(self) -> dict[str, int]:
        """Counts by kind, over all principals."""
        sums: dict[str, int] = {}
        for kinds in self._counts.values():
            for kind, count in kinds.items():
                sums[kind] = sums.get(kind, 0) + count
        return sums

    def top(self, count: int = 10) -> dict[str, int]:
        """The principals with the most violations."""
        sums = {principal: sum(kinds.values()) for principal, kinds in self._counts.items()}
        return dict(sorted(sums.items(), key=lambda item: (-item[1], item[0]))[:count])
