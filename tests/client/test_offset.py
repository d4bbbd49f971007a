"""The deadline on the agent's clock is never later than the true one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.client.offset import DRIFT, FRESH_MS, KEPT, EpochOffset, Offsets

pytestmark = pytest.mark.property

ms = st.floats(min_value=0.0, max_value=5_000.0, allow_nan=False)
exchange = st.tuples(ms, ms, ms)
"""ms since the last one, ms to the limiter, ms back"""


class Clocks:
    """Two clocks; true time is the agent's. The limiter's runs ``drift`` faster and shows whole milliseconds."""

    def __init__(self, offset: float, drift: float) -> None:
        self.offset = offset
        self.drift = drift

    def limiter(self, local: float) -> float:
        return (local - 1e6) * (1.0 + self.drift) + self.offset

    def local(self, limiter: float) -> float:
        return (limiter - self.offset) / (1.0 + self.drift) + 1e6

    def shown(self, local: float) -> int:
        return int(self.limiter(local) // 1)


@given(
    st.lists(exchange, min_size=1, max_size=20),
    st.floats(min_value=2e6, max_value=1e10),
    st.floats(min_value=-DRIFT / 2, max_value=DRIFT / 2),
    st.integers(min_value=0, max_value=60_000),
)
def test_a_permit_never_counts_as_good_after_its_true_deadline(
    exchanges: list[tuple[float, float, float]], offset: float, drift: float, within: int
) -> None:
    """Whatever the delays, pauses, offsets and drifts: at the true deadline and after it the permit is void."""
    clocks, known, local = Clocks(offset, drift), EpochOffset(), 1e6
    for gap, there, back in exchanges:
        sent = local + gap
        granted = clocks.shown(sent + there)
        local = sent + there + back
        known.learn(sent, granted)
        send_by = granted + within
        now = max(local, clocks.local(send_by))
        assert known.deadline(send_by, now) <= now + 0.001


@given(st.floats(min_value=2e6, max_value=1e10), st.floats(min_value=0.0, max_value=5.0), st.integers(10, 1_000), ms)
def test_with_a_quick_answer_nearly_all_the_time_is_left(offset: float, trip: float, within: int, wait: float) -> None:
    """The deadline is early by the way to the limiter and 1 to 2 ms of rounding, also for a grant after a wait."""
    clocks, known = Clocks(offset, 0.0), EpochOffset()
    known.learn(1e6, clocks.shown(1e6 + trip))
    granted_local = 1e6 + trip + wait
    send_by = clocks.shown(granted_local) + within
    left = known.deadline(send_by, granted_local + trip) - (granted_local + trip)
    assert left >= within - 2 * trip - 2.0 - DRIFT * (wait + 2 * trip) - 0.001


@given(st.lists(exchange, min_size=2, max_size=10), st.randoms())
def test_the_order_in_which_answers_arrive_does_not_matter(
    exchanges: list[tuple[float, float, float]], random: object
) -> None:
    """The best bound is kept, whichever exchange it came from."""
    clocks = Clocks(5e6, 0.0)
    samples, local = [], 1e6
    for gap, there, back in exchanges:
        samples.append((local + gap, clocks.shown(local + gap + there)))
        local += gap + there + back
    one, other = EpochOffset(), EpochOffset()
    for sample in samples:
        one.learn(*sample)
    random.shuffle(samples)  # type: ignore[attr-defined]
    for sample in samples:
        other.learn(*sample)
    assert one.bound(local) == other.bound(local)


def test_a_quick_exchange_replaces_a_slow_one_and_not_the_reverse() -> None:
    """The largest bound is the best."""
    known = EpochOffset()
    known.learn(1_000.0, 5_900)
    known.learn(2_000.0, 6_001)
    known.learn(3_000.0, 7_900)
    assert known.deadline(6_302, 3_000.0) == pytest.approx(2_300.0 - DRIFT * 1_000.0)


def test_without_an_exchange_every_permit_is_void() -> None:
    """No bound is known: nothing may be sent."""
    assert EpochOffset().deadline(10**12, 0.0) == float("-inf")


def test_an_old_bound_is_not_fresh_and_loses_its_worth() -> None:
    """Clocks drift: after an hour a bound is worth seconds less."""
    known = EpochOffset()
    known.learn(1_000.0, 500)
    assert known.is_fresh(1_000.0 + FRESH_MS)
    assert not known.is_fresh(1_001.0 + FRESH_MS)
    assert known.bound(1_000.0) - known.bound(3_601_000.0) == pytest.approx(3_600.0)


def test_each_epoch_has_a_clock_of_its_own() -> None:
    """A take-over sets the limiter's time back: bounds do not cross epochs, and only the latest are kept."""
    offsets = Offsets()
    offsets.of((1, 1)).learn(1_000.0, 500)
    assert offsets.of((1, 2)).bound(1_000.0) == float("-inf")
    assert offsets.of((1, 1)).bound(1_000.0) == pytest.approx(499.0)
    for epoch in range(3, 3 + KEPT):
        offsets.of((1, epoch)).learn(1_000.0, 500)
    assert offsets.of((1, 1)).bound(1_000.0) == float("-inf")
