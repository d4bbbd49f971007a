"""What keeps processes within their leases: cgroups where there are any, otherwise limits of the processes."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bursar.bus.call import Call
from bursar.bus.codec import decode, encode
from bursar.bus.memory import MemoryNetwork
from bursar.bus.micro import Service
from bursar.client.gpu import started_at
from bursar.contracts.monitor_quota import Claim, HostPlanQuery, PlannedLease
from bursar_monitor.cgroups import Cgroups
from bursar_monitor.host_limits import Enforcer, cores_for
from bursar_monitor.host_plan import Planner
from bursar_monitor.processes import Processes

MB = 1 << 20
PROGRAM = """
import sys
held = []
print("ready", flush=True)
for line in sys.stdin:
    try:
        held.append(b"x" * (int(line) << 20))
        print("got", flush=True)
    except MemoryError:
        print("refused", flush=True)
"""


class Worker:
    """A process that takes megabytes when told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        started = started_at(self.process.pid)
        assert started is not None
        self.claim = Claim(pid=self.process.pid, started=started)

    def take(self, megabytes: int) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{megabytes}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker()
    yield made
    made.process.kill()
    made.process.communicate()


def lease(worker: Worker, cpu_milli: int = 0, memory: int = 0, agent: str = "ann") -> PlannedLease:
    return PlannedLease(
        lease="1.1.7", agent=agent, cpu_milli=cpu_milli, memory_bytes=memory, disk_bytes=0, weight=100,
        processes=[worker.claim],
    )  # fmt: skip


def look(processes: Processes) -> None:
    now = time.monotonic_ns() // 1_000_000
    processes.scan(now)
    processes.measure(now, 10**12)


