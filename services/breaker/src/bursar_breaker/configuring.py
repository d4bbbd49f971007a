"""Replacing the rules. Circuits keep their states and times; windows begin anew: they were kept by other rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from bursar.contracts.base import Message
from bursar.contracts.breaker import Configure, Group, Rule, group_target
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_breaker import events
from bursar_breaker.rules import Rules, fault_of, load_rules
from bursar_breaker.state import State

DEFAULT_NAME = "default"


class LoadFile(Message):
    """Internal, at the start: the rules of the file, unless this content of the file was loaded before (so that a
    restart does not undo what an operator has configured since)."""

    rules: tuple[Rule, ...]
    groups: tuple[Group, ...] = ()


def decide_configure(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Configure = command.body
    fault = fault_of(body.rules, body.groups)
    if fault is not None:
        return Reject("bad_rule", f"The rules cannot be used: {fault}.")
    return _accept(state, Rules(body.rules, body.groups), "", now)


def decide_load_file(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: LoadFile = command.body
    source = digest(body.rules, body.groups)
    return Refuse({}) if source == state.source else _accept(state, Rules(body.rules, body.groups), source, now)


def _accept(state: State, rules: Rules, source: str, now: int) -> Outcome:
    reply = _difference(state.rules, rules)
    if not source and not any(reply[key] for key in ("added", "changed", "removed")):
        return Refuse(reply)
    quiet_until = state.quiet_until
    if state.lost_at >= 0:  # probes that were lost may have been given under these rules
        quiet_until = max(quiet_until, state.lost_at + rules.longest_probe_ms)
    return Accept([(events.RULES, now, source, rules.dump(), quiet_until)], reply)


def _difference(before: Rules, after: Rules) -> dict[str, Any]:
    old, new = _by_name(before), _by_name(after)
    return {
        "ok": True,
        "added": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "removed": [name for name in old if name not in new],
    }


def _by_name(rules: Rules) -> dict[str, Any]:
    """Rules and groups by what they are for."""
    groups = {group_target(name): members for name, members in rules.groups.items()}
    named = {rule.target or DEFAULT_NAME: rule for rule in rules.all}
    return {name: (named.get(name), groups.get(name)) for name in (*named, *(n for n in groups if n not in named))}


def digest(rules: Iterable[Rule], groups: Iterable[Group]) -> str:
    """What the content of a file of rules is known by."""
    plain = [[one.model_dump(mode="json") for one in some] for some in (rules, groups)]
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=12).hexdigest()


def apply_rules(state: State, event: Event) -> None:
    _, now, source, rules, quiet_until = event
    state.at = now
    state.govern(load_rules(rules))
    state.edition += 1
    state.source = source or state.source
    state.quiet_until = quiet_until
