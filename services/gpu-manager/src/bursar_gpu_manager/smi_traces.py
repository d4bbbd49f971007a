"""What ``nvidia-smi`` has recorded, as a trace that `replayed` plays.

    nvidia-smi --query-gpu=timestamp,uuid,index,name,memory.total,memory.reserved,memory.used,memory.free,\\
               utilization.gpu,temperature.gpu,power.draw,clocks_event_reasons.hw_thermal_slowdown --format=csv -l 1

Columns are known by their names, in any order and with or without units; what is missing, or is "[N/A]", is unknown.
Rows with the same time are one sample. The time is ``timestamp``, or seconds in a column ``time [s]``. Which processes
there were such a file does not say, so all that is in use is foreign.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from bursar.errors import CallerError
from bursar_gpu_manager.port import Card, Memory, Sensors, Topology
from bursar_gpu_manager.replayed import Moment, Sample

MIB: Final = 1024**2

NUMBERS: Final = {
    "utilization.gpu": ("utilisation", 1),
    "utilization.memory": ("memory_utilisation", 1),
    "temperature.gpu": ("temperature", 1),
    "temperature.memory": ("memory_temperature", 1),
    "temperature.gpu.tlimit": ("margin", 1),
    "power.draw": ("power_mw", 1_000),
    "power.limit": ("power_limit_mw", 1_000),
    "enforced.power.limit": ("power_limit_mw", 1_000),
    "clocks.sm": ("clock_mhz", 1),
    "clocks.current.sm": ("clock_mhz", 1),
    "clocks.mem": ("memory_clock_mhz", 1),
    "clocks.current.memory": ("memory_clock_mhz", 1),
}
"""Columns with numbers: the sensor, and by how much to multiply."""

REASONS: Final = {
    "gpu_idle": "idle",
    "applications_clocks_setting": "clocks",
    "sw_power_cap": "power_cap",
    "hw_slowdown": "hardware",
    "sync_boost": "sync",
    "sw_thermal_slowdown": "thermal_software",
    "hw_thermal_slowdown": "thermal_hardware",
    "hw_power_brake_slowdown": "power_brake",
}
"""Columns ``clocks_event_reasons.*`` (before: ``clocks_throttle_reasons.*``): Active or Not Active."""


def is_smi(first: str) -> bool:
    """Whether a file whose first line this is looks like one of these."""
    names = {_plain(name) for name in first.split(",")}
    return "uuid" in names and bool(names & {"time", "timestamp"})


def read_smi(lines: Iterable[str]) -> list[Sample]:
    """Raises `CallerError` (``bad_trace``) with the number of the line that cannot be read."""
    rows = (line.split(",") for line in lines)
    names = [_plain(name) for name in next(rows, [])]
    moments: dict[int, dict[str, Moment]] = {}
    for number, row in enumerate(rows, 2):
        try:
            told = dict(zip(names, (field.strip() for field in row), strict=True))
            moment = _moment(told)
            moments.setdefault(_time(told), {})[moment.card.uuid] = moment
        except (ValueError, KeyError) as error:
            raise CallerError("bad_trace", f"line {number} of the trace cannot be read: {error}", line=number) from None
    if not moments:
        raise CallerError("bad_trace", "the trace has no samples", line=0)
    return [Sample(at, moments[at]) for at in sorted(moments)]


def _plain(name: str) -> str:
    return name.partition("[")[0].strip()


def _time(told: Mapping[str, str]) -> int:
    """Milliseconds; of a timestamp within its day."""
    if "time" in told:
        return int(float(told["time"]) * 1_000)
    found = re.search(r"(\d+):(\d+):(\d+)(?:\.(\d{1,3}))?", told["timestamp"])
    if found is None:
        raise ValueError("the time is not known")
    hours, minutes, seconds = (int(part) for part in found.groups()[:3])
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000 + int((found[4] or "0").ljust(3, "0"))


def _number(text: str | None, factor: int = 1) -> int | None:
    found = re.match(r"-?\d+(\.\d+)?", text or "")
    return None if found is None else int(float(found[0]) * factor)


def _moment(told: Mapping[str, str]) -> Moment:
    card = Card(told["uuid"], _number(told.get("index")) or 0, told.get("name", ""))
    total, reserved, used, free = (
        _number(told.get(f"memory.{name}"), MIB) for name in ("total", "reserved", "used", "free")
    )
    fields = {sensor: value for name, (sensor, factor) in NUMBERS.items()
              if (value := _number(told.get(name), factor)) is not None}  # fmt: skip
    sensors = Sensors(throttle=_throttle(told), **fields)
    return Moment(card, Memory(total, reserved, used, free), None, sensors, Topology())


def _throttle(told: Mapping[str, str]) -> tuple[str, ...] | None:
    """None when no reason is in the file."""
    known = {
        reason: told[name] for column, reason in REASONS.items()
        for name in (f"clocks_event_reasons.{column}", f"clocks_throttle_reasons.{column}") if name in told
    }  # fmt: skip
    said = {reason: text.lower() for reason, text in known.items() if "n/a" not in text.lower()}
    return tuple(reason for reason, text in said.items() if text == "active") if said else None
