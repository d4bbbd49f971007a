"""The probe: what it publishes, what it is told on the command line, and its control port."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bursar.bus.base import Msg
from bursar.bus.codec import decode
from bursar.bus.memory import MemoryNetwork
from bursar.client.gpu_simulated import SimulatedCards, SimulatedProcess
from bursar.contracts import gpu as wire
from bursar.errors import ServiceError
from bursar_gpu_manager import node
from bursar_gpu_manager.control import Control
from bursar_gpu_manager.node import Probe, parse
from bursar_gpu_manager.simulated import GIB, simulated_host


async def test_a_probe_publishes_as_its_host_and_counts_up() -> None:
    """One boot, numbers without a gap, labels; whether the port is read in a thread or not."""
    network = MemoryNetwork()
    heard: list[wire.Report] = []

    def hear(msg: Msg) -> None:
        assert msg.subject == "bursar.node.gpu-1.gpu"
        heard.append(decode(wire.Report, msg.data)[0])

    await network.connect("listener").subscribe("bursar.node.>", hear)
    probe = Probe(network.connect("gpu-1"), simulated_host("gpu-1", "2x16GiB"), labels={"zone": "a"})
    await probe.publish()
    probe.in_thread = True
    await probe.publish()
    while len(heard) < 2:  # noqa: ASYNC110 - the network has turns of the loop of its own
        await asyncio.sleep(0)
    assert [(report.boot, report.seq) for report in heard] == [(probe.boot, 1), (probe.boot, 2)]
    assert [device.used for device in heard[0].devices] == [0, 0]
    assert heard[0].labels == {"zone": "a"}


async def test_a_report_without_a_connection_is_left_unsaid() -> None:
    """The next one makes up for it."""
    network = MemoryNetwork()
    bus = network.connect("gpu-1")
    probe = Probe(bus, simulated_host("gpu-1", "16GiB"), interval=0.001)
    network.stop()
    running = asyncio.create_task(probe.run())
    while probe.seq < 3:  # noqa: ASYNC110 - it tells nobody
        await asyncio.sleep(0.001)
    running.cancel()


def test_the_command_line_names_hosts_and_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names without authentication; labels; what is missing is said."""
    monkeypatch.delenv("BURSAR_CREDS", raising=False)
    options = parse(["--name", "a", "--name", "b", "--simulate", "2x16GiB", "--label", "zone=eu", "--interval", "0.2"])
    assert options.hosts == (("a", None), ("b", None))
    assert (options.labels, options.interval) == ({"zone": "eu"}, 0.2)
    for wrong in ([], ["--name", "a", "--name", "b"], ["--name", "a", "--interval", "0"]):
        with pytest.raises(SystemExit):
            parse(wrong)


async def test_what_a_probe_records_another_one_plays(tmp_path: Path) -> None:
    """A trace of every look, as the port told it."""
    host = simulated_host("gpu-1", "2xRTX4070")
    trace = tmp_path / "trace"
    options = parse(["--name", "gpu-1", "--simulate", "RTX4070", "--record", str(trace)])
    probe = Probe(MemoryNetwork().connect("gpu-1"), host, 0.5, record=node._trace(options, "gpu-1"))
    for _ in range(3):
        host.allocate(host.start()[0], "SIM-gpu-1-0", GIB)
        await probe.publish()
    played = node._port("gpu-1", parse(["--name", "gpu-1", "--replay", str(trace)]))
    used = []
    for _ in range(3):
        used.append(played.memory("SIM-gpu-1-0").used)
        played.advance(500)
    assert used == [GIB, 2 * GIB, 3 * GIB]
    assert played.cards() == host.cards()


def test_options_that_exclude_each_other_are_refused() -> None:
    """A trace is not simulated; several hosts have no one gate."""
    two = ["--name", "a", "--name", "b", "--simulate", "1GiB"]
    for wrong in ([*two, "--gate", "g"], [*two, "--record", "r"], ["--name", "a", "--simulate", "x", "--replay", "r"]):
        with pytest.raises(SystemExit):
            parse(wrong)
    assert node.main(["--name", "h1", "--replay", "/nowhere/at/all"]) == 1


def test_without_cards_the_probe_ends_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 1; no trace."""
    monkeypatch.delenv("BURSAR_CREDS", raising=False)
    monkeypatch.setattr(node, "to_stderr", lambda *_: None)
    assert node.main(["--name", "h1", "--simulate", "nonsense"]) == 1


@pytest.mark.parametrize("kind", ["port", "socket"])
async def test_processes_use_simulated_cards_over_the_control_port(tmp_path: Path, kind: str) -> None:
    """A process ends with its connection, and its memory is free then."""
    host = simulated_host("gpu-1", "16GiB")
    control = Control({"gpu-1": host})
    address = await control.start("127.0.0.1:0" if kind == "port" else str(tmp_path / "control"))
    cards = await SimulatedCards.connect(address)
    async with SimulatedProcess.on(address, "gpu-1") as process:
        assert process.identity == (1_001, host.started[1_001])
        await process.allocate("SIM-gpu-1-0", 12 * GIB)
        with pytest.raises(ServiceError, match="out_of_memory"):
            await process.allocate("SIM-gpu-1-0", 5 * GIB)
        await process.free("SIM-gpu-1-0", GIB)
        assert (await cards.judge())["gpu-1"]["devices"]["SIM-gpu-1-0"]["used"] == 11 * GIB
    assert host.devices["SIM-gpu-1-0"].used == 0
    killed = await SimulatedCards.connect(address)
    pid = (await killed.ask("start", host="gpu-1"))["pid"]
    await killed.ask("allocate", host="gpu-1", pid=pid, device="SIM-gpu-1-0", bytes=GIB)
    await killed.close()
    while host.devices["SIM-gpu-1-0"].used:  # noqa: ASYNC110 - a driver tells when asked
        await asyncio.sleep(0.001)
    await cards.lose("gpu-1", "SIM-gpu-1-0")
    with pytest.raises(ServiceError, match="device_lost"):
        await cards.ask("allocate", host="gpu-1", pid=pid, device="SIM-gpu-1-0", bytes=GIB)
    await cards.restore("gpu-1", "SIM-gpu-1-0")
    await control.close()
    with pytest.raises(ServiceError, match="gone"):
        await cards.judge()
    await cards.close()


@pytest.mark.parametrize(
    "line", [b"", b"x", b"[]", b"{}", b'{"op":"fly"}', b'{"op":"start"}', b'{"op":"start","host":"h9"}',
             b'{"op":"allocate","host":"gpu-1","pid":"x","device":"d","bytes":1}']
)  # fmt: skip
def test_the_control_port_answers_nonsense_with_an_error(line: bytes) -> None:
    """It goes on."""
    control = Control({"gpu-1": simulated_host("gpu-1", "16GiB")})
    answer = control.answer(line, set())
    assert answer["ok"] is False
    assert json.dumps(answer)
