"""From a host's cards to a report: reads a port once, and never makes a number of what it could not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bursar.contracts.gpu import MAX_DEVICES, MAX_PARTS, MAX_PROCESSES
from bursar_gpu_manager.port import Card, DeviceLost, DevicePort, ProcessUse

MOST_PROCESSES: Final = 400
"""Processes of one report, over all cards: it has to fit into one message. The memory of others counts as foreign."""

LONGEST: Final = 128


def report(port: DevicePort, boot: str, seq: int, totals: dict[str, int], labels: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `bursar.contracts.gpu.Report`. ``totals`` remembers each card's size, for when it is lost."""
    cards = list(port.cards())[:MAX_PARTS]
    each = min(MAX_PROCESSES, MOST_PROCESSES // max(1, len(cards)))
    return {
        "v": 1,
        "boot": boot,
        "seq": seq,
        "devices": [_device(port, card, totals, each) for card in cards],
        "labels": dict(labels),
    }


def _device(port: DevicePort, card: Card, totals: dict[str, int], most: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"uuid": card.uuid, "index": card.index, "model": card.model[:128], "parent": card.parent}
    try:
        memory, processes = port.memory(card.uuid), port.processes(card.uuid)
        sensors, topology = port.sensors(card.uuid), port.topology(card.uuid)
    except DeviceLost:
        return {**fields, "total": totals.get(card.uuid), "lost": True}
    total = totals.get(card.uuid) if memory.total is None else memory.total
    if total is not None:
        totals[card.uuid] = total
    largest = None if processes is None else sorted(processes, key=_size, reverse=True)[:most]
    rest = {**sensors._asdict(), **topology._asdict()}
    return {
        **fields,
        "total": total,
        "reserved": memory.reserved,
        "used": memory.used,
        "processes": None if largest is None else [process._asdict() for process in largest],
        **{name: _told(value) for name, value in rest.items() if value is not None},
    }


def _told(value: Any) -> Any:
    """Lists and texts are cut to what the wire takes."""
    if isinstance(value, str):
        return value[:LONGEST]
    return list(value)[:MAX_DEVICES] if isinstance(value, tuple) else value


def _size(process: ProcessUse) -> tuple[int, int]:
    return (-1 if process.memory is None else process.memory, process.pid)
