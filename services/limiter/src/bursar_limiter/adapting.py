"""The controller of the paces: what each limited rate is paced at, looked at four times a second while there is reason.

The pace of a limit is the smallest of four:

- *Recovery*: after a 429 it comes back by CUBIC (`adapting_cubic`) to the configured pace.
- *Steering*: while there is demand, 85 to 95 % of the limit are to be in use (in general from 70 thousandths below the
  configured ``utilisation`` to 30 above). After a whole window of demand with less, the pace rises by up to 2 % at a
  look, though never above the limit itself; after a whole window with more it falls. Only a limit whose pace is what
  keeps calls waiting is steered. The bucket of the pace, ``burst``, is the reserve for bursts and stays as it is.
- *Share*: what a circuit breaker lets go, while what the budget pays for recovers (`adapting_share`).
- *Ramp*, where a budget has one: after a quiet window the pace begins at a tenth and takes ``ramp_ms`` to be whole,
  for providers that limit acceleration.

It is safe whatever it does: the hard guard of each window stands beside the pace. A change is an event, so the pace
that holds is the same on every replica; what it was computed from is volatile.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse
from bursar_limiter import adapting_bugs as bugs
from bursar_limiter import adapting_events as events
from bursar_limiter.adapting_cubic import FULL, pace_at
from bursar_limiter.adapting_seen import forgotten
from bursar_limiter.adapting_state import NEVER, Adapted, Watch
from bursar_limiter.budget import Budget
from bursar_limiter.meter import Meter
from bursar_limiter.state import State

LOOK_MS: Final = 250
PER_LINE: Final = 4
"""So many lines of budgets put off the next look by a ms: it costs more, and many lines change the picture slowly."""
STEP: Final = 5
"""Thousandths; a smaller change of the pace is not worth an event."""
BELOW: Final = 70
ABOVE: Final = 30
"""Of the configured utilisation: outside this band the pace is steered."""
MOST_STEER: Final = 20
"""Thousandths of the pace that one look steers at most."""
RAMP_FLOOR: Final = 100
PAUSE_MS: Final = 2_000
"""Demand that is away for so long is over: those who are refused come back at the time that they were told."""


class Look(NamedTuple):
    """Internal: it is time to look at the paces."""


def is_active(state: State) -> bool:
    """Whether there is anything to look at: somebody waits or was refused, a limit was learned, a pace comes back, or
    some rise slowly."""
    adapting = state.adapting
    if state.standing or adapting.refused or adapting.ramps or adapting.learned:
        return True
    return any(adapted.cuts or (adapted.share and adapted.share.until) for adapted in adapting.budgets.values())


def decide_look(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    found: list[Event] = []
    wanting = _wanting(state)
    for budget in _budgets(state, wanting):
        adapted = state.adapting.budgets.get(budget.name)
        for meter in budget.meters:
            if meter.limit >= meter.ceiling and not meter.unit:
                continue
            watch = state.adapting.watch(budget.name, (meter.index, meter.window_ms))
            again = forgotten(budget, meter, watch, now) if meter.limit < meter.ceiling else None
            found += [] if again is None else [again]
            if not meter.unit:
                continue
            pace = _pace(budget, meter, watch, adapted, now, is_wanted=budget.name in wanting)
            is_back = pace == FULL and (meter.tuned != FULL or _is_cut(adapted, meter))
            if is_back or abs(pace - meter.tuned) >= STEP:
                found.append((events.TUNED, now, budget.name, meter.index, meter.window_ms, pace))
        share = None if adapted is None else adapted.share
        if share is not None and share.until and share.at(now) == FULL:
            found.append((events.SHARED, now, budget.name, share.incarnation, share.revision, FULL, 0))
    return Accept(found, {}) if found else Refuse({})


def _is_cut(adapted: Adapted | None, meter: Meter) -> bool:
    return adapted is not None and (meter.index, meter.window_ms) in adapted.cuts


def _wanting(state: State) -> dict[str, Budget]:
    """The declared objects that somebody waits for, or was refused since the last look."""
    names, state.adapting.refused = state.adapting.refused, {}
    asked = [*state.standing.values(), *(state.budgets[name] for name in names if name in state.budgets)]
    nodes = {node.name: node for budget in asked for node in state.path_of(budget).nodes}
    return {name: node for name, node in nodes.items() if node.base is None}


def _budgets(state: State, wanting: dict[str, Budget]) -> Iterator[Budget]:
    adapting = state.adapting
    names = dict.fromkeys((*adapting.budgets, *adapting.ramps, *adapting.learned, *wanting))
    return (state.budgets[name] for name in names if name in state.budgets)


def _pace(budget: Budget, meter: Meter, watch: Watch, adapted: Adapted | None, now: int, *, is_wanted: bool) -> int:
    rules, place = budget.spec.adapt, (meter.index, meter.window_ms)
    ceiling = FULL * 1000 // budget.spec.utilisation_permille
    share = FULL if adapted is None or adapted.share is None else adapted.share.at(now)
    _note_demand(watch, now, is_wanted=is_wanted)
    if rules.steer and share == FULL:
        _steer(budget, meter, watch, now)
    pace = min(ceiling, FULL + watch.bias) if rules.steer else FULL
    if share < FULL:
        pace = min(pace, share)
    if adapted is not None and place in adapted.cuts:
        pace = min(pace, pace_at(adapted.cuts[place], now))
    if rules.ramp_ms:
        pace = min(pace, _ramp(meter, watch, rules.ramp_ms, now))
    return max(1, pace if not seeded(bugs.PACE_ABOVE_LIMIT) else pace * 2)


def _note_demand(watch: Watch, now: int, *, is_wanted: bool) -> None:
    if is_wanted:
        watch.wanted_at = now
        watch.wanted_since = min(watch.wanted_since, now)
    elif now - watch.wanted_at > PAUSE_MS:
        watch.wanted_since = NEVER


def _steer(budget: Budget, meter: Meter, watch: Watch, now: int) -> None:
    """Move the bias towards the band, when there was demand for a whole window and the pace is what keeps it."""
    aim = budget.spec.utilisation_permille
    if now - watch.wanted_since < meter.span.hold or now < meter.frozen_until:
        return
    used = meter.charged(now) * 1000 * meter.window_ms // (meter.limit * meter.span.hold)
    paced = meter.level_at(now) * 2 < meter.cap
    if used < aim - BELOW and paced:
        watch.bias = min(watch.bias + min(MOST_STEER, (aim - BELOW - used) // 4 + 1), FULL)
    if used <= aim + ABOVE:
        watch.above_since = NEVER
        return
    watch.above_since = min(watch.above_since, now)
    if now - watch.above_since >= meter.span.hold:
        watch.bias = max(watch.bias - min(MOST_STEER, (used - aim - ABOVE) // 4 + 1), -FULL // 2)


def _ramp(meter: Meter, watch: Watch, ramp_ms: int, now: int) -> int:
    """A tenth while nothing counts, then more with each look."""
    if not meter.counted(now):
        watch.ramp = RAMP_FLOOR
    elif watch.ramp < 0:
        watch.ramp = meter.tuned
    else:
        watch.ramp = min(FULL, watch.ramp + max(1, (FULL - RAMP_FLOOR) * LOOK_MS // ramp_ms))
    return watch.ramp


def apply_tuned(state: State, event: Event) -> None:
    """Another pace holds from now on. A recovery that has come back to the configured pace is over."""
    _, now, name, index, window, pace = event
    state.at = now
    budget = state.budgets[name]
    for meter in budget.meters:
        if (meter.index, meter.window_ms) == (index, window):
            meter.tune(now, pace)
    adapted = state.adapting.budgets.get(name)
    if adapted is not None and pace >= FULL:
        adapted.cuts.pop((index, window), None)
    state.changed_all()


def find_ramps(state: State) -> None:
    """Note which budgets begin slowly after a quiet time."""
    declared = [budget for budget in state.budgets.values() if budget.base is None]
    state.adapting.ramps = tuple(budget.name for budget in declared if budget.spec.adapt.ramp_ms)
