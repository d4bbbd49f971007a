"""What the tasks of a worker share beside its slots: memory of its GPU, CPU, RAM, tokens in flight by provider.

An attempt takes its demands with its slot, and gives them back with it: when the worker itself says that nothing of it
runs any more. Demands are part of what makes a lane; so tokens, of which each call expects another number, are rounded
up to three significant bits (by less than a quarter), on both sides: that makes four lanes for each doubling. (Tokens
in flight are for even load; the limits themselves are kept by the limiter.)
"""

from __future__ import annotations

from typing import Any, Final

from bursar.contracts.scheduler import Needs, Register
from bursar_scheduler.task import Demands

GPU_MODEL: Final = "gpu_model"
"""The label that stands for it."""

AMOUNTS: Final = ("gpu_memory_mib", "cpu_millis", "ram_mib")
BITS: Final = 3


def rounded_up(amount: int) -> int:
    """At least as much, in three significant bits."""
    shift = max(0, amount.bit_length() - BITS)
    return -(-amount >> shift) << shift


def demands_of(needs: Needs) -> Demands:
    return tuple(sorted(_amounts(needs)))


def room_of(body: Register) -> list[tuple[str, int]]:
    """What a worker has."""
    return sorted(_amounts(body))


def _amounts(told: Any) -> list[tuple[str, int]]:
    named = [(name, amount) for name in AMOUNTS if (amount := getattr(told, name)) is not None]
    return named + [(f"tokens:{provider}", rounded_up(amount)) for provider, amount in told.tokens.items()]
