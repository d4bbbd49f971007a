"""The manager under any history, against an oracle that adds up from scratch."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Refuse
from bursar_gpu_manager.simulated import GIB, OutOfMemory
from tests.gpu_manager.desk import Desk, code
from tests.gpu_manager.oracle import Granted, Oracle

pytestmark = pytest.mark.property

MIB = 1024**2
HOSTS = ("h1=2x16GiB", "h2=1x24GiB+1x8GiB")
sizes = st.one_of(
    st.integers(1, 24 * GIB), st.sampled_from([GIB, 4 * GIB, 8 * GIB - 512 * MIB, 16 * GIB - 512 * MIB])
)  # fmt: skip


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(now=1_000)
        self.oracle = Oracle(wire.DEFAULT_RESERVE, 2_000)
        self.desk.hosts = Desk(*HOSTS).hosts
        self.pids: dict[str, tuple[str, int]] = {}
        self.foreign: list[tuple[str, int]] = []
        for host in self.desk.hosts:
            self.reported(host)

    def reported(self, host: str) -> None:
        """The probe reports; devices that it does not see any more end their leases."""
        report = self.desk.observe(host)
        self.oracle.reports[host] = (self.desk.now, report)

    def devices(self) -> list[str]:
        return [f"{host}/{uuid}" for host, there in self.desk.hosts.items() for uuid in there.devices]

    # ---------------------------------------------------------------------------------------------- what happens

    @rule(ms=st.integers(1, 2_500), silent=st.sampled_from([(), ("h1",), ("h2",), ("h1", "h2")]))
    def time_passes(self, ms: int, silent: tuple[str, ...]) -> None:
        """In small steps, so that the probes are heard in time; ends of leases happen meanwhile."""
        until = self.desk.now + ms
        while self.desk.now < until:
            self.desk.advance(min(400, until - self.desk.now))
            self.note_ends()
            for host in self.desk.hosts:
                if host not in silent:
                    self.reported(host)

    def note_ends(self) -> None:
        for key, lease in list(self.oracle.leases.items()):
            if self.desk.now >= lease.until + 500:
                for device in lease.shares:
                    self.oracle.unsure_until[device] = max(self.oracle.unsure_until.get(device, 0), lease.until)
                del self.oracle.leases[key]
        assert self.desk.state.leases.keys() == self.oracle.leases.keys()

    @rule(memory=sizes, count=st.sampled_from([1, 1, 1, 2]), ttl=st.sampled_from([500, 3_000, 60_000]),
          named=st.booleans())  # fmt: skip
    def lease(self, memory: int, count: int, ttl: int, named: bool) -> None:
        pids = {host: self.desk.hosts[host].start() for host in self.desk.hosts}
        processes = tuple(wire.Process(pid=pid, started=started) for pid, started in pids.values()) if named else ()
        before = self.desk.dump()
        outcome = self.desk.lease(memory, devices=count, ttl_ms=ttl, processes=processes)
        now, ready = self.desk.now, [name for name, device in self.desk.state.devices.items() if not device.lost]
        if isinstance(outcome, Accept):
            shares = {held["device"]: held["memory"] for held in outcome.reply["devices"]}
            rooms = {name: self.oracle.room(name, now) for name in shares}
            assert len(shares) == count
            assert set(shares) <= set(ready)
            assert all(room is not None and room >= memory for room in rooms.values()), (memory, rooms)
            known = set(pids.values()) if named else set()
            self.oracle.leases[outcome.reply["lease"]] = Granted(shares, set(known), now + ttl)
            host = outcome.reply["devices"][0]["host"]
            self.pids[outcome.reply["lease"]] = (host, pids[host][0])
            return
        assert isinstance(outcome, Refuse)
        assert not self.oracle.fits(ready, memory, count, now), "refused though it fits"
        assert self.desk.dump() == before
        self.check_refusal(outcome, memory, count)

    def check_refusal(self, outcome: Refuse, memory: int, count: int) -> None:
        reply = outcome.reply
        if reply["reason"] == "no_room" and count == 1:
            room = self.oracle.room(reply["closest"], self.desk.now)
            assert room is not None
            assert reply["missing"] == memory - room

    @precondition(lambda self: self.oracle.leases)
    @rule(data=st.data(), ttl=st.sampled_from([None, 700, 5_000]), stale=st.sampled_from([False, False, True]))
    def renew(self, data: st.DataObject, ttl: int | None, stale: bool) -> None:
        key = data.draw(st.sampled_from(sorted(self.oracle.leases)))
        lease = self.oracle.leases[key]
        if stale:
            assert code(self.desk.renew(key, fence=f"1.1.1000000.{'0' * 16}")) == "bad_fence"
            return
        outcome = self.desk.renew(key, ttl_ms=ttl)
        if self.desk.now >= lease.until or self.desk.state.leases[key].taken:
            assert code(outcome) == "lease_ended"
        else:
            assert isinstance(outcome, Accept)
            assert outcome.reply["expires_at_ms"] >= lease.until
            lease.until = outcome.reply["expires_at_ms"]

    @precondition(lambda self: self.oracle.leases)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.oracle.leases)))
        assert isinstance(self.desk.release(key), Accept)
        del self.oracle.leases[key]

    @precondition(lambda self: self.pids)
    @rule(data=st.data(), size=sizes)
    def load(self, data: st.DataObject, size: int) -> None:
        """A holder, or one that was, allocates: what it leased, or anything anywhere."""
        key = data.draw(st.sampled_from(sorted(self.pids)))
        host, pid = self.pids[key]
        uuid = data.draw(st.sampled_from(sorted(self.desk.hosts[host].devices)))
        lease = self.oracle.leases.get(key)
        if lease is not None and data.draw(st.booleans()):
            name, memory = min(lease.shares.items())
            uuid, size = name.partition("/")[2], memory
        self.allocate(host, pid, uuid, size)

    def allocate(self, host: str, pid: int, uuid: str, size: int) -> None:
        there = self.desk.hosts[host]
        if there.devices[uuid].lost:
            return
        try:
            there.allocate(pid, uuid, size)
        except OutOfMemory:
            return
        self.reported(host)

    @precondition(lambda self: self.pids)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.pids)))
        host, pid = self.pids[key]
        there = self.desk.hosts[host]
        for uuid, device in there.devices.items():
            if not device.lost:
                there.free(pid, uuid, 64 * GIB)
        self.reported(host)

    @rule(host=st.sampled_from(["h1", "h2"]), index=st.integers(0, 1), size=sizes)
    def stranger(self, host: str, index: int, size: int) -> None:
        pid, _ = self.desk.hosts[host].start(foreign=True)
        self.foreign.append((host, pid))
        self.allocate(host, pid, list(self.desk.hosts[host].devices)[index], size)

    @precondition(lambda self: self.foreign)
    @rule()
    def stranger_leaves(self) -> None:
        host, pid = self.foreign.pop()
        self.desk.hosts[host].exit(pid)
        self.reported(host)

    @rule(host=st.sampled_from(["h1", "h2"]), index=st.integers(0, 1), what=st.sampled_from(["lose", "back", "hide"]))
    def card(self, host: str, index: int, what: str) -> None:
        there = self.desk.hosts[host]
        uuid = list(there.devices)[index]
        if what == "lose":
            there.lose(uuid)
        elif what == "back":
            there.restore(uuid)
        else:
            there.hide_processes(uuid)
        self.reported(host)

    @rule()
    def take_over(self) -> None:
        """Another instance goes on; it knows of no report yet."""
        self.desk.take_over()
        self.oracle.reports.clear()
        self.desk.settle_due()

    # ---------------------------------------------------------------------------------------------- what must hold

    @invariant()
    def ledger_agrees(self) -> None:
        for name in self.devices():
            granted = sum(lease.shares.get(name, 0) for lease in self.oracle.leases.values())
            device = self.desk.state.devices.get(name)
            assert granted == (0 if device is None else sum(device.leases.values()))

    @invariant()
    def rooms_agree(self) -> None:
        """To the byte, and as to what is not known."""
        for device in self.desk.status().devices:
            expected = None if device.state == "lost" else self.oracle.room(device.device, self.desk.now)
            assert device.room == expected, device

    def teardown(self) -> None:
        self.desk.check()


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestManagerUnderAnyHistory = Machine.TestCase
