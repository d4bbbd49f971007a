"""The part of the GPU manager's catalogue that is about advice for engines."""

from __future__ import annotations

from typing import Final

from bursar.contracts import gpu_advice as advice
from bursar.contracts.base import Message
from bursar.contracts.catalog.base import Event, Operation, Word

_FENCE = "1.1.7.0123456789abcdef"
_RUNS: Final = [
    {"batch": 1, "throughput": 381_406, "itl_us": 3_623},
    {"batch": 32, "throughput": 5_734_138, "itl_us": 7_510},
    {"batch": 96, "throughput": 9_032_789, "itl_us": 13_894},
]


class AdviceTold(Message):
    """A change was recommended to a worker, or has taken a step."""

    step: advice.AdviceStep
    recommendation: advice.Recommendation
    fence: str


OPERATIONS: Final = (
    Operation(
        "req",
        "startup",
        advice.Startup,
        "Arguments with which an engine stays within a lease.",
        replies=(advice.Started,),
        errors=(
            *("unknown_lease", "lease_ended", "not_yours", "bad_fence", "conflict", "lease_too_small"),
            *("unknown_model", "unsupported_model", "unknown_format", "bad_config"),
        ),
        example={"lease": "1.1.7", "fence": _FENCE, "load": {"model": "llama-3-8b", "context": 8_192}},
    ),
    Operation(
        "req",
        "advise",
        advice.Advise,
        "Which batch, how many replicas, whether the CPU should help: from what was measured.",
        replies=(advice.Advised,),
        errors=("unknown_model", "unsupported_model", "unknown_format", "bad_config"),
        example={"curve": {"runs": _RUNS}},
    ),
    Operation(
        "req",
        "pace",
        advice.Pace,
        "How many requests should run at a time, where the CPU is what an engine waits for.",
        replies=(advice.Paced,),
        example={"cpu_us": 900_000, "gpu_us": 400_000, "steps": 60, "most": 64},
    ),
    Operation(
        "req",
        "tune",
        advice.Tune,
        "A worker's curve and what it runs with; a better batch or number of replicas is recommended to it.",
        replies=(advice.Tuned,),
        errors=("too_many",),
        example={"curve": {"runs": _RUNS}, "batch": 32},
    ),
    Operation(
        "req",
        "tune-step",
        advice.TuneStep,
        "The worker agrees to a recommended change, declines it, or has applied it as a canary.",
        replies=(advice.Tuned,),
        errors=("conflict",),
        example={"step": "agreed"},
    ),
    Operation(
        "req",
        "tune-window",
        advice.TuneWindow,
        "What a worker measured: the baseline before a change, the trial after it.",
        replies=(advice.Tuned,),
        errors=("conflict",),
        example={"throughput": 9_032_789, "itl_us": 13_894},
    ),
)

EVENTS: Final = (Event("advice", "the worker", AdviceTold, "A change is recommended, tried, kept or taken back."),)

