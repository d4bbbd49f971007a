"""The limiter as an agent sees it.

::

    async with fleet.limiter.reserve("openai/gpt", input_tokens=900, output_tokens=400, wait=30) as permit:
        permit.sent()
        answer = await call_the_provider()
        permit.used(input_tokens=answer.usage.input, output_tokens=answer.usage.output)

What it promises: a permit handed out can be sent (its deadline has not passed); what was granted but cannot be used
(the caller was cancelled meanwhile, the answer came too late) is given back; a settlement is repeated until the
limiter has it; after the limiter has lost data, the permits in use are declared to it again.

A budget that is in demand is held by lease (`bursar.client.lease_keeper`): its calls are then decided in this process,
in about a microsecond, and nothing else changes for whoever calls `Limiter.reserve`. `Limiter.try_reserve` and
`Limiter.held` are the synchronous way in. What happens while the limiter cannot be reached is a rule of each budget
(`bursar.client.lease_away`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from bursar.bus.base import Bus
from bursar.client import limiter_plan
from bursar.client.background import Background
from bursar.client.caller import Caller, Reply
from bursar.client.errors import BadReply, LimiterUnavailable, refusal
from bursar.client.estimates import Estimates
from bursar.client.headers import RateLimitHeaders
from bursar.client.lease_away import Away
from bursar.client.lease_keeper import Keeper
from bursar.client.limited import F, Usage, limited
from bursar.client.limiter_reaper import Reaper
from bursar.client.local import HeldLease, hand_of
from bursar.client.local_permit import LocalPermit
from bursar.client.observe import FreezeEar, Freezes, Observer
from bursar.client.permit import ENDED, HELD, Ask, Permit, Reservation, Settlement
from bursar.client.session import Session
from bursar.client.time import Clock, SystemClock, clock_ns
from bursar.contracts.limiter import DIMENSIONS, SERVICE, StatusReply
from bursar.contracts.limiter_control import Simulated
from bursar.errors import BursarError

if TYPE_CHECKING:
    from bursar.bus.signing import Verifier

PATIENCE: Final = 10.0
"""Seconds to keep asking a limiter that does not answer: longer than a restart or a take-over."""

ANSWER_BYTES: Final = 4_096
"""On the network, while nothing is known of an agent's answers."""

DEFAULT_TTL: Final = 120.0
MAX_WAIT: Final = 600.0
TOO_LATE: Final = 5
"""Number of permits that may arrive void, one after the other, before the limiter counts as out of reach."""


