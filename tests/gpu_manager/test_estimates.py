"""Estimates before a load, against recorded starts."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.errors import CallerError
from bursar_gpu_manager.estimates import (
    CONTEXT,
    GRAPHS,
    MIB,
    Corrections,
    Engine,
    estimate,
    part,
    predict,
    profile,
)
from bursar_gpu_manager.known_models import KNOWN
from tests.gpu_manager.recorded_starts import CPU_BLOCKS, GIB, SWAP, VISIBLE, starts

READ = 35 * GIB // 10_000
"""The log rounds to 0.01 GiB, so a value may be 0.005 less than it says; with 0.0035 less all starts fit."""


def test_all_recorded_starts_are_reproduced_within_two_blocks() -> None:
    """117 of 117: blocks on the card within 2, blocks in the host's memory exactly."""
    assert len(starts()) == 117
    for start in starts():
        block = KNOWN[start.model].kv_per_token() * 16
        found = profile(VISIBLE, start.peak, start.non_torch - READ, block, start.utilization, SWAP)
        assert abs(found.gpu_blocks - start.blocks) <= 2, start
        assert found.cpu_blocks == CPU_BLOCKS[start.model]


def test_the_worked_example() -> None:
    """OPT-1.3B at 96 sequences: 63.43 * 0.9 - 2.72 - 0.10 = 54.27 GiB, blocks of 3 MiB, 18525 of them."""
    found = profile(part(GIB, 63.43), part(GIB, 2.72), part(GIB, 0.10), 3 * MIB, 0.9)
    assert round(found.kv / GIB, 2) == 54.27
    assert abs(found.gpu_blocks - 18_525) <= 2
    assert found.concurrency(2_048) == found.gpu_blocks // 128


def test_the_configuration_alone_says_the_blocks_within_a_fifth_of_a_percent() -> None:
    """Nothing measured goes in: the runs of engines that started alone, in the first set (whose length is known)."""
    checked = 0
    for start in starts():
        if not start.first or start.utilization < 0.9:
            continue
        batched = 4_096 if start.model.startswith("llama") else 2_048
        engine = Engine(max_num_sequences=start.sequences, max_num_batched_tokens=batched, swap_space=SWAP)
        found = predict(KNOWN[start.model], engine, VISIBLE)
        assert abs(found.gpu_blocks - start.blocks) <= start.blocks / 500, start
        assert found.cpu_blocks == CPU_BLOCKS[start.model]
        checked += 1
    assert checked == 62


def test_a_lease_holds_what_the_engine_does_not_count() -> None:
    """Context and graphs come on top of weights, activations and cache; without graphs only the context."""
    found = estimate(KNOWN["llama-3-8b"], Engine())
    assert found.outside == CONTEXT + GRAPHS
    assert found.fixed == found.weights + found.activation + found.non_torch + found.outside
    assert estimate(KNOWN["llama-3-8b"], Engine(graphs=False)).outside == CONTEXT
    assert found.total(8_192) == found.fixed + GIB


def test_tokens_and_bytes_are_inverse_in_whole_blocks() -> None:
    """A token more than a block begins the next one; what does not hold the model holds no token."""
    found = estimate(KNOWN["qwen3-8b"], Engine())
    assert found.kv(16) == found.block
    assert found.kv(17) == 2 * found.block
    assert found.tokens_within(found.total(10_000)) == 10_000
    assert found.tokens_within(found.fixed - 1) == 0
    assert found.tokens_within(found.fixed + found.block - 1) == 0


def test_a_quantised_cache_takes_half() -> None:
    """FP8 instead of FP16; sharded over two cards half of that again."""
    half = estimate(KNOWN["llama-3-8b"], Engine(kv_form="fp8"))
    quarter = estimate(KNOWN["llama-3-8b"], Engine(kv_form="fp8", shards=2))
    assert (half.kv_per_token, quarter.kv_per_token) == (64 * 1024, 32 * 1024)
    assert quarter.weights * 2 == half.weights


def test_experts_widen_the_layer() -> None:
    """A layer with experts needs room for them beside the dense one."""
    sparse, dense, few = KNOWN["mixtral-8x7b"], KNOWN["llama-3-8b"], Engine(max_num_sequences=1)
    assert estimate(sparse, few).activation > estimate(dense, few).activation


def test_swap_is_a_part_of_the_hosts_memory_unless_said_in_bytes() -> None:
    """10 % of 64 GiB, exactly; absolute bytes win."""
    shape = KNOWN["llama-2-7b"]
    assert predict(shape, Engine(swap_space_fraction=0.1), VISIBLE, 64 * GIB).cpu_blocks == 64 * GIB // 10 // (8 * MIB)
    both = Engine(swap_space_fraction=0.1, swap_space=SWAP)
    assert predict(shape, both, VISIBLE, 64 * GIB).cpu_blocks == 512


def test_a_model_that_does_not_fit_has_no_blocks() -> None:
    """Never a negative number of them."""
    assert predict(KNOWN["llama-3-70b"], Engine(), VISIBLE).gpu_blocks == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"gpu_memory_utilization": 0.0}, "bad_config"),
        ({"gpu_memory_utilization": 1.01}, "bad_config"),
        ({"gpu_memory_utilization": float("nan")}, "bad_config"),
        ({"swap_space_fraction": -0.1}, "bad_config"),
        ({"swap_space": -1}, "bad_config"),
        ({"max_num_batched_tokens": 0}, "bad_config"),
        ({"max_num_sequences": 0}, "bad_config"),
        ({"shards": 0}, "bad_config"),
        ({"block_tokens": 0}, "bad_config"),
        ({"kv_form": "fp3"}, "unknown_format"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(fields: dict[str, Any], code: str) -> None:
    """With the field that is wrong."""
    with pytest.raises(CallerError) as error:
        Engine(**fields)
    assert error.value.code == code


def test_what_was_observed_corrects_the_next_estimate() -> None:
    """The largest of the last eight counts; one wild reading is cut; models do not touch each other."""
    found = Corrections()
    assert found.corrected("m", 1_000) == 1_000
    found.observe("m", 1_000, 1_100)
    found.observe("m", 1_000, 900)
    assert found.corrected("m", 1_000) == 1_100
    for _ in range(8):
        found.observe("m", 1_000, 900)
    assert found.corrected("m", 1_000) == 900
    found.observe("m", 1_000, 10**9)
    assert found.corrected("m", 1_000) == 2_000
    found.observe("m", 0, 5)
    found.observe("m", 5, 0)
    assert found.corrected("n", 1_000) == 1_000


def test_corrections_are_bounded_and_kept() -> None:
    """The model observed longest ago is forgotten first; dump and load are inverse."""
    found = Corrections(limit=2)
    for key in ("a", "b", "a", "c"):
        found.observe(key, 100, 120)
    assert found.corrected("b", 100) == 100
    assert found.corrected("a", 100) == 120
    again = Corrections.load(found.dump(), 2)
    assert again.dump() == found.dump()