WORDS: Final = {
    "engine": Word("Which engine."),
    "host_memory": Word("Memory of the host, for blocks that are swapped out.", "bytes"),
    "swap_space_fraction": Word("Part of the host's memory for them.", "thousandths"),
    "visible": Word("What the least of the cards shows to a process; null: as last reported.", "bytes"),
    "Startup.fence": Word("The fence that came with the lease."),
    "Startup.load": Word("The model, and how its engine would be started."),
    "prefix": Word("What to put before the program."),
    "arguments": Word("Arguments of the program."),
    "environment": Word("Variables to add."),
    "Started.tokens": Word("Tokens of cache that the engine will have.", "tokens"),
    "curve": Word("What was measured."),
    "runs": Word("Points of one engine, by batch."),
    "setups": Word("What several engines on one card did."),
    "epsilon": Word("The efficiency has to be above this.", "thousandths"),
    "bound": Word("Time between tokens over that at batch 32, at most.", "thousandths"),
    "batch": Word("Sequences that run at a time, at most.", "sequences"),
    "replicas": Word("Engines on one card.", "engines"),
    "throughput": Word("Tokens per second, of prompts and answers.", "thousandths/s"),
    "itl_us": Word("Time between tokens.", "microseconds"),
    "preemptions": Word("Sequences that had to make room.", "sequences"),
    "kv": Word("The most of the cache that was in use.", "thousandths"),
    "fill": Word("Also foretell these batches.", "sequences"),
    "halves": Word("The two halves of a step with prompts in it; empty: there are none in it."),
    "linear_us": Word("Its linear parts on the GPU.", "us"),
    "prefill_us": Word("Its prompts on the GPU.", "us"),
    "gpu_decode_us": Word("Its decoding on the GPU.", "us"),
    "cpu_decode_us": Word("Its decoding on the CPU.", "us"),
    "GpuHalf.sequences": Word("Sequences in it.", "sequences"),
    "alone_sequences": Word("Sequences of the step on the GPU alone.", "sequences"),
    "alone_us": Word("What that takes.", "us"),
    "modelled": Word("An engine that was not measured yet, on a card; null: none."),
    "bandwidth": Word("Of the card's memory.", "bytes/s"),
    "step_us": Word("What a step takes beside reading weights and cache.", "us"),
    "sequence_us": Word("What each sequence in it takes beside reading its cache.", "us"),
    "Modelled.memory": Word("Of its lease; null: it holds all sequences.", "bytes"),
    "layer": Word("Times of one layer; null: not asked."),
    "linear_ns": Word("Linear parts of a layer on the GPU.", "nanoseconds"),
    "attention_ns": Word("Attention of a layer on the GPU.", "nanoseconds"),
    "gpu_rate": Word("Sequences whose attention the GPU does.", "1/s"),
    "cpu_rate": Word("Sequences whose attention the CPU does.", "1/s"),
    "GpuLayer.waiting": Word("Sequences whose cache is in the host's memory.", "sequences"),
    "Advised.why": Word("Why there is no advice; fits: there is."),
    "efficiency": Word("Throughput over batch times that at batch 1.", "thousandths"),
    "slowdown": Word("Time between tokens over that at batch 32.", "thousandths"),
    "throughput_part": Word("Of the highest throughput.", "thousandths"),
    "kv_part": Word("Of the cache that the highest throughput takes.", "thousandths"),
    "foretold": Word("The points that were asked for, from the curve through those measured."),
    "setup": Word("The best setup that keeps the bound; null: none does, or none was told."),
    "Advised.gain": Word("Its throughput over the largest batch of one engine, less 1000.", "thousandths"),
    "breaking": Word("Setups with more throughput that break the bound or preempt."),
    "dispatch": Word("What to do with attention; null: not asked."),
    "threshold": Word("Splitting wins below this ratio of GPU to CPU; null: not asked, or always.", "thousandths"),
    "cpu_us": Word("Time on the CPU, of all steps of the window.", "microseconds"),
    "gpu_us": Word("Time on the GPU, of all steps of the window.", "microseconds"),
    "steps": Word("Steps in the window; too few say nothing.", "steps"),
    "most": Word("Requests that may run at a time at all.", "requests"),
    "limit": Word("Requests that should run at a time now.", "requests"),
    "throttled": Word("Whether that is fewer than may."),
    "another": Word("That one more engine would take; null: none is wanted.", "bytes"),
    "TuneStep.step": Word("What the worker does."),
    "Tuned.step": Word("How far the change is; null: there is none."),
    "AdviceTold.step": Word("How far the change is."),
    "recommendation": Word("The change; null: there is none."),
    "worker": Word("Who should change."),
    "kind": Word("What should change."),
    "now": Word("The number before.", "number"),
    "then": Word("The number after.", "number"),
    "promised": Word("Throughput afterwards, of that before.", "thousandths"),
    "because": Word("Why, for people."),
    "Tuned.ends_in_ms": Word("When this step ends by itself; null: it does not.", "ms"),
}
