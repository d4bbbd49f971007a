"""Leases of hosts, as the monitor decides them: what is granted, lent, given back, refused, and what a loss does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bursar.contracts.monitor import DiskSample, MemorySample
from bursar.contracts.monitor_host import GroupSample, LeaseUse
from bursar.contracts.monitor_quota import (
    MAX_LEASES,
    MAX_TTL_MS,
    Claim,
    HostLease,
    HostPlanQuery,
    ReleaseHost,
    RenewHost,
    SetQuota,
    pool_bytes,
)
from bursar.kernel.decider import Accept, Refuse
from bursar_monitor import events
from bursar_monitor.balancing import LOOK_MS
from bursar_monitor.sharing import DEAD_PERMILLE, GIVE_BACK_MS
from tests.monitor.fleet import Desk

GB = 10**9
HOST = "alpha"
CPU = 4 * 850
MEMORY = pool_bytes("context", 100 * GB)
DISK = 920 * GB - 100 * GB


class Host:
    """A desk with one host of 4 cores, 100 GB of memory and 1 TB of disk; ``uses``: what each lease uses."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.uses: dict[str, LeaseUse] = {}
        self.extra: dict[str, Any] = {}
        self.look()

    def look(self) -> None:
        fields: dict[str, Any] = {
            "memory": MemorySample(total_bytes=100 * GB, available_bytes=90 * GB),
            "disk": DiskSample(total_bytes=1_000 * GB, used_bytes=100 * GB),
            "leases": tuple(self.uses.values()),
        }
        self.desk.sample(HOST, **{**fields, **self.extra})

    def seconds(self, count: int) -> None:
        for _ in range(count):
            self.desk.advance(1_000)
            self.look()

    def lease(self, agent: str = "ann", **fields: Any) -> Any:
        """The reply to a request for a lease."""
        outcome = self.desk.ask(HostLease(id=self.desk.id(), host=HOST, **fields), agent)
        assert isinstance(outcome, Accept | Refuse)
        return outcome.reply

    def refused(self, **fields: Any) -> str:
        reply = self.lease(**fields)
        assert reply["ok"] is False, reply
        return str(reply["reason"])

    def use(self, lease: str, cpu: int = 0, memory: int = 0) -> None:
        self.uses[lease] = LeaseUse(lease=lease, processes=1, cpu_milli=cpu, memory_bytes=memory)

    def limits(self) -> dict[str, tuple[int, int]]:
        leases = self.desk.state.quotas.leases.items()
        return {name: (lease.cpu_held.limit, lease.memory_held.limit) for name, lease in leases}


def test_a_lease_is_granted_told_to_the_probe_and_released() -> None:
    """With its processes and limits in the plan of the host; somebody else may not touch it."""
    host = Host()
    reply = host.lease(cpu_milli=1_000, memory_bytes=GB, disk_bytes=GB, processes=(Claim(pid=7, started=9),))
    assert (reply["ok"], reply["cpu_milli"], reply["memory_bytes"], reply["disk_bytes"]) == (True, 1_000, GB, GB)
    plan = host.desk.ask(HostPlanQuery(), HOST)
    assert isinstance(plan, Refuse)
    (row,) = plan.reply["leases"]
    assert (row["lease"], row["agent"], row["cpu_milli"], row["weight"]) == (reply["lease"], "ann", 1_000, 100)
    assert [(one["pid"], one["started"]) for one in row["processes"]] == [(7, 9)]
    claims = (Claim(pid=8, started=9),)
    host.desk.must(RenewHost(id="a-0", lease=reply["lease"], processes=claims), "ann")
    assert host.desk.state.quotas.leases[reply["lease"]].claims == ((8, 9),)
    assert [told["host"] for told in host.desk.planned] == [HOST, HOST]
    assert host.desk.rejected(RenewHost(id="a-1", lease=reply["lease"]), "bob") == "not_yours"
    assert host.desk.rejected(ReleaseHost(id="a-2", lease=reply["lease"]), "bob") == "not_yours"
    assert host.desk.must(ReleaseHost(id="a-3", lease=reply["lease"]), "ann")["lease"] == reply["lease"]
    assert host.desk.rejected(RenewHost(id="a-4", lease=reply["lease"]), "ann") == "unknown_lease"
    host.desk.check()


