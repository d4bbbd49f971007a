"""The real monitor as a workload, and hosts that know nothing of it.

Hosts send samples, now and then late, twice or not at all; they fall silent, start again, and are busy in stretches.
Operators silence and lift. Hosts are leased, and what is used of the leases jumps: never is more leased, lent and not
yet given back than there is. At the end the journal is read as a story by rules of its own: an alert fires once before
it is over, its evidence has held, it stays for as long as its rule demands, and nobody was told of what was silenced.
After the healing one host falls silent for good: the owner must say so in time, and of nobody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bursar.contracts.monitor import ALERT_KIND, Acknowledge, CpuSample, HostSample, Silence, Unsilence
from bursar.contracts.monitor_host import LeaseUse
from bursar.contracts.monitor_picture import Status
from bursar.contracts.monitor_policy import Rule
from bursar.contracts.monitor_quota import HostLease
from bursar.contracts.monitor_scaling import Policy
from bursar.kernel.decider import Broadcast, Command, Decider, Fence, Notice
from bursar.kernel.desk import Request
from bursar_monitor import events
from bursar_monitor.core import MonitorDecider
from bursar_monitor.operating import LoadRules
from bursar_monitor.picture import picture
from bursar_monitor.quotas import CPU_PERMILLE
from bursar_monitor.state import Silence as Kept
from bursar_monitor.state import State, validate
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

SILENT = Rule(name="host-silent", signal="host_silence_ms", at_least=1_500, hold_ms=900, clear_ms=700)
BUSY = Rule(name="cpu-high", signal="cpu_permille", at_least=900, clear_below=800, hold_ms=600, clear_ms=800)
RULES = {rule.name: rule for rule in (SILENT, BUSY)}
HOSTS = ("h0", "h1", "h2")
EVERY_MS = 300
CORES = 2
ROOM = CORES * CPU_PERMILLE
"""What a host has to lease, thousandths of a core."""
WITHIN_MS = SILENT.at_least + SILENT.hold_ms + 3 * 1_000
"""Silence is looked at once a second: a second late, as long as it must hold in whole seconds, and one to spare."""


class Host:
    """``sent``: how many different samples; ``silent_until``, ``busy_until``: true ms; ``last``: when it last spoke."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boot = 1
        self.seq = 0
        self.sent = 0
        self.silent_until = 0
        self.busy_until = 0
        self.last = 0


