"""What this agent sees of the provider's limits goes up to the limiter; what stops the whole fleet comes down.

Up: the rate-limit headers of answers, for one budget every second, or at once when they have news, as a plain message
that nobody answers. A 429 as a request, repeated until it is durable, unless the fleet is known to be frozen for so
long.

Down: signed broadcasts of freezes. One subscription and one verification per process are enough for all its permits:
`Freezes.apply` notes until when nothing may be sent, and a permit that has not been sent by then is void
(`bursar.client.permit.Permit.check`), so that the call waits in the limiter's line like all others. A freeze ends by
itself: its broadcast says for how long from its arrival. Who connects later needs no broadcast, since the limiter
grants nothing meanwhile; nor does who has no keys to verify it with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bursar.bus.base import Bus, Msg, Subscription
from bursar.bus.codec import encode
from bursar.bus.newest import Newest
from bursar.client import headers as rate_limits
from bursar.client.background import Background
from bursar.client.headers import Observed, RateLimitHeaders
from bursar.client.time import Clock
from bursar.contracts.base import observation_subject
from bursar.contracts.limiter_observed import MAX_FREEZE_MS, SERVICE, freeze_subject, token_of
from bursar.errors import BursarError

if TYPE_CHECKING:
    from bursar.bus.signing import Verifier
    from bursar.client.caller import Caller

EVERY_MS: Final = 1_000.0
NEWS_MS: Final = 250.0
"""From one report of headers of a budget to the next, and to one that has news: another limit, or a fifth of it gone
since."""

SAME_MS: Final = 100.0
"""A freeze that ends so little later than the one that is known is not reported."""

AT_ONCE_MS: Final = 250.0
"""What a 429 without a time, or with none to wait, is taken for; one that is known to last so long is not reported."""

PATIENCE_MS: Final = 30_000.0
"""For how long a 429 is reported to a limiter that does not answer."""

NEVER_MS: Final = 86_400_000.0
"""Headers of a call that was sent so long ago say nothing any more."""

KEPT: Final = 4_096
"""Budgets of which is remembered when they were reported last."""

ALL: Final = ""
"""In place of a dimension: everything of the budget is frozen."""

TOTAL: Final = "total_tokens"

FenceKey = tuple[int, int, int]
BEFORE: Final[FenceKey] = (0, 0, 0)


class Told(NamedTuple):
    """A broadcast, read: whom it is about, what of it (`ALL`: everything), for how long, and its fence."""

    names: tuple[str, ...]
    dimensions: tuple[str, ...]
    remaining: int
    fence: FenceKey


class Freezes:
    """Until when (local ms) which dimensions of which budgets are frozen. False when none is; one that has just run out
    may still count until somebody asks for it by `left`. It changes in the thread that made it; others may ask
    meanwhile: what stands for one budget is replaced as a whole."""

    __slots__ = ("_clock", "_fences", "_home", "_until", "applied")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._home = get_ident()
        self._until: dict[str, dict[str, float]] = {}
        self._fences: dict[str, dict[str, FenceKey]] = {}
        self.applied = 0

    def __bool__(self) -> bool:
        return bool(self._until)

    def apply(self, body: Mapping[str, Any]) -> bool:
        """Take a broadcast `bursar.contracts.limiter_observed.Frozen`; False when it says nothing new, or cannot be
        read."""
        told = read(body)
        if told is None:
            return False
        names, dimensions, remaining, fence = told
        known = self._fences.get(names[0])
        if known is None:
            if len(self._fences) >= KEPT:
                self._fences.clear()
            known = self._fences[names[0]] = {}
        whole = known.get(ALL, BEFORE)
        fresh = [name for name in dimensions if fence > whole and fence > known.get(name, BEFORE)]
        if not fresh:
            return False
        is_new = False
        until = self._clock.now() + remaining
        for dimension in fresh:
            known[dimension] = fence
            for name in names:
                if remaining:
                    is_new = self._hold(name, dimension, until) or is_new
                else:
                    self._lift(name, dimension)
                    is_new = True
        self.applied += is_new
        return is_new

    def _hold(self, name: str, dimension: str, until: float) -> bool:
        """False when that is known: the same is told again while it lasts."""
        of = self._until.get(name, {})
        had = of.get(dimension)
        is_new = had is None or abs(until - had) > SAME_MS
        self._until[name] = {**of, dimension: until if had is None or is_new else max(had, until)}
        return is_new

    def _lift(self, name: str, dimension: str) -> None:
        of = {other: until for other, until in self._until.get(name, {}).items() if dimension not in (ALL, other)}
        if of:
            self._until[name] = of
        else:
            self._until.pop(name, None)

    def own(self, budget: str, dimensions: Iterable[str], ms: float) -> None:
        """This process was told by the provider itself: hold for so long, until the limiter says more."""
        until = self._clock.now() + min(ms, MAX_FREEZE_MS)
        of = self._until.get(budget, {})
        self._until[budget] = of | {name: max(of.get(name, 0.0), until) for name in list(dimensions) or [ALL]}

    def left(self, budget: str, amounts: Mapping[str, int]) -> float:
        """Milliseconds for which a call of these amounts may not be sent; 0 when it may."""
        if not self._until:
            return 0.0
        now, latest = self._clock.now(), 0.0
        for name in path_of(budget):
            for dimension, until in self._until.get(name, {}).items():
                if until > latest and needs(amounts, dimension):
                    latest = until
        if latest <= now and get_ident() == self._home:
            self._forget(now)
        return max(0.0, latest - now)

    def known(self, budget: str, dimensions: Iterable[str]) -> float:
        """Milliseconds for which all of these are known to be frozen, there or above."""
        on_path = [self._until.get(name, {}) for name in path_of(budget)]
        whole = max((of.get(ALL, 0.0) for of in on_path), default=0.0)
        ends = [max((of.get(name, 0.0) for of in on_path), default=0.0) for name in (list(dimensions) or [ALL])]
        return max(0.0, max(whole, min(ends)) - self._clock.now())

    def _forget(self, now: float) -> None:
        """Let go of what is over."""
        for budget, of in list(self._until.items()):
            lasting = {name: until for name, until in of.items() if until > now}
            if not lasting:
                self._until.pop(budget, None)
            elif len(lasting) < len(of):
                self._until[budget] = lasting


_last: tuple[Mapping[str, Any] | None, Told | None] = (None, None)


def read(body: Mapping[str, Any]) -> Told | None:
    """What a broadcast says; None when it cannot be read. All connections of a process are given the same body, so it
    is read once."""
    global _last  # noqa: PLW0603 - a memory of one, shared on purpose
    if _last[0] is body:
        return _last[1]
    _last = (body, _read(body))
    return _last[1]


def _read(body: Mapping[str, Any]) -> Told | None:
    try:
        dimensions = tuple(str(dimension) for dimension in body["dimensions"]) or (ALL,)
        names = (str(body["budget"]), *(str(name) for name in body.get("below", ())))
        i, e, n = (int(part) for part in str(body["fence"]).split(".")[:3])
        return Told(names, dimensions, max(0, int(body["remaining_ms"])), (i, e, n))
    except (LookupError, TypeError, ValueError):
        return None


def needs(amounts: Mapping[str, int], dimension: str) -> bool:
    """Whether a call of these amounts takes something of a dimension."""
    if dimension == TOTAL:
        return bool(amounts.get(TOTAL) or amounts.get("input_tokens") or amounts.get("output_tokens"))
    return dimension == ALL or bool(amounts.get(dimension))


def path_of(budget: str) -> Iterable[str]:
    """The budget and all above it."""
    yield budget
    while "/" in budget:
        budget = budget.rpartition("/")[0]
        yield budget


class FreezeEar:
    """Hears the broadcasts. ``trust`` gives the verifier, if there is one; without it nothing is listened to.
    ``refused``: messages that were not believed."""

    def __init__(self, bus: Bus, freezes: Freezes, trust: Callable[[], Verifier | None]) -> None:
        self._bus = bus
        self._freezes = freezes
        self._trust = trust
        self._verifier: Verifier | None = None
        self._newest = Newest()
        self._hearing: Subscription | None = None
        self.refused = 0

    async def start(self) -> None:
        self._verifier = self._trust()
        if self._verifier is not None and self._hearing is None:
            self._hearing = await self._bus.subscribe(freeze_subject(), self.hear)

    async def close(self) -> None:
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await hearing.unsubscribe()

    def hear(self, msg: Msg) -> None:
        """One broadcast as it arrived."""
        assert self._verifier is not None
        try:
            body = self._verifier.open(msg.subject, msg.data)
        except BursarError:
            self.refused += 1
            return
        is_its_own = token_of(str(body.get("budget"))) == msg.subject.rpartition(".")[2]
        if is_its_own and self._newest.admits(msg.subject, msg.data, body):
            self._freezes.apply(body)
        else:
            self.refused += 1


class Observer:
    """Tells the limiter what the provider's headers say. ``seen`` and ``limited`` count reports of headers and of
    429s."""

    def __init__(self, bus: Bus, clock: Clock, caller: Caller, background: Background, freezes: Freezes) -> None:
        self._bus = bus
        self._clock = clock
        self._caller = caller
        self._background = background
        self._freezes = freezes
        self._subject = observation_subject(SERVICE, "seen", bus.principal)
        self._told: dict[str, tuple[float, list[dict[str, Any]]]] = {}
        self.seen = 0
        self.limited = 0

    def answered(self, budget: str, status: int, headers: Mapping[str, str], *, sent: float | None = None) -> None:
        """For calls that are made without `bursar.client.http`: the status and the headers of an answer. ``sent``: when
        its call left, on the fleet's clock (``fleet.limiter.clock.now()``); without it only a 429 is reported."""
        told = rate_limits.read(status, ((name.lower(), value) for name, value in headers.items()))
        self.heard(budget, told, sent=self._clock.now() - NEVER_MS if sent is None else sent, amounts={})

    def heard(
        self,
        budget: str,
        told: RateLimitHeaders,
        *,
        sent: float,
        amounts: Mapping[str, int],
        window_ms: int = 60_000,
        rounding: Mapping[Any, int] | None = None,
    ) -> None:
        """An answer's headers. ``sent``: local ms at which its call left; ``amounts``: what was reserved for it.
        ``window_ms``, ``rounding``: what its headers speak of, and how far off a remaining count may be."""
        if told.status == 429:
            self._was_limited(budget, told, amounts)
        now = self._clock.now()
        at, before = self._told.get(budget, (-EVERY_MS, []))
        if now - at < NEWS_MS or now - sent >= NEVER_MS or not self._bus.is_connected:
            return
        limits = [_row(name, seen, (rounding or {}).get(name, 0)) for name, seen in named(told) if seen.limit]
        if not limits or (now - at < EVERY_MS and not has_news(before, limits)):
            return
        if len(self._told) >= KEPT:
            self._told.clear()
        self._told[budget] = (now, limits)
        age = min(86_400_000, max(0, int(now - sent) + 1))
        self._publish({"v": 1, "budget": budget, "window_ms": window_ms, "age_ms": age, "limits": limits})

    def _publish(self, body: dict[str, Any]) -> None:
        try:
            self._bus.publish(self._subject, encode(body))
            self.seen += 1
        except BursarError:
            return  # the next answer tells the same

    def _was_limited(self, budget: str, told: RateLimitHeaders, amounts: Mapping[str, int]) -> None:
        dimensions = used_up(told, amounts)
        asked = None if told.retry_after is None else min(86_400_000, round(told.retry_after * 1000.0))
        if self._freezes.known(budget, dimensions) + SAME_MS >= (asked or AT_ONCE_MS):
            return
        if asked is not None:
            self._freezes.own(budget, dimensions, asked)
        self.limited += 1
        self._background.spawn(self._report(budget, dimensions, asked))

    async def _report(self, budget: str, dimensions: list[str], asked: int | None) -> None:
        fields = {"budget": budget, "dimensions": dimensions, "retry_after_ms": asked}
        call = self._caller.request("rate-limited", fields)
        try:
            reply = await self._caller.run(call, self._clock.now() + PATIENCE_MS)
        finally:
            self._caller.give_up(call)
        self._freezes.apply(reply.body)