def test_a_lease_ends_with_its_time_unless_it_is_renewed() -> None:
    """Also over a take-over: its time is durable."""
    host = Host()
    first, second = (host.lease(cpu_milli=100, ttl_ms=5_000)["lease"] for _ in range(2))
    host.desk.advance(4_000)
    renewed = host.desk.must(RenewHost(id=host.desk.id(), lease=first, ttl_ms=8_000), "ann")
    assert (renewed["used_cpu_milli"], renewed["held_by"]) == (None, "nothing")
    host.desk.take_over()
    host.desk.advance(LOOK_MS)
    assert host.desk.state.quotas.leases.keys() == {first}
    host.desk.advance(8_000)
    assert (host.desk.state.quotas.leases, second in host.limits()) == ({}, False)
    host.desk.check()


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("never_fits", {"cpu_milli": CPU + 1}),
        ("never_fits", {"memory_bytes": MEMORY + 1}),
        ("never_fits", {"disk_bytes": DISK + 1}),
        ("no_room", {"cpu_milli": CPU}),
        ("no_room", {"memory_bytes": MEMORY}),
        ("no_room", {"disk_bytes": DISK}),
    ],
)
def test_what_is_not_there_is_refused(reason: str, fields: dict[str, Any]) -> None:
    """Never: more than the host has to lease. Now: beside what is leased; when the first ends is told."""
    host = Host()
    assert host.lease(cpu_milli=10, memory_bytes=10, disk_bytes=10)["ok"]
    reply = host.lease(**fields)
    assert (reply["ok"], reply["reason"]) == (False, reason)
    assert (reply["retry_in_ms"] is None) == (reason == "never_fits")
    assert reply["missing"] > 0


def test_memory_that_others_use_is_not_leased() -> None:
    """By the books it is free, and somebody without a lease has it; or the agents' pool is full."""
    host = Host()
    host.extra["memory"] = MemorySample(total_bytes=100 * GB, available_bytes=30 * GB)
    host.look()
    assert host.refused(memory_bytes=11 * GB) == "in_use"
    assert host.lease(memory_bytes=9 * GB)["ok"]
    assert host.refused(memory_bytes=2 * GB) == "in_use"
    host.extra["groups"] = (GroupSample(group="agent.bob", processes=1, cpu_milli=0, rss_bytes=MEMORY),)
    host.look()
    assert host.refused(memory_bytes=1) == "pool_full"


def test_a_host_that_is_not_heard_hands_out_nothing() -> None:
    """Neither one that nobody knows, nor one that fell silent; nor the heir of a journal that lost entries."""
    host = Host()
    assert host.desk.ask(HostLease(id="x-1", host="beta", cpu_milli=1), "ann").reply["reason"] == "not_observed"  # type: ignore[union-attr]
    host.desk.advance(11_000)
    assert host.refused(cpu_milli=1) == "not_observed"
    host.look()
    host.desk.decider.evolve(host.desk.state, (events.LOST, host.desk.now))
    assert host.refused(cpu_milli=1) == "recovering"
    host.desk.advance(MAX_TTL_MS)
    host.look()
    assert host.lease(cpu_milli=1)["ok"]


def test_a_sample_that_leaves_something_out_takes_nothing_away() -> None:
    """The first of a probe does not know its processor: it is asked again, and limits stay as they are."""
    host = Host()
    assert host.lease(cpu_milli=1_000, memory_bytes=GB)["ok"]
    before = host.limits()
    host.extra = {"cpu": None, "memory": None, "disk": None}
    host.seconds(3)
    assert host.limits() == before
    for resource in ("cpu_milli", "memory_bytes", "disk_bytes"):
        wanted: dict[str, Any] = {resource: 1}
        reply = host.lease(**wanted)
        assert (reply["reason"], reply["retry_in_ms"] is None) == ("not_observed", False)


