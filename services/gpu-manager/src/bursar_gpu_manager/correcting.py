"""What models really took corrects what they are estimated to take.

Who asks for start-up parameters says which model goes into which lease. When the cards then show the lease's processes
at four fifths of what was expected or more, the engine has started: what was observed, less the cache that it was told
to make, is compared with the estimate, once for each lease, and the next question about this model is answered with it.

All of it is volatile: a take-over begins with the estimates again, which are good to a few hundred megabytes.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar_gpu_manager.estimates import Estimate
from bursar_gpu_manager.fitting import LOADING, observed_of
from bursar_gpu_manager.state import State

MOST: Final = 1_024
LOADED_PERCENT: Final = 80


class Expected(NamedTuple):
    """Of a lease: the model, and bytes on each device without and for the cache."""

    key: str
    fixed: int
    cache: int


def key_of(load: wire.ModelLoad, form: str) -> str:
    """Models are compared with themselves in the same format, shared by as many cards."""
    return f"{load.model.lower()} {form} {load.shards}"


def expect(state: State, lease: str, load: wire.ModelLoad, form: str, need: Estimate, tokens: int) -> None:
    state.expected.pop(lease, None)
    state.expected[lease] = Expected(key_of(load, form), need.fixed, need.kv(tokens))
    if len(state.expected) > MOST:
        del state.expected[next(iter(state.expected))]


def learn(state: State) -> None:
    """Compare what has been loaded since the last time."""
    for key, expected in list(state.expected.items()):
        lease = state.leases.get(key)
        if lease is None:
            del state.expected[key]
        elif lease.purpose != LOADING:
            device = state.devices.get(lease.devices[0][0])
            observed = 0 if device is None else observed_of(state, device).get(key, 0)
            if observed * 100 >= (expected.fixed + expected.cache) * LOADED_PERCENT:
                state.corrections.observe(expected.key, expected.fixed, observed - expected.cache)
                del state.expected[key]


def total(state: State, load: wire.ModelLoad, form: str, need: Estimate, tokens: int) -> int:
    """Bytes on each device for the model and ``tokens`` of cache, as far as it is known what the model takes."""
    learn(state)
    return state.corrections.corrected(key_of(load, form), need.fixed) + need.kv(tokens)
