"""Planning: what an agent asks before it asks for a permit."""

from __future__ import annotations

import pytest

from bursar.client.fleet import Fleet
from bursar.client.sync import SyncFleet
from bursar.contracts.limiter import BudgetSpec, ChildSpec, LimitSpec
from bursar.errors import BursarError
from tests.client.decided import DecidedLimiter
from tests.client.fakes import FakeBus

RATE = LimitSpec(limit=10, window_ms=60_000, paced=False)
TEAM = BudgetSpec(
    name="b", limits={"requests": RATE}, each_agent=ChildSpec(limits={"concurrent": LimitSpec(limit=4, window_ms=0)})
)
HOST = BudgetSpec(name="host", limits={"concurrent": LimitSpec(limit=3, window_ms=0)})


async def test_what_if_is_answered_from_the_present_state_and_changes_nothing() -> None:
    """It says how many would fit, and what is in the way of the next, with the same words as a refusal."""
    there = DecidedLimiter(TEAM, HOST)
    async with Fleet(None, bus=there.bus()) as fleet:
        before = there.decider.dump(there.state)
        told = await fleet.limiter.simulate("b", count=9)
        assert (told.fits, told.object, told.dimension) == (4, "b/agent-1", "concurrent")
        told = await fleet.limiter.simulate("b", count=9, also=("host",), requests=4, concurrent=1)
        assert (told.fits, told.object, told.dimension) == (2, "b", "requests")
        assert {room.object for room in told.rooms} == {"b/agent-1", "b", "host"}
        assert there.decider.dump(there.state) == before


async def test_the_status_of_a_path_is_everything_that_a_call_would_take_from() -> None:
    """The agent's own budget, those above it, and objects that the call names."""
    there = DecidedLimiter(TEAM, HOST)
    async with Fleet(None, bus=there.bus()) as fleet:
        status = await fleet.limiter.status("b", path=True, also=("host",))
        assert [budget.name for budget in status.budgets] == ["b/agent-1", "b", "host"]
        with pytest.raises(BursarError) as raised:
            await fleet.limiter.simulate("nobody")
        assert raised.value.code == "unknown_budget"


def test_threads_plan_alike() -> None:
    """The same questions, answered in the thread that asks."""
    there = DecidedLimiter(TEAM, HOST)

    async def bus() -> FakeBus:
        return there.bus()

    with SyncFleet(None, bus=bus) as fleet:
        assert fleet.limiter.simulate("b", count=2).fits == 2
        assert len(fleet.limiter.status("b", path=True).budgets) == 2
