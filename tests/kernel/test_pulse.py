"""What an owner says again and again: when it may, and what it must not."""

from __future__ import annotations

import asyncio
from typing import Any

from bursar.bus.memory import MemoryNetwork
from bursar.bus.signing import Verifier
from bursar.kernel.clock import ManualClock
from bursar.kernel.decider import Broadcast, Fence
from bursar.kernel.host import Host
from bursar.kernel.pulse import Pulsing
from bursar.kernel.roles import Role
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import Pulse, ServiceSpec
from tests.bus.endpoints import settle
from tests.bus.support import eventually
from tests.kernel.test_host_answers import _Nothing


class Standing:
    """A replica as the pulse sees it. ``folded`` stands for itself: its ``state`` is a number."""

    def __init__(self) -> None:
        self.role = Role.OWNER
        self.is_idle = True
        self.state = 7
        self.committed = (1, 2, 3)

    @property
    def folded(self) -> Standing:
        return self

    def now(self, mono: int) -> int:
        return 1_000 + mono


def count(state: Any, now: int) -> Broadcast | None:
    return Broadcast("pulse", "all", {"state": state, "now": now}) if state else None


class Stage:
    def __init__(self, seconds: float = 0.01) -> None:
        self.replica: Any = Standing()
        self.clock = ManualClock(5)
        self.told: list[tuple[Broadcast, Fence]] = []
        announce = lambda told, fence: self.told.append((told, fence))  # noqa: E731
        self.pulsing = Pulsing(Pulse(count, seconds), lambda: self.replica, self.clock, announce)


def test_an_owner_tells_its_state_with_the_time_and_the_fence_of_what_is_committed() -> None:
    """The time is the decider's."""
    stage = Stage()
    assert stage.pulsing.tell()
    assert stage.told == [(Broadcast("pulse", "all", {"state": 7, "now": 1_005}), (1, 2, 3))]


def test_nothing_is_told_of_what_is_not_committed() -> None:
    """It might never have happened; it is told as soon as the journal has it."""
    stage = Stage()
    stage.replica.is_idle = False
    assert not stage.pulsing.tell()
    assert stage.told == []


def test_only_an_owner_tells() -> None:
    """A standby is silent, however fresh its state is."""
    stage = Stage()
    for role in set(Role) - {Role.OWNER}:
        stage.replica.role = role
        assert stage.pulsing.tell()
    assert stage.told == []


def test_a_service_may_have_nothing_to_tell_and_its_fault_ends_nothing() -> None:
    """None is no broadcast; an error is logged, and the next pulse is tried."""
    stage = Stage()
    stage.replica.state = 0
    assert stage.pulsing.tell()
    stage.pulsing = Pulsing(Pulse(lambda *_: 1 / 0, 1.0), lambda: stage.replica, stage.clock, stage.told.append)  # type: ignore[arg-type]
    assert stage.pulsing.tell()
    assert stage.told == []


async def test_it_is_told_again_and_again_and_at_once_when_somebody_becomes_owner() -> None:
    """Until it is stopped."""
    often, seldom = Stage(0.01), Stage(3_600.0)
    seldom.replica.role = Role.STANDBY
    for stage in (often, seldom):
        stage.pulsing.start()
    await eventually(lambda: len(often.told) >= 3, 5)
    assert seldom.told == []
    seldom.replica.role = Role.OWNER
    seldom.pulsing.soon()
    await eventually(lambda: len(seldom.told) == 1, 5)
    seldom.replica.is_idle = False
    seldom.pulsing.soon()
    await asyncio.sleep(0)
    seldom.replica.is_idle = True
    await eventually(lambda: len(seldom.told) == 2, 5)
    for stage in (often, seldom):
        stage.pulsing.stop()


async def test_the_host_sends_it_signed_with_a_fence() -> None:
    """Like any broadcast of the service."""
    network = MemoryNetwork()
    bus: Any = network.connect("svc-toy")
    agent = network.connect("a1")
    spec = ServiceSpec("toy", "1.0.0", "A toy.", decider=_Nothing, verbs={}, pulse=Pulse(count))
    host = Host(spec, ServiceSettings(), bus, bus)
    host.runner.replica = Standing()  # type: ignore[assignment]
    heard: list[Any] = []
    await agent.subscribe("bursar.evt.toy.pulse.all", heard.append)
    assert host.pulsing is not None
    assert host.pulsing.tell()
    await settle(agent)
    body = Verifier({"toy": host._signer.public_key}).open(heard[0].subject, heard[0].data)
    assert body["state"] == 7
    assert body["fence"].startswith("1.2.3.")
