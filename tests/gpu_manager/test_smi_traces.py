"""What nvidia-smi has written, played as a card."""

from __future__ import annotations

from pathlib import Path

import pytest

from bursar.errors import CallerError
from bursar_gpu_manager import node
from bursar_gpu_manager.node import parse
from bursar_gpu_manager.port import Card, Memory, Sensors
from bursar_gpu_manager.replayed import Replayed
from bursar_gpu_manager.smi_traces import is_smi, read_smi

MIB = 1024**2

BY_SECONDS = """\
time [s],uuid, clocks_event_reasons.hw_slowdown, clocks_event_reasons.sw_thermal_slowdown, memory.total [MiB], \
memory.reserved [MiB], memory.used [MiB], memory.free [MiB], utilization.gpu [%], utilization.memory [%]
0.143,GPU-c6, Not Active, Not Active, 65247 MiB, 294 MiB, 59990 MiB, 4961 MiB, 0 %, 0 %
1.237,GPU-c6, Not Active, Active, 65247 MiB, 294 MiB, 59990 MiB, 4961 MiB, 44 %, 41 %
""".splitlines()

BY_CLOCK = """\
timestamp, uuid, index, name, temperature.gpu, temperature.memory, power.draw [W], memory.total [MiB], memory.used [MiB]
2026/01/02 10:00:00.250, GPU-a, 0, NVIDIA GeForce RTX 4070, 51, [N/A], 63.21 W, 12282 MiB, 100 MiB
2026/01/02 10:00:00.250, GPU-b, 1, NVIDIA GeForce RTX 4070, 52, [N/A], [N/A], 12282 MiB, [N/A]
2026/01/02 10:00:01.250, GPU-a, 0, NVIDIA GeForce RTX 4070, 55, [N/A], 200.00 W, 12282 MiB, 9000 MiB
""".splitlines()


def test_a_file_of_nvidia_smi_is_played_by_the_names_of_its_columns() -> None:
    """Memory without what the driver keeps, reasons of low clocks by name, time in seconds."""
    port = Replayed(read_smi(BY_SECONDS))
    assert port.memory("GPU-c6") == Memory(65_247 * MIB, 294 * MIB, 59_990 * MIB, 4_961 * MIB)
    assert port.sensors("GPU-c6") == Sensors(utilisation=0, memory_utilisation=0, throttle=())
    port.advance(1_094)
    assert port.sensors("GPU-c6").throttle == ("thermal_software",)
    assert port.processes("GPU-c6") is None


def test_what_is_not_in_the_file_or_not_available_is_unknown() -> None:
    """Rows of the same time are one sample; a card that is in no later row has been lost."""
    samples = read_smi(BY_CLOCK)
    assert [(sample.at_ms % 3_600_000, len(sample.cards)) for sample in samples] == [(250, 2), (1_250, 1)]
    port = Replayed(samples)
    assert port.cards()[1] == Card("GPU-b", 1, "NVIDIA GeForce RTX 4070")
    assert port.memory("GPU-b") == Memory(12_282 * MIB, None, None, None)
    assert port.sensors("GPU-b") == Sensors(temperature=52)
    assert (port.sensors("GPU-a").power_mw, port.sensors("GPU-a").throttle) == (63_210, None)


@pytest.mark.parametrize(
    "lines",
    [[], BY_CLOCK[:1], [BY_CLOCK[0], "1, 2"], [*BY_SECONDS[:1], BY_SECONDS[1].replace("0.143", "now")],
     [BY_CLOCK[0], BY_CLOCK[1].replace("10:00:00.250", "")]],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_an_error(lines: list[str]) -> None:
    """Typed, with the line."""
    with pytest.raises(CallerError) as error:
        read_smi(lines)
    assert error.value.code == "bad_trace"


def test_the_probe_knows_such_a_file_by_its_first_line(tmp_path: Path) -> None:
    """And plays it."""
    assert is_smi(BY_SECONDS[0])
    assert not is_smi('{"trace": "bursar-gpu", "v": 1}')
    trace = tmp_path / "smi.csv"
    trace.write_text("\n".join(BY_SECONDS))
    port = node._port("h", parse(["--name", "h", "--replay", str(trace)]))
    assert [card.uuid for card in port.cards()] == ["GPU-c6"]
