"""After a loss: the journal has come back without entries that were acknowledged.

Leases may have been lost, and renewals of known ones. But nobody may believe in a lease for longer than the longest
time to live after he asked, which was before now. So:

- Nothing is granted until the longest time to live and the margin have passed (`recovering`), nor while an engine may
  go on with pages of a pool that it said something of before.
- Known leases count until then at least, since a renewal of theirs may be among what was lost.
- Whoever holds a lease that was lost declares it again, with the fence that it was given; it is adopted and counts.

A lease from the reserve is adopted as any other: it then counts beside the reserve, which refuses more.

An adopted lease can be renewed as any other. When the leases of a device together are more than it offers (which one
who declares what he never had can cause, and an old lease that had ended in what was lost), adopted ones are not
renewed after the recovery, so that it ends.
"""

from __future__ import annotations

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Command, Event, Fence, Outcome, Refuse, Reject
from bursar_gpu_manager import events
from bursar_gpu_manager.claiming import own
from bursar_gpu_manager.fitting import MAX_LEASES
from bursar_gpu_manager.holding import MAC, not_yours, unknown_lease
from bursar_gpu_manager.state import State


def recover(state: State, now: int) -> list[Event]:
    """The event that makes the state safe after a loss."""
    kept = max((pool.keep_ms for pool in state.pools.values()), default=0)
    return [(events.LOST, now, max(safe_at(state, now), now + kept + state.settings.margin_ms))]


def safe_at(state: State, since: int) -> int:
    return since + state.settings.max_ttl_ms + state.settings.margin_ms


def apply_lost(state: State, event: Event) -> None:
    _, now, until = event
    state.at = state.lost_at = now
    state.recovering_until = max(state.recovering_until, until)
    latest = now + state.settings.max_ttl_ms
    for key, lease in list(state.leases.items()):
        if lease.expires_at < latest:
            state.leases[key] = renewed = lease._replace(expires_at=latest)
            state.schedule(key, renewed)
    state.line.changed, state.line.look_at = True, state.recovering_until


def decide_redeclare(state: State, command: Command, now: int, fence: Fence) -> Outcome:
    body: wire.Redeclare = command.body
    key = body.lease
    lease = state.leases.get(key)
    if lease is not None:
        if lease.principal != command.principal:
            return not_yours(key)
        held = not lease.taken and now < lease.expires_at
        return Refuse(_reply(key, lease.ttl, held=held, adopted=False))
    if state.how_ended(key) is not None or now >= state.recovering_until:
        return Refuse(_reply(key, 0, held=False, adopted=False))
    if int(key.split(".", 1)[0]) >= fence[0]:
        return unknown_lease(key)
    if body.fence[:-MAC] != key:
        return Reject("bad_fence", f"The fence is not that of lease {key}.", {"lease": key})
    if not _plausible(state, body):
        return Reject("not_plausible", "No such lease can have been granted.", {"lease": key})
    ttl = min(body.ttl_ms, state.settings.max_ttl_ms)
    shares = [(share.device, share.memory) for share in body.devices]
    processes = own(state, command.principal, shares, ((process.pid, process.started) for process in body.processes))
    more = (body.purpose, body.note, False, body.group, (), ())
    event = (events.ADOPTED, now, key, command.principal, ttl, now + ttl, shares, processes, *more)
    return Accept([event], _reply(key, ttl, held=True, adopted=True))


def _plausible(state: State, body: wire.Redeclare) -> bool:
    """Whether each device could hold it. One that the ledger does not know (any more) may have been lost, too."""
    names = [share.device for share in body.devices]
    if len(set(names)) != len(names):
        return False
    for share in body.devices:
        device = state.devices.get(share.device)
        if device is not None and (share.memory > device.total or len(device.leases) >= MAX_LEASES):
            return False
    return True


def _reply(key: str, ttl: int, *, held: bool, adopted: bool) -> dict[str, object]:
    return {"ok": True, "lease": key, "held": held, "adopted": adopted, "ttl_ms": ttl}