def test_a_quota_bounds_an_agents_leases_and_gives_them_weight() -> None:
    """The most exact name counts; all its leases on the host together."""
    host = Host()
    host.desk.must(SetQuota(id="q-1", agent="team-*", weight=300, cpu_milli=1_000))
    host.desk.must(SetQuota(id="q-2", agent="team-a", weight=50, cpu_milli=2_000, memory_bytes=0))
    assert host.lease("team-b", cpu_milli=800)["ok"]
    assert host.refused(agent="team-b", cpu_milli=300) == "over_quota"
    assert host.lease("team-a", cpu_milli=1_500)["ok"]
    assert host.refused(agent="team-a", memory_bytes=1) == "over_quota"
    rows = {row.agent: row.weight for row in host.desk.status(only="leases").leases}
    assert rows == {"team-b": 300, "team-a": 50}
    host.desk.must(SetQuota(id="q-3", agent="team-a", weight=None))
    assert host.refused(agent="team-a", cpu_milli=1) == "over_quota"
    host.desk.check()


def test_the_number_of_leases_of_a_host_is_bounded() -> None:
    """And a lease of nothing is none."""
    host = Host()
    assert host.desk.rejected(HostLease(id="n-1", host=HOST), "ann") == "bad_request"
    for _ in range(MAX_LEASES):
        assert host.lease(cpu_milli=1)["ok"]
    assert host.refused(cpu_milli=1) == "too_many"


