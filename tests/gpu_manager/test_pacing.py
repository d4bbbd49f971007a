"""How many requests a worker should let run at a time."""

from __future__ import annotations

from bursar.contracts import gpu_advice as advice
from bursar.kernel.decider import Refuse
from bursar_gpu_manager.pacing import MOST
from tests.gpu_manager.desk import MAC, Desk


def paced(desk: Desk, cpu: int, gpu: int, who: str = "ann", most: int = 100, steps: int = 20) -> int:
    before = desk.dump()
    outcome = desk.ask(advice.Pace(cpu_us=cpu, gpu_us=gpu, steps=steps, most=most), who)
    assert isinstance(outcome, Refuse)
    assert desk.dump() == before
    found = advice.Paced.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})
    assert found.throttled == (found.limit < most)
    return found.limit


def test_fewer_run_while_the_cpu_is_waited_for() -> None:
    """Each worker for itself; more again when it is the GPU."""
    desk = Desk()
    assert [paced(desk, 200, 100) for _ in range(4)] == [100, 100, 80, 80]
    assert paced(desk, 50, 100, "bob") == 100
    assert paced(desk, 50, 100) == 81
    assert paced(desk, 200, 100, steps=1) == 81


def test_another_maximum_begins_anew_and_old_workers_are_forgotten() -> None:
    """In memory only, and of so many at most."""
    desk = Desk()
    for _ in range(3):
        paced(desk, 200, 100)
    assert paced(desk, 200, 100, most=50) == 50
    for number in range(MOST):
        paced(desk, 50, 100, f"w{number}")
    assert "ann" not in desk.state.throttles
    assert len(desk.state.throttles) == MOST
