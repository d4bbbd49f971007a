"""After a loss: the journal has come back without entries that were acknowledged.

Grants may have been lost, and nobody knows how many. But they obeyed the limits, so the whole limit bounds them:

- In every window the whole limit counts as used from now on. A lost grant lies before now, so when what counts from
  now has left (one window + J), the lost has left too.
- Calls in flight, and output that unknown calls may still produce: each such call is over ``max_ttl_ms`` from now at
  the latest; what is produced until then leaves one window + J later.
- Until the last of these times, which is fixed and bounded, nothing is granted (`recovering`). So what is unknown in
  flight need not be guessed: it is over before the first new grant.
- Money that is spent once comes back by no waiting: the rest of such a budget counts as spent until an operator
  looks at the bill and raises the limit.

A budget that was itself lost, and is offered again from the file or by an operator, is treated so from then on; and so
is one that is made for an agent or a run after a loss: it may have been there before.

Known reservations stay charged until they end. Holders re-declare the others, so that their settlements find them.
They show the fence that came with the grant: the host has seen that it is genuine, so a decision of that number was
made. An adopted reservation counts in flight, while what it took from the windows is part of what is feared lost.
Those of its amounts that can be checked are: more than the limit cannot have been in flight. Nor can it have been
granted after the loss, so it ends ``max_ttl_ms`` after that at the latest: whoever declares what it never had keeps
nobody waiting for longer than the recovery does.
"""

from __future__ import annotations

from bursar.contracts.limiter import Redeclare
from bursar.kernel.bugs import seeded
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_limiter import bugs, events, resting, tree
from bursar_limiter.asking import find_path
from bursar_limiter.budget import MAX_HELD, MAX_LIVE, Budget, Reservation
from bursar_limiter.dimensions import Quantities, from_amounts
from bursar_limiter.parts import PARTS
from bursar_limiter.path import Path
from bursar_limiter.settling import unknown_budget, unknown_reservation
from bursar_limiter.state import State


def recover(state: State, now: int) -> list[Event]:
    """The event that makes the state safe after a loss. Budgets may be lost too, even all: see `fear`."""
    parts = max((part.safe_at(state, now) for part in PARTS), default=now)
    times = [[budget.name, max(parts, tree.safe_at(budget, now))] for budget in state.budgets.values()]
    return [(events.LOST, now, times)]


def apply_lost(state: State, event: Event) -> None:
    _, now, budgets = event
    state.at = state.lost_at = now
    aside = resting.forget(state, now, kept={name for name, _ in budgets})
    for name, until in budgets:
        budget = tree.made(state, name)
        over = until if budget.base is None else tree.safe_at(budget, now)  # the rest its base has
        budget.recovering_until = max(budget.recovering_until, now if seeded(bugs.GRANTS_AT_ONCE) else over)
        for meter in budget.meters:
            meter.lose(now)
    for part in PARTS:
        part.lost(state, now)
    resting.seat(state, aside, now)
    state.forget_paths()
    state.changed_all()


def fear(state: State, budget: Budget, now: int, *, is_new: bool) -> None:
    """A budget is offered, or has other rules, after a loss: under these rules it may have been offered in what was
    lost. So it recovers like the others, as long as a call of that time may last or count."""
    if state.lost_at < 0:
        return
    until = tree.safe_at(budget, state.lost_at)
    budget.recovering_until = max(budget.recovering_until, until)
    if is_new and now < max(until, state.lost_at + budget.spec.max_ttl_ms):
        for meter in budget.meters:
            meter.lose(now)


def decide_redeclare(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Redeclare = command.body
    budget = state.budgets.get(body.budget)
    if budget is None:
        return unknown_budget(state, body.budget)
    key = body.reservation
    if body.fence.rpartition(".")[0] != key and not seeded(bugs.ANY_NUMBER):
        return Reject("bad_fence", "The fence is not the one that came with this reservation.", {"reservation": key})
    if key in state.live or state.how_ended(key) is not None:
        return Refuse(_reply(key, adopted=False))
    if int(key.split(".", 1)[0]) >= fence[0]:
        return unknown_reservation(key)
    path = find_path(state, budget, command.principal, body.run, body.also)
    if isinstance(path, Reject):
        return path
    if now >= path.closed_until:
        return Refuse(_reply(key, adopted=False))
    amounts = from_amounts(body.amounts)
    if path.leaf.held.get(command.principal, 0) >= MAX_HELD or not _plausible(path, amounts):
        facts = {"budget": budget.name, "reservation": key}
        return Reject("not_plausible", "So much cannot have been in flight under the limits.", facts)
    expires_at = min(now + min(body.ttl_ms, path.max_ttl), max(now, state.lost_at + path.max_ttl))  # granted before
    event = (events.ADOPTED, now, path.leaf.name, key, command.principal, expires_at, *amounts, *path.also)
    return Accept([event], _reply(key, adopted=True))


def apply_adopted(state: State, event: Event) -> None:
    _, now, name, key, principal, expires_at, r, i, o, c, u, t, b, *also = event
    amounts, objects = (r, i, o, c, u, t, b), tuple(also)
    state.at = now
    path = state.path_of(tree.made(state, name), objects)
    path.adopt(amounts)
    state.begin(key, path, Reservation(name, principal, now, expires_at, amounts, -1, objects))
    state.changed(path)


def _plausible(path: Path, amounts: Quantities) -> bool:
    if path.leaf.count >= MAX_LIVE:
        return False
    return all(meter.may_adopt(amounts[index]) for index, meter in path.meters)


def _reply(reservation: str, *, adopted: bool) -> dict[str, object]:
    return {"ok": True, "reservation": reservation, "adopted": adopted}
