"""A permit that was taken from a lease: like `bursar.client.permit.Permit`, but nothing about it has to wait.

`LocalPermit.end` and `LocalPermit.cancel_now` are synchronous; `settle`, `cancel`, `settle_soon` and `cancel_soon`
do the same and can be awaited, so that code does not have to know which kind of permit it has.
"""

from __future__ import annotations

from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from bursar.client.errors import BudgetFrozen, PermitEnded, PermitVoid
from bursar.client.permit import ENDED as ENDED_WORD
from bursar.client.permit import HELD as HELD_WORD
from bursar.client.permit import SENT as SENT_WORD
from bursar.client.permit import Settlement, check_amounts

if TYPE_CHECKING:
    from bursar.client.local import HeldLease

HELD, SENT, ENDED = 0, 1, 2
_WORDS: Final = (HELD_WORD, SENT_WORD, ENDED_WORD)

Usage = tuple[int | None, int | None, int | None, int | None, int | None, int | None]
"""Requests, input and output tokens, micro-dollars, total tokens, bytes; None: not told."""

UNTOLD: Final[Usage] = (None, None, None, None, None, None)


class LocalSettlement(Settlement):
    """A settlement that is known at once; awaiting it returns it."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, Settlement]:
        yield from ()
        return self


class LocalPermit:
    """Leave to make one call, taken from a lease (`HeldLease.take` makes it): use it with ``with`` or ``async with``,
    or end it yourself.

    At the end of the block it counts with what `used` recorded, and in full when nothing was. When the block raises
    before `sent` was called, all comes back.
    """

    __slots__ = (
        "concurrent", "input_tokens", "lease", "network_bytes", "output_tokens", "period", "requests", "send_by_ns",
        "status", "usage", "usd_micros",
    )  # fmt: skip

    lease: HeldLease
    period: int
    send_by_ns: int
    requests: int
    input_tokens: int
    output_tokens: int
    concurrent: int
    usd_micros: int
    network_bytes: int
    status: int
    usage: Usage | None

    def __repr__(self) -> str:
        return f"<LocalPermit for {self.budget}, {self.state}, {self.left:.3f} s left>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status == ENDED:
            return
        lease = self.lease
        if kind is not None and self.status == HELD and self.usage is None:
            self.cancel_now()
        elif lease.period != self.period or self.usage is not None or lease.book.produced:
            self.end()
        else:  # as `end` does, in full
            self.status = ENDED
            lease.concurrent += self.concurrent

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    @property
    def budget(self) -> str:
        return self.lease.book.budget

    @property
    def amounts(self) -> dict[str, int]:
        """What was reserved, by dimension."""
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "concurrent": self.concurrent,
            "usd_micros": self.usd_micros,
            "network_bytes": self.network_bytes,
        }

    @property
    def state(self) -> str:
        """``held``, ``sent`` or ``ended``."""
        return _WORDS[self.status]

    @property
    def left(self) -> float:
        """Seconds in which the call may still be sent; 0 or less when the permit is void."""
        return (self.send_by_ns - self.lease.clock()) / 1e9

    @property
    def expired(self) -> bool:
        """Whether the send deadline has passed: then the call must not be sent any more."""
        return self.lease.clock() >= self.send_by_ns

    def check(self) -> None:
        """Raise `PermitVoid` past the send deadline or (`BudgetFrozen`) while the provider has asked for a pause,
        `PermitEnded` after the end."""
        if self.status == ENDED:
            raise PermitEnded(self.budget)
        late = self.lease.clock() - self.send_by_ns
        if late >= 0:
            raise PermitVoid(self.budget, late / 1e6)
        freezes = self.lease.book.freezes
        if freezes:
            frozen = freezes.left(self.budget, self.amounts)
            if frozen > 0.0:
                raise BudgetFrozen(self.budget, frozen)

    def sent(self) -> None:
        """Call this right before the call is sent: it raises `PermitVoid` when it is too late to send; from here on
        the reservation counts as used."""
        if self.status != SENT:
            self.check()
            self.status = SENT

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
        told = (requests, input_tokens, output_tokens, usd_micros, total_tokens, network_bytes)
        check_amounts(int(amount) for amount in told if amount is not None)
        r, i, o, u, t, b = (
            before if amount is None else int(amount) for amount, before in zip(told, self.usage or UNTOLD, strict=True)
        )
        self.usage = (r, i, o, u, t, b)

    def end(
        self,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        usd_micros: int | None = None,
        requests: int | None = None,
        network_bytes: int | None = None,
    ) -> None:
        """The call has ended, and used so much; what is not told counts as recorded by `used`, or else as reserved.

        Raises `PermitEnded` when it has ended before, `CallerError` (``bad_amount``) for a negative amount or one above
        2**53 - 1, and TypeError for what is not an integer; then nothing has changed.
        """
        i = self.input_tokens if input_tokens is None else input_tokens
        o = self.output_tokens if output_tokens is None else output_tokens
        u = self.usd_micros if usd_micros is None else usd_micros
        if (i | o | u) >> 53:  # negative, or too large
            check_amounts((i, o, u))
        lease = self.lease
        if (
            self.status == ENDED
            or lease.period != self.period
            or self.usage is not None
            or requests is not None
            or network_bytes is not None
            or lease.book.produced
        ):
            r, b = requests or 0, network_bytes or 0
            if (r | b) >> 53:
                check_amounts((r, b))
            lease.book.end(self, (requests, input_tokens, output_tokens, usd_micros, None, network_bytes))
            return
        self.status = ENDED
        i, o = self.input_tokens - i, self.output_tokens - o
        lease.concurrent += self.concurrent
        lease.input_tokens += i
        lease.output_tokens += o
        lease.total_tokens += i + o
        lease.usd_micros += self.usd_micros - u

    async def progress(self, **used: int | None) -> dict[str, int]:
        """As `bursar.Permit.progress`; the limiter hears of it with the lease."""
        if self.status == ENDED:
            raise PermitEnded(self.budget)
        self.used(**used)
        told = zip(("requests", "input_tokens", "output_tokens", "usd_micros"), self.usage or UNTOLD, strict=False)
        return {name: self.amounts[name] - (amount or 0) for name, amount in told if self.amounts[name]}

    def cancel_now(self) -> None:
        """The call was never sent: all comes back. Raises `PermitEnded` when it has ended before."""
        self.lease.book.cancel(self)

    def settle(self, **used: int | None) -> LocalSettlement:
        """`end` for code that awaits, with the arguments of `used`: the settlement is known at once."""
        if used:
            self.used(**used)
        self.end()
        return LocalSettlement("used", {}, {})

    def cancel(self) -> LocalSettlement:
        """`cancel_now` for code that awaits."""
        self.cancel_now()
        return LocalSettlement("cancelled", {}, {})

    settle_soon = settle
    cancel_soon = cancel
