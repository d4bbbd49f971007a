"""The manager under any history, against what is true on the simulated cards.

Holders behave: they allocate no more than they were granted, while they believe in the lease, and stop at its end; or
they vanish, and what they had comes back late. Strangers ask nobody, and take no more than nobody was promised plus the
reserve, which is there for them. Cards fall off and come back, probes are silent, owners are replaced. Then, whatever
the manager believes, no holder's allocation may ever fail, and no ordinary lease may reach into the reserve.

In the end, when everybody has left, everything that there is must be granted again within a bounded time.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Refuse
from bursar_gpu_manager.simulated import GIB
from tests.gpu_manager.desk import Desk

pytestmark = pytest.mark.property

MIB = 1024**2
RESERVE = wire.DEFAULT_RESERVE
HOSTS = ("h1=2x16GiB", "h2=RTX4070+1x8GiB")
sizes = st.sampled_from([256 * MIB, GIB, 3 * GIB, 4 * GIB, 7 * GIB, 8 * GIB - RESERVE, 16 * GIB - RESERVE])
hosts = st.sampled_from(["h1", "h2"])


@dataclass
class Holder:
    """``until``: when it stops at the latest, by its own belief."""

    lease: str
    host: str
    pid: int
    shares: dict[str, int]
    until: int
    urgent: bool


class Truth(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(*HOSTS, now=1_000)
        self.holders: list[Holder] = []
        self.strangers: dict[str, int] = {}
        self.latest: tuple[int, ...] = (0, 0, 0)
        self.report()

    def report(self) -> None:
        for host in self.desk.hosts:
            self.desk.observe(host)

    def draw_one(self, data: st.DataObject) -> Holder:
        return self.holders[data.draw(st.integers(0, len(self.holders) - 1))]

    # ---- what happens

    @rule(ms=st.integers(1, 1_500), silent=st.sampled_from([(), (), ("h1",), ("h1", "h2")]))
    def time_passes(self, ms: int, silent: tuple[str, ...]) -> None:
        """Who does not believe in its lease any more has stopped before."""
        until = self.desk.now + ms
        while self.desk.now < until:
            step = min(200, until - self.desk.now)
            for holder in [one for one in self.holders if one.until <= self.desk.now + step]:
                self.stop(holder, 0)
            self.desk.advance(step)
            for host in self.desk.hosts:
                self.desk.hosts[host].advance(step)
                if host not in silent:
                    self.desk.observe(host)

    @rule(
        memory=sizes,
        count=st.sampled_from([1, 1, 2]),
        ttl=st.sampled_from([600, 3_000, 20_000]),
        purpose=st.sampled_from(["weights", "kv_cache", "loading"]),
        urgent=st.sampled_from([False, False, True]),
    )
    def ask(self, memory: int, count: int, ttl: int, purpose: wire.Purpose, urgent: bool) -> None:
        started = {name: host.start() for name, host in self.desk.hosts.items()}
        named = tuple(wire.Process(pid=pid, started=at) for pid, at in started.values())
        kind = wire.Emergency if urgent else wire.Lease
        body = kind(id=self.desk.new_id(), memory=memory, devices=count, ttl_ms=ttl, purpose=purpose, processes=named)
        outcome = self.desk.ask(body, "ops" if urgent else "agent")
        if isinstance(outcome, Refuse):
            return
        assert isinstance(outcome, Accept)
        lease = outcome.reply["lease"]
        numbers = tuple(int(part) for part in lease.split("."))
        assert numbers > self.latest, "a fence was used again"
        self.latest = numbers
        shares = {row["uuid"]: row["memory"] for row in outcome.reply["devices"]}
        host = outcome.reply["devices"][0]["host"]
        assert len(shares) == count
        self.holders.append(Holder(lease, host, started[host][0], shares, self.desk.now + ttl, urgent))
        for uuid in shares:
            self.no_promise_is_too_much(host, uuid, 0 if urgent else RESERVE)

    def no_promise_is_too_much(self, host: str, uuid: str, kept: int) -> None:
        """Everything that was promised, with what others really have, fits. An ordinary lease leaves the reserve as it
        is; an emergency takes from it, also when strangers have taken of it before."""
        device = self.desk.hosts[host].devices[uuid]
        mine = [one for one in self.holders if one.host == host and uuid in one.shares]
        of_holders = sum(device.memory.get(one.pid, 0) for one in mine)
        others = device.used - of_holders
        promised = sum(max(one.shares[uuid], device.memory.get(one.pid, 0)) for one in mine)
        urgent = sum(one.shares[uuid] for one in mine if one.urgent)
        assert promised + others + device.reserved + max(0, kept - urgent) <= device.total, "oversubscribed"
        assert urgent <= RESERVE

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), part=st.sampled_from([1, 2, 4]))
    def load(self, data: st.DataObject, part: int) -> None:
        """Some of what it was granted, or all that is left: this must never fail."""
        holder = self.draw_one(data)
        uuid = data.draw(st.sampled_from(sorted(holder.shares)))
        host = self.desk.hosts[holder.host]
        device = host.devices[uuid]
        if not device.lost:
            left = holder.shares[uuid] - device.memory.get(holder.pid, 0)
            host.allocate(holder.pid, uuid, left // part)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), lag=st.sampled_from([0, 700, 4_000]))
    def release(self, data: st.DataObject, lag: int) -> None:
        """Frees the memory (the driver may take a while), and says so."""
        holder = self.draw_one(data)
        self.stop(holder, lag)
        self.desk.release(holder.lease, "ops" if holder.urgent else "agent")

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), lag=st.sampled_from([0, 700]))
    def vanish(self, data: st.DataObject, lag: int) -> None:
        """Is killed, and says nothing."""
        self.stop(self.draw_one(data), lag)

    def stop(self, holder: Holder, lag: int) -> None:
        self.desk.hosts[holder.host].exit(holder.pid, lag)
        self.holders.remove(holder)

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), ttl=st.sampled_from([600, 5_000]))
    def renew(self, data: st.DataObject, ttl: int) -> None:
        holder = self.draw_one(data)
        outcome = self.desk.renew(holder.lease, "ops" if holder.urgent else "agent", ttl_ms=ttl)
        if isinstance(outcome, Accept):
            holder.until = max(holder.until, self.desk.now + ttl)

    @rule(host=hosts, index=st.integers(0, 1), size=sizes)
    def stranger(self, host: str, index: int, size: int) -> None:
        """Takes what nobody was promised, and the reserve at most; it is seen at once."""
        there = self.desk.hosts[host]
        uuid = list(there.devices)[index]
        device = there.devices[uuid]
        if device.lost:
            return
        promised = sum(
            max(one.shares[uuid] - device.memory.get(one.pid, 0), 0)
            for one in self.holders
            if one.host == host and uuid in one.shares
        )
        size = min(size, device.free - promised)
        if size > 0:
            pid = self.strangers.setdefault(uuid, there.start(foreign=True)[0])
            there.allocate(pid, uuid, size)
            self.desk.observe(host)

    @precondition(lambda self: self.strangers)
    @rule(lag=st.sampled_from([0, 700]))
    def stranger_leaves(self, lag: int) -> None:
        uuid, pid = self.strangers.popitem()
        host = self.desk.hosts["h1" if uuid.startswith("SIM-h1") else "h2"]
        host.exit(pid, lag)

    @rule(host=hosts, index=st.integers(0, 1))
    def card_falls_off(self, host: str, index: int) -> None:
        """Holders notice at their next allocation; here they stop at the end of their lease."""
        there = self.desk.hosts[host]
        there.lose(list(there.devices)[index])
        self.desk.observe(host)

    @rule(host=hosts)
    def cards_are_back(self, host: str) -> None:
        there = self.desk.hosts[host]
        for uuid in there.devices:
            there.restore(uuid)
        self.desk.observe(host)

    @rule(host=hosts, index=st.integers(0, 1))
    def allocation_of_somebody_fails(self, host: str, index: int) -> None:
        """What fails is not there: nothing is counted for it."""
        there = self.desk.hosts[host]
        uuid = list(there.devices)[index]
        before = there.devices[uuid].used
        pid, _ = there.start(foreign=True)
        there.fail_next(uuid)
        with pytest.raises(Exception, match=r"bytes free|does not answer"):
            there.allocate(pid, uuid, 1)
        there.devices[uuid].failing = 0
        assert there.devices[uuid].used == before

    @rule(reported=st.booleans())
    def take_over(self, reported: bool) -> None:
        self.desk.take_over()
        self.desk.settle_due()
        if reported:
            self.report()

    # ---- what must hold

    @invariant()
    def no_lease_is_lost_or_doubled(self) -> None:
        """Whoever still believes in a lease finds it in the ledger, once, with all its bytes."""
        for holder in self.holders:
            lease = self.desk.state.leases.get(holder.lease)
            assert lease is not None, f"{holder.lease} is lost"
            assert {name.partition("/")[2]: memory for name, memory in lease.devices} == holder.shares
            for name, memory in lease.devices:
                device = self.desk.state.devices.get(name)
                assert device is None or device.leases[holder.lease] == memory

    @invariant()
    def all_that_was_promised_is_there(self) -> None:
        """A holder that loads the rest now would get it, on every card that is there."""
        for there in self.desk.hosts.values():
            for uuid, device in there.devices.items():
                promised = sum(
                    max(one.shares[uuid] - device.memory.get(one.pid, 0), 0)
                    for one in self.holders
                    if one.host == there.name and uuid in one.shares
                )
                assert device.lost or promised <= device.free, f"{uuid}: {promised} promised, {device.free} free"

    def teardown(self) -> None:
        """Everybody leaves: what there is, is granted again, and soon."""
        for holder in list(self.holders):
            self.stop(holder, 0)
        while self.strangers:
            self.stranger_leaves(0)
        for host in self.desk.hosts:
            self.cards_are_back(host)
        for _ in range(50):
            self.time_passes(500, ())
        for device in self.desk.status().devices:
            name, uuid = device.device.split("/")
            assert device.room == device.total - (device.reserved or 0) - RESERVE, device
            others = tuple(other for other in self.desk.hosts[name].devices if other != uuid)
            self.desk.granted(device.total - (device.reserved or 0) - RESERVE, hosts=(name,), exclude=others)
        self.desk.check()


Truth.TestCase.settings = settings(
    max_examples=20, stateful_step_count=35, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)
TestManagerAgainstTheCards = Truth.TestCase
