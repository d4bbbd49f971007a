"""The question "would this fit?": why not, device by device, and what would have to be freed. It changes nothing.

It is asked for bytes, or for a model: then the bytes are those of `estimates`.
"""

from __future__ import annotations

from typing import Any, Final

from bursar.contracts import gpu as wire
from bursar.errors import CallerError
from bursar.kernel.decider import Command, Fence, Outcome, Refuse, Reject
from bursar_gpu_manager.asked_model import asked_model
from bursar_gpu_manager.correcting import total
from bursar_gpu_manager.device import Device
from bursar_gpu_manager.estimates import Engine, Estimate, estimate, part
from bursar_gpu_manager.fitting import (
    LOADING,
    MAX_LEASES,
    ask_of,
    charge_of,
    is_fresh,
    loading_on,
    matching,
    observed_of,
    place,
    room_of,
)
from bursar_gpu_manager.freeing import Freed, Space, smallest
from bursar_gpu_manager.leasing import wanted
from bursar_gpu_manager.refusal import obstacle, refused
from bursar_gpu_manager.state import State
from bursar_gpu_manager.thermal import Heat
from bursar_gpu_manager.waiting import kind_of

SHOWN: Final = 64
MAX_MEMORY: Final = 2**50


def decide_explain(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Explain = command.body
    if body.load is None:
        assert body.want is not None  # the message is checked at the border
        return Refuse({**explain(state, body.want, now), "estimate": None})
    try:
        shape, engine = asked_model(body.load, body.gpu_memory_utilization or 900, body.swap_space_fraction)
        found = estimate(shape, engine)
    except CallerError as error:
        return Reject(error.code, error.text, dict(error.facts))
    tokens = body.load.context * body.load.sequences
    memory, shards = total(state, body.load, engine.form, found, tokens), body.load.shards
    choice = body.want or wire.Wanted(memory=1)
    if body.gpu_memory_utilization is not None:
        share = _share(state, choice, engine, found)
        if share < memory:
            text = "This part of the largest card that matches does not hold the model and so many tokens."
            return Reject("lease_too_small", text, {"missing": memory - share})
        memory, tokens = share, found.tokens_within(share)
    if not 1 <= memory <= MAX_MEMORY:
        return Reject("bad_config", "So large a model is beyond any card.", {"memory": memory})
    want = choice.model_copy(update={"memory": memory, "devices": shards})
    told = _in_parts(found, tokens) | {"swap": engine.swap_bytes(body.host_memory) // found.block * found.block}
    return Refuse({**explain(state, want, now), "estimate": told})


def _share(state: State, choice: wire.Wanted, engine: Engine, need: Estimate) -> int:
    """Bytes that an engine takes which is told to take a part of its card, on the largest one that matches: its budget,
    and what it does not know of."""
    shown = [device.total if (view := state.view(device)) is None else view.visible
             for device in matching(state, kind_of(choice)).values()]  # fmt: skip
    return part(max(shown, default=0), engine.gpu_memory_utilization) + need.outside


def _in_parts(found: Estimate, tokens: int) -> dict[str, int]:
    return {
        "weights": found.weights,
        "kv_cache": found.kv(tokens),
        "activation": found.activation,
        "overhead": found.non_torch + found.outside,
        "kv_per_token": found.kv_per_token,
        "tokens": tokens,
    }


def explain(state: State, want: wire.Wanted, now: int) -> dict[str, Any]:
    """The reply `bursar.contracts.gpu.Explained`, without the fence."""
    blocked = wanted(state)
    chosen = place(state, want, now, blocked)
    told = {"reason": "", "text": "It fits now.", "retry_in_ms": None}
    freed: Freed | None = None
    if chosen is None:
        refusal = refused(state, obstacle(state, want, now), now)
        told = {name: refusal[name] for name in told}
        freed = to_free(state, want, now)
    there = sorted(matching(state, kind_of(want)).values(), key=lambda device: _closeness(state, device, now))
    return {
        "ok": True,
        "fits": chosen is not None,
        "memory": want.memory,
        "devices": list(chosen or ()),
        **told,
        "free": None if freed is None or not freed.leases else [_freeable(state, key, now) for key in freed.leases],
        "is_smallest": freed is not None and freed.is_smallest,
        "obstacles": [_obstacle(state, want, device, now, device.name in blocked) for device in there[:SHOWN]],
    }


def to_free(state: State, want: wire.Wanted, now: int) -> Freed | None:
    """The leases whose end would let it fit; only on devices that are known well enough."""
    spaces, leases = {}, dict[str, dict[str, int]]()
    for device in matching(state, kind_of(want)).values():
        room = room_of(state, device) if is_fresh(state, device, now) else None
        if room is None:
            continue
        spaces[device.name] = Space(device.host if want.on_one_host else "", room)
        for key, frees in freed_by_lease(state, device).items():
            leases.setdefault(key, {})[device.name] = frees
    return smallest(spaces, leases, want.memory, want.devices)


def freed_by_lease(state: State, device: Device) -> dict[str, int]:
    """Bytes of room that the end of each lease gives back. One from the reserve gives back to the reserve."""
    observed = observed_of(state, device)
    return {key: max(memory, observed.get(key, 0)) for key, memory in device.leases.items()
            if not state.leases[key].emergency}  # fmt: skip


def _closeness(state: State, device: Device, now: int) -> tuple[bool, int, str]:
    room = room_of(state, device) if is_fresh(state, device, now) else None
    return (room is None, -(room or 0), device.name)


def _freeable(state: State, key: str, now: int) -> dict[str, Any]:
    lease = state.leases[key]
    devices = [state.devices[name] for name, _ in lease.devices if name in state.devices]
    return {
        "lease": key,
        "principal": lease.principal,
        "purpose": lease.purpose,
        "devices": [device.name for device in devices],
        "frees": max((freed_by_lease(state, device)[key] for device in devices), default=0),
        "ends_in_ms": max(0, lease.expires_at - now),
    }


def _obstacle(state: State, want: wire.Wanted, device: Device, now: int, is_wanted: bool) -> dict[str, Any]:
    fresh = is_fresh(state, device, now)
    room = room_of(state, device) if fresh else None
    reasons = {
        "not_observed": not fresh,
        "no_room": room is not None and room < want.memory,
        "loading": want.purpose == LOADING and loading_on(state, device) is not None,
        "wanted_before": is_wanted,
        "hot": state.sheet.heat(device.name) is Heat.HOT,
        "apart": want.strictly and not {device.name, device.host}.isdisjoint(ask_of(state, want).apart),
        "too_many_leases": len(device.leases) >= MAX_LEASES,
        "recovering": now < state.recovering_until,
    }
    return {
        "device": device.name,
        "why": [reason for reason, is_true in reasons.items() if is_true],
        "room": room,
        "missing": None if room is None else max(0, want.memory - room),
        "foreign": charge_of(state, device).foreign if fresh else None,
    }
