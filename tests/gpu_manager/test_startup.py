"""Start-up parameters from a lease."""

from __future__ import annotations

import pytest

from bursar.errors import CallerError
from bursar_gpu_manager.estimates import Engine, estimate
from bursar_gpu_manager.known_models import KNOWN
from bursar_gpu_manager.startup import Granted, Start, candle_vllm, numactl, vllm

GIB = 1 << 30
SHAPE = KNOWN["llama-3-8b"]
CARD = 79 * GIB


def told(start: Start) -> dict[str, str]:
    """Arguments as a table; those without a value are "yes"."""
    table, name = {}, ""
    for word in start.arguments:
        if word.startswith("--"):
            name = word
            table[name] = "yes"
        else:
            table[name] = word
    return table


def test_vllm_stays_within_its_lease() -> None:
    """Its share of the card, and what it does not count, are together not more than the lease."""
    engine = Engine(max_num_sequences=64, max_num_batched_tokens=4_096, gpu_memory_utilization=0.9)
    start = vllm("meta-llama/Llama-3.1-8B", SHAPE, engine, Granted(40 * GIB, CARD, [3]), 8_192)
    arguments = told(start)
    need = estimate(SHAPE, engine)
    share = float(arguments["--gpu-memory-utilization"])
    assert share * CARD + need.outside <= 40 * GIB
    assert int(arguments["--kv-cache-memory-bytes"]) + need.fixed <= 40 * GIB
    assert start.tokens * need.kv_per_token == int(arguments["--kv-cache-memory-bytes"])
    assert start.environment == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "3"}
    assert arguments["--max-num-seqs"] == "64"
    assert arguments["--max-num-batched-tokens"] == "4096"
    assert arguments["--dtype"] == "float16"
    assert "--enforce-eager" not in arguments


def test_no_more_cache_than_all_sequences_can_fill() -> None:
    """Two sequences of 1000 tokens: 126 blocks, however large the lease."""
    start = vllm("m", SHAPE, Engine(max_num_sequences=2), Granted(70 * GIB, CARD, [0]), 1_000)
    assert start.tokens == 2 * 63 * 16


def test_formats_swap_and_shards_are_said() -> None:
    """AWQ, an FP8 cache, two cards, a tenth of the host's memory for swapped blocks, no graphs."""
    engine = Engine("awq", "fp8", swap_space_fraction=0.1, shards=2, graphs=False)
    arguments = told(vllm("m", SHAPE, engine, Granted(20 * GIB, CARD, [0, 1]), 4_096, 100 * GIB))
    assert arguments["--quantization"] == "awq"
    assert arguments["--kv-cache-dtype"] == "fp8"
    assert arguments["--tensor-parallel-size"] == "2"
    assert arguments["--kv-offloading-size"] == "10.00"
    assert arguments["--enforce-eager"] == "yes"
    assert "--dtype" not in arguments


def test_candle_vllm_is_told_its_cache_in_mebibytes_and_its_nodes() -> None:
    """Devices are counted from those it sees; processes are bound to the nodes of their cards."""
    engine = Engine("q4_k_m", "fp8", swap_space_fraction=0.25, shards=2, max_num_sequences=32)
    lease = Granted(12 * GIB, CARD, [4, 5], [1, 1])
    start = candle_vllm("Qwen/Qwen3-8B", KNOWN["qwen3-8b"], engine, lease, 4_096, 8 * GIB)
    arguments = told(start)
    assert arguments["--d"] == "0,1"
    assert start.environment["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert start.environment["MAP_NUMA_NODE"] == "1,1"
    assert arguments["--isq"] == "q4k"
    assert arguments["--dtype"] == "bf16"
    assert arguments["--fp8-kvcache"] == "yes"
    assert arguments["--kvcache-mem-cpu"] == "2048"
    assert arguments["--max-num-seqs"] == "32"
    need = estimate(KNOWN["qwen3-8b"], engine)
    assert int(arguments["--mem"]) << 20 <= 12 * GIB - need.fixed
    assert numactl(lease) == ("numactl", "--cpunodebind=1", "--membind=1")


def test_an_unknown_node_binds_nothing() -> None:
    """Unknown is not node 0."""
    lease = Granted(40 * GIB, CARD, [0], [-1])
    start = candle_vllm("m", SHAPE, Engine(), lease, 4_096)
    assert "MAP_NUMA_NODE" not in start.environment
    assert numactl(lease) == numactl(Granted(GIB, CARD, [0])) == ()


@pytest.mark.parametrize(
    ("engine", "lease", "code"),
    [
        (Engine(), Granted(16 * GIB, CARD, [0]), "lease_too_small"),
        (Engine(), Granted(64 * GIB, 12 * GIB, [0]), "lease_too_small"),
        (Engine(shards=2), Granted(40 * GIB, CARD, [0]), "bad_config"),
        (Engine(shards=3), Granted(40 * GIB, CARD, [0, 1, 2]), "bad_config"),
    ],
)
def test_what_cannot_start_is_refused(engine: Engine, lease: Granted, code: str) -> None:
    """Before it fails on the card; with the bytes that are missing."""
    with pytest.raises(CallerError) as error:
        candle_vllm("m", SHAPE, engine, lease, 8_192)
    assert error.value.code == code
    if code == "lease_too_small":
        assert error.value.facts["missing"] == estimate(SHAPE, engine).total(8_192) - min(lease.memory, lease.visible)
