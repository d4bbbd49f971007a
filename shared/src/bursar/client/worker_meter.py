"""How busy the host is: part of the CPU and of the memory in use, as the worker may use them.

In a container with limits (cgroup v2) the limits are what counts: the CPU time of the group against its quota, its
memory without what can be dropped from it at once against its maximum. Else it is the whole machine, by psutil.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from bursar.client.worker_slots import Reading
from bursar.errors import CallerError

CGROUP: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")


class Meter(Protocol):
    def read(self) -> Reading:
        """What is in use; of the CPU, since the reading before."""
        ...


class HostMeter:
    """``now``: milliseconds of any clock. ``root``: the folder of a control group (None: that of this process). Raises
    `CallerError` when psutil is not installed."""

    def __init__(self, now: Callable[[], float], root: Path | None = None) -> None:
        try:
            import psutil  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise CallerError("bad_request", "to measure the host needs psutil: pip install 'bursar[worker]'") from None
        self._psutil: Any = psutil
        self._now = now
        self._root = own_group() if root is None else root
        self._quota = _quota(self._root)
        self._before = (self._now(), self._used_us())
        psutil.cpu_percent(None)

    def read(self) -> Reading:
        return Reading(self._cpu(), self._memory())

    def _cpu(self) -> float:
        if self._quota is None:
            return float(self._psutil.cpu_percent(None)) / 100.0
        (then, used_then), self._before = self._before, (self._now(), self._used_us())
        now, used = self._before
        if now <= then:
            return 0.0
        return max(0.0, min(1.0, (used - used_then) / 1000.0 / (now - then) / self._quota))

    def _used_us(self) -> int:
        """CPU time of the group, µs."""
        return 0 if self._quota is None else _field(self._root / "cpu.stat", "usage_usec")

    def _memory(self) -> float:
        most = _number(self._root / "memory.max")
        used = _number(self._root / "memory.current")
        if most is None or used is None:
            return float(self._psutil.virtual_memory().percent) / 100.0
        held = max(0, used - _field(self._root / "memory.stat", "inactive_file"))
        return min(1.0, held / max(1, most))


def own_group(told: Path = OWN, mounted: Path = CGROUP) -> Path:
    """The folder of this process's control group: of a container, or of a service of the system."""
    for line in _text(told).splitlines():
        number, _, path = line.partition("::")
        if number == "0":
            return mounted / path.lstrip("/")
    return mounted


def _quota(root: Path) -> float | None:
    """CPUs that the group may use; None without a limit."""
    words = _text(root / "cpu.max").split()
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1]) or None


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _field(path: Path, name: str) -> int:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
