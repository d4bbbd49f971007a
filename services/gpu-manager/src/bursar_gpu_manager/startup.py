"""From a lease to the command line of an engine: parameters under which it stays within what it was granted.

Both engines are told an absolute size of their KV cache, so that what others allocate in the same moment is not taken
for their own: two vLLM that start together on shares of a card measure each other's memory and end up with less cache
(recorded: 3570 to 3731 blocks where equal numbers were meant). vLLM also gets the share of the card that is its own.

* vLLM: ``--gpu-memory-utilization`` is of the memory that the card shows; context and graphs come on top of it, so they
  are taken off the lease first. Swapped blocks: ``--kv-offloading-size`` in GiB (``--swap-space`` before it).
* candle-vllm: ``--mem`` (cache on the card) and ``--kvcache-mem-cpu`` in MiB, devices with ``--d``, a power of two of
  them, quantised while loading with ``--isq``; its processes are bound by ``MAP_NUMA_NODE`` and ``numactl``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from bursar.errors import CallerError
from bursar_gpu_manager.estimates import MIB, Engine, Estimate, estimate
from bursar_gpu_manager.models import Shape

UTILIZATION_STEPS: Final = 10_000
"""A share is rounded down to a ten thousandth."""

QUANTIZED: Final = {"fp8": "fp8", "nf4": "bitsandbytes", **dict.fromkeys(("awq", "awq-64", "awq-32"), "awq"),
                    **dict.fromkeys(("gptq", "gptq-64", "gptq-32", "gptq8"), "gptq")}  # fmt: skip
"""What vLLM is told of the weights' format."""
IN_SITU: Final = {"q8_0": "q8_0", "q6_k": "q6k", "q5_k_m": "q5k", "q4_k_m": "q4k", "q4_0": "q4_0", "q3_k_m": "q3k",
                  "q2_k": "q2k"}  # fmt: skip
DTYPES: Final = {"fp16": ("float16", "f16"), "bf16": ("bfloat16", "bf16"), "fp32": ("float32", "f32")}


class Granted(NamedTuple):
    """What of a lease an engine has to know. ``memory``: bytes on each device; ``visible``: the least that any of the
    cards shows (total less what the driver keeps); ``devices``: as CUDA names them, a card by its number and a part of
    a divided card by its uuid; ``numa``: the node of each device, -1 where it is not known."""

    memory: int
    visible: int
    devices: Sequence[int | str]
    numa: Sequence[int] = ()


class Start(NamedTuple):
    """``arguments`` of the program and ``environment`` to add. ``tokens``: of cache that it will have."""

    arguments: tuple[str, ...]
    environment: dict[str, str]
    tokens: int


def vllm(model: str, shape: Shape, engine: Engine, lease: Granted, context: int, host_memory: int = 0) -> Start:
    """Arguments of ``vllm serve``. ``context``: tokens of the longest sequence. Raises `CallerError`:
    ``lease_too_small`` (not even one sequence fits), ``bad_config`` (shards and devices differ)."""
    need, tokens = _fitting(shape, engine, lease, context)
    share = (lease.memory - need.outside) * UTILIZATION_STEPS // lease.visible / UTILIZATION_STEPS
    arguments = [
        *("--model", model),
        *("--gpu-memory-utilization", f"{min(share, 1.0):.4f}"),
        *("--kv-cache-memory-bytes", str(need.kv(tokens))),
        *("--max-model-len", str(context)),
        *("--max-num-batched-tokens", str(engine.max_num_batched_tokens)),
        *("--max-num-seqs", str(engine.max_num_sequences)),
        *("--block-size", str(engine.block_tokens)),
        *("--tensor-parallel-size", str(engine.shards)),
    ]
    if engine.form in DTYPES:
        arguments += ["--dtype", DTYPES[engine.form][0]]
    if engine.form in QUANTIZED:
        arguments += ["--quantization", QUANTIZED[engine.form]]
    if engine.kv_form == "fp8":
        arguments += ["--kv-cache-dtype", "fp8"]
    if swap := engine.swap_bytes(host_memory):
        arguments += ["--kv-offloading-size", f"{swap / 2**30:.2f}"]
    if not engine.graphs:
        arguments.append("--enforce-eager")
    return Start(tuple(arguments), _visible(lease), tokens)


def candle_vllm(model: str, shape: Shape, engine: Engine, lease: Granted, context: int, host_memory: int = 0) -> Start:
    """Arguments of ``candle-vllm``; raises as `vllm`, and ``bad_config`` when the devices are no power of two."""
    if len(lease.devices) & (len(lease.devices) - 1):
        raise CallerError("bad_config", "candle-vllm runs on a power of two of devices", field="devices")
    need, tokens = _fitting(shape, engine, lease, context)
    arguments = [
        *("--m", model),
        *("--d", ",".join(map(str, range(len(lease.devices))))),
        *("--mem", str(need.kv(tokens) // MIB)),
        *("--max-num-seqs", str(engine.max_num_sequences)),
        *("--prefill-chunk-size", str(engine.max_num_batched_tokens)),
        *("--dtype", DTYPES.get(engine.form, DTYPES["bf16"])[1]),
    ]
    if engine.form in IN_SITU:
        arguments += ["--isq", IN_SITU[engine.form]]
    if engine.kv_form == "fp8":
        arguments.append("--fp8-kvcache")
    if swap := engine.swap_bytes(host_memory):
        arguments += ["--kvcache-mem-cpu", str(swap // MIB)]
    environment = _visible(lease)
    if lease.numa and min(lease.numa) >= 0:
        environment["MAP_NUMA_NODE"] = ",".join(map(str, lease.numa))
    return Start(tuple(arguments), environment, tokens)


def numactl(lease: Granted) -> tuple[str, ...]:
    """What to put before the program so that its first process is on the node of its first device; nothing when that
    is not known."""
    if not lease.numa or lease.numa[0] < 0:
        return ()
    return ("numactl", f"--cpunodebind={lease.numa[0]}", f"--membind={lease.numa[0]}")


def _fitting(shape: Shape, engine: Engine, lease: Granted, context: int) -> tuple[Estimate, int]:
    """The estimate, and the tokens of cache that the lease leaves; no more than all sequences at full length need."""
    if engine.shards != len(lease.devices):
        raise CallerError("bad_config", f"{engine.shards} shards on {len(lease.devices)} devices", field="shards")
    if engine.shards > 1 and any(isinstance(device, str) for device in lease.devices):
        raise CallerError("bad_config", "a process sees one part of a divided card: no model spans two", field="shards")
    need = estimate(shape, engine)
    tokens = need.tokens_within(min(lease.memory, lease.visible))
    if tokens < context:
        missing = need.total(context) - min(lease.memory, lease.visible)
        raise CallerError("lease_too_small", f"one sequence of {context} tokens lacks {missing} bytes", missing=missing)
    whole = -(-context // engine.block_tokens) * engine.block_tokens
    return need, min(tokens, whole * engine.max_num_sequences)


def _visible(lease: Granted) -> dict[str, str]:
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, lease.devices))}