class Limiter:
    """Made by `bursar.connect`. ``observed``: the provider's rate-limit headers last seen, by budget. ``freezes``: what
    the provider has stopped. ``estimates``: the lengths of answers, and how well they were guessed; ``sizes``: the
    same in bytes on the network. ``keeper``: the leases. ``away``: what goes on without the limiter. ``leases``:
    whether to ask for any; ``paced``: whether to spend them evenly; ``threads``: permits are taken and ended in other
    threads, too."""

    def __init__(
        self,
        bus: Bus,
        *,
        clock: Clock | None = None,
        background: Background | None = None,
        session: Session | None = None,
        patience: float = PATIENCE,
        trust: Callable[[], Verifier | None] = lambda: None,
        leases: bool = True,
        paced: bool = False,
        threads: bool = False,
    ) -> None:
        self.principal = bus.principal
        self.clock = clock or SystemClock()
        self.background = background or Background()
        self.patience = patience
        self.observed: dict[str, RateLimitHeaders] = {}
        self._session = session or Session()
        self.caller = Caller(bus, SERVICE, self.clock, session=self._session, lost_data=self._data_was_lost)
        self.estimates = Estimates()
        self.sizes = Estimates(default=ANSWER_BYTES)
        self.freezes = Freezes(self.clock)
        self.observer = Observer(bus, self.clock, self.caller, self.background, self.freezes)
        self.ear = FreezeEar(bus, self.freezes, trust)
        clock_of = clock_ns if isinstance(self.clock, SystemClock) else self._clock_ns
        self.keeper = Keeper(self.caller, self.freezes, clock_of, threads=threads, paced=paced, is_on=leases)
        self.away = Away(self.caller, self.background, self.clock, clock_of, self.freezes, threads=threads)
        self.keeper.renewed = self.away.know
        self._reaper = Reaper(self, self._session)
        self.caller.stray = self._reaper.stray
        self._outstanding: dict[str, Permit] = {}
        self._declared: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        self.keeper.start()
        await self.caller.start()
        await self.ear.start()

    async def close(self, timeout: float = 5.0) -> int:
        """Give back what was never sent and finish all settlements; returns how many could not be finished."""
        for permit in list(self._outstanding.values()):
            if permit.state == HELD:
                permit.cancel_soon()
        await asyncio.gather(self.keeper.close(timeout), self.away.close(timeout))
        await self.ear.close()
        unfinished = await self.background.drain(timeout)
        await self.caller.close()
        return unfinished

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it lives in."""
        return self.keeper.loop

    @property
    def outstanding(self) -> int:
        """Number of permits that are not settled yet."""
        return len(self._outstanding)

    def reserve(
        self,
        budget: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
        wait: float = 0.0,
        ttl: float = DEFAULT_TTL,
        run: str | None = None,
        also: tuple[str, ...] = (),
        priority: str = "standard",
    ) -> Reservation:
        """Reserve for one call: use it with ``async with``, or ``await`` it (as `acquire`).

        ``wait``: seconds to stand in line (at most 600) instead of being refused at once. ``ttl``: seconds after which
        an unsettled permit counts as used in full (0.1 to 3600). ``run``: the agent's run, for budgets that give each
        its own. ``also``: other objects to take from in the same decision. ``priority``: ``reactive``, ``standard`` or
        ``proactive``.

        At the end of the block the permit is settled with what `Permit.used` recorded, in full when nothing was. When
        the block raises before `Permit.sent` was called, it is cancelled instead and all is refunded: so call
        `Permit.sent` right before you send.

        Entering raises `Refused` (`NeverFits` when no waiting helps), `LimiterUnavailable`, or another
        `bursar.errors.BursarError` that says what to do.
        """
        amounts = {
            "requests": requests,
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "concurrent": concurrent,
            "usd_micros": usd_micros,
        }
        if network_bytes:
            amounts["network_bytes"] = network_bytes
        return Reservation(self, Ask(budget, amounts, min(max(0.0, wait), MAX_WAIT), ttl, run, also, priority))

    async def acquire(self, budget: str, **ask: Any) -> Permit:
        """A permit that you settle or cancel yourself; arguments and errors as `reserve`."""
        return await self.reserve(budget, **ask)

    def try_reserve(
        self,
        budget: str,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        requests: int = 1,
        concurrent: int = 1,
        usd_micros: int = 0,
        network_bytes: int = 0,
        run: str | None = None,
        also: tuple[str, ...] = (),
    ) -> LocalPermit | None:
        """A permit at once, without waiting for anybody, to be used with ``with``; None when this process holds no
        lease of the budget that has room for it. Asking often enough brings one: None counts as demand, too.

        Raises `CallerError` (``bad_amount``) for a negative amount.
        """
        total = input_tokens + output_tokens
        amounts = (requests, input_tokens, output_tokens, concurrent, usd_micros, total, network_bytes)
        return self.keeper.take((budget, run or "", also), amounts)

    def held(self, budget: str, *, run: str | None = None, also: tuple[str, ...] = ()) -> HeldLease:
        """This process's lease of the budget, to take from directly: the same object for ever, whether or not it has
        anything in hand now. `HeldLease.take` does not look at freezes; `LocalPermit.sent` does. What it cannot give
        does not count as demand: ask `try_reserve` or `reserve` then."""
        return self.keeper.holder((budget, run or "", also)).lease

    def limited(self, budget: str | Callable[..., str], *, usage: Usage | None = None, **ask: Any) -> Callable[[F], F]:
        """A decorator: each call of the function, with or without ``async``, is one call under the budget.

        ``ask``: as for `reserve`; amounts may also be functions of the call's arguments, and so may ``budget``.
        ``usage``: from what the function returns to the arguments of `Permit.used`. A function with a parameter
        ``permit`` gets the permit and says itself when it sends. See `bursar.client.limited`.
        """
        return limited(self, budget, usage, ask)

    async def status(
        self, budget: str | None = None, *, path: bool = False, run: str | None = None, also: tuple[str, ...] = ()
    ) -> StatusReply:
        """Limits, use and headroom of one budget or of all. ``path``: of everything that a call of this agent under the
        budget would take from, with ``run`` and ``also`` as in `reserve`."""
        return await limiter_plan.status(self, {"budget": budget, "path": path, "run": run, "also": also})

    async def simulate(self, budget: str, *, count: int = 1, run: str | None = None, also: tuple[str, ...] = (),
                       **amounts: int) -> Simulated:  # fmt: skip
        """What if this were reserved ``count`` times now: how many would fit, when the next, and what is in its way.
        Amounts as in `reserve`; nothing changes."""
        fields = {"budget": budget, "amounts": amounts, "count": count, "run": run, "also": also}
        return await limiter_plan.simulate(self, fields)

    # -- reserve

    async def grant(self, ask: Ask) -> Permit:
        """A permit that can be sent now; see `reserve`."""
        local = self.take_local(ask)
        if local is not None:
            return local
        try:
            return await self._grant(ask)
        except LimiterUnavailable:
            if self.away.rule(ask.budget) == "closed":
                raise
            self.away.left()
            local = self.take_local(ask)
            if local is None:
                raise
            return local

    def take_local(self, ask: Ask) -> Permit | None:
        """A permit without asking anybody: from a lease, or while the limiter is out of reach by the budget's rule."""
        amounts = hand_of(ask.amounts)
        local = None
        if ask.ttl * 1000.0 <= self.keeper.ttl_ms:
            local = self.keeper.take((ask.budget, ask.run or "", ask.also), amounts)
        if local is None and self.away.is_away and (not ask.also or self.away.rule(ask.budget) == "open"):
            local = self.away.take(ask.budget, amounts)  # a slice is one of the budget's own path
        return cast("Permit | None", local)

    async def _grant(self, ask: Ask) -> Permit:
        """A durable permit from the limiter."""
        wait_until = self.clock.now() + ask.wait * 1000.0
        deadline = self.clock.now() + ask.wait * 1000.0 + self.away.patience(ask.budget, self.patience * 1000.0)
        for _ in range(TOO_LATE):
            permit = await self._ask(ask, wait_until - self.clock.now(), deadline)
            if permit is not None and await self._is_good(permit, deadline):
                self.away.know(ask.budget)
                return permit
        raise LimiterUnavailable("every permit came too late to be used", budget=ask.budget)

    async def _is_good(self, permit: Permit, deadline: float) -> bool:
        """Whether a fresh permit can be sent; if not, it is given back."""
        try:
            if permit.expired:
                await self._learn_offset(deadline)
        except asyncio.CancelledError:
            permit.cancel_soon()
            raise
        if permit.expired:
            permit.cancel_soon()
            return False
        return True

    async def _ask(self, ask: Ask, wait_ms: float, deadline: float) -> Permit | None:
        """One request; None when the grant belongs to data that was lost."""
        call = self.caller.request(
            "reserve",
            {
                "budget": ask.budget,
                "amounts": ask.amounts,
                "wait_ms": max(0, int(wait_ms)),
                "ttl_ms": int(ask.ttl * 1000.0),
                **ask.more,
            },
        )
        try:
            reply = await self.caller.run(call, deadline)
        except (asyncio.CancelledError, LimiterUnavailable):
            self._reaper.abandon(call, ask)
            raise
        if reply.body.get("ok") is not True:
            self._reaper.doubt(call, ask)
            raise self._refused(reply)
        permit = self.permit_of(ask, reply)
        if reply.is_lost:
            permit.cancel_soon()
            return None
        return permit

    def permit_of(self, ask: Ask, reply: Reply) -> Permit:
        """The permit that a grant is."""
        body = reply.body
        times = (body.get("granted_at_ms"), body.get("send_by_at_ms"))
        if not (type(body.get("reservation")) is str and type(times[0]) is int and type(times[1]) is int):
            raise BadReply("the grant cannot be read")
        offset = self.caller.offsets.of(reply.epoch)
        offset.learn(reply.sent, body["granted_at_ms"])
        permit = self._outstanding[body["reservation"]] = Permit(self, ask, body, reply.fence, offset)
        return permit

    def _refused(self, reply: Reply) -> BursarError:
        body = reply.body
        try:
            told = refusal(body)
            self.caller.offsets.of(reply.epoch).learn(reply.sent, body["now_ms"])
        except (LookupError, TypeError):
            return BadReply("the refusal cannot be read")
        return told

    async def _learn_offset(self, deadline: float) -> None:
        """Ask for the limiter's time: the answer to a request that stood in line says little about the offset."""
        try:
            reply = await self.caller.run(self.caller.query("clock", {}), min(deadline, self.clock.now() + 250.0))
        except BursarError:
            return
        now = reply.body.get("now_ms")
        if type(now) is int:
            self.caller.offsets.of(reply.epoch).learn(reply.sent, now)

    # -- settle

    async def settle(self, permit: Permit, fields: dict[str, Any]) -> Settlement:
        """Repeat a settlement until the limiter has it, or the reservation has surely timed out."""
        try:
            body = await self._settle_declared(permit, fields)
        finally:
            self._outstanding.pop(permit.reservation, None)
        try:
            return Settlement(str(body["outcome"]), dict(body["refunded"]), dict(body["overage"]))
        except (LookupError, TypeError, ValueError):
            raise BadReply("the settlement cannot be read") from None

    async def _settle_declared(self, permit: Permit, fields: dict[str, Any]) -> dict[str, Any]:
        """After a loss a settlement must not come before the declaration: it would find nothing, and the declared
        reservation would stay until it times out."""
        declaring = self._declared.get(permit.reservation)
        if declaring is not None:
            await asyncio.wait((declaring,))
        try:
            return await self.tell(permit, "settle", fields)
        except BursarError as error:
            was_lost = error.code == "unknown_reservation" and permit.fence[0] < self.caller.seen[0]
            if not was_lost or declaring is not None:
                raise
        await self._redeclare(permit)
        return await self.tell(permit, "settle", fields)

    async def tell(self, permit: Permit, verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Something about a permit, repeated until the limiter has it or the reservation has surely timed out."""
        return (await self.caller.ask(verb, fields, self._deadline(permit.ask.ttl))).body

    # -- after data loss: declared, so that their settlements find them; what was granted stays good, since the limiter
    # grants nothing new until all that it may have lost is over

    def _data_was_lost(self) -> None:
        """A permit that is being settled is declared by its settlement, if that finds nothing."""
        for name, permit in self._outstanding.items():
            if permit.state != ENDED:
                declaring = self._declared[name] = self.background.spawn(self._redeclare(permit))
                declaring.add_done_callback(partial(self._has_declared, name))

    def _has_declared(self, reservation: str, task: asyncio.Task[None]) -> None:
        if self._declared.get(reservation) is task:
            del self._declared[reservation]

    async def _redeclare(self, permit: Permit) -> None:
        fields = {
            "budget": permit.budget,
            "reservation": permit.reservation,
            "fence": permit.fence_text,
            "amounts": {name: permit.amounts.get(name, 0) for name in DIMENSIONS},
            "granted_at_ms": permit.granted_at_ms,
            "ttl_ms": int(permit.ask.ttl * 1000.0),
            **{name: told for name, told in permit.ask.more.items() if name != "priority"},
        }
        await self.tell(permit, "redeclare", fields)

    def _deadline(self, wait: float) -> float:
        return self.clock.now() + (wait + self.patience) * 1000.0

    def _clock_ns(self) -> int:
        """The clock that was given, in the unit of leases."""
        return int(self.clock.now() * 1e6)
