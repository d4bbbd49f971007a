"""The host's probe: what this machine says, and what a driver may say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bursar.bus.codec import decode
from bursar.bus.memory import MemoryNetwork
from bursar.contracts.monitor_batch import HostBatch
from bursar.kernel.clock import SystemClock
from bursar_monitor.node import Node, NodeSettings, host_name
from bursar_monitor.nvml import Gpus
from bursar_monitor.probe import Probe


class NVMLError(Exception):
    """As in pynvml."""


class Driver:
    """A twin of the module pynvml, with devices that can fail."""

    NVMLError = NVMLError
    NVML_TEMPERATURE_GPU = 0

    def __init__(self, count: int) -> None:
        self.count = count
        self.lost: set[int] = set()
        self.unknown: set[str] = set()
        self.starts = 0
        self.is_broken = False

    def nvmlInit(self) -> None:  # noqa: N802 - the library's names
        if self.is_broken:
            raise NVMLError
        self.starts += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.is_broken:
            raise NVMLError
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if index >= self.count or index in self.lost:
            raise NVMLError
        return index

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers: dict[str, Any] = {
            "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
            "nvmlDeviceGetName": lambda _: b"Card",
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=12, used=5),
            "nvmlDeviceGetUtilizationRates": lambda _: SimpleNamespace(gpu=37),
            "nvmlDeviceGetTemperature": lambda _, __: 61,
            "nvmlDeviceGetPowerUsage": lambda _: 95_000,
        }

        def ask(*arguments: Any) -> Any:
            if name in self.unknown:
                raise NVMLError
            return answers[name](*arguments)

        return ask


def test_a_device_tells_what_it_knows() -> None:
    """Names once, numbers at each look; what it does not know is None."""
    driver = Driver(2)
    driver.unknown = {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage"}
    first, second = Gpus(driver).sample()
    assert (first.uuid, first.name, first.memory_total_bytes, first.memory_used_bytes) == ("GPU-0", "Card", 12, 5)
    assert (first.temperature_c, first.busy_permille, first.power_mw) == (61, None, None)
    assert second.index == 1
    driver.unknown = set()
    assert Gpus(driver).sample()[0].busy_permille == 370


def test_a_device_that_stops_answering_is_lost() -> None:
    """Whether the driver calls it unknown, its numbers fail, or the driver itself is gone; and it may come back."""
    driver = Driver(2)
    gpus = Gpus(driver)
    gpus.sample()
    driver.lost = {1}
    assert [(gpu.uuid, gpu.lost) for gpu in gpus.sample()] == [("GPU-0", False), ("GPU-1", True)]
    driver.lost, driver.count = set(), 1
    assert [gpu.lost for gpu in gpus.sample()] == [False, True]
    driver.unknown = {"nvmlDeviceGetMemoryInfo"}
    assert [gpu.lost for gpu in gpus.sample()] == [True, True]
    driver.unknown, driver.is_broken = set(), True
    assert [gpu.lost for gpu in gpus.sample()] == [True, True]
    assert [gpu.lost for gpu in gpus.sample()] == [True, True]
    driver.is_broken, driver.count = False, 2
    assert [gpu.lost for gpu in gpus.sample()] == [False, False]
    assert driver.starts == 2
    gpus.close()


def test_a_host_without_a_driver_has_no_devices() -> None:
    """No library, or one that does not start."""
    assert Gpus(None).sample() == ()
    driver = Driver(1)
    driver.is_broken = True
    assert Gpus(driver).sample() == ()


def test_this_machine_can_be_looked_at(tmp_path: Path) -> None:
    """Real numbers of the machine that the test runs on; what it does not have is None."""
    (tmp_path / "cpu").write_text("some avg10=12.34 avg60=0.00 avg300=0.00 total=1\n")
    (tmp_path / "memory").write_text("nonsense\n")
    probe = Probe(SystemClock(), Gpus(None), disk=str(tmp_path), pressure=tmp_path)
    first, second = probe.look(), probe.look()
    assert first is not None
    assert second is not None
    assert (first.seq, second.seq, first.boot) == (1, 2, second.boot)
    assert first.memory is not None
    assert 0 < first.memory.available_bytes <= first.memory.total_bytes
    assert first.disk is not None
    assert 0 < first.disk.used_bytes <= first.disk.total_bytes
    assert first.pressure is not None
    pressure = first.pressure
    assert (pressure.cpu_permille, pressure.memory_permille, pressure.io_permille) == (123, None, None)
    assert first.probe is not None
    assert first.probe.rss_bytes
    missing = Probe(SystemClock(), Gpus(None), disk=str(tmp_path / "none"), pressure=tmp_path / "none").look()
    assert missing is not None
    assert missing.disk is None
    assert missing.pressure is None


async def test_samples_are_published_as_the_host() -> None:
    """On the host's own subject; one that could not be sent comes with the next."""
    network = MemoryNetwork()
    heard: list[tuple[str, HostBatch]] = []
    listener = network.connect("svc-monitor")
    await listener.subscribe("bursar.node.>", lambda msg: heard.append((msg.subject, decode(HostBatch, msg.data)[0])))
    bus = network.connect("gpu-host-1")
    node = Node(bus, Probe(SystemClock(), Gpus(Driver(1))), 1.0)
    node.publish()
    network.stop()
    node.publish()
    network.start()
    node.publish()
    await bus.flush()
    await listener.flush()
    assert [(subject, batch.seq) for subject, batch in heard] == [
        ("bursar.node.gpu-host-1.batch", 1), ("bursar.node.gpu-host-1.batch", 3),
    ]  # fmt: skip
    assert [sample.seq for sample in heard[1][1].older()] == [2, 1]
    assert (node.sent, node.unsent) == (2, 1)


@pytest.mark.parametrize(
    ("name", "host"), [("Web_01.example", "web-01-example"), ("---", "host"), ("a" * 99, "a" * 64)]
)
def test_a_machines_name_becomes_a_principal(name: str, host: str) -> None:
    """On a server without authentication; with credentials theirs counts."""
    assert host_name(NodeSettings(host=name)) == host
