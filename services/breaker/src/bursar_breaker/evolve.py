"""Applying events: the only writer of the durable state."""

from __future__ import annotations

from collections.abc import Callable

from bursar.kernel.decider import Event
from bursar.kernel.rights import RIGHTS, apply_rights
from bursar_breaker import events
from bursar_breaker.configuring import apply_rules
from bursar_breaker.opening import apply_later, apply_opened
from bursar_breaker.probing import apply_expired, apply_half_opened, apply_lent, apply_probed
from bursar_breaker.ramping import apply_closed, apply_ramped
from bursar_breaker.recovery import apply_kept_open, apply_lost
from bursar_breaker.state import State
from bursar_breaker.steering import apply_forced

APPLY: dict[str, Callable[[State, Event], None]] = {
    events.OPENED: apply_opened,
    events.LATER: apply_later,
    events.HALF_OPENED: apply_half_opened,
    events.RAMPED: apply_ramped,
    events.CLOSED: apply_closed,
    events.FORCED: apply_forced,
    events.KEPT_OPEN: apply_kept_open,
    events.LENT: apply_lent,
    events.PROBED: apply_probed,
    events.EXPIRED: apply_expired,
    events.RULES: apply_rules,
    events.LOST: apply_lost,
    RIGHTS: apply_rights,
}
