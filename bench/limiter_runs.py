"""The runs whose histories the oracle judges: a saturated key while its owner is killed, a shift of demand, and the
load that the peers get, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import TracebackType
from typing import Any, Self

from bench import limiter_budgets as budgets
from bench.figures import median, say
from bench.limiter_load import WAIT_S, Caller, History, fleets, now_us, until_stopped
from bench.limiter_shape import attempts
from bench.stack import Stack
from bursar.client.errors import Refused
from bursar.client.fleet import Fleet
from tests.oracle.history import Charge, Limit
from tests.oracle.judge import judge, shut_out, utilisation

AGENTS = 4
LINES = 12
"""Calls that each agent of the saturated key has in flight or in line: enough for leases."""

WARM_S = 1.5
"""Until demand is there and the pace is found; utilisation counts from then on."""

SHIFT_WINDOW_S = 0.5
"""Shares are those of the use in the last half second."""


def medium(chance: random.Random) -> int:
    """A call of up to a thousandth of the key."""
    return chance.randint(10, 120)


def large(chance: random.Random) -> int:
    """Up to the whole limit, and every second one exactly that."""
    return budgets.LARGE_TOKENS if chance.random() < 0.5 else chance.randint(1, budgets.LARGE_TOKENS)


class Saturation:
    """More demand than the key allows, from agents of two teams, beside calls of up to the whole of another limit; for
    as long as it is entered. `replace_owner` kills meanwhile; `figures` judges afterwards, at every level."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._history = History()
        self._stop = asyncio.Event()
        self._kills = 0
        self._open = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        agents = await self._open.enter_async_context(fleets(self._stack.server.url, AGENTS, "busy"))
        callers = [
            Caller(fleet, self._history, name, ("key", name), medium, seed * 100 + line)
            for seed, fleet in enumerate(agents)
            for line in range(LINES)
            for name in [("key/a", "key/b")[seed % 2]]
        ]
        callers += [
            Caller(fleet, self._history, "large", ("large",), large, 9_000 + n) for n, fleet in enumerate(agents[:4])
        ]
        self._working = asyncio.create_task(until_stopped(callers, self._stop, 1.0))
        self._began = now_us()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._ended = now_us()
        self._stop.set()
        try:
            await self._working
        finally:
            await self._open.aclose()

    async def replace_owner(self) -> None:
        """kill -9 whoever owns, as far as this bench knows; what was killed comes back as a standby."""
        stack, victim = self._stack, self._stack.owner
        self._kills += 1
        stack.kill(victim)
        stack.start(victim)
        stack.owner = next(name for name in stack.instances if name != victim)
        await stack.until_present(victim)

    def _by_second(self) -> list[float]:
        """What was used of the key in each second, as a part of what the limit allows in one."""
        begin, end = self._began, self._began + 1_000_000
        spans = [(begin + shift, end + shift) for shift in range(0, self._ended - end, 1_000_000)]
        charges = self._history.charges
        return [round(utilisation(budgets.KEY_LIMIT, charges, [span]), 3) for span in spans]

    def figures(self) -> dict[str, Any]:
        history = self._history
        seconds = (self._ended - self._began) / 1e6
        verdict = judge(budgets.JUDGED, history.charges, history.flights)
        never = shut_out(budgets.JUDGED, history.wishes, int((WAIT_S + 10) * 1e6))
        spans = [(self._began + int(WARM_S * 1e6), self._ended)]
        used = utilisation(budgets.KEY_LIMIT, history.charges, spans)
        say(f"saturated: {used:.3f} used, {verdict.violations} violations, {len(never)} shut out in {seconds:.0f} s")
        whole = [wish for wish in history.wishes if wish.amounts["input_tokens"] == budgets.LARGE_TOKENS]
        return {
            "utilisation_saturated": used,
            "saturated_used_by_s": self._by_second(),
            "saturated_violations": verdict.violations,
            "saturated_proofs": [str(proof) for proof in verdict.proofs[:5]],
            "saturated_calls": len(history.charges),
            "saturated_s": seconds,
            "saturated_whole_limit_granted": sum(wish.fate == "granted" for wish in whole),
            "saturated_kills": self._kills,
            "never_fit_refusals": len(never),
        }


