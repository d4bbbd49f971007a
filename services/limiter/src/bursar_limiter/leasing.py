"""Leases: a holder gets an advance over a whole path, spends it by itself, and tells later what became of it.

What keeps the limits, together with `bursar.client.local` at the holder:

1. An advance counts on every object of its path from before its holder hears of it (`leasing_meter.lend`), and never
   fits beyond what there is: so an object is never left with less than those below it hold.
2. It counts until it is reported, or until ``ends_at``: the holder's own deadline, and more than the clocks can drift
   apart. What nobody has accounted for by then counts as spent from that moment on. Nothing is granted twice.
3. What was spent is charged to the windows when it is reported, which is after it was spent, so it leaves them later
   than it does at the provider. A refund is taken out of the window in which it was charged.
4. Calls in flight, and output that is charged as it is produced, stay lent until they are told to have ended, or their
   time to live is over.
5. The rates of all leases at an object have a sum of no more than its own (`leasing_share`), divided by max-min fair
   shares. A share that is too large by now is not cut: the next advance is smaller, and a lease is short.

How much: what the holder wants in hand, as far as its share since the last time, the room, and the pace allow; all
dimensions in the same proportion, since a permit needs them together. While somebody's turn in a line at one of the
objects has come and cannot be met, leases there get nothing: they are over within a second, and then there is room.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from bursar.contracts.limiter_lease import Lease, Renew, Return
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_limiter import leasing_bugs as bugs
from bursar_limiter import leasing_events as events
from bursar_limiter.asking import find_path
from bursar_limiter.dimensions import CONCURRENT, NOTHING, Quantities
from bursar_limiter.leasing_meter import masks
from bursar_limiter.leasing_records import ALL, Record, drift_ms, seven
from bursar_limiter.leasing_share import ENOUGH, shares_of, spare_rate
from bursar_limiter.meter import Level
from bursar_limiter.path import Path
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State

MAX_LEASES: Final = 256
"""Leases of one principal on one budget."""

HEAD_MS: Final = 250
"""So long the head of a line waits before leases leave everything to it."""


class Ends(NamedTuple):
    """Internal: something of a lease or a slice ends now."""

    key: str


class Grant(NamedTuple):
    """What a holder gets now."""

    add: Quantities
    rates: Quantities
    excess: Quantities


NO_GRANT: Final = Grant(NOTHING, NOTHING, NOTHING)


def decide_lease(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Lease = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or not budget.is_offered:
        return unknown_budget(state, body.budget)
    path = find_path(state, budget, command.principal, body.run, body.also)
    if isinstance(path, Reject):
        return path
    why = _why_not(path, now)
    if why is not None:
        return Refuse(_refused(body.budget, why, path, now))
    if sum(record.principal == command.principal for record in state.leases.of_leaf(path.leaf.name)) >= MAX_LEASES:
        facts = {"budget": body.budget, "held": MAX_LEASES}
        return Reject("too_many", f"{MAX_LEASES} leases of {body.budget} are yours.", facts)
    limited, held = masks(path)
    length, ttl = path.leaf.lease_ms, min(body.ttl_ms, path.max_ttl)
    want, demand = _only(limited, body.want), _only(limited, body.demand)
    grant = _allot(state, path, now, None, NOTHING, want, demand)
    key = f"{fence[0]}.{fence[1]}.{fence[2]}"
    times = _times(now, length, ttl)
    event = (
        events.LENT, now, key, path.leaf.name, command.principal, ttl, times, limited, held, grant.add, grant.rates,
        demand, path.also, body.period,
    )  # fmt: skip
    return Accept([event], _leased(key, path, now, ttl, limited, held, grant))


def decide_renew(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Renew = command.body
    record = _find(state, command, body.lease, body.period)
    if isinstance(record, Reject):
        return record
    path = events.path_of(state, record)
    spent, after = _told(record, body, ended=not record.ends_at)
    length = path.leaf.lease_ms
    over = _why_not(path, now) is not None or masks(path) != (record.limited, record.held) or path.leaf.retired
    over = over or (state.rights is not None and not state.rights.may(command.principal, "budgets", record.budget))
    want, demand = _only(record.limited, body.want), _only(record.limited, body.demand)
    if over:
        grant, times = NO_GRANT, [record.until, record.ends_at, max(record.gone_at, now + record.ttl)]
    else:
        grant, times = _allot(state, path, now, record, after, want, demand), _times(now, length, record.ttl)
    event = _reported(record, body, now, times, spent, after, grant, demand)
    reply = _leased(record.key, path, now, record.ttl, record.limited, record.held, grant)
    return Accept([event], reply | {"over": over})


def decide_return(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Return = command.body
    record = _find(state, command, body.lease, body.period)
    if isinstance(record, Reject):
        return record
    spent, after = _told(record, body, ended=True)
    is_open = any(amount > 0 for amount in after)
    times = [record.until, 0, now + (record.ttl if is_open else 0)]
    made: list[Event] = [_reported(record, body, now, times, spent, after, NO_GRANT, NOTHING)]
    if not is_open:
        made.append((events.GONE, now, record.key))
    return Accept(made, {"ok": True, "lease": record.key, "open": is_open})


def decide_ends(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    key = command.body.key
    record, entry = state.leases.records.get(key), state.leases.slices.get(key)
    if record is not None and record.ends_at and record.ends_at <= now:
        return Accept([(events.OVER, now, key)], {})
    if record is not None and not record.ends_at and record.gone_at <= now:
        return Accept([(events.GONE, now, key)], {})
    if entry is not None and entry.free_at <= now:
        return Accept([(events.FREED, now, key)], {})
    return Refuse({})


def next_due(state: State, now: int) -> Command | None:
    """What of a lease or a slice ends now."""
    key = state.leases.next_due(now)
    return None if key is None else Command("", "", Ends(key))


# ------------------------------------------------------------------------------------------- reports


def _find(state: State, command: Command, key: str, period: int) -> Record | Reject:
    record = state.leases.records.get(key)
    if record is None:
        text = f"There is no lease {key}; it may be long over, or have been lost with the log."
        return Reject("unknown_lease", text, {"lease": key})
    if record.principal != command.principal:
        return Reject("not_yours", f"Lease {key} belongs to another principal.", {"lease": key})
    if period <= record.period:
        facts = {"lease": key, "period": period, "reported": record.period}
        return Reject("old_report", f"Lease {key} has reported period {record.period}.", facts)
    return record


def _told(record: Record, body: Renew | Return, *, ended: bool) -> tuple[Quantities, Quantities]:
    """(spent, still lent) of each dimension. A holder may say that it has used more, never that it has more. When the
    lease has ended, what it had in hand is nothing any more."""
    spent, after = [0] * len(ALL), [0] * len(ALL)
    for d in ALL:
        if not record.limited >> d & 1:
            continue
        known = record.lent[d]
        hand = min(body.hand[d], known, 0 if ended else known)
        if record.held >> d & 1:
            spent[d] = body.done[d]
            after[d] = min(known - body.done[d], hand + body.open[d])
        else:
            unused = min(body.unused[d], max(0, known) - max(0, hand))
            spent[d], after[d] = known - hand - unused, hand
    return seven(spent), seven(after)


def _reported(
    record: Record,
    body: Renew | Return,
    now: int,
    times: list[int],
    spent: Quantities,
    after: Quantities,
    grant: Grant,
    demand: Quantities,
) -> Event:
    back = [[period, list(amounts)] for period, amounts in body.back]
    return (
        events.REPORTED, now, record.key, body.period, times, spent, after, grant.add, back, grant.rates, demand,
        body.calls,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- how much


def _allot(
    state: State, path: Path, now: int, record: Record | None, have: Quantities, want: Quantities, demand: Quantities
) -> Grant:
    """What to add, and the rates to keep. ``have``: what is lent now."""
    shares = None if record is None else shares_of(state, now).by_lease.get(record.key)
    length = path.leaf.lease_ms
    since = length if record is None else min(now - record.granted_at, 2 * length)
    rates, caps, needs, excess = [0] * len(ALL), [0] * len(ALL), [0] * len(ALL), [0] * len(ALL)
    for d in ALL:
        share = ENOUGH if shares is None else shares[d]
        rate = spare_rate(state, path, record, d)
        room, paced = _there_is(path, now, d)
        cap = ENOUGH
        if _is_level(path, d):
            cap = max(0, share - have[d])
            excess[d] = max(0, have[d] - share)
        elif rate < ENOUGH and demand[d]:
            rates[d] = min(rate, share, demand[d] + demand[d] // 4 + 1)
            due = rates[d] * since // 1000
            cap = max(due, paced) if rates[d] > demand[d] else due
        needs[d] = max(0, want[d] - have[d])
        caps[d] = min(cap, room)
    if seeded(bugs.PARENT_SHRUNK):
        caps = [needs[d] for d in ALL]
    add = NOTHING if _line_waits(state, path, now) else _in_proportion(needs, caps)
    return Grant(add, seven(rates), seven(excess))


def _in_proportion(needs: list[int], caps: list[int]) -> Quantities:
    """As much of all needs as the scarcest dimension allows, rounded up where there is room."""
    tight, part, whole = 1, 1, 1
    for d in ALL:
        if needs[d] > caps[d] and (tight or caps[d] * whole < part * needs[d]):
            tight, part, whole = 0, caps[d], needs[d]
    return seven(min(caps[d], -(-needs[d] * part // whole)) if part else 0 for d in ALL)


def _there_is(path: Path, now: int, index: int) -> tuple[int, int]:
    """What all objects have left of a dimension; and what their pace lets pass at once. A lease's share of a rate is
    its own, and may go before what stands in line: then the pace is in debt until that is made up for."""
    room = paced = ENOUGH
    for at, meter in path.meters:
        if at == index:
            meter.age(now)
            room = min(room, meter.room)
            if now < meter.frozen_until:
                return 0, 0
            if meter.unit:
                paced = min(paced, meter.level_at(now) // meter.unit)
    return max(0, room), max(0, min(room, paced))


def _is_level(path: Path, index: int) -> bool:
    return any(at == index and isinstance(meter, Level) for at, meter in path.meters)


def _line_waits(state: State, path: Path, now: int) -> bool:
    """Whether somebody's turn has come at one of the objects, for some time, and cannot be met."""
    heads = state.leases.heads
    for node in path.nodes:
        head = node.line.head(now) if node.has_line else None
        if head is None:
            heads.pop(node.name, None)
            continue
        order, since = heads.get(node.name, (-1, now))
        if order != head.order:
            heads[node.name] = (head.order, now)
        elif now - since >= HEAD_MS:
            return True
    return False


