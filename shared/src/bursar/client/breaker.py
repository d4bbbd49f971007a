"""The circuit breaker as an agent sees it.

::

    if fleet.breaker.allows("provider-a/eu/gpt-x"):        # a look-up, nothing is sent
        ...
    async with fleet.breaker.call("provider-a/eu/gpt-x") as call:   # raises CircuitOpen
        ...

What it promises: a decision is a look-up in this process's memory; no call waits for the registry, except one that
tries a half-open target, for which a permit is asked (and the very first, for a quarter of a second at most, to hear
what is open). What calls end in is reported every 100 to 250 ms, when there is something. The registry's broadcasts
are believed if they are signed and newer; what was missed is asked for. While the registry is away its last word holds
until its time, and then what this process sees itself.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from bursar.bus.base import Bus
from bursar.bus.signing import Verifier
from bursar.client.breaker_call import CircuitCall, Entry
from bursar.client.breaker_errors import BreakerUnavailable, CircuitOpen
from bursar.client.breaker_local import BAD, GOOD, LocalEvidence
from bursar.client.breaker_registry import ASK_MS, Lease, Registry
from bursar.client.breaker_report import Deltas
from bursar.client.breaker_verdict import GO, Stopped, Verdict
from bursar.client.time import Clock, SystemClock
from bursar.contracts.base import NAME, observation_subject
from bursar.contracts.breaker import PULSE_MS, SERVICE, Outcome, path_of
from bursar.errors import BursarError, CallerError

SOON: Final = 0.1
LATER: Final = 0.25
"""Seconds until a report is sent that has a failure, or none."""

FIRST_LOOK: Final = 0.25
"""Seconds that the very first call waits, at most, to hear what is open."""

SPREAD_MS: Final = 1_000.0
FREED_MS: Final = 500.0
"""Those who were refused a probe ask again within so long of the end of the permit that is out, or of the pulse which
says that it has come back."""

MAX_CLEAR: Final = 8_192
MAX_NAME: Final = 256
MAX_SPAN: Final = 86_400.0
_NAME: Final = re.compile(NAME)


class Hold(NamedTuple):
    """No probe is asked for before ``until`` (local ms) while the circuit is still the one of this revision."""

    revision: int
    until: float


class Breaker:
    """Made by `bursar.connect`. ``trust`` gives the verifier of broadcasts, if there is one by now."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock | None = None,
        trust: Callable[[], Verifier | None] = lambda: None,
        spread: random.Random | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self._random = spread or random.Random()
        self._bus = bus
        self._local = LocalEvidence()
        self.registry = Registry(bus, self.clock, trust, self._random, self._changed, self._local.forget, self._freed)
        self._subject = observation_subject(SERVICE, "report", bus.principal)
        self._deltas = Deltas()
        self._clear: dict[str, Verdict] = {}
        self._paths: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, Hold] = {}
        self._flush_at: asyncio.TimerHandle | None = None
        self._flush_due = math.inf

    def start(self) -> None:
        """Begin to listen and to ask, in the background; nothing is waited for."""
        self.registry.start()

    async def close(self, timeout: float = 1.0) -> None:
        """Send what is left to report, and stop listening."""
        self._send_report()
        await self.registry.close(timeout)
        if self._flush_at is not None:
            self._flush_at.cancel()

    async def ready(self, timeout: float = 5.0) -> bool:
        """Wait until the registry has said once what is open; False when it has not within so many seconds."""
        self.start()
        try:
            async with asyncio.timeout(timeout):
                await self.registry.told.wait()
        except TimeoutError:
            return False
        return True

    @property
    def is_alone(self) -> bool:
        """Whether the registry is away: nothing was heard of it for some seconds."""
        return self.registry.is_away

    def circuits(self) -> dict[str, str]:
        """What is known not to be closed, as target and state."""
        return {row.target: row.state for row in self.registry.view.known.values()}

    # ---- before a call

    def allows(self, target: str) -> Verdict:
        """May this target be called now? True or False as a `Verdict`; looked up, never asked.

        False for a half-open target, too: `call` may get a permit to try it. Raises `CallerError` for what is no name.
        """
        return self._clear.get(target) or self._look(target)

    def call(self, target: str, *, slow_after: float | None = None) -> CircuitCall:
        """One call to a target, as ``async with``; entering raises `CircuitOpen`.

        ``slow_after``: seconds after which a call that went well counts as slow.
        """
        return CircuitCall(self, target, slow_after)

    def _changed(self) -> None:
        self._clear.clear()

    def _look(self, target: str) -> Verdict:
        names = self._paths.get(target) or self._path(target)
        now, alone = self.clock.now(), self.is_alone
        stopped = self._said(target, names, now, alone=alone)
        if alone and stopped is None:
            stopped = self._seen(target, names, now)
        if stopped is not None:
            return stopped
        if not alone:
            if len(self._clear) >= MAX_CLEAR:
                self._clear.clear()
            self._clear[target] = GO
        return GO

    def _path(self, target: str) -> tuple[str, ...]:
        """What stands in the way of a target, once it is known to be a name."""
        if not _NAME.fullmatch(target) or len(target) > MAX_NAME:
            raise CallerError("bad_request", "a target is a name such as provider/region/model/key", target=target[:64])
        if len(self._paths) >= MAX_CLEAR:
            self._paths.clear()
        self._paths[target] = path_of(target)
        return self._paths[target]

    def _said(self, target: str, names: tuple[str, ...], now: float, *, alone: bool) -> Stopped | None:
        """What the registry has said; an open time that is over here stands for half-open."""
        stopping = self.registry.view.stopping
        found = None
        for name in names if stopping else ():
            row = stopping.get(name)
            if row is None:
                continue
            if row.state == "forced_open" or (row.state == "open" and now < row.until):
                until = None if row.until == math.inf else row.until
                return Stopped(target, name, row.state, row.reason, now, until, may_probe=False)
            if alone:
                self._local.inherit(row, now)
            if found is None or found.may_probe:
                until = self._held_until(name, row.revision, now)
                found = Stopped(target, name, "half_open", row.reason, now, until, may_probe=until is None)
        return None if alone else found

    def _seen(self, target: str, names: tuple[str, ...], now: float) -> Stopped | None:
        """What this process has seen itself."""
        shut = self._local.in_the_way(names, now)
        if shut is None:
            return None
        return Stopped(target, shut[0], "local", "consecutive", now, shut[1], may_probe=False)

    async def enter(self, target: str) -> Entry:
        """What a `CircuitCall` goes by. Raises `CircuitOpen`."""
        if not self.registry.looked.is_set():
            await self._first_look()
        verdict = self.allows(target)
        if isinstance(verdict, Stopped):
            if not verdict.may_probe:
                raise verdict.error()
            return await self._probe(target, verdict)
        if self._local.shut and self.is_alone:
            return Entry(trial=self._local.begin_trial(path_of(target), self.clock.now()))
        return Entry()

    async def _first_look(self) -> None:
        self.start()
        try:
            async with asyncio.timeout(FIRST_LOOK):
                await self.registry.looked.wait()
        except TimeoutError:
            self.registry.looked.set()  # no call waits again

    async def _probe(self, target: str, verdict: Stopped) -> Entry:
        """By a permit of the registry. Raises `CircuitOpen`."""
        try:
            found = await self.registry.probe(target)
        except BursarError as error:
            self._hold_off(verdict.circuit, self._random.uniform(0.5, 1.0) * ASK_MS)
            raise verdict.error() from error
        if isinstance(found, Lease):
            return Entry(found)
        if found.reason == "closed":
            return Entry()
        wait = ASK_MS if found.retry_in_ms is None else float(found.retry_in_ms)
        if self.registry.has_pulse:
            wait += self._random.uniform(0.0, SPREAD_MS)
        else:
            wait = min(ASK_MS, wait) * self._random.uniform(0.5, 1.0)
        self._hold_off(verdict.circuit, wait)
        now = self.allows(target)
        raise now.error() if isinstance(now, Stopped) else verdict.error()

    def _hold_off(self, circuit: str, ms: float) -> None:
        """Ask for no probe there for a while, unless the circuit changes: others have them."""
        row = self.registry.view.known.get(circuit)
        if row is None:
            return
        if len(self._held) >= MAX_CLEAR:
            self._held.clear()
        self._held[circuit] = Hold(row.revision, self.clock.now() + ms)

    def _held_until(self, circuit: str, revision: int, now: float) -> float | None:
        """When it is worth another try, if not now: the next pulse may say that there is a permit."""
        hold = self._held.get(circuit)
        if hold is None or hold.revision != revision or hold.until <= now:
            return None
        return min(hold.until, now + PULSE_MS)

    def _freed(self, circuits: Sequence[str]) -> None:
        """Permits have come back there that nobody has asked for: those who wait may, one after the other."""
        for circuit in circuits:
            hold = self._held.get(circuit)
            if hold is not None:
                soon = self.clock.now() + self._random.uniform(0.0, FREED_MS)
                self._held[circuit] = hold._replace(until=min(hold.until, soon))

    # ---- after a call

    def left(self, target: str, entry: Entry, outcome: Outcome | None, retry_after: float | None) -> None:
        """How a call ended that `enter` let go."""
        if entry.lease is not None:
            ms = None if retry_after is None else round(min(retry_after, MAX_SPAN) * 1000.0)
            self.registry.tell(entry.lease.key, outcome or "cancelled", ms)
            for circuit in path_of(target):  # a permit is free again, and nobody knows it sooner
                self._held.pop(circuit, None)
            return
        if entry.trial:
            self._local.end_trial(entry.trial, outcome, self.clock.now(), self.registry.view.known)
        if outcome is not None:
            self.record(target, outcome, retry_after=retry_after)

    def record(self, target: str, outcome: Outcome, *, retry_after: float | None = None) -> None:
        """Report how a call ended that was made without `call`. ``retry_after``: in seconds, of an overload."""
        now = self.clock.now()
        asked = min(retry_after, MAX_SPAN) * 1000.0 if retry_after is not None and outcome == "overload" else None
        if outcome in BAD or outcome in GOOD:
            alone = outcome in BAD and self.is_alone
            if self._local.note(target, outcome, now, asked, alone=alone):
                self._clear.clear()
        self._deltas.add(target, outcome, now, None if asked is None else now + asked)
        self._report_in(SOON if outcome in BAD or outcome == "auth" else LATER, now)

    def _report_in(self, seconds: float, now: float) -> None:
        due = now + seconds * 1000.0
        if due >= self._flush_due:
            return
        if self._flush_at is not None:
            self._flush_at.cancel()
        self._flush_due = due
        self._flush_at = asyncio.get_running_loop().call_later(seconds, self._send_report)

    def _send_report(self) -> None:
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        self._flush_due = math.inf
        if not len(self._deltas):
            return
        now = self.clock.now()
        if not self._bus.is_connected and self.registry.is_started:
            self._report_in(LATER, now)
            return
        for payload in self._deltas.take(now):
            try:
                self._bus.publish(self._subject, payload)
            except BursarError:
                self._deltas.dropped += 1


__all__ = ["Breaker", "BreakerUnavailable", "CircuitOpen", "Verdict"]
