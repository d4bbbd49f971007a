"""Why not, what comes closest, and when it may be otherwise: in numbers and in words."""

from __future__ import annotations

from itertools import groupby
from typing import Any, Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar.contracts.gpu_words import RefusalReason
from bursar_gpu_manager.device import Device
from bursar_gpu_manager.fitting import LOADING, ask_of, is_fresh, is_urgent, loading_on, matching, room_of
from bursar_gpu_manager.state import State
from bursar_gpu_manager.thermal import Heat
from bursar_gpu_manager.waiting import kind_of

NEXT_REPORT_MS: Final = 500
"""A probe that is at work reports in about this time."""

WORDS: Final = {
    "no_device": "No device that is there is of the kind that was asked for.",
    "never_fits": "No device, or no set of them, is large enough, were it ever so empty.",
    "not_observed": "What could have room has no fresh report of its probe, and what is not known is not granted.",
    "recovering": "The log has lost entries: nothing is granted until all that they may have granted has ended.",
    "loading": "Another lease is loading there, and only one may at a time.",
    "hot": "What has room is too hot, or will be soon: it gets nothing until it has cooled.",
    "apart": "What has room has another lease of the group.",
    "topology": "What has room is not on one node, or not linked, as it has to be.",
    "queue_full": "The line is full.",
    "wait_too_long": "It did not fit before the deadline.",
    "no_room": "It does not fit now.",
}


class Obstacle(NamedTuple):
    """What stands in the way. ``retry_in``: ms until it may fit if nobody renews (None: not known)."""

    reason: str
    closest: str | None = None
    missing: int | None = None
    retry_in: int | None = None


def obstacle(state: State, body: wire.Wanted, now: int) -> Obstacle:
    """The obstacle of a request that cannot be granted now."""
    if now < state.recovering_until:
        return Obstacle("recovering", retry_in=state.recovering_until - now)
    there = list(matching(state, kind_of(body)).values())
    if not there:
        return Obstacle("no_device")
    urgent = is_urgent(body)
    largest = _closest(body, [(_most(state, device, urgent), device) for device in there])
    if largest is None:
        return Obstacle("never_fits")
    if largest[0] < body.memory:
        return Obstacle("never_fits", largest[1].name, body.memory - largest[0])
    return _present(state, body, there, now)


def _present(state: State, body: wire.Wanted, there: list[Device], now: int) -> Obstacle:
    known = [(left, device) for device in there if is_fresh(state, device, now)
             if (left := room_of(state, device, emergency=is_urgent(body))) is not None]  # fmt: skip
    closest = _closest(body, known)
    if closest is None:
        return Obstacle("not_observed", retry_in=NEXT_REPORT_MS)
    left, device = closest
    if left >= body.memory and (why := _kept_away(state, body, known)) is not None:
        return Obstacle(why, device.name, 0)
    if body.purpose == LOADING and left >= body.memory and (key := loading_on(state, device)) is not None:
        ends = state.leases[key].expires_at + state.settings.margin_ms
        return Obstacle("loading", device.name, 0, max(1, ends - now))
    missing = max(0, body.memory - left)
    return Obstacle("no_room", device.name, missing, _freed_in(state, device, missing, now))


def _kept_away(state: State, body: wire.Wanted, known: list[tuple[int, Device]]) -> RefusalReason | None:
    """What keeps it from devices that have room."""
    cool = [row for row in known if state.sheet.heat(row[1].name) is not Heat.HOT]
    if not _fits(body, cool):
        return "hot"
    apart = ask_of(state, body)
    free = [row for row in cool if row[1].name not in apart.apart and row[1].host not in apart.apart]
    if apart.strictly and not _fits(body, free):
        return "apart"
    return "topology" if "same" in (body.numa, body.link) and not len(state.line) else None


def _fits(body: wire.Wanted, rooms: list[tuple[int, Device]]) -> bool:
    closest = _closest(body, rooms)
    return closest is not None and closest[0] >= body.memory


def _most(state: State, device: Device, urgent: bool) -> int:
    """What the device offers when it is empty."""
    if urgent:
        return state.settings.reserve
    view = state.view(device)
    return device.total - (view.kept if view is not None else 0) - state.settings.reserve


def _closest(body: wire.Wanted, rooms: list[tuple[int, Device]]) -> tuple[int, Device] | None:
    """The device that decides: of the best set, the one with the least room; None when there is no set."""
    if not body.on_one_host or body.devices == 1:
        return _last_of(rooms, body.devices)
    rooms = sorted(rooms, key=lambda row: row[1].host)
    sets = [_last_of(list(group), body.devices) for _, group in groupby(rooms, key=lambda row: row[1].host)]
    return max((last for last in sets if last is not None), key=_order, default=None)


def _last_of(rooms: list[tuple[int, Device]], count: int) -> tuple[int, Device] | None:
    if len(rooms) < count:
        return None
    return sorted(rooms, key=_order, reverse=True)[count - 1]


def _order(row: tuple[int, Device]) -> tuple[int, str]:
    return (row[0], row[1].name)


def _freed_in(state: State, device: Device, missing: int, now: int) -> int | None:
    """When leases on the device end by time, the first that together make up for what is missing."""
    ends = sorted((state.leases[key].expires_at, memory) for key, memory in device.leases.items())
    for expires_at, memory in ends:
        missing -= memory
        if missing <= 0:
            return max(1, expires_at + state.settings.margin_ms - now)
    return None


def refused(state: State, what: Obstacle, now: int) -> dict[str, Any]:
    """The reply `Refused`, without the fence."""
    return {
        "ok": False,
        "reason": what.reason,
        "closest": what.closest,
        "missing": what.missing,
        "waiting": len(state.line),
        "now_ms": now,
        "retry_in_ms": what.retry_in,
        "text": _sentence(state, what),
    }


def _sentence(state: State, what: Obstacle) -> str:
    parts = [WORDS[what.reason]]
    if what.closest is not None and what.missing:
        parts.append(f"{what.closest} comes closest and lacks {what.missing} bytes.")
    elif what.closest is not None and len(state.line):
        parts.append(f"{what.closest} has room, but {len(state.line)} stand in line before.")
    if what.retry_in is not None:
        parts.append(f"It may fit in {what.retry_in} ms.")
    return " ".join(parts)
