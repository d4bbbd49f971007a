"""Until when is a permit good, on this machine's clock?

A permit says ``send_by_at_ms`` on the limiter's clock. Nobody knows the offset between the two clocks exactly, but a
lower bound of it follows from any exchange: the limiter read its time *after* we sent the request, so

    offset = local - limiter  >=  local time of sending - (time in the answer + 1 ms)

(1 ms, because the time in the answer is rounded down). The deadline ``send_by + bound`` is therefore never later
than the true one: a delayed answer, a pause of this process or a slow network make the bound smaller and the permit
void earlier, never later. The largest bound seen is the best one.

Two clocks of two machines drift. A bound loses `DRIFT` of its age, which is more than two slewed clocks disagree by; an
old bound so becomes useless by itself, and a new exchange (`Clock` on the wire) replaces it.

A take-over continues the limiter's time from the journal, later than true time: each (incarnation, epoch) is a clock
of its own here.
"""

from __future__ import annotations

from typing import Final

DRIFT: Final = 0.001
"""How much two monotonic clocks may disagree, as a part of the time passed: NTP may slew each by 500 ppm."""

FRESH_MS: Final = 10_000.0
"""A bound older than this is better replaced by a new exchange before somebody needs it."""

KEPT: Final = 4
"""Number of epochs remembered: permits of the latest before a take-over are still in use for a moment."""

EpochKey = tuple[int, int]
"""(incarnation, epoch)"""


class EpochOffset:
    """The best known lower bound of ``local - limiter`` (ms) for one epoch of the limiter."""

    __slots__ = ("_at", "_line")

    def __init__(self) -> None:
        self._line = float("-inf")  # the bound at local time 0; it falls by DRIFT from there
        self._at = float("-inf")

    def learn(self, sent: float, told: int) -> None:
        """``sent``: local ms just before the (first) request left; ``told``: the limiter's time in its answer."""
        line = sent - (told + 1) + DRIFT * sent
        if line >= self._line:
            self._line, self._at = line, sent

    def bound(self, now: float) -> float:
        return self._line - DRIFT * now

    def deadline(self, send_by: int, now: float) -> float:
        """Local ms from which a permit with that ``send_by_at_ms`` is void."""
        return send_by + self.bound(now)

    def is_fresh(self, now: float) -> bool:
        return now - self._at <= FRESH_MS


class Offsets:
    """One `EpochOffset` per epoch, the latest few."""

    __slots__ = ("_epochs",)

    def __init__(self) -> None:
        self._epochs: dict[EpochKey, EpochOffset] = {}

    def of(self, epoch: EpochKey) -> EpochOffset:
        known = self._epochs.get(epoch)
        if known is None:
            known = self._epochs[epoch] = EpochOffset()
            while len(self._epochs) > KEPT:
                del self._epochs[min(self._epochs)]
        return known
