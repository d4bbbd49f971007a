"""The limiter's decisions.

Agents share a provider's limits: requests, tokens in and out, calls in flight, money. Before a call an agent reserves
an estimate of all of them at once; after it, it settles what was really used. The promises:

1. No limit is exceeded in any window of the provider, as long as each permit is charged within J of its grant
   (`ledger` has the argument; `pacing.Burst` that for a provider with a small bucket).
2. All dimensions are taken, or none.
3. A reservation ends once: used, cancelled, or timed out, which counts as used (`lifecycle` has the table).
4. A refusal says what is in the way and when it will be gone: to the millisecond, when nobody stands in line before.
5. Who waits in line gets its turn, however large the request and however many others ask (`turns` has the bounds).
6. After a loss of acknowledged entries nothing is granted until all that they may have granted is over.

`decide` reads and `evolve` writes; the kernel journals in between. Waiting lines and counters of refusals are
volatile. Reserve-and-settle follows the two-phase charge of the charging protocols for telecommunication (RFC 8506).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bursar.contracts.limiter import Clock, Redeclare, Reload, Reserve, Settle, Status, Withdraw
from bursar.contracts.limiter_control import Adjust, Holders, Progress, Simulate
from bursar.contracts.rights import SetRights
from bursar.kernel.decider import Command, Event, Fence, Outcome
from bursar.kernel.rights import decide_rights, forbidden
from bursar_limiter import (
    adjusting,
    events,
    holding,
    progressing,
    recovery,
    reloading,
    reserving,
    settling,
    simulating,
    status,
    withdrawing,
)
from bursar_limiter.adapting_part import AdaptingPart
from bursar_limiter.conversions import CONVERSIONS
from bursar_limiter.evolve import APPLY
from bursar_limiter.leasing_part import LeasingPart
from bursar_limiter.parts import PARTS, Part
from bursar_limiter.spending import SpendingPart
from bursar_limiter.state import State
from bursar_limiter.storing import dump, load
from bursar_limiter.uses import USES


def plug_in(part: Part) -> None:
    """Make a part known to everything that asks `PARTS`."""
    PARTS.append(part)
    APPLY.update(part.apply)
    events.WORDS.update(part.words)


plug_in(AdaptingPart())
plug_in(LeasingPart())
plug_in(SpendingPart())


class LimiterDecider:
    """The `bursar.kernel.decider.Decider` of the limiter."""

    name = "limiter"
    version = 4
    conversions = CONVERSIONS

    def __init__(self) -> None:
        self._rules: dict[type, Callable[[State, Command, int, Fence], Outcome]] = {
            Reserve: reserving.decide_reserve,
            Settle: settling.decide_settle,
            settling.Expire: settling.decide_expire,
            Redeclare: recovery.decide_redeclare,
            Withdraw: withdrawing.decide_withdraw,
            Reload: reloading.decide_reload,
            reloading.LoadFile: reloading.decide_load_file,
            Status: status.decide_status,
            Clock: status.decide_clock,
            Progress: progressing.decide_progress,
            Adjust: adjusting.decide_adjust,
            Simulate: simulating.decide_simulate,
            Holders: holding.decide_holders,
            SetRights: decide_rights,
        }
        for part in PARTS:
            self._rules.update(part.rules)

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        if state.rights is not None and (refusal := forbidden(state.rights, command, USES)) is not None:
            return refusal
        return self._rules[type(command.body)](state, command, now, fence)

    def evolve(self, state: State, event: Event) -> None:
        APPLY[event[0]](state, event)

    def due(self, state: State, now: int) -> Command | None:
        """In this order: time-outs, who was sent away, heads of lines that fit, waiters whose deadline has come;
        what the parts have stands between."""
        state.handed = None
        expired = settling.next_expired(state, now)
        if expired is not None:
            return Command("", "", settling.Expire(expired))
        for part in PARTS:
            command = part.due(state, now)
            if command is not None:
                return command
        waiter = reserving.next_waiter(state, now)
        if waiter is None:
            return None
        state.handed = waiter
        return waiter.command

    def wake_at(self, state: State) -> int | None:
        """May be early (a time-out that was settled meanwhile): `due` then hands out nothing and moves it on."""
        if any(state.dirty) or state.dirty_gates or state.orphans:
            return 0
        times = [state.alarms[0][0]] if state.alarms else []
        if state.expiries:
            times.append(state.expiries[0][0])
        if state.deadlines:
            times.append(state.deadlines[0][0])
        times.extend(at for part in PARTS if (at := part.wake_at(state)) is not None)
        return max(0, min(times)) if times else None

    def recover(self, state: State, now: int) -> Sequence[Event]:
        return recovery.recover(state, now)

    def dump(self, state: State) -> Any:
        return dump(state)

    def load(self, value: Any) -> State:
        return load(value)

    def describe(self, event: Event) -> str:
        return events.in_words(event)