def _only(mask: int, amounts: tuple[int, ...]) -> Quantities:
    return seven(amount if mask >> d & 1 else 0 for d, amount in enumerate(amounts))


# ------------------------------------------------------------------------------------------- answers


FEWEST_PLACES: Final = 4
"""Where fewer calls than this may be in flight, one holder's hand would keep all others out."""


def _why_not(path: Path, now: int) -> str | None:
    if not path.leaf.lease_ms or path.bursts or not path.meters:
        return "not_leasable"
    if any(index == CONCURRENT and meter.limit < FEWEST_PLACES for index, meter in path.meters):
        return "not_leasable"
    return "recovering" if now < path.closed_until else None


def _times(now: int, length: int, ttl: int) -> list[int]:
    until = now + length
    ends_at = now + length // 4 if seeded(bugs.REGRANTED_EARLY) else until + drift_ms(length)
    return [until, ends_at, until + drift_ms(length) + ttl]


def _leased(key: str, path: Path, now: int, ttl: int, limited: int, held: int, grant: Grant) -> dict[str, Any]:
    length = path.leaf.lease_ms
    return {
        "ok": True,
        "lease": key,
        "add": grant.add,
        "length_ms": length,
        "renew_in_ms": length // 2,
        "good_for_ms": path.good_for,
        "ttl_ms": ttl,
        "limited": limited,
        "held": held,
        "rates": grant.rates,
        "bursts": seven(max(grant.add[d], grant.rates[d] * length // 2000) for d in ALL),
        "excess": grant.excess,
        "granted_at_ms": now,
    }


def _refused(budget: str, why: str, path: Path, now: int) -> dict[str, Any]:
    texts = {
        "not_leasable": f"{budget} gives no leases: reserve each call.",
        "recovering": f"{budget} recovers from a loss of data.",
    }
    retry = None if why == "not_leasable" else max(1, path.closed_until - now)
    return {"ok": False, "reason": why, "budget": budget, "retry_in_ms": retry, "text": texts[why]}
