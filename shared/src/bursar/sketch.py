"""A quantile sketch: what part of all answers was at most so long, in bounded memory, with a bounded error.

It is DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error
guarantees", VLDB 2019). A value x > 0 is counted in the bucket i = ceil(log_g x), that is g^(i-1) < x <= g^i, with
g = (1 + a) / (1 - a). Every x of bucket i differs from 2·g^i / (g + 1) by at most a·x. Buckets are intervals in
order, so the bucket that holds the q-quantile of the counts holds the q-quantile of the values: whatever the
distribution, the answer is within a of the truth. Adding two sketches of the same a bucket by bucket is exactly the
sketch of all their values: merging costs no accuracy.

The number of buckets is bounded because values are: at most `LARGEST` tokens, about 900 buckets at 1 %, and only those
that hold something are stored. So none has ever to be collapsed, and the guarantee needs no condition.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

LARGEST: Final = 1 << 26
"""Values above count as this one: no answer is that long."""

ACCURACY: Final = 0.01


class Sketch:
    """Counts of non-negative integers. ``accuracy``: the largest relative error of a quantile (0 to 1, exclusive)."""

    __slots__ = ("_buckets", "_log_gamma", "accuracy", "count", "zeros")

    def __init__(self, accuracy: float = ACCURACY) -> None:
        if not 0.0 < accuracy < 1.0:
            raise ValueError("the accuracy lies between 0 and 1")
        self.accuracy = accuracy
        self._log_gamma = math.log((1.0 + accuracy) / (1.0 - accuracy))
        self._buckets: dict[int, int] = {}
        self.zeros = 0
        self.count = 0

    def __len__(self) -> int:
        """Number of buckets that hold something."""
        return len(self._buckets) + (self.zeros > 0)

    def add(self, value: int, times: int = 1) -> None:
        """Count a value; below zero counts as zero."""
        if times <= 0:
            return
        self.count += times
        if value <= 0:
            self.zeros += times
            return
        index = math.ceil(math.log(min(value, LARGEST)) / self._log_gamma)
        self._buckets[index] = self._buckets.get(index, 0) + times

    def merge(self, other: Sketch) -> None:
        """Count all that another has counted. Raises `ValueError` when its accuracy is another."""
        if other.accuracy != self.accuracy:
            raise ValueError("only sketches of the same accuracy can be merged")
        self.count += other.count
        self.zeros += other.zeros
        for index, times in other._buckets.items():
            self._buckets[index] = self._buckets.get(index, 0) + times

    def quantile(self, q: float) -> float:
        """The value that a part ``q`` (0 to 1) of all is not above, within `accuracy`; 0.0 when nothing was counted.

        Precisely: an estimate of the k-th smallest value, k = max(1, ceil(q·count)).
        """
        index = self._bucket_at(q)
        if index is None:
            return 0.0
        gamma = math.exp(self._log_gamma)
        return 2.0 * math.exp(index * self._log_gamma) / (gamma + 1.0)

    def bound(self, q: float) -> int:
        """The smallest integer that is certainly not below that value, and at most 2·accuracy/(1 - accuracy) above."""
        index = self._bucket_at(q)
        if index is None:
            return 0
        return math.ceil(math.exp(index * self._log_gamma) * (1.0 - 1e-12))  # its rounding errors are below 1e-13

    def _bucket_at(self, q: float) -> int | None:
        """The bucket of that value; None: it is zero, or there is none."""
        if not 0.0 <= q <= 1.0:
            raise ValueError("a quantile lies between 0 and 1")
        rank = max(1, math.ceil(q * self.count))
        rank -= self.zeros
        if rank <= 0 or not self._buckets:
            return None
        for index in sorted(self._buckets):
            rank -= self._buckets[index]
            if rank <= 0:
                return index
        return max(self._buckets)

    def entries(self) -> Iterator[tuple[int, int]]:
        """Its buckets as (index, count), in order; the zeros are beside them."""
        yield from sorted(self._buckets.items())


def merged(sketches: Iterable[Sketch], accuracy: float = ACCURACY) -> Sketch:
    """One sketch of all that these have counted."""
    whole = Sketch(accuracy)
    for sketch in sketches:
        whole.merge(sketch)
    return whole
