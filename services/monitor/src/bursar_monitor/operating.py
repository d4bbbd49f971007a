"""What operators ask for: silences, acknowledgements, other rules, and to forget what is gone for good."""

from __future__ import annotations

import hashlib
import json

from bursar.contracts.base import Message
from bursar.contracts.monitor import Acknowledge, Forget, SetRules, Silence, Unsilence
from bursar.contracts.monitor_policy import Rule, Slo
from bursar.contracts.monitor_scaling import Policy, Scaler
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_monitor import events
from bursar_monitor.alerting import changed
from bursar_monitor.lifecycle import FORGOTTEN
from bursar_monitor.state import MAX_SILENCES, UNTOLD, State
from bursar_monitor.state import Silence as Kept


class LoadRules(Message):
    """Internal, at the start: what the file of rules says, unless this content of it was loaded before (so that a
    restart does not undo what an operator has set since)."""

    policy: Policy


def decide_silence(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Silence = command.body
    if len(state.silences) >= MAX_SILENCES:
        return Reject("too_many", f"There are {MAX_SILENCES} silences; end some first.", {})
    name = ".".join(map(str, fence))
    made = Kept(body.rule or "", body.subject, now + body.for_ms, command.principal, body.reason)
    muted = sum(made.covers(alert.rule, alert.subject) for alert in state.alerts.values())
    event = (events.SILENCED, now, name, *made)
    return Accept([event], {"ok": True, "silence": name, "until_ms": made.until, "muted": muted})


def decide_unsilence(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Unsilence = command.body
    if body.silence not in state.silences:
        return Reject("unknown", f"There is no silence {body.silence} (any more).", {"silence": body.silence})
    return Accept([(events.UNSILENCED, now, body.silence, "lifted")], {"ok": True, "silence": body.silence})


def decide_acknowledge(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: Acknowledge = command.body
    alert = state.alerts.get(body.alert)
    if alert is None:
        return Reject("unknown", f"There is no alert {body.alert} that fires.", {"alert": body.alert})
    reply = {"ok": True, "alert": body.alert}
    if alert.acknowledged_by:
        return Refuse({**reply, "by": alert.acknowledged_by, "at_ms": alert.acknowledged_at})
    event = (events.ACKNOWLEDGED, now, body.alert, command.principal, body.note)
    return Accept([event], {**reply, "by": command.principal, "at_ms": now})


def decide_forget(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    """What fires about it is over with that, and who was told of it is told so."""
    body: Forget = command.body
    if (body.kind, body.name) not in state.known:
        return Reject("unknown", f"No {body.kind} {body.name} is known.", {"kind": body.kind, "name": body.name})
    over = {key: alert for key, alert in state.alerts.items() if _is_about(alert.subject, body)}
    ends: list[Event] = [(events.RESOLVED, now, key, FORGOTTEN) for key in over]
    told = [changed(state, key, alert, now, FORGOTTEN) for key, alert in over.items() if alert.told != UNTOLD]
    reply = {"ok": True, "kind": body.kind, "name": body.name}
    return Accept([(events.DROPPED, now, body.kind, body.name), *ends], reply, told)


def _is_about(subject: str, body: Forget) -> bool:
    """A host's alerts are those about itself and about its devices."""
    return subject == body.name or (body.kind == "host" and subject.startswith(f"{body.name}/"))


def decide_set_rules(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: SetRules = command.body
    given = {
        name: value
        for name in ("slos", "inhibitions", "grouping", "scalers", "costs")
        if (value := getattr(body, name)) is not None
    }
    return _replace(state, state.policy.model_copy(update={"rules": body.rules, **given}), "", now)


def decide_load_rules(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    policy: Policy = command.body.policy
    source = digest(policy)
    if source == state.source:
        return Refuse({"ok": True, "added": [], "changed": [], "removed": []})
    return _replace(state, policy, source, now)


def _replace(state: State, policy: Policy, source: str, now: int) -> Outcome:
    fault = fault_of(policy)
    if fault is not None:
        return Reject("bad_request", fault[1], {"name": fault[0]})
    wanted, before = _named(policy), _named(state.policy)
    reply = {
        "ok": True,
        "added": [name for name in wanted if name not in before],
        "changed": [name for name, item in wanted.items() if name in before and before[name] != item],
        "removed": [name for name in before if name not in wanted],
    }
    return Accept([(events.RULES, now, source, policy.model_dump(mode="json"))], reply)


def _named(policy: Policy) -> dict[str, Rule | Slo | Scaler]:
    """Rules, objectives and scalers by name."""
    items: list[Rule | Slo | Scaler] = [*policy.rules, *policy.slos, *policy.scalers]
    return {item.name: item for item in items}


def fault_of(policy: Policy) -> tuple[str, str] | None:
    """The name of what cannot be, and why; None when everything can."""
    items: list[Rule | Slo | Scaler] = [*policy.rules, *policy.slos, *policy.scalers]
    seen: set[str] = set()
    for item in items:
        if item.name in seen:
            return item.name, f"Two rules, objectives or scalers have the name {item.name}."
        seen.add(item.name)
    for rule in policy.rules:
        if rule.clears_below > rule.at_least:
            return rule.name, f"Rule {rule.name} would clear above its limit."
    for slo in policy.slos:
        if slo.low is None and slo.high is None:
            return slo.name, f"Objective {slo.name} has no bound."
        if slo.low is not None and slo.high is not None and slo.low > slo.high:
            return slo.name, f"The band of objective {slo.name} is upside down."
    for one in policy.inhibitions:
        if one.source == one.target:
            return one.source, f"Rule {one.source} would inhibit itself."
    reference = policy.costs.reference
    if reference is not None and reference not in {price.name for price in policy.costs.prices}:
        return reference, f"There is no price {reference} to compare with."
    return next((fault for scaler in policy.scalers if (fault := _fault_of_scaler(scaler)) is not None), None)


def _fault_of_scaler(scaler: Scaler) -> tuple[str, str] | None:
    if scaler.least > scaler.most:
        return scaler.name, f"Scaler {scaler.name} has a least number above the most."
    if scaler.busy_permille is None and scaler.waiting_each is None:
        return scaler.name, f"Scaler {scaler.name} looks at nothing."
    return None


def digest(policy: Policy) -> str:
    """Names the content of a file of rules."""
    text = json.dumps(policy.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
