"""What kinds of cards the simulation knows: sizes, power, heat, bandwidth, and what their drivers cannot tell.

Sizes as the driver reports them (MiB, of which it keeps some for itself), power as the maker gives it, bandwidth of the
memory in GB a second (10^9). Limits of temperature differ between boards; these are typical. A small card without
performance counters, division, links or a node of its own is as good a card as any.
"""

from __future__ import annotations

from typing import Final, NamedTuple

MIB: Final = 1024**2

COUNTERS: Final = frozenset({"sm_activity", "dram_activity"})
"""Sensors that need performance counters."""


class Profile(NamedTuple):
    """``untold``: names of sensors that the driver does not tell. ``node``: cards on one NUMA node; 0: not known.
    ``is_linked``: all cards of this kind on a host have direct links. ``parts``: into how many it can be divided."""

    model: str
    total: int
    reserved: int
    idle_mw: int
    limit_mw: int
    slowdown_at: int
    bandwidth: int
    untold: frozenset[str] = frozenset()
    node: int = 0
    is_linked: bool = False
    parts: int = 0
    pcie: tuple[int, int] = (4, 16)
    vendor: str = "NVIDIA"


def _of(model: str, total: int, reserved: int, watts: tuple[int, int], slow: int, gbs: int, **more: object) -> Profile:
    profile = Profile(model, total * MIB, reserved * MIB, watts[0] * 1000, watts[1] * 1000, slow, gbs)
    return profile._replace(**more)  # type: ignore[arg-type]


_SMALL: Final = COUNTERS | {"memory_temperature"}

PROFILES: Final[dict[str, Profile]] = {
    "rtx4070": _of("NVIDIA GeForce RTX 4070", 12_282, 276, (12, 200), 90, 504, untold=_SMALL),
    "rtx4090": _of("NVIDIA GeForce RTX 4090", 24_564, 420, (20, 450), 90, 1_008, untold=_SMALL),
    "t4": _of("Tesla T4", 15_360, 445, (10, 70), 96, 320, untold=_SMALL, pcie=(3, 16)),
    "l40s": _of("NVIDIA L40S", 46_068, 600, (35, 350), 92, 864, untold=COUNTERS, node=4),
    "a100": _of(
        "NVIDIA A100-SXM4-80GB", 81_920, 630, (60, 400), 92, 2_039, untold=COUNTERS, node=4, is_linked=True, parts=7
    ),
    "h100": _of("NVIDIA H100 80GB HBM3", 81_559, 551, (70, 700), 87, 3_350,
                node=4, is_linked=True, parts=7, pcie=(5, 16)),
    "h200": _of("NVIDIA H200", 143_771, 620, (75, 700), 87, 4_800, node=4, is_linked=True, parts=7, pcie=(5, 16)),
    "mi300x": _of("AMD Instinct MI300X", 196_608, 290, (140, 750), 100, 5_300,
                  untold=frozenset({"sm_activity"}), node=4, is_linked=True, parts=8, pcie=(5, 16), vendor="AMD"),
}  # fmt: skip


def plain(text: str, total: int) -> Profile:
    """A card of any size and no make, as ``24GiB``."""
    return Profile(f"Simulated {text}", total, 0, 30_000, 230_000, 90, 1_000, COUNTERS | {"memory_temperature"})
