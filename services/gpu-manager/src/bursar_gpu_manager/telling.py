"""Who is told that a lease has ended: its holder, unless it has ended it itself, and the engines of its pool."""

from __future__ import annotations

from collections.abc import Iterable

from bursar.contracts import gpu as wire
from bursar.contracts.gpu_words import LossReason
from bursar.kernel.decider import Notice
from bursar_gpu_manager.state import State


def lost(state: State, key: str, reason: LossReason) -> list[Notice]:
    """It was taken away; the kernel adds the fence."""
    return _notices((state.leases[key].principal, *_engines(state, key)), key, reason)


def over(state: State, key: str, reason: LossReason) -> list[Notice]:
    """Its holder has given it back, or let it end."""
    return _notices(_engines(state, key), key, reason)


def _engines(state: State, key: str) -> Iterable[str]:
    return state.pools[key].pages.engines if key in state.pools else ()


def _notices(principals: Iterable[str], key: str, reason: LossReason) -> list[Notice]:
    body = {"v": 1, "service": wire.SERVICE, "what": "lease_lost", "lease": key, "reason": reason}
    return [Notice(principal, body) for principal in dict.fromkeys(principals)]
