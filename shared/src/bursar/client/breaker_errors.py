"""What the breaker raises.

::

    BursarError
      ServiceError
        CircuitOpen          the target is down, as the fleet has seen: do not call it
        RetryDenied          the target gets no more retries now: its budget of them is spent
        BreakerUnavailable   the registry did not answer; calls go on by what is known
"""

from __future__ import annotations

from typing import Any

from bursar.errors import ServiceError


class CircuitOpen(ServiceError):
    """Do not call the target: its circuit, or one above it, is open.

    ``target``: what was to be called. ``circuit``: what is down, the target or something above it. ``state``: open,
    half_open (others are trying it), forced_open, or local (seen here alone, while the registry is away). ``reason``: a
    stable word, such as failure_rate or overload. ``retry_in``: seconds until it is tried again, and ``retry_at``: the
    same as milliseconds of the client's clock; None when no time is known.
    """

    def __init__(
        self, target: str, circuit: str, state: str, reason: str, retry_in: float | None, retry_at: float | None
    ) -> None:
        what = circuit if circuit == target else f"{circuit}, which {target} is below,"
        text = f"{what} is not to be called now ({state}: {reason})"
        super().__init__("circuit_open", text, target=target, circuit=circuit, state=state, reason=reason)
        self.target = target
        self.circuit = circuit
        self.state = state
        self.reason = reason
        self.retry_in = retry_in
        self.retry_at = retry_at

    @property
    def advice(self) -> str:
        if self.state == "forced_open":
            return "An operator has forced it open: use another target until it is reset."
        if self.retry_in is None:
            return "Use another target, or try again a little later."
        return f"Use another target, or try again in {self.retry_in:.3f} s."

    def __reduce__(self) -> tuple[Any, ...]:
        told = (self.target, self.circuit, self.state, self.reason, self.retry_in, self.retry_at)
        return (type(self), told)


class RetryDenied(ServiceError):
    """So many calls are retries already that one more would do more harm than good."""

    def __init__(self, target: str) -> None:
        super().__init__("retry_denied", f"{target} gets no more retries now", target=target)
        self.target = target

    @property
    def advice(self) -> str:
        return "Take the failure for the answer, or use another target."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.target,))


class BreakerUnavailable(ServiceError):
    """No answer from the registry within the caller's patience."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("breaker_unavailable", text, **facts)

    @property
    def advice(self) -> str:
        return "Nothing has to be done: calls go on by what is known, and by what this process sees itself."
