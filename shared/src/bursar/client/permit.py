"""The permit: leave to make one call, for a moment, and the duty to say what it used.

::

    held --sent()--> sent --settle()--> ended
      \\--cancel()-------------------->  ended

A permit that was never sent can be cancelled: everything is refunded. From `Permit.sent` on it counts: with what
`Permit.used` recorded, and in full for what was not recorded. Whoever forgets it leaves it to the limiter, which
counts it in full after its ``ttl``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.client.caller import FenceKey
from bursar.client.errors import BudgetFrozen, PermitEnded, PermitVoid
from bursar.client.offset import EpochOffset
from bursar.contracts.base import MAX_INT
from bursar.errors import CallerError

if TYPE_CHECKING:
    from bursar.client.limiter import Limiter

LEAVE_WITHIN: Final = 1.0
"""Seconds that the end of an ``async with`` block waits for the settlement; then it goes on in the background."""

HELD, SENT, ENDED = "held", "sent", "ended"
USAGE: Final = ("requests", "input_tokens", "output_tokens", "usd_micros")
MORE: Final = ("total_tokens", "network_bytes")
"""Told where they are not zero."""


def check_amounts(amounts: Iterable[int]) -> None:
    """Raise `CallerError` (``bad_amount``) for one that is negative, or too large to be told."""
    for amount in amounts:
        if not 0 <= amount <= MAX_INT:
            raise CallerError("bad_amount", "an amount is negative" if amount < 0 else f"an amount exceeds {MAX_INT}")


class Ask(NamedTuple):
    """What to reserve. ``wait`` and ``ttl`` in seconds; ``run``, ``also`` and ``priority`` as in `Limiter.reserve`."""

    budget: str
    amounts: dict[str, int]
    wait: float
    ttl: float
    run: str | None = None
    also: tuple[str, ...] = ()
    priority: str = "standard"

    @property
    def more(self) -> dict[str, Any]:
        """What a request says beside the budget and the amounts, where it is not the usual."""
        told: dict[str, Any] = {}
        if self.run is not None:
            told["run"] = self.run
        if self.also:
            told["also"] = self.also
        if self.priority != "standard":
            told["priority"] = self.priority
        return told


class Settlement(NamedTuple):
    """How a permit ended: ``used``, ``cancelled`` or ``timed_out`` (its ttl was over before); what came back and what
    was used beyond the reservation, per dimension."""

    outcome: str
    refunded: dict[str, int]
    overage: dict[str, int]


class Permit:
    """Leave to make one call. Made by `Limiter.reserve` and `Limiter.acquire`."""

    __slots__ = (
        "_clock_offset", "_limiter", "_state", "_usage", "amounts", "ask", "budget", "fence", "fence_text",
        "granted_at_ms", "reservation", "send_by_at_ms",
    )  # fmt: skip

    def __init__(
        self, limiter: Limiter, ask: Ask, granted: dict[str, Any], fence: FenceKey, offset: EpochOffset
    ) -> None:
        self._limiter = limiter
        self._state = HELD
        self._usage: dict[str, int] = {}
        self._clock_offset = offset
        self.ask = ask
        self.budget = ask.budget
        self.amounts = ask.amounts
        self.fence = fence
        self.fence_text: str = granted["fence"]
        self.reservation: str = granted["reservation"]
        self.granted_at_ms: int = granted["granted_at_ms"]
        self.send_by_at_ms: int = granted["send_by_at_ms"]

    def __repr__(self) -> str:
        return f"<Permit {self.reservation} for {self.budget}, {self._state}, {self.left:.3f} s left>"

    @property
    def state(self) -> str:
        """``held``, ``sent`` or ``ended``."""
        return self._state

    @property
    def left(self) -> float:
        """Seconds in which the call may still be sent; 0 or less when the permit is void."""
        now = self._limiter.clock.now()
        return (self._clock_offset.deadline(self.send_by_at_ms, now) - now) / 1000.0

    @property
    def expired(self) -> bool:
        """Whether the send deadline has passed: then the call must not be sent any more."""
        return self.left <= 0

    def check(self) -> None:
        """Raise `PermitVoid` past the send deadline or (`BudgetFrozen`) while the provider has asked for a pause,
        `PermitEnded` after the end."""
        if self._state == ENDED:
            raise PermitEnded(self.budget)
        left = self.left
        if left <= 0:
            raise PermitVoid(self.budget, -left * 1000.0)
        frozen = self._limiter.freezes.left(self.budget, self.amounts)
        if frozen > 0.0:
            raise BudgetFrozen(self.budget, frozen)

    def sent(self) -> None:
        """Call this right before the call is sent: it raises `PermitVoid` when it is too late to send; from here on
        the reservation counts as used."""
        if self._state != SENT:
            self.check()
            self._state = SENT

    def used(
        self,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        usd_micros: int | None = None,
        requests: int | None = None,
        total_tokens: int | None = None,
        network_bytes: int | None = None,
    ) -> None:
        """Record what the call really used (the totals so far); settled at the end. What is never recorded counts as
        it was reserved. ``total_tokens``: where the provider counts all tokens together otherwise than by adding.

        Raises `CallerError` (``bad_amount``) for a negative amount or one above 2**53 - 1; then nothing is recorded."""
        amounts = (requests, input_tokens, output_tokens, usd_micros, total_tokens, network_bytes)
        told = {name: int(amount) for name, amount in zip(USAGE + MORE, amounts, strict=True) if amount is not None}
        check_amounts(told.values())
        self._usage.update(told)

    async def progress(self, **used: int | None) -> dict[str, int]:
        """Tell, while the call goes on (a stream), what it has used up to now: what exceeds the reservation counts from
        here on, and not only at the end. Arguments as `used`; what was told may grow, and never shrinks.

        Returns what of the reservation is left, by dimension; below zero: so much beyond it. Raises `PermitEnded`, or
        `bursar.errors.BursarError` when the limiter refuses the report (``usage_shrank``) or cannot be reached.
        """
        if self._state == ENDED:
            raise PermitEnded(self.budget)
        self.used(**used)
        usage = {name: self._usage.get(name, 0) for name in USAGE + MORE}
        body = await self._limiter.tell(self, "progress", {"reservation": self.reservation, "usage": usage})
        left = body.get("left")
        return {str(name): int(amount) for name, amount in left.items()} if isinstance(left, dict) else {}

    async def settle(self, **used: int | None) -> Settlement:
        """End the permit with what was `used` (same arguments); returns when that is durable.

        Raises `PermitEnded` when it has ended, `LimiterUnavailable` when the limiter cannot be reached for so long
        that the reservation has timed out (it then counts in full).
        """
        self.used(**used)
        return await asyncio.shield(self._ending("used", patient=False))

    async def cancel(self) -> Settlement:
        """The call was never sent: everything is refunded. Raises as `settle`."""
        return await asyncio.shield(self._ending("cancelled", patient=False))

    def settle_soon(self, **used: int | None) -> asyncio.Task[Settlement]:
        """As `settle`, in the background: it is finished before the fleet closes, and has the time to share a write to
        the limiter's disk with others."""
        self.used(**used)
        return self._ending("used", patient=True)

    def cancel_soon(self) -> asyncio.Task[Settlement]:
        """As `cancel`, in the background."""
        return self._ending("cancelled", patient=True)

    def _ending(self, outcome: str, *, patient: bool) -> asyncio.Task[Settlement]:
        """The settlement under way; the permit has ended from here on."""
        fields = self._end(outcome)
        if patient:
            fields["patient"] = True
        return self._limiter.background.spawn(self._limiter.settle(self, fields))

    def _end(self, outcome: str) -> dict[str, Any]:
        if self._state == ENDED:
            raise PermitEnded(self.budget)
        self._state = ENDED
        fields: dict[str, Any] = {"reservation": self.reservation, "outcome": outcome, "usage": None}
        if outcome == "used" and self._usage:
            amounts = self.amounts
            usage = {name: self._usage.get(name, amounts[name]) for name in USAGE}
            more = {name: self._usage.get(name, amounts.get(name, 0)) for name in MORE}
            fields["usage"] = usage | {name: amount for name, amount in more.items() if amount}
        return fields