def named(told: RateLimitHeaders) -> list[tuple[str, Observed]]:
    """The limits that headers tell of, by dimension. A single limit on tokens is one on input and output together;
    beside those on each of them it only repeats the one that is shorter."""
    is_split = told.input_tokens is not None or told.output_tokens is not None
    rows = (
        ("requests", told.requests),
        (TOTAL, None if is_split else told.tokens),
        ("input_tokens", told.input_tokens),
        ("output_tokens", told.output_tokens),
    )
    return [(name, seen) for name, seen in rows if seen is not None]


def has_news(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a limit is another, or a fifth of it has gone since the last report."""
    known = {row["dimension"]: row for row in before}
    for row in after:
        was = known.get(row["dimension"])
        if was is None or was["limit"] != row["limit"]:
            return True
        left = (was["remaining"], row["remaining"])
        if None not in left and (left[0] - left[1]) * 5 > row["limit"]:
            return True
    return False


def used_up(told: RateLimitHeaders, amounts: Mapping[str, int]) -> list[str]:
    """The dimensions of which less is left than the refused call needed; none when the headers do not say."""
    short = []
    for name, seen in named(told):
        need = amounts.get(name, 0)
        if name == TOTAL:
            need = need or amounts.get("input_tokens", 0) + amounts.get("output_tokens", 0)
        if seen.remaining is not None and seen.remaining < max(1, need):
            short.append(name)
    return short


def _row(name: str, seen: Observed, rounding: int) -> dict[str, Any]:
    reset = None if seen.reset_in is None else min(86_400_000, round(seen.reset_in * 1000.0))
    row = {"dimension": name, "limit": seen.limit, "remaining": seen.remaining, "rounding": rounding}
    return {"v": 1, **row, "reset_in_ms": reset}
