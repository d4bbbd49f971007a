"""Quotas that change while everything runs: an operator, or a controller, gives one budget, or one agent's share of it,
another weight or other limits. It holds from the next decision on and survives restarts, as everything durable does; a
later reload of all budgets replaces it.
"""

from __future__ import annotations

import json
from typing import Any

from bursar.contracts.limiter import BudgetSpec
from bursar.contracts.limiter_control import Adjust
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_limiter import events, reloading, tree
from bursar_limiter.settling import unknown_budget
from bursar_limiter.state import State


def decide_adjust(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Adjust = command.body
    budget = state.budgets.get(body.budget)
    if budget is None or not budget.is_offered:
        return unknown_budget(state, body.budget)
    spec = budget.spec
    if body.agent is not None:
        if spec.each_agent is None:
            facts = {"budget": budget.name}
            return Reject("no_agents", f"Budget {budget.name} gives agents no budgets of their own.", facts)
        spec = _of_agent(state, spec, body.agent)
    fields: dict[str, Any] = {"weight": body.weight, "limits": body.limits, "highest": body.highest}
    changed = spec.model_copy(update={name: value for name, value in fields.items() if value is not None})
    fault = tree.fault_of(changed)
    if fault is not None:
        return Reject("bad_budget", f"Budget {changed.name}: {fault}.", {"budget": changed.name})
    known = state.budgets.get(changed.name)
    reply = {"ok": True, "budget": changed.name, "weight": changed.weight}
    if known is not None and known.is_offered and known.spec == changed:
        return Refuse(reply)
    told = changed.model_dump(mode="json", exclude_defaults=True)
    return Accept([(events.ADJUSTED, now, command.principal, told)], reply)


def _of_agent(state: State, spec: BudgetSpec, agent: str) -> BudgetSpec:
    """The rules of one agent's budget, to be declared in its own right."""
    name = f"{spec.name}/{agent}"
    known = state.budgets.get(name)
    if known is not None and known.is_offered:
        return known.spec
    assert spec.each_agent is not None
    return tree.child_spec(spec, name, spec.each_agent).model_copy(update={"parent": spec.name})


def apply_adjusted(state: State, event: Event) -> None:
    _, now, _, told = event
    state.at = now
    reloading.replace_one(state, BudgetSpec.model_validate_json(json.dumps(told)), now)
