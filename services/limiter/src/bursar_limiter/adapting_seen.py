"""What the headers of answers tell, as agents report it: a lower limit is learned, foreign use of the key is noticed.

**Learned limits.** The median of what the reporters of the last ten minutes have said is the provider's limit. When it
is lower than the configured one it holds instead, though never less than a tenth of that; when it is not, the
configured one holds again, and never a higher one; nor when nobody has said anything for those ten minutes: what was
learned last may have been a mistake, or over, and while it keeps all calls away no header would ever tell. All are
events, and the journal shows them.

**Foreign use.** What the provider counts is at least ``limit - remaining - rounding``. What the fleet may have had
counted is at most what counts here, and once more what is in flight (estimates may be too low). What is beyond that was
used by somebody else: the smaller of each reporter's last two samples, the median over reporters. Where the provider
gives more than the configured limit, the rest is theirs, and only what goes beyond it counts. It is charged, like
usage of our own, so that the fleet leaves that room; it shows in the status, and is broadcast. A sample is judged
against the largest view since its call was sent, because headers travel; one that is older than `OLDEST_MS`, or that no
view was noted before, is not judged; nor is one whose limit is full again only after two windows, because it speaks of
a longer one. So the error is on one side: foreign use may be seen late, or not in full.

Only limits of the same window as the headers speak of are compared, of the object that stands for the provider
(`freezing.provider_of`).
"""

from __future__ import annotations

from typing import Final

from bursar.contracts.limiter import DIMENSIONS
from bursar.contracts.limiter_observed import FOREIGN, Headroom, Seen, token_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse
from bursar_limiter import adapting_bugs as bugs
from bursar_limiter import adapting_events as events
from bursar_limiter import lining
from bursar_limiter.adapting_state import NEVER, Watch
from bursar_limiter.budget import Budget
from bursar_limiter.dimensions import INDEX
from bursar_limiter.freezing import declared, provider_of
from bursar_limiter.meter import Meter
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State

LEARN_MS: Final = 600_000
"""So long a reporter's word on a limit counts."""
LEAST_PERMILLE: Final = 100
"""No learned limit is lower than this part of the configured one."""
OLDEST_MS: Final = 5_000
FRESH_MS: Final = 5_000
"""So long a reporter's word on foreign use counts."""
STEADY_MS: Final = 2_000
"""The last view before a sample's call was sent is not older than this, before it."""
NOISE_PERMILLE: Final = 10
"""Foreign use below this part of the limit is not charged."""


def decide_seen(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Seen = command.body
    budget = declared(state, body.budget)
    if budget is None or budget.retired:
        return unknown_budget(state, body.budget)
    found: list[Event] = []
    told: list[Broadcast] = []
    for row in body.limits:
        index = INDEX[row.dimension]
        target = provider_of(state.path_of(budget), (row.dimension,))
        for meter in target.meters:
            if meter.index == index and meter.window_ms == body.window_ms:
                watch = state.adapting.watch(target.name, (index, meter.window_ms))
                found += _learn(target, meter, watch, row, command.principal, now)
                foreign = _foreign(target, meter, watch, row, command.principal, now, body.age_ms)
                if foreign:
                    found.append(foreign)
                    told.append(_broadcast(target, meter, watch, foreign, now))
    return Accept(found, {}, told) if found else Refuse({})


def _learn(target: Budget, meter: Meter, watch: Watch, row: Headroom, who: str, now: int) -> list[Event]:
    if row.limit is None or not target.spec.adapt.learn:
        return []
    watch.limits.say(who, row.limit, now)
    told = watch.limits.median(now, LEARN_MS)
    if seeded(bugs.LAST_VOICE_WINS):
        told = row.limit
    assert told is not None, "somebody has just spoken"
    least = max(1, meter.ceiling * LEAST_PERMILLE // 1000)
    wanted = told if seeded(bugs.LEARNS_HIGHER) else min(meter.ceiling, max(least, told))
    if wanted == meter.limit:
        return []
    return [(events.LEARNED, now, target.name, meter.index, meter.window_ms, wanted)]


def _foreign(target: Budget, meter: Meter, watch: Watch, row: Headroom, who: str, now: int, age: int) -> Event | None:
    view = meter.counted(now) + meter.in_flight
    ours = _largest_view(watch, view, now - age)
    watch.view(now, view)
    if row.limit is None or row.remaining is None or not target.spec.adapt.foreign:
        return None
    if ours is None or age > OLDEST_MS or (row.reset_in_ms or 0) > 2 * meter.window_ms:
        return None
    theirs = max(0, row.limit - meter.ceiling)
    watch.excess.say(who, row.limit - row.remaining - row.rounding - ours - theirs, now)
    excess = watch.excess.steady(now, FRESH_MS)
    if excess is None or excess <= meter.limit * NOISE_PERMILLE // 1000:
        return None
    return (events.FOREIGN, now, target.name, meter.index, meter.window_ms, min(excess, meter.limit))


def _largest_view(watch: Watch, view: int, since: int) -> int | None:
    """The most that counted from then on; None when nobody looked shortly before."""
    largest, before = view, None
    for at, seen in watch.views:
        if at >= since:
            largest = max(largest, seen)
        else:
            before = (at, seen)
    if before is None or since - before[0] > STEADY_MS:
        return None
    return max(largest, before[1])


def _broadcast(target: Budget, meter: Meter, watch: Watch, event: Event, now: int) -> Broadcast:
    used = watch.foreign_within(now, meter.window_ms) + event[5]
    body = {
        "budget": target.name, "dimension": DIMENSIONS[meter.index], "used": used, "limit": meter.limit,
        "window_ms": meter.window_ms,
    }  # fmt: skip
    return Broadcast(FOREIGN, token_of(target.name), body)


def apply_learned(state: State, event: Event) -> None:
    """Another limit holds from now on; what counts stays."""
    _, now, name, index, window, limit = event
    state.at = now
    for meter in _meters(state, name, index, window):
        meter.narrow(now, limit)
    find_learned(state)
    lining.send_away_hopeless(state, now)
    state.changed_all()


def find_learned(state: State) -> None:
    """Note which budgets have a learned limit."""
    state.adapting.learned = tuple(
        name
        for name, budget in state.budgets.items()
        if budget.base is None and any(meter.limit < meter.ceiling for meter in budget.meters)
    )


def forgotten(target: Budget, meter: Meter, watch: Watch, now: int) -> Event | None:
    """A learned limit of which nobody has said anything for so long: the configured one holds again."""
    last = watch.limits.latest()
    if meter.limit == meter.ceiling or last is not None:
        watch.quiet_since = NEVER
    elif watch.quiet_since == NEVER:
        watch.quiet_since = now
    since = watch.quiet_since if last is None else last
    if meter.limit == meter.ceiling or now - since < LEARN_MS:
        return None
    return (events.LEARNED, now, target.name, meter.index, meter.window_ms, meter.ceiling)


def apply_foreign(state: State, event: Event) -> None:
    """Charged like usage that was learned of after its end."""
    _, now, name, index, window, amount = event
    state.at = now
    for meter in _meters(state, name, index, window):
        if not seeded(bugs.FOREIGN_UNCHARGED):
            meter.correct(now, amount)
    watch = state.adapting.watch(name, (index, window))
    watch.charged(now, amount, window)
    watch.excess.forget()
    state.changed_all()


def _meters(state: State, name: str, index: int, window: int) -> list[Meter]:
    return [meter for meter in state.budgets[name].meters if (meter.index, meter.window_ms) == (index, window)]
