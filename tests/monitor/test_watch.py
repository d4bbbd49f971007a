"""Asking the fleet: who is away, who answers nonsense, and what a broken connection says."""

from __future__ import annotations

from bursar.bus.call import Call
from bursar.bus.memory import MemoryBus, MemoryNetwork
from bursar.bus.micro import Service
from bursar.client.monitor import FleetWatch
from bursar.contracts.base import request_subject


async def watching(network: MemoryNetwork) -> tuple[FleetWatch, MemoryBus]:
    bus = network.connect("ops")
    watch = FleetWatch(bus)
    await watch.start()
    return watch, bus


async def test_a_sweep_finds_who_is_there() -> None:
    """Each instance once, also when it answers twice; an answer to an earlier question does not count."""
    network = MemoryNetwork()
    watch, _ = await watching(network)
    for name in ("a", "b"):
        await Service(network.connect("svc-limiter"), "limiter", "0.1.0", instance=name).start()
    found = await watch.sweep(0.05)
    assert found is not None
    assert sorted(row.instance for row in found) == ["a", "b"]
    old = f"{watch._inbox}.1"
    network.connect("svc-x").publish(old, b'{"name":"limiter","id":"late","version":"1","endpoints":[]}')
    again = await watch.sweep(0.05)
    assert again is not None
    assert sorted(row.instance for row in again) == ["a", "b"]
    await watch.close()


async def test_a_broken_connection_is_no_empty_fleet() -> None:
    """None, and not a list without anybody."""
    network = MemoryNetwork()
    watch, _ = await watching(network)
    network.stop()
    assert await watch.sweep(0.01) is None
    assert await watch.rows("limiter", 0.05) is None
    assert await watch.picture(0.05) is None


async def test_a_service_that_answers_nonsense_is_one_that_does_not_answer() -> None:
    """Wrong encoding, another version's fields: None, and no exception."""
    network = MemoryNetwork()
    watch, _ = await watching(network)
    answers = [b"\xc1", b'{"v":1,"ok":true}', b'{"v":2}']

    def answer(call: Call) -> None:
        call.respond(answers[0])

    service = Service(network.connect("svc-limiter"), "limiter", "0.1.0")
    await service.add_endpoint("status", request_subject("limiter", "status", "*"), answer)
    await service.start()
    while answers:
        assert await watch.rows("limiter", 0.5) is None
        answers.pop(0)
