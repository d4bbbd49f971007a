"""What the processes of a lease use beyond it."""

from __future__ import annotations

from bursar_gpu_manager.admission import foreign
from bursar_gpu_manager.device import Lease
from bursar_gpu_manager.fitting import observed_of
from bursar_gpu_manager.state import State


def overuse_of(state: State, key: str, lease: Lease) -> int | None:
    """Bytes that its processes use beyond the lease; None when nothing is known of them."""
    known, over = False, 0
    for name, memory in lease.devices:
        device = state.devices.get(name)
        observed = {} if device is None else observed_of(state, device)
        if key in observed:
            known, over = True, over + foreign(observed[key], {key: memory})
    return over if known else None
