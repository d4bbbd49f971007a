"""The answer to "may I call this target now?"."""

from __future__ import annotations

from typing import Final

from bursar.client.breaker_errors import CircuitOpen


class Verdict:
    """True where a call may simply go. ``may_probe``: `Breaker.call` may get a permit to try it."""

    __slots__ = ()
    may_probe = False

    def __bool__(self) -> bool:
        return True


class Stopped(Verdict):
    """No call may simply go. ``circuit``: what is in the way, the target or something above it; ``state``, ``reason``,
    ``retry_in`` (s), ``retry_at`` (ms of the client's clock): see `CircuitOpen`."""

    __slots__ = ("circuit", "may_probe", "reason", "retry_at", "retry_in", "state", "target")

    def __init__(
        self, target: str, circuit: str, state: str, reason: str, now: float, until: float | None, *, may_probe: bool
    ) -> None:
        self.target = target
        self.circuit = circuit
        self.state = state
        self.reason = reason
        self.retry_at = until
        self.retry_in = None if until is None else max(0.0, until - now) / 1000.0
        self.may_probe = may_probe

    def __bool__(self) -> bool:
        return False

    def error(self) -> CircuitOpen:
        return CircuitOpen(self.target, self.circuit, self.state, self.reason, self.retry_in, self.retry_at)


GO: Final = Verdict()
