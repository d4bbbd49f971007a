"""What an agent may do that cannot reach the limiter: nothing, anything, or what was set aside for it beforehand.

*Closed* (the default): nothing. *Open*: calls go on without a permit; they are counted, and charged when the agent is
back (`decide_uncovered`), to every object on the path, as of then; everybody is told. *Island*: a part of the limits is
cut off beforehand into ``islands`` equal slices, which agents hold while all is well and spend when it is not. A slice
counts on every object of its path for as long as it is out, used or not, so the bound of each object holds however
many agents are cut off, and for however long.

A slice is a rule, not an amount: so much in any window (`bursar.client.local_island` keeps it). It ends unless it is
kept, and then still counts for one window and J, until what it may have allowed has left. After a loss of data every
slice of the budget that is not known counts as handed out just before, for as long as that may have been for.
"""

from __future__ import annotations

from typing import Any, Final

from bursar.contracts.limiter_lease import UNCOVERED as KIND
from bursar.contracts.limiter_lease import Island, Terms, Uncovered
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Broadcast, Command, Fence, Outcome, Refuse, Reject
from bursar_limiter import leasing_bugs as bugs
from bursar_limiter import leasing_events as events
from bursar_limiter import tree
from bursar_limiter.asking import find_path
from bursar_limiter.budget import Budget
from bursar_limiter.dimensions import Quantities
from bursar_limiter.leasing_meter import masks
from bursar_limiter.leasing_records import ALL, drift_ms, seven
from bursar_limiter.meter import Level, Spent
from bursar_limiter.path import Path
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State

SLICE_MS: Final = 600_000
"""How long a slice is good without being kept: the longest time for which an agent goes on alone."""

RETRY_MS: Final = 5_000


def decide_terms(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Terms = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or not budget.is_offered:
        return unknown_budget(state, body.budget)
    reply = {
        "ok": True,
        "budget": budget.name,
        "when_unreachable": budget.spec.when_unreachable,
        "lease_ms": budget.lease_ms,
        "good_for_ms": budget.good_for,
    }
    return Refuse(reply)


def decide_island(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Island = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or not budget.is_offered:
        return unknown_budget(state, body.budget)
    path = state.path_of(budget)
    size = slice_of(budget, path)
    if size is None:
        return _refused(budget.name, "no_slices", None)
    if now < path.closed_until:
        return _refused(budget.name, "recovering", path.closed_until - now)
    known = state.leases.slices.get(body.slice or "")
    mine = known is not None and known.principal == command.principal and known.budget == budget.name
    if known is not None and mine and now < known.until and known.amounts == size:
        key = known.key
    elif _is_free(state, budget, path, size):
        key = f"{fence[0]}.{fence[1]}.{fence[2]}"
    else:
        return _refused(budget.name, "all_taken", RETRY_MS)
    until = now + SLICE_MS
    event = (events.SLICED, now, key, budget.name, command.principal, until, until + lasts(path), size)
    return Accept([event], _slice(key, budget, path, size))


def decide_uncovered(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Uncovered = command.body
    budget = state.budgets.get(body.budget)
    if budget is None:
        return unknown_budget(state, body.budget)
    if budget.spec.when_unreachable != "open":
        return Reject("not_open", f"{budget.name} does not allow calls without a permit.", {"budget": budget.name})
    path = find_path(state, budget, command.principal)
    if isinstance(path, Reject):
        return path
    event = (events.UNCOVERED, now, path.leaf.name, command.principal, body.calls, list(body.amounts), path.also)
    told = {"budget": budget.name, "principal": command.principal, "calls": body.calls}
    reply = {"ok": True, "budget": budget.name, "calls": body.calls}
    return Accept([event], reply, [Broadcast(KIND, command.principal, told)])


def slice_of(budget: Budget, path: Path) -> Quantities | None:
    """The size of one slice: the smallest that any object on the path gives. None where there are none: a purse is
    spent once, whoever spends it, and agents' own budgets come and go."""
    spec = budget.spec
    if spec.when_unreachable != "island" or budget.gives or any(isinstance(m, Spent) for _, m in path.meters):
        return None
    size = [0] * len(ALL)
    for index, meter in path.meters:
        part = meter.limit * spec.island_permille // (1000 * spec.islands)
        size[index] = min(size[index], part) if size[index] else part
    limited, _ = masks(path)
    return seven(size) if all(size[d] for d in ALL if limited >> d & 1) else None


def lasts(path: Path) -> int:
    """For so long after its end what a slice has allowed may count somewhere."""
    longest = max((meter.span.hold for _, meter in path.meters), default=0)
    return longest + drift_ms(SLICE_MS) + path.good_for + path.max_ttl


def _is_free(state: State, budget: Budget, path: Path, size: Quantities) -> bool:
    if seeded(bugs.SLICE_REGRANTED):
        return True
    out = sum(entry.budget == budget.name for entry in state.leases.slices.values())
    return out < budget.spec.islands and all(size[index] <= meter.room for index, meter in path.meters)


def fear_slices(state: State, now: int) -> None:
    """After a loss: whatever slices there may be that nobody knows of any more count as handed out now."""
    for _, budget in sorted(state.budgets.items()):
        path = state.path_of(budget) if budget.base is None else None
        size = None if path is None else slice_of(budget, path)
        if path is None or size is None:
            continue
        out = sum(entry.budget == budget.name for entry in state.leases.slices.values())
        for number in range(budget.spec.islands - out):
            key = f"lost.{budget.name}.{number}.{now}"
            until = now + SLICE_MS
            events.apply_sliced(state, (events.SLICED, now, key, budget.name, "", until, until + lasts(path), size))


def keep_slices(state: State) -> None:
    """After a reload: a slice whose budget is not there any more counts nowhere."""
    gone = [entry for entry in state.leases.slices.values() if tree.find(state, entry.budget) is None]
    for entry in gone:
        del state.leases.slices[entry.key]


def _slice(key: str, budget: Budget, path: Path, size: Quantities) -> dict[str, Any]:
    limited, _ = masks(path)
    windows = [0] * len(ALL)
    for index, meter in path.meters:
        windows[index] = 0 if isinstance(meter, Level) else max(windows[index], meter.window_ms)
    return {
        "ok": True,
        "slice": key,
        "amounts": size,
        "window_ms": seven(windows),
        "limited": limited,
        "length_ms": SLICE_MS,
        "jitter_ms": max((meter.span.hold - meter.window_ms for _, meter in path.meters), default=0),
        "good_for_ms": path.good_for,
    }


def _refused(budget: str, reason: str, retry: int | None) -> Refuse:
    texts = {
        "no_slices": f"{budget} has no slices for agents that cannot reach the limiter.",
        "all_taken": f"All slices of {budget} are handed out, or do not fit now.",
        "recovering": f"{budget} recovers from a loss of data.",
    }
    return Refuse({"ok": False, "reason": reason, "budget": budget, "retry_in_ms": retry, "text": texts[reason]})
