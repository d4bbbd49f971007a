"""Which batch size is worth its memory, against recorded curves."""

from __future__ import annotations

import pytest

from bursar_gpu_manager.batching import REFERENCE, Run, best_batch, fitted, of_hardware
from bursar_gpu_manager.estimates import Engine, estimate
from bursar_gpu_manager.known_models import KNOWN
from tests.gpu_manager.recorded_curves import BEST, CURVES


@pytest.mark.parametrize(("epsilon", "bound"), BEST)
@pytest.mark.parametrize("model", CURVES)
def test_the_golden_table_is_reproduced(model: str, epsilon: float, bound: float) -> None:
    """Six pairs of bounds, four models, preempted runs dropped."""
    assert best_batch(CURVES[model], epsilon, bound).batch == BEST[epsilon, bound][model]


def test_a_run_with_few_preemptions_goes_like_one_with_many() -> None:
    """Llama-2-13B at 96 has nine of them; with them it would be advised, and at 256 with a bound of 4 as well."""
    with_them = [run._replace(preemptions=0) for run in CURVES["llama-2-13b"]]
    assert best_batch(with_them, 0.1, 2.0).batch == 256
    assert best_batch(CURVES["llama-2-13b"], 0.1, 2.0).batch == 80
    assert best_batch([run._replace(preemptions=0) for run in CURVES["llama-2-7b"]], 0.1, 4.0).batch == 256


def test_the_papers_claim_is_checked() -> None:
    """OPT-1.3B at 96: about 83 % of the highest throughput with 16 % of its cache."""
    found = best_batch([run for run in CURVES["opt-1.3b"] if run.batch != 640], 0.1, 2.0)
    assert found.batch == 96
    assert 0.80 < found.throughput_part < 0.84
    assert 0.15 < found.kv_part < 0.24
    assert round(found.efficiency, 3) == 0.247


def test_epsilon_is_strict_and_the_bound_is_not() -> None:
    """A tie in efficiency is out, a tie in latency is in."""
    runs = [Run(1, 100.0, 10.0), Run(REFERENCE, 1_600.0, 20.0), Run(64, 1_280.0, 40.0)]
    assert best_batch(runs, 0.2, 2.0).batch == REFERENCE
    assert best_batch(runs, 0.19, 2.0).batch == 64
    assert best_batch(runs, 0.19, 1.99).batch == REFERENCE


def test_a_tie_is_one_by_the_numbers_as_they_were_told() -> None:
    """Not by their binary neighbours: 0.15 * 64 * 381.4 is 3661.44, and 2.3 * 11.1 is 25.53."""
    runs = [Run(1, 381.4, 5.0), Run(REFERENCE, 6_000.0, 11.1), Run(64, 3_661.44, 25.53)]
    assert 3_661.44 > 0.15 * 64 * 381.4
    assert best_batch(runs, 0.15, 2.3).batch == REFERENCE
    assert best_batch(runs, 0.149, 2.3).batch == 64
    assert best_batch(runs, 0.149, 2.299).batch == REFERENCE


@pytest.mark.parametrize("missing", [1, REFERENCE])
def test_without_its_references_there_is_no_advice(missing: int) -> None:
    """Neither a crash nor a guess; a preempted reference is none."""
    runs = [run for run in CURVES["opt-1.3b"] if run.batch != missing]
    assert best_batch(runs) == (None, "no_reference", 0.0, 0.0, 0.0, 0.0)
    bad = [run._replace(preemptions=1) if run.batch == missing else run for run in CURVES["opt-1.3b"]]
    assert best_batch(bad).reason == "no_reference"
    assert best_batch([]).reason == "no_reference"


def test_bounds_that_nothing_holds() -> None:
    """Even the smallest batch is too slow."""
    assert best_batch(CURVES["opt-1.3b"], 2.0, 4.0).reason == "none_holds"


@pytest.mark.parametrize("model", CURVES)
def test_a_curve_through_three_points_gives_nearly_the_advice_of_all(model: str) -> None:
    """Measured at 1, 32 and the next but one; the advised batch is the measured one or its neighbour."""
    runs = CURVES[model]
    clean = [run for run in runs if not run.preemptions]
    batches = [run.batch for run in clean]
    at = batches.index(REFERENCE)
    curve = fitted([clean[0], clean[at], clean[min(at + 2, len(clean) - 1)]])
    assert curve is not None
    advised = best_batch(curve.runs(batches), 0.1, 2.0).batch
    measured = best_batch(runs, 0.1, 2.0).batch
    assert advised is not None
    assert measured is not None
    assert abs(batches.index(advised) - batches.index(measured)) <= 1


def test_a_fit_needs_two_batches_and_a_curve_that_rises() -> None:
    """What falls with the batch was measured wrongly."""
    assert fitted([Run(1, 1.0, 1.0)]) is None
    assert fitted([Run(1, 1.0, 9.0), Run(32, 1.0, 5.0)]) is None
    assert fitted([Run(1, 1.0, 0.01), Run(32, 1.0, 50.0), Run(33, 1.0, 0.001)]) is None


def test_a_modelled_run_beyond_the_cache_is_preempted() -> None:
    """So that it is dropped like a measured one."""
    curve = fitted(CURVES["llama-2-7b"][:8])
    assert curve is not None
    assert [run.preemptions for run in curve.runs([64, 200, 256], holds=200)] == [0, 0, 56]
    advice = best_batch(curve.runs([1, 32, 64, 128, 192, 256, 512], holds=200), 0.1, 4.0)
    assert advice.batch == 192
    assert 0.9 < advice.kv_part <= 1.0


def test_bandwidth_alone_foretells_the_time_of_a_small_batch() -> None:
    """An H100 reads 2 TB/s in decoding of Llama-2-7B: the recorded step at batch 1 and 32 within a quarter."""
    need = estimate(KNOWN["llama-2-7b"], Engine())
    curve = of_hardware(need.weights, need.kv_per_token, 330, 2_039_000_000, 3.5, 0.1)
    for run in (CURVES["llama-2-7b"][0], CURVES["llama-2-7b"][5]):
        assert abs(curve.run(run.batch).itl - run.itl) < run.itl / 4
