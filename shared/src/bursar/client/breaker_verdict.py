"""The answer to "may I call this target now?".

A verdict is made once and looked up from then on: whoever may call gets `GO`, whoever may not a `Stopped`, which holds
until ``expires``; a target that is recovering lets its `Share` of the calls go.
"""

from __future__ import annotations

import hashlib
import math
from itertools import count
from typing import Final

from bursar.client.breaker_errors import CircuitOpen
from bursar.client.time import Clock


class Verdict:
    """True where a call may simply go. ``may_probe``: `Breaker.call` may get a permit to try it."""

    __slots__ = ()
    may_probe: bool = False
    expires: float = math.inf

    def __bool__(self) -> bool:
        return True


class Stopped(Verdict):
    """No call may simply go. ``circuit``: what is in the way, the target or something above it; ``state``, ``reason``,
    ``retry_in`` (s), ``retry_at`` (ms of the client's clock): see `CircuitOpen`. ``expires``: when it is looked at
    again (ms of the same clock)."""

    __slots__ = ("_clock", "circuit", "expires", "may_probe", "reason", "retry_at", "state", "target")
    expires: float
    may_probe: bool

    def __init__(
        self,
        target: str,
        circuit: str,
        state: str,
        reason: str,
        clock: Clock,
        until: float | None,
        *,
        may_probe: bool = False,
        expires: float = math.inf,
    ) -> None:
        self.target = target
        self.circuit = circuit
        self.state = state
        self.reason = reason
        self.retry_at = until
        self.may_probe = may_probe
        self.expires = expires if until is None else min(until, expires)
        self._clock = clock

    @property
    def retry_in(self) -> float | None:
        return None if self.retry_at is None else max(0.0, self.retry_at - self._clock.now()) / 1000.0

    def __bool__(self) -> bool:
        return False

    def error(self) -> CircuitOpen:
        return CircuitOpen(self.target, self.circuit, self.state, self.reason, self.retry_in, self.retry_at)


class Share:
    """Which calls of this process go while a circuit lets only a part of them through.

    Counted, not drawn: of any n calls in a row at least ``n * permille // 1000`` go and at most one more. Where in that
    sequence a process begins follows from ``who``, so that a fleet whose members call once each keeps to the part, too.
    """

    __slots__ = ("_phase", "_turn", "permille")

    def __init__(self, permille: int, who: str) -> None:
        self.permille = permille
        self._phase = int.from_bytes(hashlib.blake2b(who.encode(), digest_size=4).digest(), "big") % 1000
        self._turn = count()

    def admits(self) -> bool:
        return (next(self._turn) * self.permille + self._phase) % 1000 < self.permille


class Partly:
    """Some calls go: what is looked up for a target that is recovering. ``stopped``: the answer to all others.
    ``expires``: when it is looked at again (ms of the client's clock)."""

    __slots__ = ("expires", "share", "stopped")

    def __init__(self, share: Share, stopped: Stopped, expires: float) -> None:
        self.share = share
        self.stopped = stopped
        self.expires = expires


GO: Final = Verdict()
