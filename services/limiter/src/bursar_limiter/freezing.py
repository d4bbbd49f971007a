"""The provider has said 429: what it named stops for the whole fleet, at once and for as long as it asks.

The report is a request, durable before anybody hears of it. One event freezes the meters of the object that stands for
the provider's limit: the highest one above the budget of the call that limits this dimension (or one that it is linked
to). Everything below it is
refused, or waits in line, until the freeze is over, and one signed broadcast tells all agents, whose permits and leases
stop counting at once. It lifts by itself: nothing has to be sent or decided for it.

- *The later end wins.* A freeze is never made shorter by another report; only an operator ends it (`decide_thaw`).
- *Bounded.* It ends ``max_freeze_ms`` after its last report at the latest, whatever was asked for.
- *Paid for.* By how much a report moves the end comes out of the reporter's allowance: at most ``max_freeze_ms``,
  filled up at half the speed of time, and at least `LEAST_MS` for each report that changes anything. So one principal
  alone freezes a budget for no more than half of the time in the long run, and causes no more than two broadcasts a
  second.
- *Without a time* in the answer a second is waited, twice as long each time in a row, up to a minute.

A broadcast may be missed: while a freeze holds it is told again every two seconds.

Beside the freeze the pace is cut, once for each freeze (`adapting_cubic`).
"""

from __future__ import annotations

from typing import Final

from bursar.contracts.limiter import DIMENSIONS
from bursar.contracts.limiter_observed import FREEZE, RateLimited, Thaw, token_of
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Event, Fence, Outcome, Refuse
from bursar_limiter import adapting_bugs as bugs
from bursar_limiter import adapting_events as events
from bursar_limiter.adapting_cubic import cut, pace_at
from bursar_limiter.adapting_state import Adapted, Allowance
from bursar_limiter.budget import Budget
from bursar_limiter.dimensions import INDEX, INPUT, OUTPUT, TOTAL
from bursar_limiter.meter import Meter
from bursar_limiter.path import Path
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State

LEAST_MS: Final = 250
"""What a report costs its reporter at least; and how long a freeze is when the provider says "at once": it has refused
all the same."""
FIRST_MS: Final = 1_000
LONGEST_MS: Final = 60_000
"""How long is waited when the provider does not say, the first time and at most."""
CALM_MS: Final = 60_000
"""So long after a freeze the next one is the first again."""
REPEAT_MS: Final = 2_000
"""One freeze is told once more each so often."""
MOST_REPORTERS: Final = 1_024

_INSTEAD: Final = {TOTAL: (INPUT, OUTPUT), INPUT: (TOTAL,), OUTPUT: (TOTAL,)}
"""Where a budget does not limit a dimension itself: those that limit the same tokens."""


