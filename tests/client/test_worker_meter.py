"""How busy the host is: by the limits of a container where there are some, else by the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bursar.client.time import ManualClock
from bursar.client.worker_meter import HostMeter, own_group
from bursar.errors import CallerError


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        (root / name.replace("_", ".", 1)).write_text(text)


def test_in_a_container_its_limits_count(tmp_path: Path) -> None:
    """CPU time against the quota since the reading before; memory without what can be dropped."""
    clock = ManualClock()
    write(tmp_path, cpu_max="150000 100000\n", cpu_stat="usage_usec 1000000\nuser_usec 7\n")
    write(tmp_path, memory_max="1000\n", memory_current="700\n", memory_stat="anon 500\ninactive_file 200\n")
    meter = HostMeter(clock.now, tmp_path)
    clock.advance(2_000)
    write(tmp_path, cpu_stat="usage_usec 2500000\n")
    reading = meter.read()
    assert (reading.cpu, reading.memory) == (0.5, 0.5)
    clock.advance(1_000)
    assert meter.read().cpu == 0.0
    assert meter.read().cpu == 0.0, "no time has passed"


@pytest.mark.parametrize("limit", ["max 100000", "", "odd", "0 100000", "1 0"])
def test_without_limits_it_is_the_machine(tmp_path: Path, limit: str) -> None:
    """Whatever the files say that are there."""
    write(tmp_path, cpu_max=limit, memory_max="max\n", memory_current="700\n")
    reading = HostMeter(ManualClock().now, tmp_path).read()
    assert 0.0 <= reading.cpu <= 1.0
    assert 0.0 < reading.memory < 1.0


def test_the_group_of_a_process_is_where_the_kernel_says(tmp_path: Path) -> None:
    """In a container the mounted one itself; of a service its own; with the first version of cgroups, none."""
    told, mounted = tmp_path / "cgroup", tmp_path / "mounted"
    assert own_group(told, mounted) == mounted
    for text, where in [
        ("0::/\n", mounted),
        ("0::/system.slice/w.service\n", mounted / "system.slice/w.service"),
        ("3:cpu:/x\n", mounted),
    ]:
        told.write_text(text)
        assert own_group(told, mounted) == where


def test_without_psutil_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(CallerError, match=r"bursar\[worker\]"):
        HostMeter(ManualClock().now)
