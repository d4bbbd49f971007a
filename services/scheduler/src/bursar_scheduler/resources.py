"""What the tasks of a worker share beside its slots: memory of its GPU, CPU, RAM, tokens in flight by provider.

An attempt takes its demands with its slot, and gives them back with it: when the worker itself says that nothing of it
runs any more. Demands are part of what makes a lane; so tokens, of which each call expects another number, are rounded
up to three significant bits (by less than a quarter), on both sides: that makes four lanes for each doubling. (Tokens
in flight are for even load; the limits themselves are kept by the limiter.) A worker that says nothing of its batch's
token budget has no bound there; of the others what is not named is not there.

What has to be there beside amounts (a host, a region, a loaded model) counts as labels, under names that nobody can
give to a label of their own.
"""

from __future__ import annotations

from typing import Any, Final

from bursar.contracts.scheduler import Needs, Register
from bursar_scheduler.task import Demands

GPU_MODEL: Final = "gpu_model"
"""The label that stands for it."""

HOST: Final = "@host"
REGION: Final = "@region"
MODEL: Final = "@model "
"""Names of labels for what a worker says of itself elsewhere; followed by the name of a model, the last one."""

BATCH_TOKENS: Final = "batch_tokens"
UNBOUNDED: Final = 1 << 40

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
    return sorted({BATCH_TOKENS: UNBOUNDED, **dict(_amounts(body))}.items())


def _amounts(told: Any) -> list[tuple[str, int]]:
    named = [(name, amount) for name in AMOUNTS if (amount := getattr(told, name)) is not None]
    if told.batch_tokens is not None:
        named.append((BATCH_TOKENS, rounded_up(told.batch_tokens)))
    return named + [(f"tokens:{provider}", rounded_up(amount)) for provider, amount in told.tokens.items()]


def labels_needed(needs: Needs) -> tuple[tuple[str, str], ...]:
    """Labels that a worker must have, those for its place and its models among them; sorted."""
    if needs.gpu_model is None and needs.host is None and needs.region is None and needs.model is None:
        return tuple(sorted(needs.labels.items()))
    more = {GPU_MODEL: needs.gpu_model, HOST: needs.host, REGION: needs.region}
    if needs.model is not None:
        more[MODEL + needs.model] = ""
    told = {name: value for name, value in more.items() if value is not None}
    return tuple(sorted({**needs.labels, **told}.items()))


def labels_of(body: Register) -> dict[str, str]:
    """The labels of a worker, in the same words."""
    more = {GPU_MODEL: body.gpu_model, HOST: body.host, REGION: body.region}
    told = {name: value for name, value in more.items() if value is not None}
    return {**body.labels, **told, **dict.fromkeys([MODEL + model for model in body.models], "")}
