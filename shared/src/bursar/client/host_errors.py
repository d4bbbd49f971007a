"""What can go wrong with leases of hosts. All derive from `bursar.errors.BursarError`.

HostRefused       not now, or never: ``reason``, ``resource``, ``missing``, ``retry_in``
HostUnavailable   no answer within the caller's patience; nothing is leased
LeaseLost         (of `bursar.client.gpu_errors`) the lease does not hold any more
"""

from __future__ import annotations

from typing import Any

from bursar.errors import ServiceError


class HostRefused(ServiceError):
    """The monitor says no; nothing is leased.

    ``reason``: no_room, in_use, pool_full, over_quota, never_fits, not_observed, recovering or too_many. ``resource``:
    "cpu", "memory", "disk" or "", ``missing``: how much of it (thousandths of a core, bytes). ``retry_in``: seconds
    until it may be granted; None: no waiting that the monitor knows of helps.
    """

    reason: str
    resource: str
    missing: int
    retry_in: float | None

    def __init__(self, told: dict[str, Any]) -> None:
        facts = {name: told[name] for name in ("reason", "resource", "missing", "retry_in_ms")}
        super().__init__("refused", str(told["text"]), **facts)
        self.reason, self.resource, self.missing = told["reason"], told["resource"], told["missing"]
        self.retry_in = None if told["retry_in_ms"] is None else told["retry_in_ms"] / 1000.0

    @property
    def advice(self) -> str:
        if self.reason in {"never_fits", "over_quota"}:
            return "Waiting does not help: ask for less, or have an operator raise the quota (`bursar host quota`)."
        return "Pass wait= to ask again until there is room, ask for less, or try another host."

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.facts | {"text": self.text},))


class HostUnavailable(ServiceError):
    """No answer within the caller's patience."""

    def __init__(self, text: str, /, **facts: Any) -> None:
        super().__init__("host_unavailable", text, **facts)

    @property
    def advice(self) -> str:
        return "Try again later; `bursar up` starts a monitor, `nats micro ls` shows whether one runs."
