"""What time makes of the leases of hosts: they expire, and their limits move with what their holders use.

Processor time is lent from guarantees that are not used; of memory only what nobody has leased is lent, so that whoever
has a guarantee may fill it at any moment (`sharing` says how limits move without ever adding up to too much).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from bursar.kernel.decider import Accept, Command, Fence, Outcome, Refuse
from bursar_monitor import quota_events as events
from bursar_monitor.bugs import GUARANTEE_FORGOTTEN, seeded
from bursar_monitor.quotas import changed, heard, room_of
from bursar_monitor.sharing import GIVE_BACK_MS, Want, step, wanted_by
from bursar_monitor.state import State

LOOK_MS: Final = 1_000

NOTHING = Refuse({})


class Expire(NamedTuple):
    """The time of a lease is over."""

    lease: str


class Balance(NamedTuple):
    """The limits on a host may have to be others."""

    host: str


def due(state: State, now: int) -> Expire | Balance | None:
    quotas = state.quotas
    if now >= quotas.look_at:
        quotas.look_at = now + LOOK_MS
        quotas.todo = deque(_work(state, now))
    return quotas.todo.popleft() if quotas.todo else None


def wake_at(state: State) -> int:
    return state.at if state.quotas.todo else state.quotas.look_at


def _work(state: State, now: int) -> Iterator[Expire | Balance]:
    for name, lease in state.quotas.leases.items():
        if lease.until <= now:
            yield Expire(name)
    for host in state.quotas.by_host:
        if heard(state, host, now) is not None and _next_limits(state, host, now):
            yield Balance(host)


def decide_expire(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    name = command.body.lease
    lease = state.quotas.leases.get(name)
    if lease is None or lease.until > now:
        return NOTHING
    return Accept([(events.ENDED, now, name, "expired")], {}, [changed(state, lease.host)])


def decide_balance(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    host = command.body.host
    limits = _next_limits(state, host, now) if heard(state, host, now) is not None else []
    if not limits:
        return NOTHING
    return Accept([(events.BALANCED, now, host, limits)], {}, [changed(state, host)])


def _next_limits(state: State, host: str, now: int) -> list[tuple[str, list[int], list[int]]]:
    """The limits of a host's leases that should be others, and what they should be."""
    quotas = state.quotas
    room = room_of(state.hosts[host])
    names = list(quotas.by_host.get(host, ()))
    leases = [quotas.leases[name] for name in names]
    cpu_wants, memory_wants = [], []
    for name, lease in zip(names, leases, strict=True):
        use, weight = quotas.uses.get(name), quotas.rule_of(lease.agent).weight
        known = quotas.use_of(name, now)
        at = 0 if use is None else use.at
        cpu_want = Want(lease.cpu, lease.most_cpu, weight, 0)
        cpu_wants.append(
            cpu_want._replace(want=wanted_by(cpu_want, lease.cpu_held, None if known is None else known.cpu_milli, at))
        )
        memory_want = Want(lease.memory, lease.most_memory, weight, 0)
        size = wanted_by(memory_want, lease.memory_held, None if known is None else known.memory_bytes, at)
        kept = 0 if seeded(GUARANTEE_FORGOTTEN) else lease.memory
        memory_wants.append(memory_want._replace(want=max(kept, size)))
    cpu, memory = [one.cpu_held for one in leases], [one.memory_held for one in leases]
    if room.cpu is not None:
        cpu = step(room.cpu, cpu_wants, cpu, now, GIVE_BACK_MS["cpu"])
    if room.memory is not None:
        memory = step(room.memory, memory_wants, memory, now, GIVE_BACK_MS["memory"])
    return [
        (name, list(its_cpu), list(its_memory))
        for name, one, its_cpu, its_memory in zip(names, leases, cpu, memory, strict=True)
        if (its_cpu, its_memory) != (one.cpu_held, one.memory_held)
    ]
