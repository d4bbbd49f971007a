"""What tasks need, what is better for them, and the policies that place them: a part of the scheduler's catalogue."""

from __future__ import annotations

from typing import Final

from bursar.contracts.catalog.base import Word

WORDS: Final = {
    "batch_tokens": Word("Tokens of prompt and answer in the worker's batch; null: not counted.", "tokens"),
    "Register.batch_tokens": Word("The token budget of the worker's batch; null: no bound.", "tokens"),
    "Needs.host": Word("The host that it has to run on; null: any."),
    "Needs.region": Word("The region that it has to run in; null: any."),
    "Needs.model": Word("The model that the worker must have loaded; null: any."),
    "gang": Word("So many workers at once, or none of them; 1: one.", "workers"),
    "members": Word("The workers of the gang, by rank; empty: it runs on this worker alone."),
    "rank": Word("Which of them this worker is, from 0.", "number"),
    "tick": Word("The policy that says where several tasks which wait should go; none: each by itself."),
    "background": Word("The policy that moves what runs and may be preempted; none: nothing is moved."),
    "slot_policy": Word("The policy that says how many slots are in use; none: all."),
    "hints": Word("What makes one worker better than another; null: nothing."),
    "data": Word("Where what it works on is; null: nowhere in particular."),
    "Data.host": Word("The host that the data is on; null: not known."),
    "Data.numa_node": Word("The NUMA node of that host; null: not known.", "number"),
    "Data.region": Word("The region that the data is in; null: not known."),
    "Data.bytes": Word("How much a worker elsewhere has to bring.", "bytes"),
    "model": Word("The model that it calls: who has it loaded need not load it; null: none."),
    "prefix": Word("Hashes of the blocks of its prompt, each over all up to its own."),
    "prefix_tokens": Word("How long each of these blocks is.", "tokens"),
    "prompt_tokens": Word("How long its prompt is; null: not known.", "tokens"),
    "expected_ms": Word("How long it will run; null: as its class does.", "ms"),
    "latency_us": Word("The way to what the worker works with, as it has measured it; null: not measured.", "us"),
    "wait_ms": Word("How much later a task begins that is given to it now.", "ms"),
}
