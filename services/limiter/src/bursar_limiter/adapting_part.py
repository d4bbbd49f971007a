"""What is learned from the provider, as a part of the limiter: freezes, learned limits, foreign use, the paces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bursar.contracts.breaker import BudgetShare
from bursar.contracts.limiter_observed import RateLimited, Seen, Thaw
from bursar.kernel.decider import Command, Event
from bursar_limiter import adapting, adapting_seen, adapting_share, freezing
from bursar_limiter import adapting_events as events
from bursar_limiter.adapting_state import NEVER
from bursar_limiter.parts import Part, Rule
from bursar_limiter.state import State


class AdaptingPart(Part):
    """See `freezing`, `adapting_seen`, `adapting_share` and `adapting`."""

    name = "adapting"
    rules: Mapping[type, Rule] = {
        RateLimited: freezing.decide_rate_limited,
        Thaw: freezing.decide_thaw,
        Seen: adapting_seen.decide_seen,
        BudgetShare: adapting_share.decide_share,
        adapting.Look: adapting.decide_look,
    }
    apply: Mapping[str, Callable[[State, Event], None]] = {
        events.FROZEN: freezing.apply_frozen,
        events.THAWED: freezing.apply_thawed,
        events.LEARNED: adapting_seen.apply_learned,
        events.FOREIGN: adapting_seen.apply_foreign,
        events.TUNED: adapting.apply_tuned,
        events.SHARED: adapting_share.apply_shared,
    }
    words: Mapping[str, Callable[..., str]] = events.WORDS

    def dump(self, state: State) -> Any:
        return state.adapting.dump()

    def load(self, state: State, value: Any) -> None:
        state.adapting.load(value)
        adapting.find_ramps(state)
        adapting_seen.find_learned(state)

    def due(self, state: State, now: int) -> Command | None:
        if now < state.adapting.look_at or not adapting.is_active(state):
            return None
        state.adapting.look_at = now + adapting.LOOK_MS + len(state.standing) // adapting.PER_LINE
        return Command("", "", adapting.Look())

    def wake_at(self, state: State) -> int | None:
        return state.adapting.look_at if adapting.is_active(state) else None

    def reloaded(self, state: State, now: int) -> None:
        state.adapting.keep(state.budgets)
        adapting.find_ramps(state)
        adapting_seen.find_learned(state)

    def refused(self, state: State, budget: str) -> None:
        state.adapting.refused[budget] = None

    def validate(self, state: State, now: int) -> None:
        for name, adapted in state.adapting.budgets.items():
            assert name in state.budgets, f"{name} is adapted and not there"
            assert all(had.left >= 0 for had in adapted.allowances.values()), f"{name}: an allowance below zero"
        for budget in state.budgets.values():
            for meter in budget.meters:
                assert 1 <= meter.limit <= meter.ceiling, f"{budget.name}: a limit above the configured one"
                ceiling = meter.ceiling * 1000
                assert meter.rate <= ceiling or not meter.unit, f"{budget.name}: a pace above the limit"
                assert meter.frozen_until < NEVER, f"{budget.name}: frozen for ever"
