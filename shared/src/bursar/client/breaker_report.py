"""What is to be reported: counts per target since the last report, in bounded memory; sent 100 to 250 ms after the
first of them, and not at all when there is nothing. What this process has stopped calling by itself, ahead of the
fleet, is said again each second while that lasts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.bus.base import Bus
from bursar.client.breaker_local import BAD
from bursar.client.breaker_registry import Registry
from bursar.client.time import Clock
from bursar.contracts.base import observation_subject
from bursar.contracts.breaker import MAX_DELTAS, OUTCOMES, SERVICE, Outcome
from bursar.errors import BursarError

SOON: Final = 0.1
LATER: Final = 0.25
"""Seconds until a report is sent that has a failure, or none."""

AGAIN: Final = 1.0
"""Seconds until it is said again what is shut here."""

MAX_TARGETS: Final = 1_024
MAX_COUNT: Final = 100_000
MAX_SPAN_MS: Final = 86_400_000
MAX_AGE_MS: Final = 5_000.0
"""Reports that could not be sent for so long are dropped: the registry would take them for news."""

_INDEX: Final = {name: at for at, name in enumerate(OUTCOMES)}
_pack = msgpack.Packer().pack


class Deltas:
    """``dropped``: calls that were not reported."""

    __slots__ = ("_counts", "_retry", "_since", "dropped")

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._retry: dict[str, float] = {}
        self._since = 0.0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, target: str, outcome: Outcome, now: float, retry_until: float | None = None) -> None:
        """One call has ended; ``retry_until``: local ms until which the target wants to be left alone."""
        counts = self._counts.get(target)
        if counts is None:
            if len(self._counts) >= MAX_TARGETS:
                self.dropped += 1
                return
            if not self._counts:
                self._since = now
            counts = self._counts[target] = [0] * len(OUTCOMES)
        counts[_INDEX[outcome]] += 1
        if retry_until is not None:
            self._retry[target] = max(retry_until, self._retry.get(target, 0.0))

    def take(self, now: float, claims: Mapping[str, int]) -> list[bytes]:
        """All of it, as messages ready to be sent. ``claims``: what is shut here, and after how many failures."""
        counts, retry = self._counts, self._retry
        self._counts, self._retry = {}, {}
        if counts and now - self._since > MAX_AGE_MS:
            self.dropped += sum(map(sum, counts.values()))
            counts = {}
        rows = [_delta(target, found, retry.get(target), now) for target, found in counts.items()]
        claims = {target: min(MAX_COUNT, streak) for target, streak in claims.items()}
        rows = [row | {"shut": claims[row["target"]]} if row["target"] in claims else row for row in rows]
        rows += [{"target": target, "shut": streak} for target, streak in claims.items() if target not in counts]
        return [_pack({"v": 1, "deltas": rows[at : at + MAX_DELTAS]}) for at in range(0, len(rows), MAX_DELTAS)]


def _delta(target: str, counts: list[int], retry_until: float | None, now: float) -> dict[str, Any]:
    delta: dict[str, Any] = {"target": target}
    for name, count in zip(OUTCOMES, counts, strict=True):
        if count:
            delta[name] = min(count, MAX_COUNT)
    if retry_until is not None:
        delta["retry_after_ms"] = max(0, min(MAX_SPAN_MS, round(retry_until - now)))
    return delta


class Reporter:
    """Adds up and sends. ``dropped``: calls that were not reported. ``claims`` gives, for a time, what is shut here
    ahead of the fleet, and after how many failures."""

    def __init__(
        self, bus: Bus, clock: Clock, registry: Registry, claims: Callable[[float], Mapping[str, int]]
    ) -> None:
        self._claims = claims
        self._bus = bus
        self._clock = clock
        self._registry = registry
        self._subject = observation_subject(SERVICE, "report", bus.principal)
        self._deltas = Deltas()
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    @property
    def dropped(self) -> int:
        return self._deltas.dropped

    def add(self, target: str, outcome: Outcome, now: float, asked: float | None) -> None:
        """One call has ended; ``asked``: ms for which the target wants to be left alone."""
        self._deltas.add(target, outcome, now, None if asked is None else now + asked)
        self._send_in(SOON if outcome in BAD or outcome == "auth" else LATER, now)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send_in(self, seconds: float, now: float) -> None:
        due = now + seconds * 1000.0
        if due >= self._due:
            return
        self.close()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(seconds, self.send)

    def send(self) -> None:
        """What there is, now; later when there is no connection."""
        self.close()
        self._timer, self._due = None, math.inf
        now = self._clock.now()
        claims = self._claims(now)
        if not len(self._deltas) and not claims:
            return
        if not self._bus.is_connected and self._registry.is_started:
            self._send_in(LATER, now)
            return
        if claims:
            self._send_in(AGAIN, now)
        for payload in self._deltas.take(now, claims):
            try:
                self._bus.publish(self._subject, payload)
            except BursarError:
                self._deltas.dropped += 1
