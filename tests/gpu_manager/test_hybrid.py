"""When the CPU should help with attention, and when it is what an engine waits for."""

from __future__ import annotations

import math

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar_gpu_manager.hybrid import (
    Half,
    Layer,
    cpu_part_needed,
    dispatch,
    gpu_only_rate,
    neo_wins,
    pipelined_rate,
    splitting_wins,
    threshold,
)
from bursar_gpu_manager.throttling import Throttle, Window

TABLE = [(0.5, 7.5, 13.33), (1.0, 6.0, 16.67), (math.sqrt(2), 5.828, 17.16), (1.5, 5.833, 17.14)]


@pytest.mark.parametrize(("ratio", "below", "part"), TABLE)
def test_the_table_of_thresholds_is_reproduced(ratio: float, below: float, part: float) -> None:
    """N_G / N_C below it, and the part of the GPU that the CPU must reach."""
    assert round(threshold(ratio), 3) == below
    assert round(100 * cpu_part_needed(ratio), 2) == part


def test_the_threshold_is_never_below_its_minimum() -> None:
    """3 + 2 * sqrt(2), at sqrt(2)."""
    assert min(threshold(step / 100) for step in range(1, 1_000)) >= 3 + 2 * math.sqrt(2) - 1e-9
    assert threshold(0.0) == math.inf


@given(*[st.floats(0.01, 100) for _ in range(4)])
@pytest.mark.property
def test_the_inequality_is_what_the_two_rates_say(linear: float, attention: float, gpu: float, cpu: float) -> None:
    """Splitting wins exactly if the split does more per unit of time."""
    layer = Layer(linear, attention, gpu, cpu)
    alone, split = gpu_only_rate(layer), pipelined_rate(layer)
    if not math.isclose(alone, split, rel_tol=1e-9):
        assert splitting_wins(layer) == (split > alone)


def test_a_tie_stays_on_the_gpu() -> None:
    """And so does a layer without attention, linear parts or a CPU."""
    assert not splitting_wins(Layer(1.0, 1.0, 6.0, 1.0))
    assert splitting_wins(Layer(1.0, 1.0, 5.99, 1.0))
    for layer in (Layer(0, 1, 1, 1), Layer(1, 0, 1, 1), Layer(1, 1, 1, 0)):
        assert not splitting_wins(layer)


def test_each_step_is_dispatched() -> None:
    """Nobody waits for the CPU: GPU alone. Decoding: the inequality. A CPU of a tenth only overlaps."""
    strong, weak = Layer(1.0, 1.0, 5.0, 1.0), Layer(1.0, 1.0, 10.0, 1.0)
    assert dispatch(strong, 0) == "gpu_only"
    assert dispatch(strong, 3) == "pipelined"
    assert dispatch(weak, 3) == "overlap"


def test_batches_with_prompts_go_by_neos_test() -> None:
    """Both halves' CPU work has to be hidden, and more sequences per ms come out; without halves nothing is split."""
    layer = Layer(1.0, 1.0, 5.0, 1.0)
    good = (Half(10.0, 4.0, 2.0, 9.0, 60), Half(10.0, 0.0, 2.0, 9.0, 60))
    assert dispatch(layer, 3, True, good, (70, 20.0)) == "pipelined"
    assert dispatch(layer, 3, True, good, (90, 20.0)) == "overlap"
    assert dispatch(layer, 3, True) == "overlap"
    late = (good[0], good[1]._replace(cpu_decode=11.3))
    assert not neo_wins(late, 70, 20.0)
    assert neo_wins((good[0], good[1]._replace(cpu_decode=11.2)), 70, 20.0)
    assert neo_wins(good, 0, 0.0)


CPU, GPU, EVEN = Window(110, 100, 20), Window(50, 100, 20), Window(90, 100, 20)


def test_fewer_requests_when_the_cpu_takes_longer() -> None:
    """After three windows one after the other, by a fifth; never below one."""
    engine = Throttle(100)
    assert [engine.see(CPU) for _ in range(3)] == [100, 100, 80]
    assert engine.is_throttled
    for _ in range(100):
        engine.see(CPU)
    assert engine.limit == 1


def test_more_requests_again_when_the_card_is_what_is_waited_for() -> None:
    """One per window below four fifths; in between nothing changes; a window without steps says nothing."""
    engine = Throttle(10)
    for _ in range(3):
        engine.see(CPU)
    assert engine.limit == 8
    assert engine.see(EVEN) == 8
    assert engine.see(Window(0, 100, 9)) == 8
    assert [engine.see(GPU) for _ in range(4)] == [9, 10, 10, 10]
    assert not engine.is_throttled


def test_a_pause_between_windows_starts_the_count_again() -> None:
    """Two, one that is even, two: no throttling."""
    engine = Throttle(0)
    assert engine.most == 1
    engine = Throttle(10)
    for window in (CPU, CPU, EVEN, CPU, CPU):
        assert engine.see(window) == 10
    again = Throttle.load(msgpack.unpackb(msgpack.packb(engine.dump())))
    assert again.see(CPU) == 8
