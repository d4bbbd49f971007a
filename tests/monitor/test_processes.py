"""The fleet's processes: real ones of this machine, and a made-up /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bursar_monitor.lives import SHORT_MS
from bursar_monitor.numa import EVERY_MS, Numa, cores_in
from bursar_monitor.processes import AGAIN_MS, PAGE, TICKS, Processes, group_of, group_of_creds

NEVER = "0"


class Proc:
    """A machine's processes as files; ``now``: seconds since it started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.at(100)

    def at(self, seconds: int) -> None:
        (self.root / "uptime").write_text(f"{seconds}.00 0.00\n")

    def put(
        self, pid: int, *words: str, parent: int = 1, started: int = 99, used: int = 0, pages: int = 10,
        shared: int = 0, creds: str = "", state: str = "S",
    ) -> None:  # fmt: skip
        place = self.root / str(pid)
        place.mkdir(exist_ok=True)
        (place / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
        (place / "environ").write_bytes(f"A=b\0BURSAR_CREDS={creds}\0".encode() if creds else b"A=b\0")
        fields = [state, str(parent), *["0"] * 9, str(used), "0", *["0"] * 6, str(started * TICKS), "0", str(pages)]
        (place / "stat").write_text(f"{pid} (a ) name) {' '.join(fields)}\n")
        (place / "statm").write_text(f"{pages * 2} {pages} {shared} 0 0 0 0\n")

    def drop(self, pid: int) -> None:
        for file in (self.root / str(pid)).iterdir():
            file.unlink()
        (self.root / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.mark.parametrize(
    ("words", "group"),
    [
        (["python", "-m", "bursar_gpu_manager"], "gpu-manager"),
        (["python", "-m", "bursar.cli.child", "77", "bursar_monitor.node"], "probe"),
        (["/venv/bin/python", "/venv/bin/bursar-limiter"], "limiter"),
        (["/usr/bin/nats-server", "-c", "x"], "nats"),
        (["python", "/venv/bin/bursar", "up", "--home", "x"], "supervisor"),
        (["python", "/venv/bin/bursar", "worker", "run"], ""),
        (["grep", "-r", "bursar", "limiter"], ""),
        ([], ""),
    ],
)
def test_a_command_line_says_whose_process_it_is(words: list[str], group: str) -> None:
    """Modules, scripts, the server, the supervisor."""
    assert group_of(words) == group


@pytest.mark.parametrize(
    ("creds", "group"),
    [("/home/x/ann.creds", "agent.ann"), ("svc-limiter.creds", "limiter"), ("svc-limiter-log.creds", "limiter"),
     ("/x/BAD NAME.creds", "")],
)  # fmt: skip
def test_credentials_say_it_otherwise(creds: str, group: str) -> None:
    """An agent's are in its environment."""
    assert group_of_creds(f"A=b\0BURSAR_CREDS={creds}\0C=d".encode()) == group
    assert group_of_creds(b"XBURSAR_CREDS=/x/ann.creds\0") == ""


def test_processes_are_counted_by_group(proc: Proc) -> None:
    """CPU since the look before, memory now; children belong to their parent's group; others are left out."""
    proc.put(10, "python", "-m", "bursar_limiter", used=5)
    proc.put(20, "python", "agent.py", creds="/x/ann.creds", pages=30)
    proc.put(21, "gcc", parent=20, pages=5)
    proc.put(30, "postgres")
    processes = Processes(proc.root)
    processes.scan(0)
    processes.measure(0, 1)
    proc.put(10, "python", "-m", "bursar_limiter", used=5 + TICKS // 2)
    processes.scan(1_000)
    groups, rows = processes.measure(1_000, 1), processes.largest()
    assert [(g.group, g.processes, g.cpu_milli, g.rss_bytes, g.starts) for g in groups] == [
        ("agent.ann", 2, 0, 35 * PAGE, 2), ("limiter", 1, 500, 10 * PAGE, 1),
    ]  # fmt: skip
    assert [(row.pid, row.age_ms) for row in rows] == [(20, 1_000), (10, 1_000), (21, 1_000)]


def test_a_worker_that_dies_young_again_and_again_crashes(proc: Proc) -> None:
    """A compiler that an agent runs, what ends after a long life, and what nobody has collected yet do not count."""
    processes = Processes(proc.root)
    proc.put(20, "python", "agent.py", creds="/x/ann.creds", started=10)
    for number in range(3):
        proc.put(100 + number, "python", "-m", "bursar_limiter")
        proc.put(200 + number, "gcc", parent=20)
        processes.scan(number * 1_000)
        proc.put(100 + number, "python", "-m", "bursar_limiter", state="Z")
        proc.drop(200 + number)
        processes.scan(number * 1_000 + 500)
        assert processes.is_restless(number * 1_000 + 600)
    proc.drop(20)
    processes.scan(3_000)
    groups = processes.measure(3_000, 1)
    assert [(g.group, g.processes, g.crashes) for g in groups] == [("limiter", 0, 3)]
    processes.scan(90_000)
    assert processes.measure(90_000, 1) == ()


def test_a_process_that_becomes_another_program_is_asked_again(proc: Proc) -> None:
    """Between fork and exec it looks like its parent; and a number that was used again is another process."""
    proc.put(10, "python", "/venv/bin/bursar", "up", started=10)
    proc.put(11, "python", "/venv/bin/bursar", "up", parent=10)
    processes = Processes(proc.root)
    processes.scan(0)
    proc.put(11, "python", "-m", "bursar_limiter", parent=10)
    processes.scan(100)
    assert processes.alive[11].group == "limiter"
    proc.put(11, "python", "-m", "bursar_breaker", parent=10, started=100)
    processes.scan(200)
    processes.scan(300)
    assert {life.group for life in processes.alive.values()} == {"supervisor", "breaker"}


def test_a_lease_claims_processes_and_their_children(proc: Proc) -> None:
    """By number and start, so that another process of that number is not meant; without a claim it is nobody's."""
    proc.put(40, "engine", started=50)
    proc.put(41, "engine-child", parent=40)
    processes = Processes(proc.root)
    processes.scan(0)
    assert processes.alive == {}
    processes.claim({(40, 50 * TICKS): "1.1.7"})
    processes.scan(1_000)
    assert {pid: life.lease for pid, life in processes.alive.items()} == {40: "1.1.7", 41: "1.1.7"}
    processes.claim({(40, 51 * TICKS): "1.1.8"})
    processes.scan(2_000)
    assert {life.lease for life in processes.alive.values()} == {""}
    processes.scan(AGAIN_MS * 2)


def test_a_machine_that_shows_nothing_has_no_processes(tmp_path: Path) -> None:
    """Another system, or files that are no numbers."""
    processes = Processes(tmp_path / "none")
    processes.scan(0)
    assert processes.measure(0, 1) == ()


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_real_processes_are_seen_with_what_they_use() -> None:
    """One that works and one that holds 60 MB, both by their credentials; and their ends."""
    environment = {**os.environ, "BURSAR_CREDS": "/x/test-agent-of-processes.creds"}
    program = "import time\nheld = b'x' * 60_000_000\nwhile time.monotonic_ns(): held[:1]\n"
    child = subprocess.Popen([sys.executable, "-c", program], env=environment)
    processes = Processes()

    def seen() -> bool:
        now = time.monotonic_ns() // 1_000_000
        processes.scan(now)
        groups = processes.measure(now, 10**12)
        mine = [g for g in groups if g.group == "agent.test-agent-of-processes"]
        return bool(mine) and mine[0].rss_bytes > 60_000_000 and mine[0].cpu_milli > 0

    try:
        eventually(seen)
    finally:
        child.kill()
        child.wait()
    processes.scan(time.monotonic_ns() // 1_000_000)
    assert child.pid not in processes.alive
    assert SHORT_MS > 0


def test_numa_nodes_are_read_now_and_then(tmp_path: Path) -> None:
    """Every ten seconds; a node that tells nothing is left out."""
    for number, free in ((0, 10), (1, 30)):
        node = tmp_path / f"node{number}"
        node.mkdir()
        (node / "meminfo").write_text(f"Node {number} MemTotal: 100 kB\nNode {number} MemFree:  {free} kB\n")
        (node / "cpulist").write_text("0-3,8\n")
    (tmp_path / "node2").mkdir()
    numa = Numa(tmp_path)
    assert [(one.node, one.cores, one.total_bytes, one.free_bytes) for one in numa.sample(0)] == [
        (0, 5, 102_400, 10_240), (1, 5, 102_400, 30_720),
    ]  # fmt: skip
    (tmp_path / "node0" / "meminfo").unlink()
    assert len(numa.sample(EVERY_MS - 1)) == 2
    assert len(numa.sample(EVERY_MS)) == 1
    assert Numa(tmp_path / "none").sample(0) == ()
    assert cores_in("") == 0
