"""How a request that waits goes through the lines of the tree.

It stands in the line of the budget that it names. When it is its turn there, and that budget has room for it, the line
offers it to the line above, where it takes turns with what the other budgets below offer; and so on. Whose turn it is
at the top, and fits there, is granted. So a request that its own team has no room for keeps nobody else from what the
organisation has, and one that waits for the organisation is overtaken by nobody there.

A request that also names objects beside the tree (a purse, a host) takes no turns before these have room for it. Who
waits for such an object goes in order of age: only the eldest is looked at when something changes there. One that has
waited for `AGE_MS` keeps the object until it is granted: others do not get it meanwhile, so it cannot starve between
the object and the tree.

Nothing here is durable. A line is looked at only when something in it or in its budget has changed (``dirty``) or when
its head will fit (``alarms``).
"""

from __future__ import annotations

from heapq import heappop, heappush

from bursar.kernel.bugs import seeded
from bursar_limiter import bugs
from bursar_limiter.budget import MAX_LIVE, Budget
from bursar_limiter.dimensions import Quantities
from bursar_limiter.path import Path
from bursar_limiter.refusal import too_large
from bursar_limiter.state import Gate, State
from bursar_limiter.turns import AGE_MS
from bursar_limiter.waiting import Lane, Waiter

WHOLE = 1_000_000
"""The cost of a request that takes a whole limit."""


def must_wait(state: State, path: Path) -> bool:
    """Whether somebody stands there who would be overtaken."""
    for node in path.tree:
        if node.has_line and not node.line.is_idle:
            return True
    if seeded(bugs.OBJECT_OVERTAKEN):
        return False
    return any(link.name in state.gates and _eldest(state.gates[link.name]) is not None for link in path.links)


def first_at(state: State, node: Budget, now: int) -> Waiter | None:
    """Who may not be overtaken at one object, of the tree or beside it."""
    if node.has_line and not node.line.is_idle:
        return node.line.head(now)
    gate = state.gates.get(node.name)
    return None if gate is None else _eldest(gate)


def stand(state: State, path: Path, waiter: Waiter, now: int) -> None:
    """Join the line of the budget that the request names."""
    leaf = path.leaf
    blocked = _blocked(state, path, waiter, now) if path.links else None
    lane = leaf.line.join(waiter, gated=blocked is not None)
    if blocked is not None and lane.first() is waiter:
        _gate(state, blocked, lane)
    state.wait(leaf, waiter)


def leave(state: State, path: Path, waiter: Waiter, now: int, *, granted: bool = False) -> None:
    """Leave all lines: granted in its turn, or given up."""
    leaf = path.leaf
    del state.parked[waiter.command[:2]]
    lane = leaf.line.leave(waiter, granted=granted, now=now, gated=bool(path.links))
    if lane is not None:
        blocked = _blocked(state, path, lane.first(), now)
        if blocked is None:
            leaf.line.admit(lane, now)
        else:
            _gate(state, blocked, lane)
    _retract(path, waiter, granted=granted)
    if not leaf.line:
        del state.standing[leaf.name]
    state.mark(path)


def _retract(path: Path, waiter: Waiter, *, granted: bool = False) -> None:
    """Take the offers of this request back from the lines above."""
    for child, parent in zip(path.tree, path.tree[1:], strict=False):
        entry = parent.line.offers.get(child.name) if parent.has_line else None
        if entry is None or entry.waiter is not waiter:
            return
        parent.line.retract(child.name, granted=granted)


def send_away(state: State, budget: Budget, waiter: Waiter, why: str, now: int) -> None:
    """Take somebody out of line; `due` hands him out, to be told why."""
    leave(state, state.path_of(budget, waiter.also), waiter, now)
    waiter.why = why
    state.orphans.append(waiter)


