"""The rules that an operator may change, and those that come from the settings of the process."""

from __future__ import annotations

import hashlib
from typing import Any

from bursar.contracts.base import Message
from bursar.contracts.scheduler import Configure, Share
from bursar.kernel.decider import Accept, Command, Fence, Outcome, Reject
from bursar_scheduler import events
from bursar_scheduler.state import State
from bursar_scheduler.task import Config


class ConfigureFromSettings(Message):
    """Internal: the rules of the settings; they are applied once, so that a restart does not undo an operator's."""

    rules: dict[str, int | str]


def source_of(rules: dict[str, int | str]) -> str:
    """What these rules are known by."""
    return hashlib.blake2b(repr(sorted(rules.items())).encode(), digest_size=8).hexdigest()


def decide_configure(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Configure = command.body
    changed = {name: value for name in Config._fields if (value := getattr(body, name)) is not None}
    return _configured(state, changed, now, "")


def decide_settings(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    rules = command.body.rules
    return _configured(state, rules, now, source_of(rules))


def decide_share(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """Weights and quotas hold at once; who borrows more than it may now gives back with its ends."""
    body: Share = command.body
    team, agent = body.team or "", body.agent or ""
    if not team and not agent:
        return Reject("bad_request", "a share is a team's or an agent's", {})
    account = state.ledger.agents.get((team, agent)) if agent else state.ledger.teams.get(team)
    event = (events.SHARED, now, team, agent, body.weight, body.slots, body.borrow, body.lend)
    running = 0 if account is None else account.running
    return Accept([event], {"ok": True, "team": body.team, "agent": body.agent, "running": running})


def _configured(state: State, changed: dict[str, Any], now: int, source: str) -> Accept:
    rules = {**state.config._asdict(), **changed}
    return Accept([(events.CONFIGURED, now, source, rules)], {"ok": True, "config": rules})
