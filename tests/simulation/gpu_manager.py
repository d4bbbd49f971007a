"""The real GPU manager as a workload, and cards that know nothing of it.

Holders believe in a lease as `bursar.client` does: so long after they sent the request, on a clock of their own; they
are taken to use all of it from the answer on until they stop. Probes report what is loaded, now and then late, twice or
not at all, fall silent and start again, and lose cards. A foreign process grows by no more than the reserve. Nobody
tells a holder that its lease was taken away: that is the worst case.

At the end true time decides: on no card, at no moment, may what holders use and what is foreign be more than there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Command, Decider, Fence
from bursar.kernel.desk import Request
from bursar_gpu_manager import events
from bursar_gpu_manager.core import GpuDecider
from bursar_gpu_manager.operating import Adopt
from bursar_gpu_manager.state import State, validate
from tests.simulation.workload import Client, Question

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

TOTAL = 16_000
RESERVE = 500
SETTINGS = wire.Settings(reserve=RESERVE, max_ttl_ms=3_000, margin_ms=100, fresh_ms=1_200, silence_ms=1_500)
HOSTS = {"h0": 2, "h1": 2}
MAC = "0" * 16


class Use(NamedTuple):
    """What a holder uses of one device: from when until when (true ms)."""

    device: str
    since: int
    until: int
    memory: int


class Hold:
    """A lease as its holder sees it. ``loaded_at``: from when its process shows up in reports."""

    def __init__(self, client: Client, reply: dict[str, Any], until: int, pid: int, now: int) -> None:
        self.client = client
        self.lease: str = reply["lease"]
        self.shares = [(held["device"], held["memory"]) for held in reply["devices"]]
        self.pid = pid
        self.since = now
        self.until = until
        self.loaded_at = now
        self.ended = False

    def believes(self, now: int) -> bool:
        return not self.ended and now < self.until


class Card:
    """``foreign``: steps of (true ms, bytes in all), never less than before and by no more than the reserve."""

    def __init__(self, name: str, foreign: int) -> None:
        self.name = name
        self.foreign = [(0, foreign)]
        self.lost = False

    def others(self, now: int) -> int:
        return [amount for at, amount in self.foreign if at <= now][-1]


class Host:
    def __init__(self, name: str) -> None:
        self.name = name
        self.boot = 1
        self.seq = 0
        self.silent_until = 0


class GpuWorkload:
    name = "gpu-manager"

    def __init__(self) -> None:
        self.hosts = {name: Host(name) for name in HOSTS}
        self.cards = {
            f"{host}/{index}": Card(f"{host}/{index}", 700 * index) for host, n in HOSTS.items() for index in range(n)
        }
        self.holds: dict[str, Hold] = {}
        self.uses: list[Use] = []
        self.faults: list[str] = []
        self.pids = 0

    def decider(self) -> Decider[Any]:
        return GpuDecider()

    def start(self) -> list[Any]:
        return [Adopt(settings=SETTINGS)]

    # ---- cards and their probes

    def begin(self, world: World) -> None:
        for host in self.hosts.values():
            world.simulator.at(world.simulator.between(0, 300), self._report, world, host)
        world.simulator.at(world.simulator.between(0, 3_000), self._befall, world)

    def _befall(self, world: World) -> None:
        """Something happens to a card or a probe; after the healing no more."""
        simulator = world.simulator
        host = list(self.hosts.values())[simulator.between(0, 1)]
        card = self.cards[f"{host.name}/{simulator.between(0, 1)}"]
        what = simulator.between(0, 3)
        if what == 0 and not world.is_healed:
            host.silent_until = simulator.now + simulator.between(500, 4_000)
        elif what == 1:
            host.boot, host.seq = host.boot + 1, 0
        elif what == 2:
            card.lost = not card.lost and not world.is_healed
        else:
            grown = min(card.foreign[0][1] + RESERVE, card.foreign[-1][1] + simulator.between(0, 200))
            card.foreign.append((simulator.now, grown))
        simulator.at(simulator.between(200, 3_000), self._befall, world)

    def _report(self, world: World, host: Host) -> None:
        simulator, faults = world.simulator, world.faults
        simulator.at(simulator.between(250, 600), self._report, world, host)
        if simulator.now < host.silent_until:
            return
        host.seq += 1
        body = wire.Report(boot=f"{host.boot:x}", seq=host.seq, devices=self._seen(host.name, simulator.now))
        for process in world.alive():
            for _ in range(1 + simulator.chance(faults.repeated_message)):
                if process.listening and not simulator.chance(faults.lost_message):
                    late = simulator.between(0, 4_000) if simulator.chance(faults.late_message) else 0
                    delay = simulator.between(0, faults.slow) + late
                    simulator.at(delay, process.deliver, self._hear, process, host.name, body)

    @staticmethod
    def _hear(process: Process, host: str, body: wire.Report) -> None:
        if process.listening:
            process.replica.offer(Request(None, Command(host, "", body), b"", 0))
            process._schedule_pump()

    def _seen(self, host: str, now: int) -> tuple[wire.DeviceReport, ...]:
        return tuple(
            self._device(card, now) for name, card in self.cards.items() if name.startswith(f"{host}/")
        )  # fmt: skip

    def _device(self, card: Card, now: int) -> wire.DeviceReport:
        uuid = card.name.partition("/")[2]
        if card.lost:
            return wire.DeviceReport(uuid=uuid, index=int(uuid), total=TOTAL, lost=True)
        loaded = [
            (hold.pid, memory)
            for hold in self.holds.values()
            for device, memory in hold.shares
            if device == card.name and hold.believes(now) and hold.loaded_at <= now
        ]
        processes = tuple(wire.ProcessMemory(pid=pid, started=pid, memory=memory) for pid, memory in loaded)
        used = card.others(now) + sum(memory for _, memory in loaded)
        return wire.DeviceReport(uuid=uuid, index=int(uuid), total=TOTAL, used=used, processes=processes)

    # ---- what clients ask

    def next(self, client: Client) -> tuple[Any, dict[str, Any], bool]:
        if client.todo:
            kind, fields = client.todo.pop(0)
            return kind, fields, False
        number = client.number * 5 + client.queries * 3 + len(client.name) + 7 * int(client.name[-1])
        if number % 17 == 0:
            client.queries -= 1
            return wire.Status, {}, True
        self.pids += 1
        named = (wire.Process(pid=self.pids, started=self.pids),)
        fields = {
            "memory": 500 + number * 7919 % 9_000,
            "devices": 2 if number % 5 == 0 else 1,
            "ttl_ms": 400 + number * 37 % 2_500,
            "wait_ms": (0, 0, 300, 2_500)[number % 4],
            "processes": named if number % 3 else (),
            "purpose": "loading" if number % 16 == 7 else "weights",
            "note": str(self.pids),
        }
        return wire.Lease, fields, False

    def last(self) -> tuple[Any, dict[str, Any]]:
        return wire.Status, {}

    def seen_field(self, fence: Fence | None) -> dict[str, Any]:
        return {} if fence is None else {"seen": f"{fence[0]}.{fence[1]}.{fence[2]}.{MAC}"}

    def changed(self, body: Any) -> Any:
        return body.model_copy(update={"memory": body.memory + 1}) if isinstance(body, wire.Lease) else None

    # ---- what they do with the answers

    def took(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        body, now = question.body, world.simulator.now
        if isinstance(body, wire.Lease) and reply["ok"]:
            self._granted(world, client, question, reply)
        elif isinstance(body, wire.Renew):
            hold = self.holds[body.lease]
            if hold.client is not client or body.fence != f"{hold.lease}.{MAC}":
                self.faults.append(f"{client.name} renewed {body.lease} with {body.fence}")
            elif hold.believes(now):
                hold.until = max(hold.until, question.asked_at + reply["ttl_ms"])
                self._go_on(world, hold)
        elif isinstance(body, wire.Release) and self.holds[body.lease].client is not client:
            self.faults.append(f"{client.name} released {body.lease} of another")

    def _granted(self, world: World, client: Client, question: Question, reply: dict[str, Any]) -> None:
        simulator, body = world.simulator, question.body
        devices = [held["device"] for held in reply["devices"]]
        hosts = {held["host"] for held in reply["devices"]}
        if len(set(devices)) != body.devices or len(hosts) != 1:
            self.faults.append(f"{body.devices} devices were asked for, {devices} granted")
        until = question.asked_at + reply["ttl_ms"]
        hold = self.holds[reply["lease"]] = Hold(client, reply, until, int(body.note), simulator.now)
        hold.loaded_at = simulator.now + simulator.between(0, 600)
        if hold.believes(simulator.now):
            self._go_on(world, hold)
        else:
            client.todo.append((wire.Release, self._proof(hold)))

    def _go_on(self, world: World, hold: Hold) -> None:
        """Renew, release, or forget it; now and then somebody tries what he may not."""
        simulator, left = world.simulator, hold.until - world.simulator.now
        what = simulator.between(0, 9)
        if what < 6:
            simulator.at(left // 3, self._ask, hold, wire.Renew)
        elif what < 9:
            simulator.at(simulator.between(0, left), self._stop, world, hold)
        if simulator.chance(0.2):
            other = world.clients.all[simulator.between(0, len(world.clients.all) - 1)]
            other.todo.append(
                (wire.Renew, self._proof(hold) | ({"fence": f"1.1.1.{MAC}"} if other is hold.client else {}))
            )

    def _ask(self, hold: Hold, kind: Any) -> None:
        hold.client.todo.append((kind, self._proof(hold)))

    @staticmethod
    def _proof(hold: Hold) -> dict[str, Any]:
        return {"lease": hold.lease, "fence": f"{hold.lease}.{MAC}"}

    def _stop(self, world: World, hold: Hold) -> None:
        """Free the memory, then say so."""
        if hold.believes(world.simulator.now):
            hold.until = world.simulator.now
        hold.ended = True
        hold.client.todo.append((wire.Release, self._proof(hold)))

    # ---- what must hold

    def check_state(self, state: State, now: int) -> None:
        validate(state, now)

    def check_end(self, world: World) -> None:
        """No card is oversubscribed at any time; sets are whole; fences grow; nothing is granted on a lost card."""
        world.checker.counts["holds"] = len(self.holds)
        if world.checker.lossy:  # a lease that was lost and never missed may be named again
            return
        assert not self.faults, self.faults[0]
        self._check_journal(world)
        for name, card in self.cards.items():
            uses = [
                Use(device, hold.since, hold.until, memory)
                for hold in self.holds.values()
                for device, memory in hold.shares
                if device == name and hold.until > hold.since
            ]
            first = card.foreign[0][1]
            for moment in [use.since for use in uses]:
                used = sum(use.memory for use in uses if use.since <= moment < use.until)
                assert used + first + RESERVE <= TOTAL, f"{name} at {moment}: {used} + {first} of {TOTAL}"
                assert used + card.others(moment) <= TOTAL, f"{name} at {moment}: {used} + {card.others(moment)}"

    @staticmethod
    def _check_journal(world: World) -> None:
        lost: set[str] = set()
        latest = (0, 0, 0)
        for entry in world.checker.log:
            for event in (event for row in entry.decisions for event in row.events):
                if event[0] == events.DEVICE_LOST:
                    lost.add(event[2])
                elif event[0] == events.ANNOUNCED:
                    lost -= {f"{event[2]}/{row[0]}" for row in event[4]}
                elif event[0] == events.GRANTED:
                    incarnation, epoch, number = map(int, event[2].split("."))
                    assert (incarnation, epoch, number) > latest, f"{event[2]} after {latest}"
                    latest = (incarnation, epoch, number)
                    assert not lost & {device for device, _ in event[6]}, f"granted on a lost card: {event}"
