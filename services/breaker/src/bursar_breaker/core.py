"""The registry's decisions.

Agents call targets that fail now and then. Each sees little; together they see soon and surely that a target is down.
They report what they saw, the registry keeps the window of the whole fleet, and when a target is down it says so to
everybody: one verdict, which each agent looks up in its own memory. The promises:

1. One bad reporter trips nothing while others succeed; a fleet of one can trip (`judging`).
2. Every change is durable before anybody hears of it, has the next revision, and is one of the table (`lifecycle`).
3. At most ``probes`` permits to try a half-open target are out in the whole fleet, through crashes and loss of data;
   a prober that dies holds nobody up (`probing`).
4. An open circuit stays open through crashes until its time is over; the later deadline wins (`reporting`).
5. Orders of operators hold until another order (`steering`).
6. What agents report is bounded in memory and cannot drive out what others report (`evidence`).

`decide` reads and `evolve` writes; the kernel journals in between. Windows of reports are volatile: after a take-over
they begin empty and fill again from live traffic.

After: Nygard, "Release It!" (2007); the rates and the half-open permits of resilience4j; generations as in gobreaker;
the quorum that Polly's issue 287 asks for; probe permits with an end, which several published breakers lack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bursar.contracts.breaker import (
    Annotate,
    Configure,
    Disable,
    Explain,
    ForceClose,
    ForceOpen,
    MetricsOnly,
    Probe,
    Probed,
    Release,
    Report,
    Reset,
    Settings,
    Snapshot,
    Status,
)
from bursar.contracts.rights import SetRights
from bursar.kernel.decider import Command, Event, Fence, Outcome
from bursar.kernel.rights import decide_rights, forbidden
from bursar_breaker import (
    configuring,
    events,
    explaining,
    opening,
    probing,
    ramping,
    recovery,
    reporting,
    steering,
    telling,
    timing,
)
from bursar_breaker.conversions import CONVERSIONS
from bursar_breaker.evolve import APPLY
from bursar_breaker.state import State, dump, load
from bursar_breaker.uses import USES

_ORDERS = (ForceOpen, ForceClose, Disable, MetricsOnly, Release, Reset, Annotate)


class BreakerDecider:
    """The `bursar.kernel.decider.Decider` of the circuit breaker registry."""

    name = "breaker"
    version = 3
    conversions = CONVERSIONS

    def __init__(self) -> None:
        self._rules: dict[type, Callable[[State, Command, int, Fence], Outcome]] = {
            Report: reporting.decide_report,
            reporting.Trip: opening.decide_trip,
            reporting.Postpone: opening.decide_postpone,
            Probe: probing.decide_probe,
            Probed: probing.decide_probed,
            probing.Expire: probing.decide_expire,
            probing.HalfOpen: probing.decide_half_open,
            ramping.Step: ramping.decide_step,
            Snapshot: telling.decide_snapshot,
            Settings: telling.decide_settings,
            Status: telling.decide_status,
            Explain: explaining.decide_explain,
            **dict.fromkeys(_ORDERS, steering.decide_steer),
            steering.OrderOver: steering.decide_order_over,
            Configure: configuring.decide_configure,
            configuring.LoadFile: configuring.decide_load_file,
            SetRights: decide_rights,
        }

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        if state.rights is not None and (refusal := forbidden(state.rights, command, USES)) is not None:
            return refusal
        return self._rules[type(command.body)](state, command, now, fence)

    def evolve(self, state: State, event: Event) -> None:
        APPLY[event[0]](state, event)

    def due(self, state: State, now: int) -> Command | None:
        """In this order: what reports have made due, then whose time is over."""
        body = reporting.next_due(state) or timing.next_due(state, now)
        return None if body is None else Command("", "", body)

    def wake_at(self, state: State) -> int | None:
        """May be early (a permit that was reported meanwhile): `due` then hands out nothing and moves it on."""
        if state.pending:
            return 0
        return state.agenda[0][0] if state.agenda else None

    def recover(self, state: State, now: int) -> Sequence[Event]:
        return recovery.recover(state, now)

    def dump(self, state: State) -> Any:
        return dump(state)

    def load(self, value: Any) -> State:
        return load(value)

    def describe(self, event: Event) -> str:
        return events.in_words(event)
