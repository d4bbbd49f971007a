"""What a permit costs that an agent's own process decides, from a lease in hand.

Single calls are timed one by one; the median of two readings of the clock with nothing between is taken off each.
Pairs per second are those of a plain loop, with nothing timed inside.
"""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from bench.figures import quantile
from bench.limiter_budgets import HOT
from bench.limiter_load import fleets
from bench.stack import Stack
from bursar.client.local import CONCURRENT, HeldLease
from bursar.client.local_book import Book

CALLS = 30_000
TOKENS_IN, TOKENS_OUT, MICROS = 1_200, 300, 4_500
"""What each call reserves beside one request and one place in flight: five dimensions."""


HOUR_NS = 3_600_000_000_000


async def as_leased(stack: Stack) -> HeldLease:
    """The rules of a lease that the authority gives over two budget objects, a key and a purse (between them they limit
    five dimensions), in the hand of an agent that asks for calls until it has one."""
    async with fleets(stack.server.url, 1, "holder") as (fleet,):
        lease = fleet.limiter.held(HOT)
        async with asyncio.timeout(15):
            while not lease.until:
                async with fleet.limiter.reserve(HOT, input_tokens=10, output_tokens=10, usd_micros=10, wait=5.0):
                    pass
        return in_hand(lease.book.limited, lease.book.held)


def in_hand(limited: int = 0b11111, held: int = 1 << CONCURRENT) -> HeldLease:
    """A lease by such rules, with so much in hand that it does not run out here. ``limited`` and ``held``: bit d for
    dimension d."""
    book = Book(HOT)
    book.rules(limited=limited, held=held)
    lease = HeldLease(book)
    plenty = 10**15
    hand = (plenty, plenty, plenty, plenty, plenty, plenty, plenty)
    book.grant(lease, hand, until=lease.clock() + HOUR_NS, good_for=HOUR_NS)
    return lease


class Latency(NamedTuple):
    """Microseconds."""

    p50: float
    p99: float


def _latency(spent: list[int]) -> Latency:
    clock = time.perf_counter_ns
    empty = []
    for _ in range(CALLS):
        began = clock()
        empty.append(clock() - began)
    timer = quantile(empty, 0.5)
    return Latency(max(0.0, quantile(spent, 0.5) - timer) / 1000, max(0.0, quantile(spent, 0.99) - timer) / 1000)


def permits(lease: HeldLease) -> Latency:
    """One permit; its end is not timed."""
    clock, take, spent = time.perf_counter_ns, lease.take, []
    for _ in range(CALLS):
        began = clock()
        permit = take(TOKENS_IN, TOKENS_OUT, 1, 1, MICROS)
        spent.append(clock() - began)
        assert permit is not None, "the lease has run out"
        permit.end(1_100, 240, 4_100)
    return _latency(spent)


def pairs(lease: HeldLease) -> Latency:
    """A ``with`` block that reserves and settles what was really used."""
    clock, take, spent = time.perf_counter_ns, lease.take, []
    for _ in range(CALLS):
        began = clock()
        with take(TOKENS_IN, TOKENS_OUT, 1, 1, MICROS) as permit:  # type: ignore[union-attr]
            permit.end(1_100, 240, 4_100)
        spent.append(clock() - began)
    return _latency(spent)


def pairs_per_s(lease: HeldLease, seconds: float) -> float:
    """The same, as many as one core can."""
    take, done = lease.take, 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds:
        for _ in range(2_000):
            with take(TOKENS_IN, TOKENS_OUT, 1, 1, MICROS) as permit:  # type: ignore[union-attr]
                permit.end(1_100, 240, 4_100)
        done += 2_000
    return done / elapsed
