"""An alert in one sentence, for people."""

from __future__ import annotations

from typing import Final

_SENTENCES: Final = {
    "host_silence_ms": "Host {subject} has sent no sample for {seconds} s.",
    "cpu_permille": "Host {subject} uses {percent} of its CPU (limit {limit_percent}).",
    "memory_permille": "Host {subject} uses {percent} of its memory (limit {limit_percent}).",
    "disk_permille": "The disk of host {subject} is {percent} full (limit {limit_percent}).",
    "gpu_lost": "GPU {subject} does not answer any more.",
    "instance_missing": "Instance {subject} does not answer any more.",
    "owner_missing": "No instance of {subject} takes requests.",
    "budget_permille": "{percent} of budget {subject} is used (limit of this alert: {limit_percent}).",
    "foreign_permille": "Somebody else uses {percent} of budget {subject} with the same key.",
    "circuit_open": "The circuit to {subject} is open.",
    "queue_growth": "Queue {subject} has grown by {value} tasks in a minute.",
}


def sentence(signal: str, subject: str, value: int, at_least: int) -> str:
    """What is wrong, with its numbers."""
    return _SENTENCES.get(signal, "{subject}: {value}.").format(
        subject=subject,
        value=value,
        seconds=value // 1000,
        percent=f"{value / 10:.0f} %",
        limit_percent=f"{at_least / 10:.0f} %",
    )
