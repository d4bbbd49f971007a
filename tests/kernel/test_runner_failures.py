"""An error that nobody has foreseen ends the process, whoever called the runner; until then nothing leaves it.

The reader of the network survives its handlers. Were it to survive these errors, too, the instance would go on with a
state that is half changed, and write what follows from it into the journal.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bursar.kernel.clock import ManualClock
from bursar.kernel.decider import Event
from bursar.kernel.effects import Answer
from bursar.kernel.errors import KernelError, OutcomeUnknown
from bursar.kernel.journal.base import Appended
from bursar.kernel.journal.memory import MemoryJournal, MemoryStore
from bursar.kernel.replica import Replica
from bursar.kernel.roles import Role
from bursar.kernel.runner import ShardRunner
from tests.bus.support import eventually
from tests.kernel.bench import pay, request
from tests.simulation.toy import Bank, BankDecider

UNLUCKY = 13


class _Fragile(BankDecider):
    """Changes half of the state when somebody pays in an unlucky amount."""

    def evolve(self, state: Bank, event: Event) -> None:
        super().evolve(state, event)
        if UNLUCKY in event:
            raise RuntimeError("half of it is done")


class _Outlet:
    """``breaks``: the name of the method that raises from now on."""

    def __init__(self) -> None:
        self.answered: list[str] = []
        self.calls: list[str] = []
        self.breaks = ""

    def answer(self, answer: Answer) -> None:
        self._call("answer")
        self.answered.append(answer.ticket)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self._call(name)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.breaks:
            raise RuntimeError(name)


class _Held(MemoryJournal):
    """``held``: what the appends under way are to be told, once the test says so."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.held: list[tuple[Appended, int | KernelError]] = []
        self.holds = False

    def start_append(self, expected: int, payload: bytes, then: Appended) -> None:
        if self.holds:
            self.held.append((then, self.store.append(self.shard, expected, payload)))
        else:
            super().start_append(expected, payload, then)


class _Stage:
    """An owner, and what the loop was told of errors."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.journal, self.outlet, self.clock = _Held(), _Outlet(), ManualClock()
        self.replica = Replica(_Fragile(), b"instance")
        self.runner = ShardRunner(self.replica, self.journal, self.clock, self.outlet, None)

    async def begin(self) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.told.append(context["exception"]))
        self.runner.start()
        await eventually(lambda: self.replica.role is Role.OWNER)
        self.journal.holds = True


@pytest.fixture
async def stage() -> Any:
    made = _Stage()
    await made.begin()
    yield made
    await made.runner.stop()


async def test_error_in_what_a_read_brought_ends_the_process(stage: _Stage) -> None:
    """`pump_offered` is called by the reader: it must not raise, and the failure must not stay there."""
    assert stage.runner.take(request(pay("s-1", UNLUCKY)))
    stage.runner.pump_offered()
    assert [str(error) for error in stage.told] == ["half of it is done"]
    assert stage.journal.held == []


async def test_error_when_an_append_is_acknowledged_ends_the_process(stage: _Stage) -> None:
    """The acknowledgement comes from the reader, too. What was committed with it is answered or asked for again; what
    is decided on the broken state reaches neither the journal nor a caller."""
    stage.runner.take(request(pay("s-1")))
    stage.runner.pump_offered()
    ((then, result),) = stage.journal.held
    stage.runner.take(request(pay("s-2", UNLUCKY)))
    then(result)
    assert [str(error) for error in stage.told] == ["half of it is done"]
    assert stage.runner.take(request(pay("s-3")))
    stage.runner.pump_offered()
    assert len(stage.journal.held) == 1
    assert set(stage.outlet.answered) <= {"s-1"}


async def test_effect_that_cannot_be_carried_out_ends_the_process(stage: _Stage) -> None:
    """Those behind it, an append perhaps, are lost with it. What was handed out before it is still sent."""
    stage.runner.take(request(pay("s-1")))
    stage.runner.pump_offered()
    stage.outlet.breaks = "answer"
    ((then, result),) = stage.journal.held
    then(result)
    assert [str(error) for error in stage.told] == ["answer"]
    assert stage.outlet.calls[-1] == "write_out"


async def test_append_of_unknown_outcome_is_no_failure(stage: _Stage) -> None:
    """That is what the network does; it is repeated."""
    stage.runner.take(request(pay("s-1")))
    stage.runner.pump_offered()
    ((then, _),) = stage.journal.held
    then(OutcomeUnknown("no answer"))
    assert stage.told == []
    assert stage.replica.role is Role.OWNER
