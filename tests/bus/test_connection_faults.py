"""A connection comes back by itself: stalls, cuts, late PONGs, servers that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from bursar.bus.base import ConnectFailed, NotConnected, RequestTimeout
from bursar.bus.call import Call
from bursar.bus.connection import NatsBus, connect
from bursar.bus.micro import Service
from bursar.errors import BursarError
from tests.bus.proxy import Proxy
from tests.bus.support import Awake, RealServer, eventually, free_port

pytestmark = pytest.mark.integration

HEALED_WITHIN = 6.0
SUBJECT = "bursar.req.x.echo.a"


class Scene:
    """A service behind the proxy, an agent beside it."""

    def __init__(self, proxy: Proxy, bus: NatsBus, agent: NatsBus, service: Service) -> None:
        self.proxy = proxy
        self.bus = bus
        self.agent = agent
        self.service = service

    async def ask(self, payload: bytes = b"{}", timeout: float = 1.0) -> bytes:
        return (await self.agent.request(SUBJECT, payload, timeout)).data

    async def answers_again(self) -> float:
        """Seconds until a request is answered."""
        awake = Awake(0.5)
        while awake.spent() < HEALED_WITHIN:
            try:
                await self.ask(timeout=0.2)
                return awake.spent()
            except BursarError:
                await asyncio.sleep(0.02)
        raise TimeoutError(f"nobody answers within {HEALED_WITHIN} s")


@pytest.fixture
async def scene(real_server: RealServer) -> AsyncIterator[Scene]:
    proxy = Proxy(real_server.port)
    await proxy.start()
    bus = await connect(proxy.url, principal="svc-x")
    service = Service(bus, "x", "1.0.0")
    await service.add_endpoint("echo", "bursar.req.x.echo.*", lambda call: call.respond(call.data))
    await service.start()
    agent = await connect(real_server.url, principal="a")
    yield Scene(proxy, bus, agent, service)
    await agent.close()
    await bus.close()
    await proxy.stop()


@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)], ids=["both", "up", "down"])
async def test_a_silent_network_is_noticed_and_left(scene: Scene, up: bool, down: bool) -> None:
    """A black hole in either direction: noticed within 4 s, back within 6 s of healing."""
    await scene.ask()
    scene.proxy.stall(up=up, down=down)
    await eventually(lambda: not scene.bus.is_connected, within=4.0)
    with pytest.raises(NotConnected):
        scene.bus.publish("t.x", b"1")
    scene.proxy.heal()
    assert await scene.answers_again() < HEALED_WITHIN
    assert scene.bus.counters.forced_reconnects >= 1
    assert scene.bus.counters.reconnects >= 1


async def test_unsent_bytes_do_not_delay_leaving(scene: Scene) -> None:
    """Closing a socket politely waits until its bytes are sent, which a black hole never takes."""
    scene.proxy.strand()
    published = 0
    with contextlib.suppress(NotConnected):
        while published < 64:
            scene.bus.publish("t.x", bytes(1_000_000))
            published += 1
            await asyncio.sleep(0)
    assert 8 <= published < 64
    assert await scene.answers_again() < HEALED_WITHIN


async def test_a_cut_connection_is_back_at_once(scene: Scene) -> None:
    """A reset is noticed immediately; requests that waited end as unknown."""
    hanging = asyncio.ensure_future(scene.bus.request("bursar.req.x.echo.nobody-answers", b"", 30))
    await asyncio.sleep(0.05)
    hanging.cancel()
    scene.proxy.cut()
    assert await scene.answers_again() < 2.0
    assert scene.bus.counters.disconnects == 1


async def test_refused_attempts_go_on_until_one_succeeds(scene: Scene) -> None:
    """As long as it takes, without one log line per attempt."""
    scene.proxy.refuse = True
    scene.proxy.cut()
    await asyncio.sleep(1.2)
    assert not scene.bus.is_connected
    assert scene.proxy.accepted >= 4
    scene.proxy.heal()
    assert await scene.answers_again() < 2.0


async def test_a_late_pong_does_not_kill_the_connection(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """nats-py's read loop ends when a PONG comes after its flush gave up; ours goes on."""
    scene.proxy.delay = 0.3
    client = scene.bus.client
    with pytest.raises(Exception, match="flush timeout"):
        await client.flush(0.05)  # type: ignore[arg-type]
    await eventually(lambda: client.late_pongs == 1, within=3.0)
    scene.proxy.heal()
    assert client.is_reading
    assert await scene.ask() == b"{}"
    assert scene.bus.counters.disconnects == 0
    assert "InvalidStateError" not in caplog.text


async def test_a_flush_without_answer_makes_a_new_connection(scene: Scene) -> None:
    """Any flush that times out is taken as a broken connection at once."""
    scene.proxy.stall(up=False)
    with pytest.raises(RequestTimeout):
        await scene.bus.flush(0.1)
    assert not scene.bus.is_connected
    scene.proxy.heal()
    assert await scene.answers_again() < HEALED_WITHIN


