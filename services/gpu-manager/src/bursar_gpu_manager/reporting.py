"""From a host's cards to a report: reads a port once, and never makes a number of what it could not read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bursar.contracts.gpu import MAX_DEVICES, MAX_PROCESSES
from bursar_gpu_manager.port import Card, DeviceLost, DevicePort, ProcessUse

MOST_PROCESSES: Final = 400
"""Processes of one report, over all cards: it has to fit into one message. The memory of others counts as foreign."""


def report(port: DevicePort, boot: str, seq: int, totals: dict[str, int], labels: Mapping[str, str]) -> dict[str, Any]:
    """The fields of `bursar.contracts.gpu.Report`. ``totals`` remembers each card's size, for when it is lost."""
    cards = list(port.cards())[:MAX_DEVICES]
    each = min(MAX_PROCESSES, MOST_PROCESSES // max(1, len(cards)))
    return {
        "v": 1,
        "boot": boot,
        "seq": seq,
        "devices": [_device(port, card, totals, each) for card in cards],
        "labels": dict(labels),
    }


def _device(port: DevicePort, card: Card, totals: dict[str, int], most: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"uuid": card.uuid, "index": card.index, "model": card.model[:128]}
    try:
        memory, processes, sensors = port.memory(card.uuid), port.processes(card.uuid), port.sensors(card.uuid)
    except DeviceLost:
        return {**fields, "total": totals.get(card.uuid, 0), "lost": True}
    total = memory.total or totals.get(card.uuid, 0)
    totals[card.uuid] = total
    largest = sorted(processes, key=_size, reverse=True)[:most]
    return {
        **fields,
        "total": total,
        "reserved": memory.reserved,
        "used": memory.used,
        "processes": [process._asdict() for process in largest],
        **sensors._asdict(),
    }


def _size(process: ProcessUse) -> tuple[int, int]:
    return (-1 if process.memory is None else process.memory, process.pid)