class Reservation:
    """What `Limiter.reserve` returns: ``async with`` it to get a permit that is settled at the end, or ``await`` it to
    get one that you settle."""

    __slots__ = ("_ask", "_limiter", "_permit")

    def __init__(self, limiter: Limiter, ask: Ask) -> None:
        self._limiter = limiter
        self._ask = ask
        self._permit: Permit | None = None

    def __await__(self) -> Generator[Any, None, Permit]:
        return self._limiter.grant(self._ask).__await__()

    def take_local(self) -> Permit | None:
        """A permit that needs no waiting, if there is one; for code without asyncio."""
        self._permit = self._limiter.take_local(self._ask)
        return self._permit

    def leave_local(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """The end of the block; False when that is `__aexit__`'s to do."""
        if self._permit is None or type(self._permit) is Permit:
            return self._permit is None
        local: Any = self._permit
        self._permit = None
        local.__exit__(kind, error, trace)
        return True

    async def __aenter__(self) -> Permit:
        self._permit = await self._limiter.grant(self._ask)
        return self._permit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        permit, self._permit = self._permit, None
        if permit is None or permit.state == ENDED:
            return
        if type(permit) is not Permit:  # it was taken from a lease: nothing to wait for
            local: Any = permit
            await local.__aexit__(kind, error, trace)
            return
        if kind is not None and permit.state == HELD and not permit._usage:
            permit.cancel_soon()
            return
        settling = permit._ending("used", patient=kind is not None)
        if kind is None:
            await asyncio.wait((settling,), timeout=LEAVE_WITHIN)