async def test_a_reading_task_that_ended_is_noticed(scene: Scene) -> None:
    """Whatever ended it: the client would otherwise say for ever that it is connected."""
    reading = scene.bus.client._reading_task
    assert reading is not None
    reading.cancel()
    await eventually(lambda: scene.bus.counters.forced_reconnects == 1, within=1.9)
    assert await scene.answers_again() < 1.9


async def test_a_reconnection_that_ended_is_made_again(scene: Scene) -> None:
    """An unexpected exception in the reconnection task does not end the connection for ever."""
    scene.proxy.refuse = True
    scene.proxy.cut()
    await eventually(lambda: not scene.bus.is_connected)
    task = scene.bus.client._reconnection_task
    assert task is not None
    task.cancel()
    scene.proxy.heal()
    assert await scene.answers_again() < HEALED_WITHIN


async def test_a_slow_network_is_no_broken_one(scene: Scene) -> None:
    """Half a second of delay each way neither breaks the connection nor loses an answer."""
    scene.proxy.delay = 0.5
    for _ in range(3):
        assert await scene.ask(timeout=3) == b"{}"
    assert scene.bus.counters.forced_reconnects == 0
    assert scene.bus.counters.disconnects == 0


async def test_nothing_accepted_is_lost_by_a_drain_under_load(scene: Scene) -> None:
    """What SIGTERM does: every request is answered or was never accepted; none times out."""
    held: list[Call] = []
    await scene.service.add_endpoint("slow", "bursar.req.x.slow.*", held.append)
    requests = [asyncio.ensure_future(scene.agent.request("bursar.req.x.slow.a", b"%d" % n, 10)) for n in range(200)]
    await eventually(lambda: len(held) > 0)
    draining = asyncio.ensure_future(scene.service.drain(5))
    while not draining.done():
        await asyncio.sleep(0.01)
        for call in held:
            call.respond(b"done")
        held.clear()
    assert await draining == 0
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, RequestTimeout)] == []


async def test_a_killed_server_is_found_again(own_server: RealServer) -> None:
    """kill -9 and a restart: the connection is back within two seconds of the open port, hooks told once."""
    bus = await connect(own_server.url, principal="svc-x")
    told: list[str] = []
    bus.on_disconnect(lambda: told.append("down"))
    bus.on_reconnect(lambda: told.append("up"))
    own_server.stop()
    await eventually(lambda: not bus.is_connected)
    own_server.start()
    await eventually(lambda: told == ["down", "up"], within=2.0)
    await bus.flush()
    await bus.close()


async def test_a_stopped_server_is_noticed(own_server: RealServer) -> None:
    """SIGSTOP of the server looks like a black hole; it is left, and found again after SIGCONT."""
    bus = await connect(own_server.url, principal="svc-x")
    own_server.signal(signal.SIGSTOP)
    await eventually(lambda: not bus.is_connected, within=4.0)
    own_server.signal(signal.SIGCONT)
    await eventually(lambda: bus.is_connected, within=HEALED_WITHIN)
    await bus.flush()
    await bus.close()


async def test_the_first_connection_has_a_deadline() -> None:
    """Nobody there: a clear error in time, instead of attempts for ever."""
    start = monotonic()
    with pytest.raises(ConnectFailed, match="nobody listens there"):
        await connect(f"nats://127.0.0.1:{free_port()}", principal="a", timeout=0.5)
    assert monotonic() - start < 2.0


async def test_the_first_connection_waits_for_a_server_that_is_starting() -> None:
    """Started together: the client connects when the port opens."""
    server = RealServer()
    making = asyncio.ensure_future(connect(server.url, principal="a", timeout=10))
    await asyncio.sleep(0.3)
    await asyncio.to_thread(server.start)
    bus = await making
    assert bus.is_connected
    await bus.close()
    server.stop()


async def test_a_first_connection_into_a_black_hole_ends_in_time(real_server: RealServer) -> None:
    """A server that accepts and says nothing."""
    proxy = Proxy(real_server.port)
    await proxy.start()
    proxy.stall()
    with pytest.raises(ConnectFailed):
        await connect(proxy.url, principal="a", timeout=0.5)
    await proxy.stop()


async def test_many_errors_are_one_log_line(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Failed attempts are counted; a line each five seconds says of which type and how many."""
    with caplog.at_level(logging.WARNING):
        scene.proxy.refuse = True
        scene.proxy.cut()
        await asyncio.sleep(1.0)
    assert scene.bus.counters.errors >= 3
    assert len([record for record in caplog.records if record.message == "bus_errors"]) == 1
    scene.proxy.heal()
    await eventually(lambda: scene.bus.is_connected)
