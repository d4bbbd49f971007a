"""The GPU manager's decisions.

Agents share the memory of GPUs. The driver grants it to whoever asks first and fails the next one in the middle of
its work; so an agent leases memory before it loads anything. The promises:

1. The leases on a device never come to more than it has: sum over leases of max(grant, observed) + foreign + what the
   driver keeps + the emergency reserve <= total, when a lease is granted, in whole bytes (`admission`).
2. A set of devices is granted together, or not at all.
3. A lease is durable before it is told, ends at a known time unless it is renewed, and its fence is higher than that
   of any lease before it. Memory is granted again only when its holder must have stopped: after the time to live, a
   margin, and a report from after that.
4. What is not known is not granted: without a fresh report of a device there are no new leases on it; those that
   there are stay as they are.
5. A device that is lost ends the leases on it, and the holders are told. Memory that such a lease may still use on
   a device that comes back counts until the holder must have stopped.
6. After a loss of acknowledged entries nothing is granted until all that they may have granted has ended (`recovery`).

7. Foreign memory that grows, and leases that are used beyond what was granted, count at once and are told to all
   (`alarming`). The emergency reserve goes to operators only, and nothing else can touch it.

Against a process that asks nobody no manager in user space can promise anything; the reserve is there to absorb its
growth until the next report, from when on it counts.

`decide` reads and `evolve` writes; the kernel journals in between. Reports, the line and some counters are volatile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_advice as advice
from bursar.contracts import gpu_cache as cache
from bursar.contracts import gpu_kv as kv
from bursar.contracts import gpu_moves as moves
from bursar.contracts.rights import SetRights
from bursar.kernel.decider import Command, Event, Fence, Outcome, Reject
from bursar.kernel.rights import decide_rights
from bursar_gpu_manager import (
    advising,
    alarming,
    caching,
    defragmenting,
    enforcing,
    events,
    explaining,
    holding,
    kv_sharing,
    leasing,
    observing,
    operating,
    pacing,
    recovery,
    ruling,
    status,
)
from bursar_gpu_manager.bugs import NAMES as SEEDED_BUGS  # noqa: F401 - importing declares them
from bursar_gpu_manager.conversions import CONVERSIONS
from bursar_gpu_manager.evolve import APPLY
from bursar_gpu_manager.state import State, dump, load
from bursar_gpu_manager.waiting import RuledLease


class GpuDecider:
    """The `bursar.kernel.decider.Decider` of the GPU manager."""

    name = wire.SERVICE
    version = 9
    conversions = CONVERSIONS

    def __init__(self) -> None:
        self._rules: dict[type, Callable[[State, Command, int, Fence], Outcome]] = {
            wire.Lease: leasing.decide_lease,
            wire.Emergency: leasing.decide_lease,
            wire.Renew: holding.decide_renew,
            wire.Release: holding.decide_release,
            wire.Redeclare: recovery.decide_redeclare,
            wire.Status: status.decide_status,
            wire.Explain: explaining.decide_explain,
            wire.Holdings: enforcing.decide_holdings,
            moves.Movable: defragmenting.decide_movable,
            moves.Move: defragmenting.decide_move,
            moves.Fragmentation: defragmenting.decide_fragmentation,
            advice.Startup: advising.decide_startup,
            advice.Advise: advising.decide_advise,
            advice.Pace: pacing.decide_pace,
            advice.Tune: advising.decide_tune,
            advice.TuneStep: advising.decide_tune_step,
            advice.TuneWindow: advising.decide_tune_window,
            advising.Lapse: advising.decide_lapse,
            cache.CacheWant: caching.decide_want,
            kv.KvOpen: kv_sharing.decide_open,
            kv.KvJoin: kv_sharing.decide_join,
            kv.KvPages: kv_sharing.decide_pages,
            kv.KvLeave: kv_sharing.decide_leave,
            kv.KvStatus: kv_sharing.decide_status,
            kv_sharing.Lapse: kv_sharing.decide_lapse,
            cache.CacheKeep: caching.decide_keep,
            cache.CacheLoaded: caching.decide_loaded,
            cache.CacheFailed: caching.decide_failed,
            cache.CacheLeave: caching.decide_leave,
            cache.CacheGone: caching.decide_gone,
            cache.CacheWhere: caching.decide_where,
            cache.CachePin: caching.decide_pin,
            cache.CacheBound: caching.decide_bound,
            caching.CacheLook: caching.decide_look,
            wire.Cordon: operating.decide_cordon,
            wire.Uncordon: operating.decide_cordon,
            wire.Drop: operating.decide_drop,
            wire.Forget: operating.decide_forget,
            wire.Configure: operating.decide_configure,
            operating.Adopt: operating.decide_adopt,
            wire.Report: observing.decide_report,
            observing.Announce: observing.decide_announce,
            observing.Silence: observing.decide_silence,
            alarming.Alarm: alarming.decide_alarm,
            defragmenting.MakePlan: defragmenting.decide_plan,
            defragmenting.MakeMove: defragmenting.decide_step,
            holding.Expire: holding.decide_expire,
            RuledLease: leasing.decide_lease,
            SetRights: decide_rights,
        }

    def initial(self) -> State:
        return State()

    def decide(self, state: State, command: Command, now: int, fence: Fence) -> Outcome:
        if state.rights is not None:
            ruled = ruling.ruled(state, state.rights, command)
            if isinstance(ruled, Reject):
                return ruled
            command = ruled
        return self._rules[type(command.body)](state, command, now, fence)

    def evolve(self, state: State, event: Event) -> None:
        APPLY[event[0]](state, event)

    def due(self, state: State, now: int) -> Command | None:
        """In this order: what reports have changed, what there is to be alarmed of, hosts that are silent, leases that
        end, what the cache has to look at, moves, who stands in line."""
        return (
            observing.next_announced(state)
            or alarming.next_alarm(state, now)
            or observing.next_silent(state, now)
            or holding.next_expired(state, now)
            or caching.next_look(state, now)
            or defragmenting.next_move(state, now)
            or advising.next_lapse(state, now)
            or kv_sharing.next_lapse(state, now)
            or leasing.next_waiter(state, now)
        )

    def wake_at(self, state: State) -> int | None:
        """May be early: `due` then hands out nothing and moves it on."""
        times = []
        if state.hosts:
            times.append(max(0, state.scanned_at + observing.SCAN_MS))
        if state.agenda:
            times.append(holding.freed_at(state, state.agenda[0][0]))
        times += [
            at
            for at in (
                leasing.look_again_at(state),
                alarming.look_at(state),
                defragmenting.look_at(state),
                state.rollouts.wake_at,
                caching.wake_at(state),
                kv_sharing.look_at(state),
            )
            if at is not None
        ]
        return max(0, min(times)) if times else None

    def recover(self, state: State, now: int) -> Sequence[Event]:
        return recovery.recover(state, now)

    def dump(self, state: State) -> Any:
        return dump(state)

    def load(self, value: Any) -> State:
        return load(value)

    def describe(self, event: Event) -> str:
        return events.in_words(event)