def send_away_hopeless(state: State, now: int) -> None:
    """Limits are lower: who asks for more than there will ever be somewhere on his path is told so at once."""
    for waiter in list(state.parked.values()):
        leaf = state.budgets[waiter.leaf]
        if too_large(state.path_of(leaf, waiter.also), waiter.amounts) is not None:
            send_away(state, leaf, waiter, "over_limit", now)


def is_turn(path: Path, waiter: Waiter, now: int) -> bool:
    """Whether it is his at every level."""
    return all(node.has_line and node.line.head(now) is waiter for node in path.tree)


def put_off(state: State, path: Path, waiter: Waiter, now: int) -> None:
    """It was his turn, and something has no room after all: back to where that is waited for."""
    for node in path.tree:
        when = ready_at(node, waiter.amounts, now)
        if when is None or when > now:
            _retract_from(path, node, waiter)
            _remind(state, node, when)
            return
    blocked = _blocked(state, path, waiter, now)
    lane = path.leaf.line.queues[waiter.command.principal].lanes[waiter.rank, waiter.also]
    _retract(path, waiter)
    if blocked is None:
        _remind(state, path.leaf, now + 1)
        return
    path.leaf.line.keep_back(lane)
    _gate(state, blocked, lane)
    state.mark(path)


def _retract_from(path: Path, node: Budget, waiter: Waiter) -> None:
    at = path.tree.index(node)
    for child, parent in zip(path.tree[at:], path.tree[at + 1 :], strict=False):
        entry = parent.line.offers.get(child.name) if parent.has_line else None
        if entry is not None and entry.waiter is waiter:
            parent.line.retract(child.name)


# ------------------------------------------------------------------------------------------- who is next


def next_head(state: State, now: int) -> Waiter | None:
    """Who is to be decided now, because it is his turn and he fits, or because he never will."""
    while state.alarms and state.alarms[0][0] <= now:
        when, name, is_gate = heappop(state.alarms)
        if is_gate:
            gate = state.gates.get(name)
            if gate is not None and gate.alarm_at == when:
                gate.alarm_at = 0
                state.dirty_gates[name] = None
        elif name in state.budgets and state.budgets[name].alarm_at == when:
            state.budgets[name].alarm_at = 0
            state.look_at(state.budgets[name])
    while True:
        while state.dirty_gates:
            _look_at_gate(state, state.dirty_gates.popitem()[0], now)
        lowest = next((names for names in reversed(state.dirty) if names), None)
        if lowest is None:
            return None
        budget = state.budgets.get(lowest.popitem()[0])
        waiter = _look(state, budget, now) if budget is not None and budget.has_line else None
        if waiter is not None:
            return waiter


def _look(state: State, node: Budget, now: int) -> Waiter | None:
    """What the line of one budget has: a request to hand out, one to offer to the line above, or a time."""
    line, parent = node.line, node.parent
    entry = line.head_entry(now)
    if entry is None:
        if parent is not None and parent.has_line and parent.line.retract(node.name):
            state.look_at(parent)
        return None
    waiter = entry.waiter
    if any(waiter.amounts[meter.index] > meter.most for meter in node.meters):
        return waiter
    when = ready_at(node, waiter.amounts, now)
    if when is None or when > now:
        _remind(state, node, when)
        if parent is not None and parent.has_line and parent.line.retract(node.name):
            state.look_at(parent)
        return None
    if parent is None:
        return waiter
    cost = cost_at(parent, waiter)
    if parent.line.offer(node.name, waiter, entry.rank, now, cost, node.weight):
        state.look_at(parent)
    return None


def _remind(state: State, node: Budget, when: int | None) -> None:
    """Look at this line again then."""
    if when is not None and (not node.alarm_at or when < node.alarm_at):
        node.alarm_at = when
        heappush(state.alarms, (when, node.name, False))


