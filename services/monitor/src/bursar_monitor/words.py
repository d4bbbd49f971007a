"""An alert in one sentence, for people."""

from __future__ import annotations

from typing import Final

_SENTENCES: Final = {
    "host_silence_ms": "Host {subject} has sent no sample for {seconds} s.",
    "cpu_permille": "Host {subject} uses {percent} of its CPU (limit {limit_percent}).",
    "memory_permille": "Host {subject} uses {percent} of its memory (limit {limit_percent}).",
    "disk_permille": "The disk of host {subject} is {percent} full (limit {limit_percent}).",
    "crashes": "Processes of {subject} (host/group) crash again and again: {value} times in a minute.",
    "leak_permille": "The memory of {subject} (host/group) grows steadily: it would take {percent} of what is free.",
    "pool_permille": "{percent} of the memory pool {subject} (host/pool) is used (limit {limit_percent}).",
    "gpu_lost": "GPU {subject} does not answer any more.",
    "instance_missing": "Instance {subject} does not answer any more.",
    "owner_missing": "No instance of {subject} takes requests.",
    "budget_permille": "{percent} of budget {subject} is used (limit of this alert: {limit_percent}).",
    "foreign_permille": "Somebody else uses {percent} of budget {subject} with the same key.",
    "circuit_open": "The circuit to {subject} is open.",
    "allocatable_permille": "Host {subject} uses {percent} of the memory it may hand out (limit {limit_percent}).",
    "coordination_ms": "{subject} takes {value} ms to answer (limit {at_least} ms).",
    "nats_rtt_ms": "A round trip to the NATS server takes {value} ms (limit {at_least} ms).",
    "spawn_ms": "A worker of {subject} took {value} ms to start (limit {at_least} ms).",
    "completion_ms": "A task of {subject} took {value} ms (limit {at_least} ms).",
    "burn_1h": "Objective {subject} uses up its error budget {ratio} times too fast (over an hour).",
    "burn_6h": "Objective {subject} uses up its error budget {ratio} times too fast (over six hours).",
    "burn_1d": "Objective {subject} uses up its error budget {ratio} times too fast (over a day).",
    "burn_3d": "Objective {subject} uses up its error budget {ratio} times too fast (over three days).",
    "queue_growth": "Queue {subject} has grown by {value} tasks in a minute.",
}


def sentence(signal: str, subject: str, value: int, at_least: int) -> str:
    """What is wrong, with its numbers."""
    return _SENTENCES.get(signal, "{subject}: {value}.").format(
        subject=subject,
        value=value,
        at_least=at_least,
        ratio=f"{value / 1000:.1f}",
        seconds=value // 1000,
        percent=f"{value / 10:.0f} %",
        limit_percent=f"{at_least / 10:.0f} %",
    )