# ---- demand shifts


async def reconvergence(stack: Stack, before: float, after: float) -> dict[str, Any]:
    """Shifts of demand on several budgets at once; the median of the times until shares are fair."""
    names = [spec.name for spec in budgets.SHARED]
    shifts = await asyncio.gather(*(_shift(stack, name, before, after) for name in names))
    times = [shift["seconds"] for shift in shifts]
    say(f"shares were fair {', '.join(f'{time:.2f}' for time in times)} s after demand had shifted")
    return {
        "reconverge_s": median(times),
        "reconverge_all_s": times,
        "reconverge_watched_s": after,
        "reconverge_shares_at_end": [shift["share"] for shift in shifts],
        "reconverge_violations": sum(shift["violations"] for shift in shifts),
    }


async def _shift(stack: Stack, budget: str, before: float, after: float) -> dict[str, Any]:
    """One group of agents has a budget for itself; then another wants as much. Seconds until the second has its half,
    within 10 %, of what is used; ``before`` and ``after``: seconds that are watched."""
    history, size = History(), (lambda chance: chance.randint(20, 120))
    url = stack.server.url
    async with fleets(url, 2, f"first-{budget}") as first, fleets(url, 2, f"second-{budget}") as second:
        stop = asyncio.Event()

        def group(agents: list[Fleet], name: str) -> list[Caller]:
            return [
                Caller(fleet, history, budget, (budget, name), size, number * 100 + line, seconds=0.02)
                for number, fleet in enumerate(agents)
                for line in range(6)
            ]

        one = asyncio.create_task(until_stopped(group(first, "first"), stop, 1.0))
        await asyncio.sleep(before)
        shifted = now_us()
        two = asyncio.create_task(until_stopped(group(second, "second"), stop, 1.0))
        await asyncio.sleep(after)
        ended = now_us()
        stop.set()
        await asyncio.gather(one, two)
    limit = Limit(budget, "input_tokens", budgets.SHARED_TOKENS, budgets.SHARED_WINDOW_MS * budgets.US_PER_MS)
    return {
        "seconds": _settled_after(history.charges, shifted, ended),
        "share": _share(history.charges, ended, int(1e6)),
        "violations": judge([limit], history.charges).violations,
    }


def _settled_after(charges: list[Charge], shifted: int, ended: int) -> float:
    """Seconds from the shift to the end of the first half second in which the second group had 45 to 55 %; all the time
    that was watched when there was none."""
    window = int(SHIFT_WINDOW_S * 1e6)
    for at in range(shifted + window, ended, 20_000):
        if 0.45 <= _share(charges, at, window) <= 0.55:
            return (at - shifted) / 1e6
    return (ended - shifted) / 1e6


def _share(charges: list[Charge], at: int, window: int) -> float:
    """The second group's part of what was used in a window that ends then."""
    inside = [charge for charge in charges if at - window <= charge.at < at]
    total = sum(charge.amounts["input_tokens"] for charge in inside)
    second = sum(charge.amounts["input_tokens"] for charge in inside if "second" in charge.path[-1])
    return second / total if total else 0.0


# ---- as the peers are loaded


async def as_a_peer(stack: Stack, seconds: float, seed: int) -> list[tuple[int, int]]:
    """What this limiter admits under the load of `bench.limiter_shape`."""
    async with fleets(stack.server.url, 1, "peer") as (fleet,):

        async def take(amount: int) -> bool:
            try:
                permit = await fleet.limiter.acquire("peer", input_tokens=amount)
            except Refused:
                return False
            permit.sent()
            permit.settle_soon(input_tokens=amount)
            return True

        took = attempts(take, seconds, budgets.PEER_TOKENS, budgets.PEER_WINDOW_S, seed)
        return [row async for row in took]
