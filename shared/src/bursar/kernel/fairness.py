"""Who asks far more than others while others ask, too, is told to wait, before anything of the request is read.

A request costs its decoding, its decision and its part of an append, whoever sent it, and who sends thousands a second
takes the time of all others. So each principal has a rate, with a tenth of a second of it at once (GCRA: one number
for each). Beyond it a request is refused with ``overloaded``, which says when to ask again. Refusals cost, too: who
gets more of them than the rate does not listen, and is not answered any more. An observation beyond it is dropped and
counted.

It holds only where there is somebody to protect: as long as nobody else has asked within the last second, anybody may
use all that the service has. The other services' questions do not count as somebody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.bus.call import Call
    from bursar.contracts.base import Message
    from bursar.kernel.doors import OnCall, OnObservation
    from bursar.kernel.spec import Verb

SECOND: Final = 1_000_000_000
BURST_NS: Final = SECOND // 10
ALONE_NS: Final = SECOND
KNOWN: Final = 10_000
"""Principals remembered; of more than these, those that may send a whole burst are forgotten."""


def fairly(rate: int, on_call: OnCall, on_observation: OnObservation) -> tuple[OnCall, OnObservation]:
    """Handlers that hear what is within so many requests a second of each principal; themselves when it is 0."""
    if not rate:
        return on_call, on_observation
    fair = Fairness(rate)
    return fair.calls(on_call), fair.observations(on_observation)


class Fairness:
    """The rates of one instance. ``rate``: requests a second of each principal."""

    def __init__(self, rate: int, clock: Callable[[], int] = monotonic_ns) -> None:
        self._cost = SECOND // rate
        self._now = clock
        self._until: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._latest = ""
        self._others_until = 0
        self.refused = 0

    def calls(self, handler: OnCall) -> OnCall:
        """A handler of requests that hears what is within the rates, and refuses or drops the rest."""

        def on_call(call: Call, rule: Verb) -> None:
            if self.admits(call.principal):
                handler(call, rule)
            else:
                self._refuse(call)

        return on_call

    def observations(self, handler: OnObservation) -> OnObservation:
        """The same for what nobody is answered to."""

        def on_observation(principal: str, body: Message, rule: Verb) -> bool:
            return self.admits(principal) and handler(principal, body, rule)

        return on_observation

    def admits(self, principal: str) -> bool:
        """Count one request; whether it may be heard."""
        now = self._now()
        if principal != self._latest and not principal.startswith("svc-"):
            other = self._until.get(self._latest, 0)  # at, or a burst after, the last request of who asked before
            self._others_until = max(self._others_until, other + ALONE_NS)
            self._latest = principal
        until = max(self._until.get(principal, 0), now)
        if until - now > BURST_NS and now < self._others_until:
            self.refused += 1
            return False
        self._until[principal] = min(until + self._cost, now + BURST_NS + self._cost)
        if len(self._until) > KNOWN:
            self._forget(now)
        return True

    def _refuse(self, call: Call) -> None:
        now, principal = self._now(), call.principal
        told = max(self._told.get(principal, 0), now)
        if told - now > BURST_NS:
            call.drop()
            return
        self._told[principal] = told + self._cost
        wait = max(1, (self._until[principal] - now - BURST_NS) // 1_000_000 + 1)
        raise CallerError(
            "overloaded", "others are waiting, and you ask more often than your share", retry_after_ms=wait
        )

    def _forget(self, now: int) -> None:
        self._until = {name: until for name, until in self._until.items() if until > now}
        self._told = {name: until for name, until in self._told.items() if name in self._until}
        if len(self._until) > KNOWN:
            self._until.clear()
            self._told.clear()
