"""Replacing the rules. Circuits keep their states and times; windows begin anew: they were kept by other rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from bursar.contracts.base import Message
from bursar.contracts.breaker import Configure, Rule
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_breaker import events
from bursar_breaker.rules import Rules, fault_of, load_rules
from bursar_breaker.state import State

DEFAULT_NAME = "default"


class LoadFile(Message):
    """Internal, at the start: the rules of the file, unless this content of the file was loaded before (so that a
    restart does not undo what an operator has configured since)."""

    rules: tuple[Rule, ...]


def decide_configure(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Configure = command.body
    fault = fault_of(body.rules)
    if fault is not None:
        return Reject("bad_rule", f"The rules cannot be used: {fault}.")
    return _accept(state, body.rules, "", now)


def decide_load_file(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: LoadFile = command.body
    source = digest(body.rules)
    return Refuse({}) if source == state.source else _accept(state, body.rules, source, now)


def _accept(state: State, given: Sequence[Rule], source: str, now: int) -> Outcome:
    rules = Rules(given)
    reply = _difference(state.rules, rules)
    if not source and not any(reply[key] for key in ("added", "changed", "removed")):
        return Refuse(reply)
    quiet_until = state.quiet_until
    if state.lost_at >= 0:  # probes that were lost may have been given under these rules
        quiet_until = max(quiet_until, state.lost_at + rules.longest_probe_ms)
    return Accept([(events.RULES, now, source, rules.dump(), quiet_until)], reply)


def _difference(before: Rules, after: Rules) -> dict[str, Any]:
    old, new = _by_name(before.all), _by_name(after.all)
    return {
        "ok": True,
        "added": [name for name in new if name not in old],
        "changed": [name for name in new if name in old and new[name] != old[name]],
        "removed": [name for name in old if name not in new],
    }


def _by_name(rules: Iterable[Rule]) -> dict[str, Rule]:
    return {rule.target or DEFAULT_NAME: rule for rule in rules}


def digest(rules: Iterable[Rule]) -> str:
    """What the content of a file of rules is known by."""
    plain = [rule.model_dump(mode="json") for rule in rules]
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=12).hexdigest()


def apply_rules(state: State, event: Event) -> None:
    _, now, source, rules, quiet_until = event
    state.at = now
    state.rules = load_rules(rules)
    state.source = source or state.source
    state.quiet_until = quiet_until
    state.windows.clear()
    state.pending.clear()