def test_idle_processor_is_lent_and_given_back() -> None:
    """Within a look, the time to give back and another look. What is used stands beside what is guaranteed."""
    host = Host()
    lender = host.lease("ann", cpu_milli=2_400, ttl_ms=60_000)["lease"]
    borrower = host.lease("bob", cpu_milli=1_000, most_cpu_milli=3_000, ttl_ms=60_000)["lease"]
    host.use(lender, cpu=100)
    for _ in range(14):
        host.use(borrower, cpu=host.limits()[borrower][0])
        host.seconds(1)
    limits = host.limits()
    assert limits[borrower][0] == 3_000
    used = 0
    for _ in range(4 + GIVE_BACK_MS["cpu"] // 1_000):
        used = host.limits()[lender][0]
        host.use(lender, cpu=used)
        host.seconds(1)
    assert host.limits()[lender][0] == 2_400
    rows = {row.agent: row for row in host.desk.status(only="leases").leases}
    assert (rows["ann"].cpu_milli, rows["ann"].limit_cpu_milli, rows["ann"].used_cpu_milli) == (
        2_400, 2_400, used,
    )  # fmt: skip
    host.desk.check()


def test_memory_that_is_leased_is_not_lent_and_what_is_free_comes_back_for_a_lease() -> None:
    """Its holder may fill it at any moment. A new lease has what a borrower had, after the time to give back."""
    host = Host()
    idle = host.lease("ann", memory_bytes=20 * GB, ttl_ms=60_000)["lease"]
    borrower = host.lease("bob", memory_bytes=4 * GB, most_memory_bytes=30 * GB, ttl_ms=60_000)["lease"]
    host.use(idle, memory=0)
    for _ in range(10):
        host.use(borrower, memory=host.limits()[borrower][1])
        host.seconds(1)
    assert host.limits()[idle][1] == 20 * GB
    assert host.limits()[borrower][1] == MEMORY - 20 * GB
    late = host.lease("cid", memory_bytes=6 * GB, ttl_ms=60_000)
    assert (late["ok"], late["memory_bytes"]) == (True, 0)
    host.seconds(2 + GIVE_BACK_MS["memory"] // 1_000)
    assert host.limits()[late["lease"]][1] == 6 * GB


def test_pools_are_told_with_their_budget() -> None:
    """Of 80 % of the memory: 40 % agents, 30 % the services, 20 % NATS, 10 % the rest."""
    host = Host()
    groups = ("agent.ann", "leased", "limiter", "nats", "probe", "supervisor")
    sizes = enumerate(groups, 1)
    host.extra["groups"] = tuple(
        GroupSample(group=name, processes=1, cpu_milli=0, rss_bytes=GB * size) for size, name in sizes
    )
    host.look()
    rows = host.desk.status(only="pools").pools
    assert [(row.pool, row.budget_bytes // GB, row.used_bytes // GB) for row in rows] == [
        ("context", 32, 3), ("shared", 24, 3), ("communication", 16, 4), ("overhead", 8, 11),
    ]  # fmt: skip
    assert [row.group for row in host.desk.status(only="processes").processes] == list(reversed(groups))


class Leasing(RuleBasedStateMachine):
    """Agents lease, use, renew, release and forget; the host is heard now and then. ``lacks``: since when a lease has
    wanted what is guaranteed to it and not had it, while the host was heard second by second."""

    @initialize()
    def begin(self) -> None:
        self.host = Host()
        self.held: list[str] = []

    @rule(
        agent=st.sampled_from(["ann", "bob", "cid"]), cpu=st.integers(1, CPU), memory=st.integers(0, MEMORY),
        more=st.integers(0, CPU), ttl=st.integers(1_000, 60_000),
    )  # fmt: skip
    def lease(self, agent: str, cpu: int, memory: int, more: int, ttl: int) -> None:
        reply = self.host.lease(
            agent, cpu_milli=cpu, memory_bytes=memory, most_cpu_milli=cpu + more, most_memory_bytes=memory * 2,
            ttl_ms=ttl,
        )  # fmt: skip
        if reply["ok"]:
            self.held.append(reply["lease"])

    @rule(place=st.integers(0, 20), cpu=st.integers(0, CPU), memory=st.integers(0, MEMORY))
    def use(self, place: int, cpu: int, memory: int) -> None:
        if self.held:
            self.host.use(self.held[place % len(self.held)], cpu, memory)

    @rule(place=st.integers(0, 20))
    def release(self, place: int) -> None:
        if self.held:
            name = self.held.pop(place % len(self.held))
            self.host.uses.pop(name, None)
            lease = self.host.desk.state.quotas.leases.get(name)
            if lease is not None:
                self.host.desk.must(ReleaseHost(id=self.host.desk.id(), lease=name), lease.agent)

    @rule(seconds=st.integers(1, 6))
    def time(self, seconds: int) -> None:
        self.host.seconds(seconds)

    @rule()
    def quiet(self) -> None:
        self.host.desk.advance(7_000)

    @rule()
    def take_over(self) -> None:
        self.host.desk.take_over()

    @rule()
    def everybody_has_what_is_his(self) -> None:
        """Nobody asks for a while and all use what they have: then every guarantee is met."""
        for name, lease in self.host.desk.state.quotas.leases.items():
            self.host.use(name, max(lease.cpu_held.limit, lease.cpu), lease.memory_held.limit)
        self.host.look()
        self.host.seconds(3 + GIVE_BACK_MS["memory"] // 1_000)
        for lease in self.host.desk.state.quotas.leases.values():
            assert lease.cpu_held.limit >= lease.cpu * (1_000 - DEAD_PERMILLE) // 1_000
            assert lease.memory_held.limit >= lease.memory * (1_000 - DEAD_PERMILLE) // 1_000

    @invariant()
    def never_more_than_there_is(self) -> None:
        if not hasattr(self, "host"):
            return
        now, leases = self.host.desk.now, self.host.desk.state.quotas.leases.values()
        assert sum(lease.cpu for lease in leases) <= CPU
        assert sum(lease.memory for lease in leases) <= MEMORY
        assert sum(lease.cpu_held.at(now) for lease in leases) <= CPU
        assert sum(lease.memory_held.at(now) for lease in leases) <= MEMORY
        assert all(lease.until > now - 2 * LOOK_MS for lease in leases)

    def teardown(self) -> None:
        if hasattr(self, "host"):
            self.host.desk.check()


Leasing.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestLeasing = pytest.mark.property(Leasing.TestCase)