def ready_at(node: Budget, amounts: Quantities, now: int) -> int | None:
    """When one object has room for a request, if nothing else happens; None: no time helps."""
    when = max(now, node.recovering_until)
    if node.count >= MAX_LIVE:
        when = max(when, node.next_end(now))
    for meter in node.meters:
        if amounts[meter.index]:
            at = meter.earliest(now, amounts[meter.index], 0, node)
            if at is None:
                return None
            when = max(when, at)
    return when


def cost_at(node: Budget, waiter: Waiter) -> int:
    """The largest share that a request takes of any limit of this object, in parts of `WHOLE`; at least one."""
    shares = [waiter.amounts[meter.index] * WHOLE // meter.limit for meter in node.meters]
    return max(shares, default=waiter.cost - 1) + 1


# ------------------------------------------------------------------------------------------- objects beside the tree


def _blocked(state: State, path: Path, waiter: Waiter, now: int) -> Budget | None:
    """The first object beside the tree that has no room for this request, or that an elder one waits for."""
    for link in path.links:
        gate = state.gates.get(link.name)
        eldest = _eldest(gate) if gate is not None else None
        if eldest is not None and eldest.order < waiter.order and not seeded(bugs.OBJECT_OVERTAKEN):
            return link
        when = ready_at(link, waiter.amounts, now)
        if when is None or when > now:
            return link
    return None


def _eldest(gate: Gate) -> Waiter | None:
    """Who has waited for this object for the longest time, and still does."""
    while gate.heap:
        waiter, lane = gate.heap[0][2:]
        if not waiter.gone and lane.waiters and lane.first() is waiter and (lane.gated or gate.kept_for is waiter):
            return waiter
        heappop(gate.heap)
    gate.kept_for = None
    return None


def _gate(state: State, link: Budget, lane: Lane) -> None:
    """The first one of a lane waits for this object."""
    gate = state.gates.get(link.name)
    if gate is None:
        gate = state.gates[link.name] = Gate()
    state.order += 1
    heappush(gate.heap, (lane.first().order, state.order, lane.first(), lane))
    state.dirty_gates[link.name] = None


def _look_at_gate(state: State, name: str, now: int) -> None:
    """Let those who wait for an object take their turns, the eldest first, as far as it has room."""
    gate, link = state.gates.get(name), state.budgets.get(name)
    if gate is None:
        return
    while (waiter := _eldest(gate)) is not None:
        lane = gate.heap[0][3]
        leaf = state.budgets[waiter.leaf]
        if not lane.gated:
            return  # it is kept for him
        blocked = _blocked(state, state.path_of(leaf, waiter.also), waiter, now)
        if blocked is not None and blocked is link:
            when = ready_at(link, waiter.amounts, now)
            if when is not None and when > now and (not gate.alarm_at or when < gate.alarm_at):
                gate.alarm_at = when
                heappush(state.alarms, (when, name, True))
            return
        if blocked is not None:
            heappop(gate.heap)
            _gate(state, blocked, lane)
            continue
        leaf.line.admit(lane, now)
        state.look_at(leaf)
        if now - waiter.since >= AGE_MS:
            gate.kept_for = waiter
            return
        heappop(gate.heap)
    del state.gates[name]


def rebuild(state: State, now: int) -> None:
    """The tree has changed: every offer is made anew, and every object looked at."""
    state.gates.clear()
    state.dirty_gates.clear()
    for budget in state.budgets.values():
        if budget.has_line:
            for child in list(budget.line.offers):
                budget.line.retract(child)
            for queue in budget.line.queues.values():
                for lane in queue.lanes.values():
                    _gate_again(state, budget, lane, now)
            state.look_at(budget)
    send_away_hopeless(state, now)


def _gate_again(state: State, leaf: Budget, lane: Lane, now: int) -> None:
    first = lane.first()
    path = state.path_of(leaf, first.also)
    blocked = _blocked(state, path, first, now) if path.links else None
    if blocked is not None:
        leaf.line.keep_back(lane)
        _gate(state, blocked, lane)
    elif lane.gated:
        leaf.line.admit(lane, now)
