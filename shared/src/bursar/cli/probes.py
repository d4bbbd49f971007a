"""The probes of this host: `bursar up` runs them beside the services, so that the fleet's picture has this machine.

A host is a principal of the role ``node``, named after the machine. Its credentials are made at the first start and
stay in the home, apart from those of agents. Two processes use them: the monitor's probe (CPU, memory, network, disk)
and, where there are NVIDIA cards or simulated ones are asked for, that of the GPU manager.
"""

from __future__ import annotations

import ctypes
import re
import socket
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from bursar.bus.identity import Home
from bursar.bus.permissions import check_agent_name
from bursar.cli.supervise import ChildSpec

HOST_PROBE: Final = "bursar_monitor.node"
GPU_PROBE: Final = "bursar_gpu_manager.node"
CARDS: Final = re.compile(r"(?:(\d{1,2})x)?\d{1,6}[GM]i?B?", re.IGNORECASE)
MAX_CARDS: Final = 16


class Probe(NamedTuple):
    """A process to run, and what it looks at, in words."""

    module: str
    arguments: tuple[str, ...]
    watches: str

    @property
    def name(self) -> str:
        return "gpu-probe" if self.module == GPU_PROBE else "host-probe"

    def child(self, url: str, creds: Path, parent: int) -> ChildSpec:
        command = (sys.executable, "-m", "bursar.cli.child", str(parent), self.module, *self.arguments)
        return ChildSpec(self.name, command, {"BURSAR_URL": url, "BURSAR_CREDS": str(creds), "PYTHONUNBUFFERED": "1"})


def are_cards(text: str) -> bool:
    """Whether these are cards that ``bursar-gpu-node --simulate`` takes: ``2x24GiB``, ``80GiB+2x24GiB``."""
    found = [CARDS.fullmatch(part) for part in text.split("+")]
    counts = [int(part[1] or 1) for part in found if part is not None]
    return None not in found and 0 not in counts and sum(counts) <= MAX_CARDS


def probes(gpus: str) -> list[Probe]:
    """Those that are installed and have something to look at. ``gpus``: simulated cards instead of real ones."""
    found = [Probe(HOST_PROBE, (), "CPU, memory, network, disk")] if _is_installed(HOST_PROBE) else []
    if _is_installed(GPU_PROBE):
        if gpus:
            found.append(Probe(GPU_PROBE, ("--simulate", gpus), f"simulated GPUs: {gpus}"))
        elif cards := nvidia_cards():
            found.append(Probe(GPU_PROBE, (), f"{cards} NVIDIA GPU{'s' * (cards > 1)}"))
    return found


def host_creds(home: Home, creds_dir: Path | None) -> Path | None:
    """The credentials of this host: its own, or (of a server that is not ours) the file that must be in ``creds_dir``;
    None when that is missing."""
    name = host_name()
    if creds_dir is not None:
        given = creds_dir / f"{name}.creds"
        return given if given.exists() else None
    if home.creds(name).exists():
        if home.role_of(name) == "node":
            return home.creds(name)
        name = f"{name[:59]}-host"  # an agent has that name
    return home.probe_creds(name)


def host_name(name: str | None = None) -> str:
    """The machine's name as a principal."""
    first = (socket.gethostname() if name is None else name).partition(".")[0].lower()
    made = re.sub(r"[^a-z0-9-]+", "-", first).strip("-")[:59].rstrip("-") or "host"
    try:
        check_agent_name(made)
    except ValueError:
        return f"host-{made}"
    return made


def nvidia_cards() -> int:
    """How many the driver shows; 0 without a driver."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() != 0:
            return 0
        count = ctypes.c_uint(0)
        status = library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        library.nvmlShutdown()
    except (OSError, AttributeError):
        return 0
    return count.value if status == 0 else 0


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False
