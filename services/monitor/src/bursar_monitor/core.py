"""The monitor's decisions.

The monitor sees everything and decides little: which alerts fire, which are over, what is silenced, what people are
notified of, how many workers there should be, and what it expects to be there. Those decisions are durable; what they
are made from is not, because it is made again by live traffic within seconds. The promises:

1. A sample counts once, however often and in whatever order it arrives (`samples`).
2. An alert fires when its evidence has held as long as its rule says, and ends when it has cleared for as long as its
   rule says (`track`); there is one alert per rule and subject (`alerting`, `lifecycle`).
3. Silence is no evidence: a monitor that was paused, or has just taken over, neither fires nor ends anything because
   of what it has not heard itself. What is expected is durable, so that what falls silent during a take-over is missed.
4. Silences and acknowledgements survive a take-over, and a silenced alert is told to nobody (`alerting`, `operating`).
5. Each number in the picture says how old it is, and a number that is not known is not shown as 0 (`picture`).
6. Alerts with one cause are one incident, told once with it; none is lost by a take-over (`incidents`, `causes`).
7. Ignorance takes no workers away (`scaling`, `hpa`).
8. No more of a host is leased than it has, and what is lent is back after a bounded time (`quotas`, `sharing`).

After Alertmanager (silences; told again what still fires) and the alerting rules of Prometheus (``for``,
``keep_firing_for``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bursar.contracts import monitor as wire
from bursar.contracts import monitor_quota as quota
from bursar.contracts.monitor_batch import HostBatch
from bursar.contracts.monitor_picture import Status
from bursar.kernel.decider import Command, Event, Fence, Outcome
from bursar_monitor import (
    alerting,
    balancing,
    events,
    evolve,
    incidents,
    objectives,
    observing,
    operating,
    picture,
    quotas,
    scaling,
)
from bursar_monitor.state import State, dump, load


class MonitorDecider:
    """The `bursar.kernel.decider.Decider` of the monitor."""

    name = "monitor"
    version = 3

    def __init__(self) -> None:
        self._rules: dict[type, Callable[[State, Command, int, Fence], Outcome]] = {
            wire.HostSample: observing.decide_sample,
            HostBatch: observing.decide_batch,
            observing.Swept: observing.decide_swept,
            observing.Polled: observing.decide_polled,
            alerting.Look: alerting.decide_look,
            alerting.Tell: alerting.decide_tell,
            alerting.EndSilence: alerting.decide_end_silence,
            alerting.Expect: alerting.decide_expect,
            alerting.Drop: alerting.decide_drop,
            objectives.Count: objectives.decide_count,
            incidents.Gather: incidents.decide_gather,
            incidents.Notify: incidents.decide_notify,
            incidents.Delivered: incidents.decide_delivered,
            scaling.Scale: scaling.decide_scale,
            scaling.Demanded: scaling.decide_demanded,
            wire.Took: observing.decide_took,
            wire.Silence: operating.decide_silence,
            wire.Unsilence: operating.decide_unsilence,
            wire.Acknowledge: operating.decide_acknowledge,
            wire.Forget: operating.decide_forget,
            wire.SetRules: operating.decide_set_rules,
            operating.LoadRules: operating.decide_load_rules,
            quota.HostLease: quotas.decide_lease,
            quota.RenewHost: quotas.decide_renew,
            quota.ReleaseHost: quotas.decide_release,
            quota.SetQuota: quotas.decide_set_quota,
            quota.HostPlanQuery: quotas.decide_plan,
            balancing.Expire: balancing.decide_expire,
            balancing.Balance: balancing.decide_balance,
            Status: picture.decide_status,
        }

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        return self._rules[type(command.body)](state, command, now, fence)

    def evolve(self, state: State, event: Event) -> None:
        evolve.apply(state, event)

    def due(self, state: State, now: int) -> Command | None:
        return alerting.due(state, now)

    def wake_at(self, state: State) -> int | None:
        return alerting.wake_at(state)

    def recover(self, state: State, now: int) -> Sequence[Event]:
        """No lease of a host before those that may be lost are over; what may have been missed is told again."""
        return [(events.LOST, now)]

    def dump(self, state: State) -> Any:
        return dump(state)

    def load(self, value: Any) -> State:
        return load(value)

    def describe(self, event: Event) -> str:
        return events.in_words(event)
