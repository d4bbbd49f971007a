"""The GPU manager's decider over 1,000 cards: how long a decision about a lease takes, with nothing else around it."""

from __future__ import annotations

import random
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bursar.bus.codec import decode
from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Command
from bursar_gpu_manager.core import GpuDecider
from bursar_gpu_manager.reporting import report
from bursar_gpu_manager.simulated import simulated_host

GIB = 1 << 30
HOSTS, CARDS = 125, 8
FULL = 40
"""Every so many leases, all are given back."""


class Manager:
    """The decider with its state; decides and applies at once, all within one millisecond of its clock."""

    def __init__(self) -> None:
        self.decider = GpuDecider()
        self.state = self.decider.initial()
        self._number = 0
        for number in range(HOSTS):
            name = f"h{number:03}"
            fields = report(simulated_host(name, f"{CARDS}x80GiB"), "b0", 1, {}, {})
            said, _ = decode(wire.Report, msgpack.packb(fields))
            self.ask(said, name)
            while (command := self.decider.due(self.state, 0)) is not None:
                self._decide(command)

    def ask(self, body: Any, principal: str = "bench") -> tuple[Any, float]:
        """The outcome, and the milliseconds of CPU time of deciding and applying it."""
        began = time.thread_time()
        outcome = self._decide(Command(principal, f"b-{self._number}", body))
        return outcome, (time.thread_time() - began) * 1_000

    def _decide(self, command: Command) -> Any:
        self._number += 1
        outcome = self.decider.decide(self.state, command, 0, (1, 1, self._number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
        return outcome


def decisions(count: int) -> list[float]:
    """Milliseconds of CPU time of each of so many leases, of one card and of several; now and then all are released."""
    rng, manager, took = random.Random(2), Manager(), []
    held: list[dict[str, Any]] = []
    for number in range(count):
        memory, devices = rng.randrange(1, 60) * GIB, rng.choice([1, 1, 1, 1, 2, 4, 8])
        body = wire.Lease(id=f"l-{number}", memory=memory, devices=devices)
        outcome, spent = manager.ask(body)
        took.append(spent)
        assert isinstance(outcome, Accept), f"not granted: {outcome}"
        held.append(outcome.reply)
        if len(held) == FULL:
            for at, lease in enumerate(held):
                fence = f"{lease['lease']}.0123456789abcdef"
                manager.ask(wire.Release(id=f"r{number}-{at}", lease=lease["lease"], fence=fence))
            held.clear()
    return took
