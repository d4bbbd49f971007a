"""The NUMA nodes of this host, as Linux tells them below ``/sys/devices/system/node``.

They change slowly and a machine may have many, so they are read every ten seconds; in between the last answer counts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from bursar.contracts.monitor_host import NumaSample

NODES: Final = Path("/sys/devices/system/node")
EVERY_MS: Final = 10_000
MAX_NODES: Final = 64

_KB: Final = re.compile(r"(MemTotal|MemFree):\s+(\d+) kB")


class Numa:
    """``nodes``: where the system shows them."""

    def __init__(self, nodes: Path = NODES) -> None:
        self._nodes = nodes
        self._read_at: int | None = None
        self._last: tuple[NumaSample, ...] = ()

    def sample(self, now: int) -> tuple[NumaSample, ...]:
        """At ``now`` (ms); empty where there is one memory for all, or nothing says so."""
        if self._read_at is None or now - self._read_at >= EVERY_MS:
            self._read_at = now
            found = sorted(self._nodes.glob("node[0-9]*"), key=lambda path: int(path.name[4:]))[:MAX_NODES]
            self._last = tuple(one for path in found if (one := _node(path)) is not None)
        return self._last


def _node(path: Path) -> NumaSample | None:
    try:
        sizes = dict(_KB.findall((path / "meminfo").read_text(encoding="ascii")))
        cores = cores_in((path / "cpulist").read_text(encoding="ascii"))
        total, free = int(sizes["MemTotal"]) * 1_024, int(sizes["MemFree"]) * 1_024
        return NumaSample(node=int(path.name[4:]), cores=cores, total_bytes=total, free_bytes=free)
    except (OSError, ValueError, LookupError):
        return None


def cores_in(text: str) -> int:
    """How many a list such as ``0-3,8`` has."""
    ranges = (part.partition("-") for part in text.strip().split(",") if part)
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