def decide_rate_limited(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: RateLimited = command.body
    budget = declared(state, body.budget)
    if budget is None or budget.retired:
        return unknown_budget(state, body.budget)
    target = provider_of(state.path_of(budget), body.dimensions)
    meters = meters_for(target, body.dimensions)
    adapted = state.adapting.budgets.get(target.name) or Adapted()
    most = target.spec.adapt.max_freeze_ms
    strikes = adapted.strikes + 1 if now < adapted.until + CALM_MS else 1
    asked = body.retry_after_ms
    if asked is None:
        asked = min(LONGEST_MS, FIRST_MS << min(strikes - 1, 16))
    asked = asked or LEAST_MS
    known = min((meter.frozen_until for meter in meters), default=now)
    allowance = left_of(adapted, command.principal, now, most)
    until = _end(now, known, asked, most, allowance)
    names: list[str] = [DIMENSIONS[index] for index in dict.fromkeys(meter.index for meter in meters)]
    if until <= max(now, known):
        return Refuse(_noted(target, names, known, now, applied=False))
    paid = max(LEAST_MS, until - max(now, known))
    strikes = strikes if body.retry_after_ms is None else adapted.strikes
    indices = list(dict.fromkeys(meter.index for meter in meters))
    event = (events.FROZEN, now, target.name, command.principal, until, paid, strikes, indices)
    told = [] if not body.dimensions else names
    return Accept(
        [event],
        _noted(target, names, until, now, applied=True),
        [_broadcast(state, target, told, until, now, command.principal)],
    )


def declared(state: State, name: str) -> Budget | None:
    """The budget of this name; for that of an agent or a run, which comes and goes, the one that gives it."""
    budget = state.budgets.get(name)
    return budget if budget is None or budget.base is None else budget.base


def _end(now: int, known: int, asked: int, most: int, allowance: int) -> int:
    """When the freeze ends by this report: not after the bound, and as far as its reporter's allowance goes."""
    if seeded(bugs.FREEZE_UNBOUNDED):
        return now + asked
    until = now + min(asked, most)
    if allowance < LEAST_MS:
        return 0
    return min(until, max(now, known) + allowance)


def left_of(adapted: Adapted, who: str, now: int, most: int) -> int:
    """What a reporter has left: it grows by half a ms each ms, up to the bound of a freeze."""
    had = adapted.allowances.get(who)
    return most if had is None else min(most, had.left + (now - had.at) // 2)


def provider_of(path: Path, dimensions: tuple[str, ...]) -> Budget:
    """The object that stands for the provider's limit: the highest on the way up that limits one of these dimensions
    in a window, or else the first linked object that does; any rate if none of it is limited."""
    above, linked = path.tree, path.links
    wanted = set(_indices(dimensions))
    wanted |= {other for index in wanted for other in _INSTEAD.get(index, ())}
    for asked in (wanted, None):
        if asked == set():
            continue
        fit = [node for node in above if any(_is_rate(meter, asked) for meter in node.meters)]
        if fit:
            return fit[0] if seeded(bugs.FREEZE_ONE_LEAF) else fit[-1]
        fit = [node for node in linked if any(_is_rate(meter, asked) for meter in node.meters)]
        if fit:
            return fit[0]
    return above[-1]


def _is_rate(meter: Meter, wanted: set[int] | None) -> bool:
    return meter.window_ms > 0 and (wanted is None or meter.index in wanted)


def meters_for(target: Budget, dimensions: tuple[str, ...]) -> list[Meter]:
    """What of it is to be frozen; all of it when nothing was named, or nothing of that is limited."""
    indices: set[int] = set()
    there = {meter.index for meter in target.meters}
    for index in _indices(dimensions):
        indices |= {index} if index in there else set(_INSTEAD.get(index, ())) & there
    found = [meter for meter in target.meters if meter.index in indices]
    return found or list(target.meters)


def _indices(dimensions: tuple[str, ...]) -> list[int]:
    return [INDEX[name] for name in dimensions if name in INDEX]


def apply_frozen(state: State, event: Event) -> None:
    _, now, name, who, until, paid, strikes, indices = event
    state.at = now
    budget = state.budgets[name]
    adapted = state.adapting.of(name)
    rules = budget.spec.adapt
    is_new = now >= adapted.until
    _pay(adapted, who, now, paid, rules.max_freeze_ms)
    adapted.strikes, adapted.until = strikes, max(adapted.until, until)
    frozen = [meter for meter in budget.meters if meter.index in indices]
    for meter in frozen:
        if rules.recover and meter.unit and (is_new or (meter.index, meter.window_ms) not in adapted.cuts):
            _cut(adapted, meter, now, until)
    for meter in frozen:
        if seeded(bugs.FREEZE_SHORTENED):
            meter.thaw(now)
        meter.freeze(until)
    state.adapting.look_at = min(state.adapting.look_at, until)
    state.changed_all()


def _cut(adapted: Adapted, meter: Meter, now: int, until: int) -> None:
    place = (meter.index, meter.window_ms)
    after = cut(meter.tuned, until, adapted.cuts.get(place))
    adapted.cuts[place] = after
    meter.tune(now, min(meter.tuned, pace_at(after, until)))


def _pay(adapted: Adapted, who: str, now: int, paid: int, most: int) -> None:
    """Take it from the allowance; those that are full again are forgotten."""
    left = left_of(adapted, who, now, most) - paid
    adapted.allowances = {
        name: had for name, had in adapted.allowances.items() if left_of(adapted, name, now, most) < most
    }
    adapted.allowances.pop(who, None)
    if len(adapted.allowances) >= MOST_REPORTERS:
        del adapted.allowances[min(adapted.allowances, key=lambda name: (adapted.allowances[name].at, name))]
    adapted.allowances[who] = Allowance(left, now)


def decide_thaw(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """An operator says that it was a mistake."""
    body: Thaw = command.body
    budget = declared(state, body.budget)
    if budget is None or budget.retired:
        return unknown_budget(state, body.budget)
    frozen = [meter.index for meter in budget.meters if meter.frozen_until > now]
    names: list[str] = [DIMENSIONS[index] for index in dict.fromkeys(frozen)]
    reply = {"ok": True, "budget": budget.name, "dimensions": names}
    if not frozen:
        return Refuse(reply)
    event = (events.THAWED, now, budget.name, command.principal, body.note)
    return Accept([event], reply, [_broadcast(state, budget, [], now, now, command.principal)])


def apply_thawed(state: State, event: Event) -> None:
    _, now, name, _, _ = event
    state.at = now
    budget = state.budgets[name]
    for meter in budget.meters:
        meter.thaw(now)
    adapted = state.adapting.of(name)
    adapted.until, adapted.strikes = min(adapted.until, now), 0
    state.changed_all()


def _noted(target: Budget, names: list[str], until: int, now: int, *, applied: bool) -> dict[str, object]:
    remaining = max(0, until - now)
    return {
        "ok": True, "budget": target.name, "dimensions": names, "until_ms": until, "remaining_ms": remaining,
        "applied": applied,
    }  # fmt: skip


def _broadcast(state: State, target: Budget, names: list[str], until: int, now: int, who: str) -> Broadcast:
    body = {
        "budget": target.name,
        "below": below(state, target),
        "dimensions": names,
        "until_ms": until,
        "remaining_ms": max(0, until - now),
        "reporter": who,
    }
    return Broadcast(FREEZE, token_of(target.name), body)


def tell(state: State, now: int) -> Broadcast | None:
    """A freeze that holds, once more, in turn: for who has missed its broadcast, or has connected since."""
    frozen = [name for name, adapted in state.adapting.budgets.items() if adapted.until > now]
    if not frozen:
        return None
    target = state.budgets[frozen[now // REPEAT_MS % len(frozen)]]
    until = max((meter.frozen_until for meter in target.meters), default=now)
    held = [meter for meter in target.meters if meter.frozen_until == until]
    names: list[str] = [DIMENSIONS[index] for index in dict.fromkeys(meter.index for meter in held)]
    return _broadcast(state, target, [] if len(held) == len(target.meters) else names, until, now, "")


def below(state: State, target: Budget) -> list[str]:
    """The declared budgets that take from it and whose name does not show that already."""
    prefix = f"{target.name}/"
    others = [budget for budget in state.budgets.values() if budget.is_offered and budget is not target]
    return [
        budget.name for budget in others if not budget.name.startswith(prefix) and target in state.path_of(budget).nodes
    ]
