"""What can go wrong with GPU memory. All derive from `bursar.errors.BursarError`.

GpuRefused       no room now, or never: ``reason``, ``closest``, ``missing``, ``retry_in``
GpuUnavailable   no answer within the caller's patience; nothing is leased
LeaseLost        the lease does not hold any more: stop, and free the memory
"""

from __future__ import annotations

from typing import Any

from bursar.errors import CallerError, ServiceError


class GpuRefused(ServiceError):
    """The manager says no; nothing is leased.

    ``reason``: no_room, never_fits, no_device, not_observed, recovering, wait_too_long or queue_full. ``closest``: the
    device that came closest, ``missing``: bytes that it lacks (None: there is none). ``retry_in``: seconds until it
    may fit if no holder renews; None: no waiting that the manager knows of helps.
    """

    reason: str
    closest: str | None
    missing: int | None
    retry_in: float | None

    def __init__(self, told: dict[str, Any]) -> None:
        facts = {name: told[name] for name in ("reason", "closest", "missing", "retry_in_ms")}
        super().__init__("refused", str(told["text"]), **facts)
        self.reason, self.closest, self.missing = told["reason"], told["closest"], told["missing"]
        self.retry_in = None if told["retry_in_ms"] is None else told["retry_in_ms"] / 1000.0

    @property
    def advice(self) -> str:
        if self.reason == "never_fits":
            return "Waiting does not help: ask for less memory, or for fewer devices."
        return "Pass wait= to stand in line, ask for less, or try again later."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.facts | {"text": self.text},))


class GpuUnavailable(ServiceError):
    """No answer within the caller's patience. Without a lease nothing may be loaded."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("gpu_unavailable", text, **facts)

    @property
    def advice(self) -> str:
        return "Try again later; `bursar up` starts a GPU manager, `nats micro ls` shows whether one runs."


class LeaseLost(CallerError):
    """The lease does not hold any more. ``reason``: see `bursar.client.gpu_lease.Lost`."""

    def __init__(self, lease: str, reason: str) -> None:
        super().__init__("lease_lost", f"lease {lease} is lost: {reason}", lease=lease, reason=reason)
        self.lease = lease
        self.reason = reason

    @property
    def advice(self) -> str:
        return "Stop using the memory, free it, and lease again."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.lease, self.reason))
