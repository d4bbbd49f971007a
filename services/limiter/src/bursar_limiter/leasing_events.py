"""Events of leases and slices: what they say, how they change the state, and what they are called.

| kind | then | means |
|---|---|---|
| ``L`` | lease, budget, principal, ttl, times, limited, held, seven amounts, rates, demand, objects, period | lent |
| ``R`` | lease, period, times, spent, after, add, refunds by period, rates, demand, calls | reported, renewed |
| ``E`` | lease | over: what was not accounted for counts as spent |
| ``G`` | lease | gone: its open calls count as over |
| ``I`` | slice, budget, principal, until, free, seven amounts | a slice set aside, or kept |
| ``J`` | slice | the slice is free again |
| ``U`` | budget, principal, calls, seven amounts, other objects | calls without a permit, charged |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bursar.contracts.limiter import DIMENSIONS
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Event
from bursar_limiter import leasing_bugs as bugs
from bursar_limiter import tree
from bursar_limiter.dimensions import NOTHING, Quantities
from bursar_limiter.leasing_meter import account, hold, lend, refund, set_aside
from bursar_limiter.leasing_records import ALL, Leases, Record, Slice, seven
from bursar_limiter.leasing_share import put_rates, sum_again
from bursar_limiter.path import Path
from bursar_limiter.spending import give_back, spend
from bursar_limiter.state import State

LENT: Final = "L"
REPORTED: Final = "R"
OVER: Final = "E"
GONE: Final = "G"
SLICED: Final = "I"
FREED: Final = "J"
UNCOVERED: Final = "U"


def path_of(state: State, record: Record) -> Path:
    return state.path_of(tree.made(state, record.budget), record.also)


def apply_lent(state: State, event: Event) -> None:
    _, now, key, name, principal, ttl, times, limited, held, amounts, rates, demand, also, period = event
    budget = tree.made(state, name)
    state.at = now
    state.ordinal += 1
    record = Record(key, name, tuple(also), principal, ttl)
    record.limited, record.held, record.period = limited, held, period - 1
    record.granted_at, (record.until, record.ends_at, record.gone_at) = now, times
    record.lent, record.demand = seven(amounts), seven(demand)
    state.leases.records[key] = record
    (budget.base or budget).granted += 1
    lend(path_of(state, record), now, record.lent)
    put_rates(state, record, seven(rates))
    state.leases.at(record.ends_at, key)


def apply_reported(state: State, event: Event) -> None:
    _, now, key, period, times, spent, after, add, refunds, rates, demand, calls = event
    state.at = now
    state.ordinal += 1
    record = state.leases.records[key]
    path = path_of(state, record)
    _account(state, record, path, now, period, seven(spent), seven(after))
    for of, amounts in refunds:
        charge = record.refund(of, amounts)
        if charge is not None:
            refund(path, now, charge, record.held)
            give_back(state, path.leaf, record.principal, charge.amounts)
    before = record.counts
    record.lent = seven(record.lent[d] + add[d] for d in ALL)
    counts = record.counts
    lend(path, now, seven(counts[d] - before[d] for d in ALL))
    record.period, record.demand = period, seven(demand)
    record.calls += calls
    record.until, record.ends_at, record.gone_at = times
    if any(add):
        record.granted_at = now
    put_rates(state, record, seven(rates))
    state.leases.at(record.ends_at or record.gone_at, key)
    state.changed(path)


def _account(
    state: State, record: Record, path: Path, now: int, period: int, spent: Quantities, after: Quantities
) -> None:
    """Charge what was spent, and remember it for refunds."""
    before = record.counts
    record.lent = after
    if seeded(bugs.OVERAGE_FORGIVEN):
        spent = seven(min(spent[d], before[d]) for d in ALL)
    account(path, now, before, spent, record.counts)
    if any(spent):
        spend(state, path.leaf, record.principal, spent)
    record.charge(period, now, state.ordinal, seven(0 if record.held >> d & 1 else spent[d] for d in ALL))


def apply_over(state: State, event: Event) -> None:
    """What was lent of the dimensions that are charged as calls arrive is spent; what open calls may hold stays."""
    _, now, key = event
    state.at = now
    state.ordinal += 1
    record = state.leases.records[key]
    path = path_of(state, record)
    kept = 0 if seeded(bugs.OPEN_CALLS_FORGOTTEN) else record.held
    after = seven(record.lent[d] if kept >> d & 1 or record.lent[d] < 0 else 0 for d in ALL)
    spent = NOTHING if seeded(bugs.UNRETURNED_REFUNDED) else seven(max(0, record.lent[d] - after[d]) for d in ALL)
    _account(state, record, path, now, record.period + 1, spent, after)
    record.ends_at = 0
    put_rates(state, record, NOTHING)
    state.leases.at(record.gone_at, key)
    state.changed(path)


def apply_gone(state: State, event: Event) -> None:
    """Nobody has told of its open calls for as long as they may last: they count as used in full."""
    _, now, key = event
    state.at = now
    record = state.leases.records.pop(key)
    path = path_of(state, record)
    account(path, now, record.counts, record.counts, NOTHING)
    spend(state, path.leaf, record.principal, record.counts)
    put_rates(state, record, NOTHING)
    for node in path.nodes:
        node.holders.pop(key, None)
    state.changed(path)


def apply_sliced(state: State, event: Event) -> None:
    _, now, key, name, principal, until, free_at, amounts = event
    state.at = now
    known = state.leases.slices.get(key)
    entry = Slice(key, name, principal, until, free_at, seven(amounts))
    state.leases.slices[key] = entry
    path = state.path_of(tree.made(state, name))
    if known is None:
        hold(path, entry.amounts)
    for node in path.nodes:
        node.note_holder(key, entry)
    state.leases.at(free_at, key)


def apply_freed(state: State, event: Event) -> None:
    _, now, key = event
    state.at = now
    entry = state.leases.slices.pop(key)
    path = state.path_of(tree.made(state, entry.budget))
    hold(path, seven(-amount for amount in entry.amounts))
    for node in path.nodes:
        node.holders.pop(key, None)
    state.changed(path)


def apply_uncovered(state: State, event: Event) -> None:
    _, now, name, principal, calls, amounts, also = event
    state.at = now
    path = state.path_of(tree.made(state, name), tuple(also))
    path.correct(now, amounts)
    spend(state, path.leaf, principal, seven(amounts))
    state.leases.uncovered[name] = state.leases.uncovered.get(name, 0) + calls
    state.changed(path)


def aside_again(state: State) -> None:
    """What leases and slices hold without a date, on meters that were loaded or made anew."""
    leases: Leases = state.leases
    for record in leases.records.values():
        set_aside(path_of(state, record), record.counts)
    for entry in leases.slices.values():
        set_aside(state.path_of(tree.made(state, entry.budget)), entry.amounts)
    sum_again(state)


# -- in words


def _named(amounts: Any) -> str:
    told = [f"{name} {amount}" for name, amount in zip(DIMENSIONS, amounts, strict=True) if amount]
    return ", ".join(told) or "nothing"


def _lent(key: str, budget: str, principal: str, ttl: int, times: Any, *rest: Any) -> str:
    return f"lent {key} to {principal} from {budget} until {times[0]} ms: {_named(rest[2])}"


def _reported(key: str, period: int, times: Any, spent: Any, after: Any, add: Any, *rest: Any) -> str:
    return f"lease {key}, report {period}: spent {_named(spent)}; added {_named(add)}, until {times[0]} ms"


def _over(key: str) -> str:
    return f"lease {key} is over, what it had counts as spent"


def _gone(key: str) -> str:
    return f"lease {key} is gone, its open calls count as over"


def _sliced(key: str, budget: str, principal: str, until: int, free_at: int, amounts: Any) -> str:
    return f"slice {key} of {budget} for {principal or 'whoever has it'} until {until} ms: {_named(amounts)}"


def _freed(key: str) -> str:
    return f"slice {key} is free again"


def _uncovered(budget: str, principal: str, calls: int, amounts: Any, also: Any) -> str:
    return f"{principal} made {calls} calls under {budget} without a permit: {_named(amounts)}"


WORDS: Final[dict[str, Callable[..., str]]] = {
    LENT: _lent,
    REPORTED: _reported,
    OVER: _over,
    GONE: _gone,
    SLICED: _sliced,
    FREED: _freed,
    UNCOVERED: _uncovered,
}

APPLY: Final[dict[str, Callable[[State, Event], None]]] = {
    LENT: apply_lent,
    REPORTED: apply_reported,
    OVER: apply_over,
    GONE: apply_gone,
    SLICED: apply_sliced,
    FREED: apply_freed,
    UNCOVERED: apply_uncovered,
}
