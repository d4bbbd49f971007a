"""What the cache sees when it looks: who says nothing any more, what cards say of its copies, whom it stands in the way
of. Nothing durable changes here; `caching` decides.
"""

from __future__ import annotations

from collections.abc import Iterator

from bursar.kernel.bugs import seeded
from bursar_gpu_manager import cache_state, model_cache
from bursar_gpu_manager.device import View
from bursar_gpu_manager.fitting import is_fresh, matching, observed_of, room_of
from bursar_gpu_manager.state import State


def owner_in_memory(state: State, entry: cache_state.Entry) -> str:
    """Who has loaded a copy in a host's memory; "" for copies of other tiers, and for those that nobody has."""
    return state.copies.get(entry.key, ("", ""))[0] if entry.tier == "ram" else ""


def parts(state: State) -> Iterator[model_cache.Use]:
    """Copies with those who have a part in them, and have to say so again."""
    yield from model_cache.uses(state.cache)
    for key in state.copies:
        owner = owner_in_memory(state, state.cache.entries[key])
        if owner:
            yield key, owner


def silent(state: State, now: int) -> set[model_cache.Use]:
    """Uses whose holder was not heard for too long."""
    heard = {} if seeded("gpu_dead_users_hold_weights") else state.users_heard
    state.users_heard = heard = {use: heard.get(use, now) for use in parts(state)}
    return {use for use, at in heard.items() if now >= at + state.settings.cache_use_ms}


def room_for_the_line(state: State, now: int) -> list[cache_state.Event]:
    """Weights that nobody uses go for the first in line, if that is what keeps it from a device; on the device where
    the fewest have to go."""
    first = next(iter(state.line), None)
    if first is None or first.command.body.devices != 1:
        return []
    body, found = first.command.body, list[tuple[int, str, list[str]]]()
    for device in matching(state, first.kind).values():
        room = room_of(state, device) if is_fresh(state, device, now) else None
        if room is None:
            continue
        here = [entry for entry in state.cache.entries.values() if entry.place == device.name]
        missing = body.memory - room - sum(entry.size for entry in here if entry.phase == "evicting")
        if missing <= 0:
            return []  # it fits, or will
        keys = model_cache.to_free(state.cache, device.name, missing, now)
        if keys:
            found.append((len(keys), device.name, keys))
    if not found:
        return []
    return [model_cache.evict(state.cache, key, state.cache.entries[key].size, now) for key in min(found)[2]]


def observed(state: State, entry: cache_state.Entry) -> int | None:
    """Bytes that a card says are left of a copy; None when that is not known."""
    lease = state.copies.get(entry.key, ("", ""))[1]
    device = state.devices.get(entry.place)
    if entry.tier != "gpu":
        return None
    if device is None or device.lost or lease not in state.leases:
        return 0
    view = state.view(device)
    if view is None or not is_fresh(state, device, state.sights[device.host].at):
        return None
    found = observed_of(state, device).get(lease)
    if found is None:
        named = state.leases[lease].processes
        is_gone = seeded("gpu_unseen_weights_are_gone") or (bool(named) and view.lacks(named))
        return 0 if is_gone else None
    return min(found + _before(state, lease, entry.place, view), entry.size)


def _before(state: State, lease: str, place: str, view: View) -> int:
    """What processes of the lease have had since before it, and have still: weights that were loaded first and leased
    later are there as long as that is."""
    floors = state.floors.get(lease, {}).get(place, {})
    named = state.leases[lease].processes
    return sum(min(floors.get(pid, 0), view.processes.get(pid, 0)) for pid in named)
