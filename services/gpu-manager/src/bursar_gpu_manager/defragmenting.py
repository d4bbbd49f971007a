"""Fragmentation of the ledger's devices, the plan against it, and moves with the owners' consent.

What counts as free is what could be granted now, on devices that can be used; so a move is asked of nobody on a device
that is lost, cordoned or not observed, and to none such. From a card that is too hot its leases are asked to leave. A
lease may be moved when its holder has said so, it is on one device, and it is not loading; it goes to a device of the
same kind only, with the labels that it asked for, and away from its group if it asked for that.

A plan is looked for every ten seconds while there are leases that may be moved (`next_move`); it is carried out by
`moving`, whose events are journaled: who takes over goes on with it. Agreeing grants a second lease by the ordinary
rule, so promise 1 of the ledger holds at every step. When the time of a move is over, the second lease is taken away.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_moves as moves
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Notice, Outcome, Refuse, Reject
from bursar_gpu_manager import events
from bursar_gpu_manager.compaction import Clearing, room_for
from bursar_gpu_manager.defrag import Movable, Move, Plan, plan
from bursar_gpu_manager.device import Choice, Device, Lease
from bursar_gpu_manager.fitting import LOADING, is_usable, matches, neighbours, place, room_of
from bursar_gpu_manager.holding import not_held
from bursar_gpu_manager.leasing import grant, wanted
from bursar_gpu_manager.lifecycle import DROPPED
from bursar_gpu_manager.moving import ANSWER_MS, Moved, Started
from bursar_gpu_manager.pools import CLASSES, PLAN_ABOVE, demanded_class, phi, usable
from bursar_gpu_manager.refusal import obstacle, refused
from bursar_gpu_manager.ruling import may_lie
from bursar_gpu_manager.state import State
from bursar_gpu_manager.telling import lost
from bursar_gpu_manager.thermal import Heat
from bursar_gpu_manager.waiting import kind_of

PLAN_MS: Final = 10_000
MILLION: Final = 1_000_000
SHOWN: Final = 256
NOT_MOVABLE: Final = -1


class MakePlan(NamedTuple):
    """Internal: fragmentation is too high, and moves would help."""


class MakeMove(NamedTuple):
    """Internal: the present plan takes a step."""


# ---- what is free, and what may be moved


def free_of(state: State, now: int) -> dict[str, int]:
    """Bytes that could be granted now, by device; only devices where something may be."""
    return {
        device.name: room
        for device in state.devices.values()
        if is_usable(state, device, now)
        and state.sheet.heat(device.name) < Heat.HOT
        and (room := room_of(state, device)) is not None
    }


def movables(state: State, free: dict[str, int], now: int) -> Iterator[Movable]:
    """Leases that may be moved, with where to: devices of the same kind, on the hosts that their holders named."""
    kinds: dict[str, set[str]] = {}
    for name in free:
        kinds.setdefault(state.devices[name].model, set()).add(name)
    for key, (cost, hosts) in state.movable.items():
        name, memory = state.leases[key].devices[0]
        if name in free and _may_leave(state, key, now):
            device = state.devices[name]
            yield Movable(key, name, memory, cost, to=frozenset(_targets(state, key, kinds[device.model], hosts)))


def _targets(state: State, key: str, names: set[str], hosts: tuple[str, ...]) -> Iterator[str]:
    """Of these devices where the lease may go: the hosts that its holder named now, and what it was asked for with."""
    lease, near = state.leases[key], frozenset[str]()
    want = _asked(lease) if lease.choice else None
    if want is not None and want.group and want.apart != "no":
        near = frozenset(neighbours(state, want))
    for name in names:
        host = name.partition("/")[0]
        if (hosts and host not in hosts) or not near.isdisjoint((name, host)):
            continue
        if not may_lie(state, lease.principal, name):
            continue
        if want is None or matches(state, kind_of(want), state.devices[name]):
            yield name


def _asked(lease: Lease) -> wire.Wanted:
    """What a lease asked for."""
    choice = lease.choice or Choice()
    return wire.Wanted(
        memory=lease.devices[0][1],
        labels=dict(choice.labels),
        purpose="weights" if lease.purpose == LOADING else lease.purpose,  # type: ignore[arg-type]
        group=lease.group,
        apart=choice.apart,  # type: ignore[arg-type]
        strictly=choice.strictly,
    )


def size_of(state: State) -> int:
    """The class that most bytes are leased or waited for in."""
    asked = [memory for lease in state.leases.values() for _, memory in lease.devices]
    return demanded_class([*asked, *(waiter.command.body.memory for waiter in state.line)])


def planned(state: State, now: int) -> Plan:
    """Away from hot cards first; then against fragmentation."""
    free = free_of(state, now)
    if leaving := tuple(drains(state, free, now)):
        return Plan(size_of(state), Fraction(0), Fraction(0), leaving)
    return plan(free, movables(state, free, now), size_of(state))


def drains(state: State, free: dict[str, int], now: int) -> Iterator[Move]:
    """Leases that may be moved and are on a card that slows down or soon will: each to where least room is left."""
    rooms = dict(free)
    for key, (cost, hosts) in state.movable.items():
        lease = state.leases[key]
        name, memory = lease.devices[0]
        device = state.devices.get(name)
        if device is None or device.lost or state.sheet.heat(name) < Heat.HOT or not _may_leave(state, key, now):
            continue
        cool = _targets(state, key, {other for other in rooms if state.devices[other].model == device.model}, hosts)
        target = min(((rooms[other], other) for other in cool if rooms[other] >= memory), default=None)
        if target is not None:
            rooms[target[1]] -= memory
            movable = Movable(key, name, memory, cost)
            yield Move(key, name, target[1], memory, movable.cost, 0, Fraction(0))


def _may_leave(state: State, key: str, now: int) -> bool:
    lease = state.leases[key]
    return (
        len(lease.devices) == 1
        and not lease.taken
        and lease.purpose != LOADING
        and state.moving.may_ask(key, now)
    )  # fmt: skip


# ---- what holders say


def decide_movable(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: moves.Movable = command.body
    lease = state.leases.get(body.lease)
    refusal = not_held(state, command, lease, body.lease, body.fence)
    if refusal is not None:
        return refusal
    cost = NOT_MOVABLE if body.cost_ms is None else body.cost_ms
    reply = {"ok": True, "lease": body.lease, "movable": cost != NOT_MOVABLE}
    known = state.movable.get(body.lease, (NOT_MOVABLE, ()))
    if known == (cost, body.hosts) or cost == known[0] == NOT_MOVABLE:
        return Refuse(reply)
    return Accept([(events.MOVABLE, now, body.lease, cost, list(body.hosts))], reply)


def decide_move(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: moves.Move = command.body
    lease = state.leases.get(body.lease)
    refusal = not_held(state, command, lease, body.lease, body.fence)
    if refusal is not None:
        return refusal
    assert lease is not None
    current = state.moving.current
    if current is None or current.move.lease != body.lease or current.step != "proposed":
        return Reject("conflict", f"No move of lease {body.lease} is proposed.", {"lease": body.lease})
    if not body.agree:
        declined = state.moving.answer(body.lease, "declined", now)
        return Accept([_moved(declined)], {"ok": True, "lease": body.lease, "agreed": False})
    if current.move.target not in state.devices:
        return Reject("conflict", "The device that was proposed is not there any more.", {"lease": body.lease})
    want = wire.Lease(id="copy", note=lease.note, ttl_ms=lease.ttl, **_asked(lease).model_dump())
    copy = Command(command.principal, command.request_id, want)
    elsewhere = state.devices.keys() - {current.move.target}
    if place(state, want, now, wanted(state) | elsewhere) != (current.move.target,):
        failed = _moved(state.moving.answer(body.lease, "failed", now))
        return Accept([failed], refused(state, obstacle(state, want, now), now))
    given = grant(state, copy, (current.move.target,), now, fence)
    agreed = state.moving.answer(body.lease, "agreed", now)._replace(copy=given.reply["lease"])
    return Accept([*given.events, _moved(agreed)], given.reply)


# ---- what time makes due


def next_move(state: State, now: int) -> Command | None:
    if now < state.recovering_until:
        return None
    if state.moving.is_busy:
        return Command("", "", MakeMove()) if _steps(state, now) else None
    if not state.movable or now < state.planned_at + PLAN_MS:
        return None
    state.planned_at = now
    return Command("", "", MakePlan()) if planned(state, now).moves else None


def look_at(state: State) -> int | None:
    """When there may be something to do although nothing happens."""
    at = state.moving.wake_at
    if not state.moving.is_busy and state.movable:
        at = state.planned_at + PLAN_MS
    return None if at is None else max(at, state.recovering_until)


def decide_plan(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    begun = state.moving.begin(planned(state, now), now)
    if not begun:
        return Refuse({})
    rows = [[*move[:-1], move.phi.numerator, move.phi.denominator] for move in begun[0].moves]
    return Accept([(events.PLANNED, now, begun[0].size, rows)], {})


def decide_step(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    steps = _steps(state, now)
    if not steps:
        return Refuse({})
    happened: list[Event] = [_moved(step) for step in steps]
    told: list[Broadcast | Notice] = []
    for step in steps:
        if step.step == "proposed":
            told.append(_proposal(state, step))
        if step.step == "lapsed" and (copy := _copy_held(state)):
            happened.append((events.TAKEN, now, copy, DROPPED))
            told += lost(state, copy, DROPPED)
    return Accept(happened, {}, told)


def _copy_held(state: State) -> str:
    """The lease to move to, if it is held; "" otherwise."""
    current = state.moving.current
    lease = None if current is None else state.leases.get(current.copy)
    return "" if current is None or lease is None or lease.taken else current.copy


def _steps(state: State, now: int) -> list[Moved]:
    """What follows for the present plan from the ledger and the time."""
    current = state.moving.current
    if current is None:
        return state.moving.propose(free_of(state, now), now, state.movable)
    lease, copy = current.move.lease, current.copy
    if current.step == "agreed" and lease not in state.leases and copy in state.leases:
        return [state.moving.answer(lease, "loaded", now)]
    if lease not in state.leases or (copy and copy not in state.leases):
        return [state.moving.answer(lease, "failed", now)]
    return state.moving.lapse(now)


def _proposal(state: State, step: Moved) -> Notice:
    move = next(move for move in state.moving.waiting if move.lease == step.lease)
    body = {
        "v": 1,
        "service": wire.SERVICE,
        "what": "move_wanted",
        "lease": move.lease,
        "device": move.target,
        "memory": move.memory,
        "answer_in_ms": ANSWER_MS,
    }
    return Notice(state.leases[move.lease].principal, body)


# ---- events


def _moved(step: Moved) -> Event:
    return (events.MOVED, step.at, step.lease, step.step, step.until, step.copy)


def apply_movable(state: State, event: Event) -> None:
    _, now, lease, cost, hosts = event
    state.at = now
    if cost == NOT_MOVABLE:
        state.movable.pop(lease, None)
    else:
        state.movable[lease] = (cost, tuple(hosts))


def apply_planned(state: State, event: Event) -> None:
    _, now, size, rows = event
    state.at = now
    state.moving.apply(Started(tuple(Move.of_row(row) for row in rows), size, now))


def apply_moved(state: State, event: Event) -> None:
    _, now, lease, step, until, copy = event
    state.at = now
    state.moving.apply(Moved(lease, step, now, until, copy))


# ---- what is asked


def decide_fragmentation(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: moves.Fragmentation = command.body
    free = free_of(state, now)
    found = planned(state, now)
    current = state.moving.current
    clearing = None
    if body.memory is not None:
        hosts = {name: state.devices[name].host for name in free}
        clearing = room_for(free, hosts, movables(state, free, now), body.memory, body.devices)
    return Refuse(
        {
            "ok": True,
            "free": sum(max(0, room) for room in free.values()),
            "size": found.size,
            "above": _millionths(PLAN_ABOVE),
            "classes": [_class(free, size) for size in CLASSES],
            "devices": [_device(state.devices[name], free[name]) for name in sorted(free)[:SHOWN]],
            "plan": [_planned_move(state, move) for move in found.moves],
            "moving": None if current is None else current.move.lease,
            "step": None if current is None else current.step,
            "waiting": len(state.moving.waiting),
            "done": dict(sorted(state.moving.done.items())),
            "clearing": None if clearing is None else _clearing(state, clearing),
        }
    )


def _millionths(part: Any) -> int:
    return int(part * MILLION)


def _class(free: dict[str, int], size: int) -> dict[str, int]:
    rooms = free.values()
    return {
        "size": size,
        "usable": sum(usable(room, size) for room in rooms),
        "fragmentation": _millionths(phi(rooms, size)),
    }


def _device(device: Device, room: int) -> dict[str, Any]:
    return {
        "device": device.name,
        "free": max(0, room),
        "fragmentation": [_millionths(phi((room,), size)) for size in CLASSES],
    }


def _planned_move(state: State, move: Move) -> dict[str, Any]:
    told = {"principal": state.leases[move.lease].principal, "cost_ms": move.cost, "gain": move.gain}
    return _row(move.lease, move.source, move.target, move.memory) | told | {"fragmentation": _millionths(move.phi)}


def _clearing(state: State, found: Clearing) -> dict[str, Any]:
    rows = [
        _row(move.lease, move.source, move.target, move.memory)
        | {"principal": state.leases[move.lease].principal, "cost_ms": move.cost, "gain": None, "fragmentation": None}
        for move in found.moves
    ]
    return {"devices": list(found.cards), "moves": rows, "cost_ms": found.cost}


def _row(lease: str, source: str, target: str, memory: int) -> dict[str, Any]:
    return {"lease": lease, "source": source, "target": target, "memory": memory}
