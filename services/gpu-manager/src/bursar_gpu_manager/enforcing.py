"""For the probes, which enforce on their hosts what was granted: which leases there are, and orders to end processes.

A probe asks for the leases on its host's cards every second. It is told by whom they are, who allocates, and whether
they are ending; the answer's fence, which grows with every decision, tells an answer of now from one of an owner that
is not it any more. An order is a notice to the host's principal, and has a fence too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Command, Fence, Notice, Outcome, Refuse
from bursar_gpu_manager.claiming import hosts_of
from bursar_gpu_manager.device import Lease, Pid
from bursar_gpu_manager.state import State

TOLD: Final = 1_024
"""Leases of one host that are told."""


def decide_holdings(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    devices = state.of_host(command.principal).values()
    keys = list(dict.fromkeys(key for device in devices for key in device.leases))
    told = [_holding(command.principal, key, state.leases[key], now) for key in keys[:TOLD]]
    return Refuse({"ok": True, "now_ms": now, "leases": told, "complete": len(keys) <= TOLD})


def _holding(host: str, key: str, lease: Lease, now: int) -> dict[str, Any]:
    here = [(name.partition("/")[2], memory) for name, memory in lease.devices if name.startswith(f"{host}/")]
    return {
        "lease": key,
        "principal": lease.principal,
        "purpose": lease.purpose,
        "devices": [uuid for uuid, _ in here],
        "memory": here[0][1],
        "processes": _told(lease.processes),
        "spared": _told(spared(lease, host)),
        "ending": bool(lease.taken),
        "expires_in_ms": max(0, lease.expires_at - now),
    }


def spared(lease: Lease, host: str) -> list[Pid]:
    """Those of its processes that had memory on a card of the host before it was granted (`claiming`)."""
    there = {(pid, started) for name, pid, started, _ in lease.before if name.startswith(f"{host}/")}
    return [pid for pid in lease.processes if pid in there]


def _told(processes: Iterable[Pid]) -> list[dict[str, int]]:
    return [{"pid": pid, "started": started} for pid, started in processes]


def orders(lease: Lease, key: str) -> list[Notice]:
    """To the probes of its hosts: end the processes of a lease that was taken away."""
    body = {"v": 1, "service": wire.SERVICE, "what": "end_processes", "lease": key, "processes": _told(lease.processes)}
    if not lease.processes:
        return []
    return [Notice(host, body | {"spared": _told(spared(lease, host))}) for host in hosts_of(lease.devices)]
