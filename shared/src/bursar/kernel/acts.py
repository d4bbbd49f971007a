"""What goes into the audit log of the acts of operators and the refusals of policy; off the path of ordinary requests.

An operator's request that changes something is written into the audit log before it is decided. When the log does not
take it, it is answered with ``audit_unavailable`` and nothing happens: an override that nobody could hold against
anybody is none. What came of it stands in the journal, under the same principal and id.

What policy forbids (errors with status 403) is counted and written in batches, a second later: it has changed nothing,
so it waits for nobody and is lost, counted, when the log is away for long.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from bursar.audit.record import ACT, REFUSED
from bursar.audit.writing import AuditUnavailable, AuditWriter
from bursar.bus.base import Bus
from bursar.bus.call import Call
from bursar.bus.signing import Signer
from bursar.contracts.base import audit_head_subject
from bursar.errors import BursarError, ServiceError
from bursar.kernel.doors import OnCall
from bursar.kernel.spec import Verb

log = logging.getLogger("bursar.kernel")

BY_POLICY: Final = 403
"""Status of errors that say: you may not."""
WAITING: Final = 1_000
"""Refusals that wait to be written; more are counted only."""
BATCH_SECONDS: Final = 1.0


class Acts:
    """A service's part of the audit log. ``bus``: that of its log principal."""

    def __init__(self, service: str, bus: Bus, signer: Signer) -> None:
        self._writer = AuditWriter(bus, service, audit_head_subject(service), signer.seal)
        self._refused: list[dict[str, Any]] = []
        self._missed = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def before(self, on_call: OnCall) -> OnCall:
        """Handle a request only after it was written down; a query at once."""

        def written(call: Call, rule: Verb) -> None:
            if rule.query:
                on_call(call, rule)
                return
            body = call.decode(rule.message)
            self._go(self._write_and_call(call, rule, body.model_dump(exclude_none=True), on_call))

        return written

    def refused(self, call: Call, error: BursarError) -> None:
        """Somebody was refused; nothing is awaited."""
        if error.status != BY_POLICY:
            return
        if len(self._refused) >= WAITING:
            self._missed += 1
            return
        self._refused.append({"who": call.principal, "on": call.subject, "code": error.code, "facts": error.facts})
        if len(self._refused) == 1:
            self._go(self._write_refused())

    async def _write_and_call(self, call: Call, rule: Verb, body: dict[str, Any], on_call: OnCall) -> None:
        try:
            await self._writer.append(ACT, call.principal, {"on": call.subject, "request": body})
            on_call(call, rule)
        except BursarError as error:
            _fail(call, error)
        except Exception as error:  # noqa: BLE001 - as at an endpoint: nothing of what was raised is shown
            log.warning("handler_failed", extra={"endpoint": call.subject, "error": type(error).__name__})
            _fail(call, ServiceError("internal", "the service failed to handle the request"))

    async def _write_refused(self) -> None:
        await asyncio.sleep(BATCH_SECONDS)
        batch, self._refused = self._refused, []
        missed, self._missed = self._missed, 0
        try:
            await self._writer.append(REFUSED, "", {"requests": batch, "missed": missed})
        except AuditUnavailable as error:
            self._missed += missed + len(batch)
            log.warning("refusals_not_audited", extra={"requests": len(batch), "why": error.text})

    def _go(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Wait for what is being written."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=BATCH_SECONDS + 1.0)


def _fail(call: Call, error: BursarError) -> None:
    if call.is_open:
        call.fail(error)
