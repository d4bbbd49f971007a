"""What every adapter of the port must do, whatever stands behind it: the same tests for all of them.

A card of another make is one more entry of `ADAPTERS`; `OtherMake` shows that a driver which tells only sizes fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from bursar.bus.codec import decode, encode
from bursar.bus.permissions import AGENT_PAYLOAD
from bursar.contracts import gpu as wire
from bursar.errors import BursarError
from bursar_gpu_manager.nvml import Nvml
from bursar_gpu_manager.port import Card, DeviceLost, DevicePort, Memory, ProcessUse, Sensors, Topology
from bursar_gpu_manager.replayed import Replayed, header, read_trace, sample_of
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import GIB, simulated_host
from tests.gpu_manager.desk import Desk
from tests.gpu_manager.fake_nvml import NOT_SUPPORTED, OPTIONAL, FakeNvml


class OtherMake:
    """An adapter for a driver of which nothing is known but the size of its cards and what is in use."""

    def __init__(self) -> None:
        self.lost: set[str] = set()

    def cards(self) -> Sequence[Card]:
        return [Card(f"0x{index}a7c", index, "Other Make 7000") for index in range(2)]

    def _answer(self, uuid: str, answer: Any) -> Any:
        if uuid in self.lost or uuid not in {card.uuid for card in self.cards()}:
            raise DeviceLost(uuid)
        return answer

    def memory(self, uuid: str) -> Memory:
        found: Memory = self._answer(uuid, Memory(16 * GIB, None, GIB, None))
        return found

    def processes(self, uuid: str) -> Sequence[ProcessUse]:
        found: list[ProcessUse] = self._answer(uuid, [ProcessUse(77, None, None)])
        return found

    def sensors(self, uuid: str) -> Sensors:
        found: Sensors = self._answer(uuid, Sensors())
        return found

    def topology(self, uuid: str) -> Topology:
        found: Topology = self._answer(uuid, Topology())
        return found

    def advance(self, ms: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Adapter(NamedTuple):
    """A port, and how its first card is lost."""

    port: DevicePort
    lose: Callable[[], object]


def nvml(*unsupported: str) -> Adapter:
    library = FakeNvml()
    library.running = [(41, 500 * 2**20), (42, None)]
    library.fails = dict.fromkeys(unsupported, NOT_SUPPORTED)
    return Adapter(Nvml(library), lambda: library.lost.add(0))


def simulated(what: str) -> Adapter:
    host = simulated_host("h", what)
    pid, _ = host.start()
    first = next(iter(host.devices))
    host.allocate(pid, first, GIB)
    return Adapter(host, lambda: host.lose(first))


def divided() -> Adapter:
    host = simulated_host("h", "H100")
    first = host.divide("SIM-h-0", 7)[0]
    return Adapter(host, lambda: host.lose(first))


def replayed(of: Adapter) -> Adapter:
    """Two samples of another adapter, its first card lost in the second."""
    lines = [header(host="h"), sample_of(of.port, 0)]
    of.lose()
    port = Replayed(read_trace([*lines, sample_of(of.port, 1_000)]))
    return Adapter(port, lambda: port.advance(1_000))


def other_make() -> Adapter:
    port = OtherMake()
    return Adapter(port, lambda: port.lost.add("0x0a7c"))


ADAPTERS: dict[str, Callable[[], Adapter]] = {
    "nvml": nvml,
    "nvml-small-card": lambda: nvml(*OPTIONAL),
    "simulated-plain": lambda: simulated("2x16GiB"),
    "simulated-rtx4070": lambda: simulated("RTX4070"),
    "simulated-8xh100": lambda: simulated("8xH100"),
    "simulated-mi300x": lambda: simulated("2xMI300X"),
    "simulated-divided": divided,
    "replayed-simulated": lambda: replayed(simulated("RTX4070+2xH200")),
    "replayed-nvml": lambda: replayed(nvml()),
    "another-make": other_make,
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    made = ADAPTERS[request.param]()
    made.port.cards()
    return made


def test_cards_have_names_of_their_own_and_an_order_that_stays(adapter: Adapter) -> None:
    """Asked again, the same cards in the same order."""
    cards = list(adapter.port.cards())
    assert len({card.uuid for card in cards}) == len(cards) > 0
    assert [card.index for card in cards] == sorted(card.index for card in cards)
    assert list(adapter.port.cards()) == cards


def test_memory_is_whole_bytes_that_fit_into_the_card(adapter: Adapter) -> None:
    """What the driver keeps and what is in use are two things."""
    for card in adapter.port.cards():
        memory = adapter.port.memory(card.uuid)
        assert all(value is None or type(value) is int for value in memory)
        assert memory.used is not None
        assert memory.total is not None
        assert 0 <= (memory.reserved or 0) + memory.used <= memory.total


def test_processes_are_named_by_pid_and_start(adapter: Adapter) -> None:
    """Each once; what is not known is None."""
    for card in adapter.port.cards():
        processes = adapter.port.processes(card.uuid) or ()
        assert len({process.pid for process in processes}) == len(processes)
        for process in processes:
            assert process.pid > 0
            assert process.memory is None or process.memory > 0


def test_sensors_are_known_or_none_and_in_range(adapter: Adapter) -> None:
    """Per cent up to 100, temperatures of this world."""
    for card in adapter.port.cards():
        told = adapter.port.sensors(card.uuid)
        for name in ("utilisation", "memory_utilisation", "sm_activity", "dram_activity"):
            assert getattr(told, name) is None or 0 <= getattr(told, name) <= 100
        assert told.temperature is None or -50 < told.temperature < 150
        if None not in (told.temperature, told.slowdown_at, told.margin):
            assert abs((told.slowdown_at or 0) - (told.temperature or 0) - (told.margin or 0)) <= 1
        assert set(told.throttle or ()) <= set(wire.Throttle.__args__)  # type: ignore[attr-defined]


def test_a_lost_card_is_still_named_and_answers_nothing(adapter: Adapter) -> None:
    """The others go on."""
    before = list(adapter.port.cards())
    adapter.lose()
    assert list(adapter.port.cards()) == before
    port = adapter.port
    for ask in (port.memory, port.processes, port.sensors):
        with pytest.raises(DeviceLost):
            ask(before[0].uuid)
    for card in before[1:]:
        assert (port.memory(card.uuid).total or 0) > 0


def test_a_card_that_nobody_knows_is_an_error(adapter: Adapter) -> None:
    """Typed, not a trace."""
    port = adapter.port
    for ask in (port.memory, port.processes, port.sensors, port.topology):
        with pytest.raises(BursarError):
            ask("GPU-of-nobody")


def test_time_may_pass_and_closing_twice_is_harmless(adapter: Adapter) -> None:
    """Whatever the adapter's time is."""
    for ms in (0, 1, 500, 100_000):
        adapter.port.advance(ms)
    adapter.port.close()
    adapter.port.close()