def test_a_process_gets_no_more_memory_than_its_lease_has(worker: Worker) -> None:
    """It keeps what it has, and gets more when the limit grows, and without a lease as before."""
    processes = Processes()
    enforcer = Enforcer(processes)
    enforcer.take([lease(worker, memory=200 * MB)])
    look(processes)
    (use,) = enforcer.uses()
    assert (use.processes, use.held_by) == (1, "rlimit")
    assert 0 < use.memory_bytes < 100 * MB
    assert worker.take(50) == "got"
    assert worker.take(200) == "refused"
    enforcer.take([lease(worker, memory=500 * MB)])
    look(processes)
    (use,) = enforcer.uses()
    assert use.used_permille == use.memory_bytes * 1_000 // (500 * MB)
    assert worker.take(200) == "got"
    enforcer.take([lease(worker, memory=100 * MB)])
    look(processes)
    enforcer.uses()
    assert worker.take(2) == "refused"
    enforcer.take(())
    look(processes)
    assert enforcer.uses() == ()
    assert worker.take(200) == "got"
    assert resource.prlimit(worker.claim.pid, resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY


def test_a_process_runs_on_as_many_cores_as_its_lease_needs(worker: Worker) -> None:
    """Rounded up; all that the probe may use when the lease is over."""
    mine = os.sched_getaffinity(0)
    processes = Processes()
    enforcer = Enforcer(processes)
    enforcer.take([lease(worker, cpu_milli=500)])
    look(processes)
    enforcer.uses()
    assert len(os.sched_getaffinity(worker.claim.pid)) == 1
    enforcer.take(())
    enforcer.uses()
    assert os.sched_getaffinity(worker.claim.pid) == mine


def test_cores_are_spread_and_never_none(worker: Worker) -> None:
    """More than there are is all of them."""
    wanted = [lease(worker, cpu_milli=milli) for milli in (1, 1_000, 1_001, 9_000)]
    assert [len(cores_for(one, [0, 1, 2, 3])) for one in wanted] == [1, 1, 2, 4]
    assert cores_for(wanted[0], [4]) == {4}


def test_others_processes_are_not_touched(worker: Worker, tmp_path: Path) -> None:
    """One of another agent, by its credentials; a number that another process has now; one that has ended."""
    environment = {**os.environ, "BURSAR_CREDS": "/x/bob.creds"}
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    try:
        started = started_at(child.pid)
        assert started is not None
        processes = Processes()
        enforcer = Enforcer(processes)
        claims = [Claim(pid=child.pid, started=started), Claim(pid=worker.claim.pid, started=worker.claim.started + 1)]
        plan = lease(worker, memory=MB).model_copy(update={"processes": claims})
        enforcer.take([plan])
        deadline = time.monotonic() + 20
        look(processes)
        while processes.alive.get(child.pid) is None or processes.alive[child.pid].group != "agent.bob":
            assert time.monotonic() < deadline
            look(processes)
        (use,) = enforcer.uses()
        assert (use.processes, use.memory_bytes, use.held_by) == (0, 0, "nothing")
    finally:
        child.kill()
        child.wait()


class Kernel:
    """A directory that looks like one of cgroup 2."""

    def __init__(self, root: Path, controllers: str = "cpu io memory pids") -> None:
        (root / "cgroup.controllers").write_text(controllers)
        self.root = root / "bursar"

    def of(self, lease: str, name: str) -> str:
        return (self.root / f"lease-{lease}" / name).read_text()


def test_a_lease_becomes_a_cgroup(worker: Worker, tmp_path: Path) -> None:
    """With what the kernel is to keep, and its processes in it."""
    kernel = Kernel(tmp_path)
    cgroups = Cgroups.open(kernel.root)
    assert cgroups is not None
    (kernel.root / "lease-1.1.7").mkdir()
    (kernel.root / "lease-1.1.7" / "cgroup.procs").write_text("")
    (kernel.root / "lease-1.1.6").mkdir()
    processes = Processes()
    enforcer = Enforcer(processes, cgroups)
    enforcer.take([lease(worker, cpu_milli=1_500, memory=80 * MB)])
    look(processes)
    assert [use.held_by for use in enforcer.uses()] == ["cgroup"]
    assert kernel.of("1.1.7", "cpu.max") == "150000 100000"
    assert (kernel.of("1.1.7", "cpu.weight"), kernel.of("1.1.7", "memory.high")) == ("100", str(80 * MB))
    assert kernel.of("1.1.7", "memory.max") == str(90 * MB)
    assert kernel.of("1.1.7", "cgroup.procs") == str(worker.claim.pid)
    assert not (kernel.root / "lease-1.1.6").exists()
    assert resource.prlimit(worker.claim.pid, resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    assert [use.held_by for use in enforcer.uses()] == ["cgroup"]


@pytest.mark.parametrize("controllers", ["", "cpu pids"])
def test_without_the_controllers_there_are_no_cgroups(tmp_path: Path, controllers: str) -> None:
    """Nor where there is no cgroup 2 at all, or it may not be written to."""
    assert Cgroups.open(Kernel(tmp_path, controllers).root) is None
    assert Cgroups.open(tmp_path / "none" / "bursar") is None
    (tmp_path / "cgroup.controllers").write_text("cpu memory")
    (tmp_path / "file").write_text("")
    assert Cgroups.open(tmp_path / "file") is None


def test_a_group_that_does_not_take_its_limits_leaves_them_to_the_process(worker: Worker, tmp_path: Path) -> None:
    """The kernel refuses: what one process may do to another is done."""
    cgroups = Cgroups.open(Kernel(tmp_path).root)
    processes = Processes()
    enforcer = Enforcer(processes, cgroups)
    enforcer.take([lease(worker, memory=80 * MB)])
    look(processes)
    assert [use.held_by for use in enforcer.uses()] == ["rlimit"]


async def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_the_probe_asks_for_its_leases_when_they_change(worker: Worker) -> None:
    """At the start, and whenever the monitor says that something is other; an answer that is none changes nothing."""
    network = MemoryNetwork()
    bus, monitor = network.connect("alpha"), network.connect("svc-monitor")
    leases = [lease(worker, memory=MB)]
    asked: list[str] = []

    def answer(call: Call) -> None:
        asked.append(call.principal)
        decode(HostPlanQuery, call.data)
        rows = [one.model_dump() for one in leases]
        call.respond(encode({"v": 1, "ok": True, "revision": len(asked), "leases": rows, "fence": "1.1.1." + "0" * 16}))

    service = Service(monitor, "monitor", "0.1.0", instance="m-1")
    await service.start()
    await service.add_endpoint("host-plan", "bursar.req.monitor.host-plan.*", answer)
    enforcer = Enforcer(Processes())
    planner = asyncio.create_task(Planner(bus, enforcer).run())
    await until(lambda: bool(enforcer.plan))
    leases.clear()
    monitor.publish("bursar.evt.monitor.quota.alpha", b"{}")
    await until(lambda: not enforcer.plan)
    assert asked == ["alpha", "alpha"]
    planner.cancel()
