"""What other services broadcast, heard as observations: verified, decided by the owner, never answered.

::

    run(SPEC, settings, beside=hearing(settings.trust, Heard("breaker", "share", BudgetShare)))

Every service may listen to every broadcast, so this takes no permission; what counts is the signature, by the keys in
``trust.json``. A command of what was heard has ``svc-<service>`` as its principal and no request id. A broadcast may be
lost, so what it says must not have to hold for ever: whoever acts on one gives it an end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import ValidationError

from bursar.bus.base import BusError, Msg
from bursar.bus.newest import Newest
from bursar.bus.signing import Verifier
from bursar.contracts.base import Message, event_subject
from bursar.errors import BursarError
from bursar.kernel.decider import Command
from bursar.kernel.desk import Request
from bursar.kernel.host import OBSERVATIONS_WAITING, Beside, Host
from bursar.kernel.roles import Role

log = logging.getLogger("bursar.kernel")

AGAIN: Final = 1.0
"""Seconds until it is tried again to listen."""


class Heard(NamedTuple):
    """One kind of broadcast of another service, and what it says."""

    service: str
    kind: str
    message: type[Message]


def hearing(trust: Path | None, *kinds: Heard) -> Beside:
    """What a process does beside its service to hear these. ``trust``: the file with the services' public keys; without
    one nobody is believed, so nobody is heard."""

    async def listen(host: Host) -> None:
        verifier = _verifier(trust)
        if verifier is None:
            log.info("hears_no_service")
            return
        for heard in kinds:
            await _subscribe(host, event_subject(heard.service, heard.kind, "*"), _ear(host, verifier, heard))

    return listen


async def _subscribe(host: Host, subject: str, ear: Callable[[Msg], None]) -> None:
    while True:
        try:
            await host.service.bus.subscribe(subject, ear)
        except BusError:
            await asyncio.sleep(AGAIN)
        else:
            return


def _ear(host: Host, verifier: Verifier, heard: Heard) -> Callable[[Msg], None]:
    principal = f"svc-{heard.service}"
    newest = Newest()

    def hear(msg: Msg) -> None:
        replica = host.runner.replica
        if replica.role is not Role.OWNER or len(replica.queue) >= OBSERVATIONS_WAITING:
            return
        try:
            told = verifier.open(msg.subject, msg.data)
            if not newest.admits(msg.subject, msg.data, told):
                return
            body = heard.message.model_validate(told)
        except (BursarError, ValidationError):
            log.warning("broadcast_refused", extra={"service": heard.service, "kind": heard.kind})
            return
        host.runner.offer(Request(None, Command(principal, "", body), b"", 0))

    return hear


def _verifier(trust: Path | None) -> Verifier | None:
    try:
        keys = None if trust is None else json.loads(trust.read_bytes())
        return Verifier({str(name): str(key) for name, key in keys.items()}) if isinstance(keys, dict) else None
    except (OSError, ValueError, BursarError) as error:
        log.warning("trust_cannot_be_read", extra={"error": type(error).__name__})
        return None
