"""Notifications to an HTTP address, beside the decider of the owner: each at least once, in order, through take-overs.

The notifications stand in the durable state with their numbers; what the address has taken (status 2xx) is noted as a
decision. One that cannot be reached is tried again, ever more slowly; what is older than `MAX_AGE_MS` by then, or has
left the outbox, is not sent any more: nobody wants to be woken by yesterday.

The body is the `IncidentChanged` of the broadcast as JSON, with the header ``Bursar-Incident`` (incident and number) so
that a receiver can tell what it has had. With a secret, ``Bursar-Signature`` is its HMAC-SHA256 of the body, in hex.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final

from bursar_monitor.incidents import Delivered
from bursar_monitor.state import Posted, State

log = logging.getLogger("bursar.monitor")

SECONDS: Final = 5.0
"""How long the address may take to answer."""
MAX_AGE_MS: Final = 3_600_000
LOOK_SECONDS: Final = 0.2
SLOWEST_SECONDS: Final = 60.0


Look = Callable[[], tuple[State, tuple[int, ...]] | None]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is told to one address is not told to another."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def post(url: str, body: Mapping[str, Any], secret: str = "") -> bool:
    """Send one notification; whether it was taken. Blocks: for a thread."""
    payload = json.dumps(body, ensure_ascii=False).encode()
    headers = {"Content-Type": "application/json", "Bursar-Incident": f"{body['incident']}/{body['number']}"}
    if secret:
        headers["Bursar-Signature"] = hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()
    request = urllib.request.Request(url, payload, headers, method="POST")  # noqa: S310 - the setting allows http(s)
    try:
        with _opener.open(request, timeout=SECONDS) as answer:
            return bool(200 <= answer.status < 300)
    except (OSError, ValueError, urllib.error.HTTPError) as error:
        log.warning("webhook_failed", extra={"why": type(error).__name__, "status": getattr(error, "code", None)})
        return False


class Webhook:
    """Sends what is in the outbox. ``look``: the state of the owner and the fence up to which it is committed, None
    while this instance is none; ``observe``: hands a command to the decider."""

    def __init__(self, url: str, secret: str, look: Look, observe: Callable[[Any], None]) -> None:
        self._url = url
        self._secret = secret
        self._look = look
        self._observe = observe
        self.sent = 0

    async def run(self) -> None:
        """Until cancelled."""
        wait = LOOK_SECONDS
        while True:
            await asyncio.sleep(wait)
            found = self._next()
            if found is None:
                wait = LOOK_SECONDS
            elif await asyncio.to_thread(post, self._url, found.body, self._secret):
                self.sent += 1
                self._observe(Delivered(found.number))
                await self._settled(found.number)
                wait = 0.0
            else:
                wait = min(SLOWEST_SECONDS, max(1.0, wait * 2))

    def _next(self) -> Posted | None:
        """The first that is durable, was not taken and is not too old."""
        seen = self._look()
        if seen is None:
            return None
        state, committed = seen
        for posted in state.outbox:
            if posted.number > state.delivered and state.at - int(posted.body["at_ms"]) < MAX_AGE_MS:
                return posted if posted.fence <= committed else None
        return None

    async def _settled(self, number: int) -> None:
        """Wait until it is noted, so that it is not sent again."""
        for _ in range(50):
            seen = self._look()
            if seen is None or seen[0].delivered >= number:
                return
            await asyncio.sleep(LOOK_SECONDS / 10)
