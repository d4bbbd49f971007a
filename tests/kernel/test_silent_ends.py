"""Nothing of the kernel ends silently, or leaves something behind."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.memory import MemoryNetwork
from bursar.kernel.clock import SystemClock
from bursar.kernel.fold import Folded
from bursar.kernel.forked import start_dump
from bursar.kernel.host import Host
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.replica import Replica
from bursar.kernel.runner import ShardRunner
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec
from tests.kernel.bench import owner, pay
from tests.simulation.toy import BankDecider


class _Mute:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class _BrokenTail(MemoryJournal):
    async def tail(self, after: int) -> AsyncIterator[tuple[int, bytes]]:
        for broken in (True,):
            if broken:
                raise RuntimeError("not an error of the journal")
            yield 0, b""


async def test_a_standby_that_cannot_follow_for_an_unknown_reason_ends_the_process() -> None:
    """It would otherwise look like a standby and know nothing."""
    alice = owner(MemoryStore())
    alice.ask(pay("s-1"))
    alice.settle()
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    runner = ShardRunner(Replica(BankDecider(), b"instance"), _BrokenTail(alice.store), SystemClock(), _Mute(), None)
    runner.start()
    await asyncio.sleep(0.05)
    await runner.stop()
    assert isinstance(told[0]["exception"], RuntimeError)


async def test_an_owner_whose_endpoints_cannot_be_switched_ends_the_process() -> None:
    """It would otherwise own the shard and hear nobody."""
    bus: Any = MemoryNetwork().connect("svc-toy")
    host = Host(ServiceSpec("toy", "1.0.0", "A toy.", decider=BankDecider, verbs={}), ServiceSettings(), bus, bus)
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    await host.start()
    host.service.endpoints = {"ask": _Failing()}  # type: ignore[dict-item]
    host.role_changed("owner", "a test")
    await asyncio.sleep(0.01)
    host.service.endpoints = {}
    await host.runner.stop()
    await host.service.stop()
    host.pauses.stop()
    assert isinstance(told[0]["exception"], RuntimeError)


class _Failing:
    async def listen(self) -> None:
        raise RuntimeError("not an error of the bus")


def test_a_fork_that_fails_leaves_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again every half minute, when memory is short."""

    def fail() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fail)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError):
        start_dump(Folded(BankDecider()))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_clock_counts_the_time_in_which_the_host_was_suspended() -> None:
    """An owner that wakes up after others have taken over must see that its lease is over."""
    expected = time.clock_gettime(time.CLOCK_BOOTTIME) * 1000
    assert abs(SystemClock().monotonic_ms() - expected) < 1000
