"""The quantile sketch: its error is bounded for whatever was counted, merging costs nothing, and so is its size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.sketch import LARGEST, Sketch, merged

VALUES = st.lists(st.one_of(st.integers(0, 4_000), st.integers(0, LARGEST)), min_size=1, max_size=200)
QUANTILES = st.floats(0.0, 1.0)


def sketch_of(values: list[int], accuracy: float = 0.01) -> Sketch:
    sketch = Sketch(accuracy)
    for value in values:
        sketch.add(value)
    return sketch


def exact(values: list[int], q: float) -> int:
    return sorted(values)[max(1, math.ceil(q * len(values))) - 1]


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(VALUES, QUANTILES, st.sampled_from([0.001, 0.01, 0.05]))
def test_every_quantile_is_within_the_accuracy(values: list[int], q: float, accuracy: float) -> None:
    """The guarantee of DDSketch, against the sorted list; and `bound` is never below it."""
    sketch, truth = sketch_of(values, accuracy), exact(values, q)
    assert abs(sketch.quantile(q) - truth) <= accuracy * truth * (1 + 1e-9)
    bound = sketch.bound(q)
    assert truth <= bound <= truth * (1 + accuracy) / (1 - accuracy) + 1


@pytest.mark.property
@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_merged_sketches_are_the_sketch_of_all(parts: list[list[int]]) -> None:
    """Bucket by bucket: merging costs no accuracy, in whatever order."""
    together = sketch_of([value for part in parts for value in part])
    for order in (parts, parts[::-1]):
        whole = merged(sketch_of(part) for part in order)
        assert list(whole.entries()) == list(together.entries())
        assert (whole.count, whole.zeros) == (together.count, together.zeros)


def test_the_size_is_bounded_for_whatever_comes() -> None:
    """No value is above `LARGEST`: at 1 % there are never more than about 900 buckets."""
    sketch = Sketch()
    for exponent in range(4_000):
        sketch.add(int(1.01 ** (exponent / 2)))
    assert len(sketch) <= math.log(LARGEST) / math.log(1.01 / 0.99) + 2


def test_nothing_counted_is_nothing() -> None:
    """An empty sketch, zeros, and what is below zero."""
    assert Sketch().quantile(0.5) == 0.0
    assert Sketch().bound(1.0) == 0
    assert sketch_of([0, -3, 0]).bound(1.0) == 0
    sketch = Sketch()
    sketch.add(5, 0)
    assert sketch.count == 0


def test_wrong_arguments_are_refused() -> None:
    """Accuracies and quantiles are between 0 and 1; sketches of another accuracy cannot be merged."""
    for accuracy in (0.0, 1.0, -0.1):
        with pytest.raises(ValueError, match="accuracy"):
            Sketch(accuracy)
    with pytest.raises(ValueError, match="quantile"):
        sketch_of([1]).quantile(1.1)
    with pytest.raises(ValueError, match="same accuracy"):
        Sketch(0.01).merge(Sketch(0.02))
