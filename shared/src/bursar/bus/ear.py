"""An ear: hears plain messages of many principals and never answers, whatever comes with them.

For observations, thousands a second: no `Call` is made, no latency is measured, a reply subject is ignored, and what
cannot be read is counted for the principal whose name stands in the subject (which the server has proven). A handler
returns False for what it has no room for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from bursar.bus.base import Msg
from bursar.bus.codec import AGENT_LIMITS, BORDER_CODES, Limits
from bursar.bus.micro import Endpoint, Service
from bursar.errors import BursarError, ServiceError

log = logging.getLogger("bursar.bus.ear")

_LOG_EVERY_NS: Final = 1_000_000_000

EarHandler = Callable[[str, bytes], bool]
"""Principal and payload to "taken"; may raise `BursarError` for what cannot be read."""


class Ear(Endpoint):
    """One subject that is listened to; an endpoint in listings and when roles change. ``token``: which token of the
    subject is the principal."""

    def __init__(self, service: Service, name: str, subject: str, handler: EarHandler, token: int = -1,
                 limits: Limits = AGENT_LIMITS) -> None:  # fmt: skip
        super().__init__(service, name, subject, _no_call, service.id, limits, {"answers": "never"})
        self._hear = handler
        self._token = token
        self._logged_at = -_LOG_EVERY_NS

    def deliver(self, msg: Msg) -> None:
        principal = msg.subject.split(".")[self._token]
        stats = self.stats
        if principal not in self._service.prefixes and self._service.prefix(principal) == "\n":
            self._service.violations.add("*", "bad_principal")
            return
        stats.num_requests += 1
        try:
            if not self._hear(principal, msg.data):
                stats.dropped += 1
        except BursarError as error:
            stats.failed(error)
            if error.code in BORDER_CODES:
                self._service.violations.add(principal, error.code)
        except Exception as error:  # noqa: BLE001 - whatever is raised must not end the delivery
            stats.failed(ServiceError("internal", "the service failed to hear the message"))
            self._log(error)

    def _log(self, error: Exception) -> None:
        now = self._now()
        if now - self._logged_at >= _LOG_EVERY_NS:
            self._logged_at = now
            log.error("hearing_failed", extra={"ear": self.name, "error": type(error).__name__})


def _no_call(_call: Any) -> None:
    """An ear has no calls."""
