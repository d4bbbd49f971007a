"""What is to be reported: counts per target since the last report, in bounded memory."""

from __future__ import annotations

from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from bursar.contracts.breaker import MAX_DELTAS, OUTCOMES, Outcome

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

    def take(self, now: float) -> list[bytes]:
        """All of it, as messages ready to be sent."""
        counts, retry = self._counts, self._retry
        self._counts, self._retry = {}, {}
        if now - self._since > MAX_AGE_MS:
            self.dropped += sum(map(sum, counts.values()))
            return []
        rows = [_delta(target, found, retry.get(target), now) for target, found in counts.items()]
        return [_pack({"v": 1, "deltas": rows[at : at + MAX_DELTAS]}) for at in range(0, len(rows), MAX_DELTAS)]


def _delta(target: str, counts: list[int], retry_until: float | None, now: float) -> dict[str, Any]:
    delta: dict[str, Any] = {"target": target}
    for name, count in zip(OUTCOMES, counts, strict=True):
        if count:
            delta[name] = min(count, MAX_COUNT)
    if retry_until is not None:
        delta["retry_after_ms"] = max(0, min(MAX_SPAN_MS, round(retry_until - now)))
    return delta