def test_the_report_passes_the_wires_checks_and_leaves_out_what_is_unknown(adapter: Adapter) -> None:
    """Before and after a card is lost; within what a probe may send."""
    totals: dict[str, int] = {}
    for seq in (1, 2):
        payload = encode(report(adapter.port, "b0", seq, totals, {"zone": "a"}))
        assert len(payload) <= AGENT_PAYLOAD
        said, _ = decode(wire.Report, payload)
        assert [row.uuid for row in said.devices] == [card.uuid for card in adapter.port.cards()]
        assert said.devices[0].lost is (seq == 2)
        assert all((row.total or 0) > 0 for row in said.devices)
        adapter.lose()


def test_the_manager_leases_on_any_of_them(adapter: Adapter) -> None:
    """Nothing above the port knows what is behind it."""
    desk = Desk()
    said, _ = decode(wire.Report, encode(report(adapter.port, "b0", 1, {}, {})))
    desk.say("h", said)
    assert desk.granted(GIB)["devices"][0]["host"] == "h"


@pytest.mark.parametrize("name", ["nvml-small-card", "another-make", "simulated-rtx4070"])
def test_what_a_small_card_cannot_tell_is_none_and_never_zero(name: str) -> None:
    """No counters, no links, no division, no node; its memory is leased all the same."""
    port = ADAPTERS[name]().port
    card = port.cards()[0].uuid
    told, sits = port.sensors(card), port.topology(card)
    assert (told.sm_activity, told.dram_activity, told.memory_temperature) == (None, None, None)
    assert (sits.numa_node, sits.cpus, sits.links, sits.divided) == (None, None, None, None)


def test_what_is_recorded_plays_back_the_same() -> None:
    """Card by card and figure by figure, from any adapter."""
    for name, make in ADAPTERS.items():
        made = make()
        made.port.cards()
        for card in made.port.cards():
            made.port.sensors(card.uuid)
        trace = Replayed(read_trace([header(), sample_of(made.port, 5)]))
        assert list(trace.cards()) == list(made.port.cards()), name
        for card in trace.cards():
            assert trace.memory(card.uuid) == made.port.memory(card.uuid)
            assert (trace.processes(card.uuid) or ()) == tuple(made.port.processes(card.uuid) or ())
            assert trace.topology(card.uuid) == made.port.topology(card.uuid)