class MonitorWorkload:
    name = "monitor"

    def __init__(self) -> None:
        self.hosts = {name: Host(name) for name in HOSTS}
        self.told: dict[str, tuple[str, int]] = {}
        self.faults: list[str] = []
        self.leases: dict[str, str] = {}

    def decider(self) -> Decider[Any]:
        return MonitorDecider()

    def start(self) -> list[Any]:
        return [LoadRules(policy=Policy(rules=tuple(RULES.values())))]

    # ---- hosts and their probes

    def begin(self, world: World) -> None:
        for host in self.hosts.values():
            world.simulator.at(world.simulator.between(0, 600), self._sample, world, host)
        world.simulator.at(world.simulator.between(0, 2_000), self._befall, world)

    def _befall(self, world: World) -> None:
        """Something happens to a host; after the healing no more."""
        simulator = world.simulator
        if world.is_healed:
            return
        host = self.hosts[HOSTS[simulator.between(0, 2)]]
        what = simulator.between(0, 3)
        if what == 0:
            host.silent_until = simulator.now + simulator.between(500, 6_000)
        elif what == 1:
            host.boot, host.seq = host.boot + 1, 0
        else:
            host.busy_until = simulator.now + simulator.between(300, 3_000)
        simulator.at(simulator.between(200, 3_000), self._befall, world)

    def _sample(self, world: World, host: Host) -> None:
        simulator, faults = world.simulator, world.faults
        simulator.at(simulator.between(EVERY_MS - 50, EVERY_MS + 50), self._sample, world, host)
        if simulator.now < host.silent_until:
            return
        host.seq, host.sent, host.last = host.seq + 1, host.sent + 1, simulator.now
        cpu = CpuSample(used_permille=950 if simulator.now < host.busy_until else 100, cores=CORES)
        uses = tuple(
            LeaseUse(lease=name, processes=1, cpu_milli=simulator.between(0, 1_500), memory_bytes=0)
            for name, where in list(self.leases.items())[-8:]
            if where == host.name
        )
        body = HostSample(boot=f"{host.boot:016x}", seq=host.seq, uptime_ms=simulator.now, cpu=cpu, leases=uses)
        for process in world.alive():
            for _ in range(1 + simulator.chance(faults.repeated_message)):
                if process.listening and not simulator.chance(faults.lost_message):
                    late = simulator.between(0, 4_000) if simulator.chance(faults.late_message) else 0
                    delay = simulator.between(0, faults.slow) + late
                    simulator.at(delay, process.deliver, self._hear, process, host.name, body)

    @staticmethod
    def _hear(process: Process, host: str, body: HostSample) -> None:
        if process.listening:
            process.replica.offer(Request(None, Command(host, "", body), b"", 0))
            process._schedule_pump()

    # ---- what operators ask

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        if client.todo:
            return Unsilence, client.todo.pop(0), False
        number = client.number * 3 + client.queries * 5 + len(client.name)
        if number % 4 == 0:
            client.queries -= 1
            return Status, {}, True
        if number % 5 == 0:
            fields = {"host": HOSTS[number % 3], "cpu_milli": 100 + number % 9 * 150, "most_cpu_milli": 1_500}
            return HostLease, {**fields, "ttl_ms": 1_000 + number % 4 * 1_500}, False
        if number % 7 == 0:
            return Acknowledge, {"alert": f"1.{number % 5}.{number % 90}"}, False
        rule = ("cpu-high", "host-silent", None)[number % 3]
        return Silence, {"rule": rule, "subject": ("h1", "h*", "h2")[number // 3 % 3], "for_ms": 1_000}, False

    def last(self) -> tuple[Any, dict[str, Any]]:
        return Status, {}

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        return {} if fence is None else {"seen": f"{fence[0]}.{fence[1]}.{fence[2]}.{'0' * 16}"}

    def changed(self, body: Any) -> Any:
        return body.model_copy(update={"reason": "another"}) if isinstance(body, Silence) else None

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        if isinstance(question.body, HostLease) and reply.get("ok"):
            self.leases[reply["lease"]] = question.body.host
        if isinstance(question.body, Silence) and reply.get("ok") and client.number % 3 == 0:
            client.todo.append({"silence": reply["silence"]})

    # ---- what hearers are told

    def announced(self, world: World, broadcasts: Any) -> None:
        """A crash may swallow what was to be told, and an owner that was replaced may say late what it had committed:
        hearers go by the time in the message. Then an end is the last that is heard of an alert."""
        for broadcast in broadcasts:
            if broadcast.kind == ALERT_KIND:
                self._hear_alert(broadcast)

    def _hear_alert(self, broadcast: Broadcast | Notice) -> None:
        body = broadcast.body
        alert, now, at = body["alert"], body["state"], body["at_ms"]
        before, heard_at = self.told.get(alert, ("", -1))
        if at < heard_at:
            return
        if before == "resolved":
            self.faults.append(f"{alert} was over and is told as {now}")
        if before == now == "firing" and not body["again"]:
            self.faults.append(f"{alert} is told twice")
        self.told[alert] = (now, at)

    # ---- what must hold

    def check_state(self, state: State, now: int) -> None:
        validate(state)
        for host in state.quotas.by_host:
            leases = [lease for _, lease in state.quotas.on(host)]
            assert sum(lease.cpu for lease in leases) <= ROOM, f"more is guaranteed on {host} than it has"
            assert sum(lease.cpu_held.at(now) for lease in leases) <= ROOM, f"more is held on {host} than it has"

    def check_end(self, world: World) -> None:
        if world.checker.lossy:
            return
        assert not self.faults, self.faults[0]
        check_story(world)
        world.checker.counts["told"] = len(self.told)
        if world.is_healed:
            self._check_owner(world)

    def _check_owner(self, world: World) -> None:
        """One host falls silent for good: the owner says so in time, with a true age; and counts no sample twice."""
        lost = self.hosts["h0"]
        for host in self.hosts.values():
            host.silent_until = 0
        world.simulator.run(world.simulator.now + 2_000)
        lost.silent_until = 10**12
        world.simulator.run(world.simulator.now + WITHIN_MS + 1_000)
        owner = world.owner()
        assert owner is not None, "nobody owns the shard"
        state: State = owner.replica.folded.state
        assert ("host-silent", "h0") in state.firing, "a silent host was not told in time"
        assert not any(key in state.firing for key in (("host-silent", "h1"), ("host-silent", "h2"))), "a host is heard"
        shown = {row["host"]: row for row in picture(state, owner.replica._time.at(owner.mono))["hosts"]}
        silent = world.simulator.now - lost.last
        assert shown["h0"]["age_ms"] >= silent - 200, f"silent for {silent} ms, shown {shown['h0']['age_ms']} ms old"
        for name, row in shown.items():
            assert row["samples"] <= self.hosts[name].sent, f"{name}: samples were counted twice"


def check_story(world: World) -> None:
    """The journal as a story, read without the decider."""
    firing: dict[tuple[str, str], tuple[str, int]] = {}
    silences: dict[str, Kept] = {}
    for event in (event for entry in world.checker.log for row in entry.decisions for event in row.events):
        kind, now, *rest = event
        if kind == events.FIRED:
            alert, rule, subject, _, value, _, since, told = rest
            assert (rule, subject) not in firing, f"{rule} fires twice for {subject}"
            assert now - since >= RULES[rule].hold_ms, f"{rule} fires for {subject} without its hold"
            assert value >= RULES[rule].at_least
            assert bool(told) != is_covered(silences, rule, subject, now), f"{alert} is silenced and told, or neither"
            firing[rule, subject] = (alert, now)
        elif kind == events.RESOLVED:
            (key,) = [key for key, (alert, _) in firing.items() if alert == rest[0]]
            _, since = firing.pop(key)
            assert now - since >= RULES[key[0]].clear_ms, f"{key} is over before its time"
        elif kind == events.TOLD:
            (key,) = [key for key, (alert, _) in firing.items() if alert == rest[0]]
            assert not is_covered(silences, *key, now), f"{key} is silenced and told"
        elif kind == events.SILENCED:
            silences[rest[0]] = Kept(*rest[1:])
        elif kind == events.UNSILENCED:
            del silences[rest[0]]
    world.checker.counts["fired"] = sum(
        event[0] == events.FIRED for entry in world.checker.log for row in entry.decisions for event in row.events
    )


def is_covered(silences: dict[str, Kept], rule: str, subject: str, now: int) -> bool:
    return any(now < silence.until and silence.covers(rule, subject) for silence in silences.values())
