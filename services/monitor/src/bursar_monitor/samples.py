"""What is known of one host, from samples that may be lost, repeated and out of order.

A sample is named by its host, the start of its probe (``boot``) and its number (``seq``), and counts once. Only one
that is newer than all before it of the same boot says anything about now: a late or repeated one must neither turn
the picture back nor make a silent host look alive.
"""

from __future__ import annotations

from typing import Final

from bursar.contracts.monitor import HostSample
from bursar_monitor.bugs import REPLAY_REVIVES_HOST, SAMPLE_COUNTED_TWICE, seeded

WINDOW: Final = 64
"""Numbers behind the highest one in which it is known which have been seen; older ones count as seen."""

BOOTS: Final = 4
"""Starts of the probe that are remembered."""

MAX_GPUS: Final = 64

MAX_TROUBLED: Final = 256

NEW: Final = "new"
LATE: Final = "late"
REPEATED: Final = "repeated"

_ALL: Final = (1 << WINDOW) - 1


class Seen:
    """Which numbers of one boot have been seen."""

    __slots__ = ("_mask", "count", "first", "highest")

    def __init__(self) -> None:
        self.first = 0
        self.highest = 0
        self.count = 0
        self._mask = 0

    def take(self, seq: int) -> str:
        """Note a number; whether it is new, late (older than the highest, never seen) or repeated."""
        if seq > self.highest:
            self._mask = (self._mask << min(seq - self.highest, WINDOW) | 1) & _ALL
            self.first = self.first or seq
            self.highest = seq
            self.count += 1
            return NEW
        behind = self.highest - seq
        if behind >= WINDOW or self._mask >> behind & 1:
            return REPEATED
        self._mask |= 1 << behind
        self.first = min(self.first, seq)
        self.count += 1
        return LATE

    @property
    def missed(self) -> int:
        return self.highest - self.first + 1 - self.count


class HostView:
    """One host. ``heard_at``: when the last new sample came (or when the host was first expected), ms.

    ``rates``: bytes per second of disk, received, sent; None where two samples do not tell. ``gpus``: key of each
    device that was seen -> when it last answered. ``troubled``: groups of processes that crashed or leaked; one that
    has no processes any more is well."""

    __slots__ = (
        "_missed",
        "gpus",
        "heard_at",
        "late",
        "name",
        "rates",
        "repeated",
        "sample",
        "samples",
        "seen",
        "troubled",
    )

    def __init__(self, name: str, now: int) -> None:
        self.name = name
        self.heard_at = now
        self.sample: HostSample | None = None
        self.rates: tuple[int | None, int | None, int | None] = (None, None, None)
        self.gpus: dict[str, int] = {}
        self.troubled: set[str] = set()
        self.seen: dict[str, Seen] = {}
        self.samples = 0
        self.late = 0
        self.repeated = 0
        self._missed = 0

    @property
    def missed(self) -> int:
        return self._missed + sum(seen.missed for seen in self.seen.values())

    def take(self, sample: HostSample, now: int) -> bool:
        """Note a sample that came at ``now``; whether it is news."""
        kind = self._seen(sample.boot).take(sample.seq)
        if kind == REPEATED and not seeded(SAMPLE_COUNTED_TWICE):
            self.repeated += 1
            return seeded(REPLAY_REVIVES_HOST) and self._revive(now)
        self.samples += 1
        if kind != NEW:
            self.late += 1
            return False
        self.rates = _rates(self.sample, sample)
        self.sample = sample
        self.heard_at = now
        self._note_gpus(sample, now)
        if len(self.troubled) < MAX_TROUBLED:
            self.troubled.update(one.group for one in sample.groups if one.crashes or one.leak_permille)
        return True

    def _revive(self, now: int) -> bool:
        self.heard_at = now
        return True

    def _seen(self, boot: str) -> Seen:
        seen = self.seen.get(boot)
        if seen is None:
            if len(self.seen) >= BOOTS:
                self._missed += self.seen.pop(next(iter(self.seen))).missed
            seen = self.seen[boot] = Seen()
        return seen

    def _note_gpus(self, sample: HostSample, now: int) -> None:
        for gpu in sample.gpus:
            key = gpu.uuid or f"gpu{gpu.index}"
            if not gpu.lost and (key in self.gpus or len(self.gpus) < MAX_GPUS):
                self.gpus[key] = now
            elif gpu.lost:
                self.gpus.setdefault(key, 0)


def _rates(before: HostSample | None, now: HostSample) -> tuple[int | None, int | None, int | None]:
    """Bytes per second since the sample before; None across a restart of the probe or of a counter."""
    if before is None or before.boot != now.boot or now.uptime_ms <= before.uptime_ms:
        return (None, None, None)
    span = now.uptime_ms - before.uptime_ms
    pairs = zip(_counters(before), _counters(now), strict=True)
    disk, received, sent = (_rate(was, is_now, span) for was, is_now in pairs)
    return (disk, received, sent)


def _counters(sample: HostSample) -> tuple[int | None, int | None, int | None]:
    disk, network = sample.disk, sample.network
    moved = None
    if disk is not None and disk.read_bytes is not None and disk.written_bytes is not None:
        moved = disk.read_bytes + disk.written_bytes
    if network is None:
        return (moved, None, None)
    return (moved, network.received_bytes, network.sent_bytes)


def _rate(was: int | None, is_now: int | None, span_ms: int) -> int | None:
    if was is None or is_now is None or is_now < was:
        return None
    return (is_now - was) * 1000 // span_ms
