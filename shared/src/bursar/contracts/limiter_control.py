"""More of the limiter on the wire: usage told while a call goes on, questions of "what if", quotas that change live."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bursar.contracts.base import PRINCIPAL, Message, Name, Query, Request
from bursar.contracts.limiter import (
    Amounts,
    BudgetSpec,
    Dimension,
    Limits,
    Objects,
    Part,
    Priority,
    ReservationId,
    Usage,
)


class Progress(Request):
    """What a call has used up to now, while it goes on (a stream); answered by `Progressed`. Each report tells
    everything so far, so a repeated or lost one does no harm; a smaller one is refused with ``usage_shrank``."""

    reservation: ReservationId
    usage: Usage


class Progressed(Message):
    """``left``: what of the reservation is not used yet, per reserved dimension; below zero: so much beyond it."""

    ok: Literal[True] = True
    reservation: str
    left: dict[str, int]
    fence: str


class Simulate(Query):
    """What if this were asked ``count`` times now, one after the other, and nothing else happened? Changes nothing.
    ``changed``: with these budgets, of those that the request takes from, as they are given here."""

    budget: Name
    amounts: Amounts
    run: Part | None = None
    also: Objects = ()
    count: Annotated[int, Field(ge=1, le=256)] = 1
    ttl_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 120_000
    changed: Annotated[tuple[BudgetSpec, ...], Field(max_length=8)] = ()


class Room(Message):
    """How much one limit leaves. ``available``: of what is left, how much the pace lets go now."""

    object: str
    dimension: str
    window_ms: int
    limit: int
    headroom: int
    available: int


class Simulated(Message):
    """``fits``: so many of them would be granted now. For the next one: ``retry_at_ms``, when it would fit if those
    before it stay in flight until their time-out (null: never), and what stands in its way. ``rooms``: what each
    limit leaves after them."""

    ok: Literal[True] = True
    now_ms: int
    asked: int
    fits: int
    waiting: int
    object: str | None
    dimension: str | None
    retry_at_ms: int | None
    text: str
    rooms: list[Room]
    fence: str


class Holders(Query):
    """Who holds what of a budget, and of those below it; answered by `HoldersReply`."""

    budget: Name


class Holding(Message):
    """What one principal holds now. ``reserved``: by its reservations; ``leased``: lent to its leases and not spent.
    ``used``: of its own part in the present windows; empty where a budget gives agents no part of their own."""

    principal: str
    reservations: int
    leases: int
    reserved: dict[str, int]
    leased: dict[str, int]
    used: dict[str, int]


class HoldersReply(Message):
    """``holders``: at most 100, those with the most reservations and leases first; ``more``: others."""

    ok: Literal[True] = True
    now_ms: int
    holders: list[Holding]
    more: int
    fence: str


class Spending(Query):
    """What each principal has spent of each budget since the ledger began; answered by `SpendingReply`. ``offset``:
    entries of the pages before."""

    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class Spent(Message):
    """What one principal has spent of one budget, settled or counted as used. ``parent``: the budget above."""

    budget: str
    parent: str | None = None
    principal: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd_micros: int


class SpendingReply(Message):
    """At most 200 rows; ``more``: there are others behind them."""

    ok: Literal[True] = True
    now_ms: int
    rows: list[Spent]
    more: bool
    fence: str


class Adjust(Request):
    """Administration: another weight or other limits for one budget, or for one agent's own below it; answered by
    `Adjusted`. What is left out stays."""

    budget: Name
    agent: Annotated[str, Field(pattern=PRINCIPAL, max_length=64)] | None = None
    weight: Annotated[int, Field(ge=1, le=10_000)] | None = None
    limits: dict[Dimension, Limits] | None = None
    highest: Priority | None = None


class Adjusted(Message):
    """The budget that has changed."""

    ok: Literal[True] = True
    budget: str
    weight: int
    fence: str
