"""The circuit breaker as an agent sees it.

::

    if fleet.breaker.allows("provider-a/eu/gpt-x"):        # a look-up, nothing is sent
        ...
    async with fleet.breaker.call("provider-a/eu/gpt-x") as call:   # raises CircuitOpen
        ...
    @fleet.breaker.guard("provider-a/eu/gpt-x", retries=2)
    async def ask(prompt): ...

What it promises: a decision is a look-up in this process's memory; no call waits for the registry, except one that
tries a half-open target, for which a permit is asked (and the very first, for a quarter of a second at most, to hear
what is open). What calls end in is reported every 100 to 250 ms, when there is something. The registry's broadcasts
are believed if they are signed and newer; what was missed is asked for. While the registry is away its last word holds
until its time, and five failures in a row shut a target in this process; with ``failures`` so many do that ahead of the
fleet, too, which the registry is told each second.

It lives in one event loop. `allows`, `ask`, `record` and ``with call(...)`` may be used from any thread.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from bursar.bus.base import Bus
from bursar.bus.signing import Verifier
from bursar.client.background import Background
from bursar.client.breaker_call import FREELY, CircuitCall, Entry
from bursar.client.breaker_errors import BreakerUnavailable, CircuitOpen
from bursar.client.breaker_gates import Gates
from bursar.client.breaker_guard import F, guarded, run
from bursar.client.breaker_health import Check, watch
from bursar.client.breaker_load import Load, Terms
from bursar.client.breaker_local import BAD, FAILURES, GOOD, LocalEvidence
from bursar.client.breaker_probe import ASK_MS, SPREAD_MS, Lease
from bursar.client.breaker_registry import Registry
from bursar.client.breaker_report import Reporter
from bursar.client.breaker_verdict import GO, Stopped, Verdict
from bursar.client.bulkhead import Bounds
from bursar.client.fallback import Chain, of_targets, only
from bursar.client.time import Clock, SystemClock
from bursar.contracts.breaker import Outcome
from bursar.errors import BursarError

FIRST_LOOK: Final = 0.25
"""Seconds that the very first call waits, at most, to hear what is open."""

FREED_MS: Final = 500.0
"""Those who were refused a probe ask again within so long of the pulse which says that it has come back; or within as
long as the registry has them spread, if that is more."""

MAX_SPAN: Final = 86_400.0
MAX_TURNS: Final = 1_024
What = str | Chain | Sequence[str]
"""What to call: a target, several of which the first that may be called is taken, or a `Breaker.chain`."""

T = TypeVar("T")


class Breaker:
    """Made by `bursar.connect`. ``trust`` gives the verifier of broadcasts, if there is one by now. ``failures``: so
    many in a row shut a target in this process, ahead of the fleet; never fewer than the rule wants of the fleet, and
    none where it wants none (0: only while the registry is away)."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock | None = None,
        trust: Callable[[], Verifier | None] = lambda: None,
        spread: random.Random | None = None,
        failures: int = 0,
    ) -> None:
        self.clock = clock or SystemClock()
        self.random = spread or random.Random()
        self._local = LocalEvidence()
        self._failures = failures
        self.registry = Registry(bus, self.clock, trust, self.random, self)
        self._gates = Gates(self.clock, self.registry, self._local, bus.principal)
        self._verdicts = self._gates.verdicts
        self._now = self.clock.now
        self._reporter = Reporter(bus, self.clock, self.registry, self._claims)
        self._load = Load(self.clock, lambda: self.registry.policy)
        self._watching = Background()
        self._turns: dict[str, asyncio.Lock] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to listen and to ask, in the background; nothing is waited for."""
        self._loop = asyncio.get_running_loop()
        self.registry.start()

    async def close(self, timeout: float = 1.0) -> None:
        """Send what is left to report, and stop listening."""
        await self._watching.drain(0.0)
        self._reporter.send()
        await self.registry.close(timeout)
        self._reporter.close()

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

    def chain(self, target: str) -> Chain:
        """The target, and what to use instead of it by the registry's rules; for `call` and `run`."""
        self._gates.path(target)
        return self.registry.policy.chain(target)

    # ---- before a call

    def allows(self, target: str) -> Verdict:
        """May this target be called now? True or False as a `Verdict`; looked up, never asked.

        False for a half-open target, too: `call` may get a permit to try it. Of a target that is recovering it lets a
        part of the calls go, and each question counts as one. Raises `CallerError` for what is no name.
        """
        verdict = self._verdicts.get(target)
        if verdict is GO:
            return verdict
        if isinstance(verdict, Stopped) and self._now() < verdict.expires:
            return verdict
        return self._gates.decide(target, verdict)

    def peek(self, target: str) -> Verdict:
        """As `allows`, for who only looks: counts as no call, and is True where a part of the calls may go."""
        return self._gates.decide(target, self._verdicts.get(target), is_counted=False)

    def call(
        self,
        what: What,
        *,
        slow_after: float | None = None,
        again_after: Outcome | None = None,
        is_counted: bool = True,
    ) -> CircuitCall:
        """One call, as ``async with`` or ``with``; entering raises `CircuitOpen`, `BulkheadFull`, `RetryDenied` or
        `deadline.DeadlineExceeded`.

        ``what``: a target, a list of targets, or a `chain`; the first step that may be called is taken, and
        ``call.target`` says which. ``slow_after``: seconds after which a call that went well counts as slow.
        ``again_after``: it is a retry of one that has ended so, and the target's budget of retries pays for it.
        ``is_counted``: False when `allows` has just let this very call go. ``with`` waits for nothing, and so tries no
        half-open target.
        """
        return CircuitCall(self, _chain_of(what), slow_after, is_counted=is_counted, again_after=again_after)

    def ask(self, what: What, *, slow_after: float | None = None) -> CircuitCall:
        """The first of two steps: may it be called? Raises as `call` does. The second is `CircuitCall.done`."""
        return CircuitCall(self, _chain_of(what), slow_after).__enter__()

    async def ask_probe(self, what: What, *, slow_after: float | None = None) -> CircuitCall:
        """As `ask`, and fetches a permit for a half-open target if it has to."""
        call = CircuitCall(self, _chain_of(what), slow_after)
        await call.begin()
        return call

    async def run(
        self,
        what: What,
        work: Callable[[CircuitCall], Awaitable[T]],
        *,
        retries: int = 0,
        slow_after: float | None = None,
    ) -> T:
        """Do some work under a call; when it fails by the target's fault, at the next step of the chain, and at the
        last target again, at most ``retries`` times. Budgets of retries and the deadline bound both. Raises what the
        last attempt raised. For a step without a target a `LookupError` says that there is no such answer."""
        return await run(self, _chain_of(what), work, retries, slow_after)

    def guard(
        self,
        what: What,
        *,
        follow: bool = False,
        retries: int = 0,
        slow_after: float | None = None,
        give: str | None = None,
    ) -> Callable[[F], F]:
        """A decorator for functions, coroutine functions or not. ``follow``: the `chain` of the target, as the rules
        have it at each call. ``retries``, ``slow_after``: see `run`; only coroutine functions are retried. ``give``:
        the keyword argument in which the function gets its `CircuitCall`."""

        def chain() -> Chain:
            return self.chain(what) if follow and isinstance(what, str) else _chain_of(what)

        return lambda work: guarded(self, chain, work, retries, slow_after, give)

    def watch(self, target: str, check: Check, every: float = 5.0) -> asyncio.Task[None]:
        """Have a half-open target tried by ``check`` each so many seconds, although nobody has a call for it, until the
        task is cancelled or this is closed."""
        self._gates.path(target)
        return self._watching.spawn(watch(self, target, check, every))

    # ---- what a target is sent

    def limit(self, target: str, bounds: Bounds | None) -> None:
        """Keep the calls of this process to a target, and to all below it, in a bulkhead (None: no more)."""
        self._gates.path(target)
        self._load.limit(target, bounds)

    def terms(self, target: str) -> Terms:
        """The bulkheads in the way of a target, its budget of retries, and the times of its calls."""
        return self._load.of(target)

    def occupy(self, target: str, again_after: Outcome | None) -> Terms:
        """A place in those bulkheads, and a call or a retry for that budget. Raises `BulkheadFull`, `RetryDenied`."""
        return self._load.occupy(target, again_after)

    # ---- what a `CircuitCall` goes by

    def admit(self, target: str, *, is_counted: bool = True) -> Entry:
        """By what is known, without waiting. Raises `CircuitOpen`."""
        verdict = self.allows(target) if is_counted else self.peek(target)
        if isinstance(verdict, Stopped):
            raise verdict.error()
        return self._trial(target)

    async def enter(self, target: str, *, is_counted: bool = True) -> Entry:
        """As `admit`; a permit is fetched for a half-open target."""
        if not self.registry.looked.is_set():
            await self._first_look()
        verdict = self.allows(target) if is_counted else self.peek(target)
        if isinstance(verdict, Stopped):
            if not verdict.may_probe:
                raise verdict.error()
            return await self._probe_in_turn(target, verdict)
        return self._trial(target)

    def _trial(self, target: str) -> Entry:
        if not self._local.shut:
            return FREELY
        tried = self._local.begin_trial(self._gates.path(target), self.clock.now())
        if tried:
            self._gates.forget()
        return Entry(trial=tried)

    async def _first_look(self) -> None:
        self.start()
        try:
            async with asyncio.timeout(FIRST_LOOK):
                await self.registry.looked.wait()
        except TimeoutError:
            self.registry.looked.set()  # no call waits again

    async def _probe_in_turn(self, target: str, verdict: Stopped) -> Entry:
        """One question at a time: what one call of this process is answered holds for its others, too."""
        if len(self._turns) >= MAX_TURNS:
            self._turns.clear()
        async with self._turns.setdefault(verdict.circuit, asyncio.Lock()):
            now = self.peek(target)
            if not isinstance(now, Stopped):
                return self._trial(target)
            if not now.may_probe:
                raise now.error()
            return await self._probe(target, now)

    async def _probe(self, target: str, verdict: Stopped) -> Entry:
        """By a permit of the registry. Raises `CircuitOpen`."""
        try:
            found = await self.registry.probe(target)
        except BursarError as error:
            self._gates.hold_off(verdict.circuit, self.random.uniform(0.5, 1.0) * self.registry.probe_pause_ms)
            raise verdict.error() from error
        if isinstance(found, Lease):
            return Entry(found)
        if found.reason == "closed":
            return Entry()
        wait = ASK_MS if found.retry_in_ms is None else float(found.retry_in_ms)
        if self.registry.has_pulse:
            wait += self.random.uniform(0.0, found.spread_ms)
        else:
            wait = max(min(ASK_MS, wait), found.spread_ms - SPREAD_MS) * self.random.uniform(0.5, 1.0)
        self._gates.hold_off(verdict.circuit, wait, self.random.random() * max(FREED_MS, found.spread_ms - FREED_MS))
        now = self.peek(target)
        raise now.error() if isinstance(now, Stopped) else verdict.error()

    # ---- after a call

    def left(self, target: str, entry: Entry, outcome: Outcome | None, retry_after: float | None) -> None:
        """How a call ended that was let go."""
        if entry.lease is None and not entry.trial:
            if outcome is not None:
                self.record(target, outcome, retry_after=retry_after)
        else:
            self._in_loop(self._tried, target, entry, outcome, retry_after)

    def _tried(self, target: str, entry: Entry, outcome: Outcome | None, retry_after: float | None) -> None:
        if entry.lease is not None:
            ms = None if retry_after is None else round(min(retry_after, MAX_SPAN) * 1000.0)
            self.registry.tell(entry.lease.key, outcome or "cancelled", ms)
            self._gates.hold_no_more(self._gates.path(target))  # a permit is free again, and nobody knows it sooner
            return
        self._local.end_trial(entry.trial, outcome, self.clock.now(), self.registry.view.known)
        self._gates.forget()
        if outcome is not None:
            self._record(target, outcome, retry_after)

    def record(self, target: str, outcome: Outcome, *, retry_after: float | None = None) -> None:
        """Report how a call ended that was made without `call`. ``retry_after``: in seconds, of an overload."""
        self._in_loop(self._record, target, outcome, retry_after)

    def _record(self, target: str, outcome: Outcome, retry_after: float | None) -> None:
        now, free = self.clock.now(), self.registry.view.free
        asked = min(retry_after, MAX_SPAN) * 1000.0 if retry_after is not None and outcome == "overload" else None
        states = {free[name].state for name in self._gates.path(target) if name in free} if free else ()
        counts = (outcome in BAD or outcome in GOOD) and not states
        if counts:
            self._note(target, outcome, now, asked)
        if "disabled" not in states:
            self._reporter.add(target, outcome, now, asked)

    def _note(self, target: str, outcome: Outcome, now: float, asked: float | None) -> None:
        """What this process goes by itself."""
        alone, needed = False, 0
        if outcome in BAD:
            alone = self.is_alone
            needed = (self._failures or FAILURES) if alone else self._ahead(target)
        if self._local.note(target, outcome, now, asked, needed, alone=alone):
            self._gates.forget()

    def _ahead(self, target: str) -> int:
        """So many failures in a row shut it here ahead of the fleet. Where the registry would not take that for a
        voice, because its rule wants more or none, all could stop and the fleet would never know."""
        rule = self.registry.policy.consecutive(target) if self._failures else None
        return self._failures if rule is None else rule and max(self._failures, rule)

    def _claims(self, now: float) -> dict[str, int]:
        """What this process has stopped calling ahead of the fleet, and after how many failures."""
        if not self._local.shut:
            return {}
        stopping, path = self.registry.view.stopping, self._gates.path
        found = self._local.claims(now)
        return {target: streak for target, streak in found.items() if not any(n in stopping for n in path(target))}

    def _in_loop(self, act: Callable[..., None], *told: Any) -> None:
        """Now, or (from another thread) as soon as the event loop gets to it."""
        loop = self._loop
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not None and (loop is None or loop is here):
            act(*told)
        elif loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(act, *told)

    # ---- what the registry's side tells

    def changed(self) -> None:
        """What is allowed may have changed."""
        view = self.registry.view
        told, view.told = view.told, []
        self._local.drop(told)
        self._gates.forget()

    def new_policy(self) -> None:
        """Another edition of the rules holds: what was shut here by the last one is not."""
        if not self.is_alone:
            self._local.forget()
        self._gates.renew()
        self._load.renew()

    def came_back(self) -> None:
        """The registry was away, and is there again: its word counts."""
        self._local.forget()

    def freed(self, circuits: Sequence[str]) -> None:
        """Permits have come back there that nobody has asked for: those who wait may, one after the other."""
        for circuit in circuits:
            self._gates.hold_less(circuit)


def _chain_of(what: What) -> Chain:
    if isinstance(what, Chain):
        return what
    return only(what) if isinstance(what, str) else of_targets(what)


__all__ = ["Breaker", "BreakerUnavailable", "CircuitOpen", "Verdict"]
