"""What one decision costs in this process, with 1,000 workers: the whole of it, and the placement alone."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

from bench.figures import quantile
from bursar.contracts.scheduler import Finish, Register, Start, Submit
from bursar.kernel.decider import Accept, Command
from bursar_scheduler.core import SchedulerDecider
from bursar_scheduler.fleet import Fleet, Load, Offer
from bursar_scheduler.scoring import Ask, best
from bursar_scheduler.speeds import Speeds

WORKERS = 1_000
SLOTS = 4


class Desk:
    """The decider without a kernel."""

    def __init__(self) -> None:
        self.decider = SchedulerDecider()
        self.state: Any = self.decider.initial()
        self.number = 0

    def decide(self, who: str, body: Any) -> Accept:
        return self._apply(Command(who, body.id, body))

    def _apply(self, command: Command) -> Accept:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now, (1, 1, self.number))
        assert isinstance(outcome, Accept), outcome
        for event in outcome.events:
            self.decider.evolve(self.state, event)
        return outcome

    @property
    def now(self) -> int:
        return self.number // 20

    def dispatch(self) -> bool:
        """One of the decisions that are due; whether there was one."""
        command = self.decider.due(self.state, self.now)
        if command is None:
            return False
        self._apply(command)
        return True


def decisions(rounds: int) -> dict[str, float]:
    """A thousand workers of four slots and more tasks than that, of ten agents with two programs each: every slot is
    filled, time for time. A dispatch chooses the task that goes first and the worker, and applies its event. Beside it
    whole submissions that are assigned at once, with their validation, and ends whose slot goes to the next."""
    dispatched: list[float] = []
    submitted: list[float] = []
    ended: list[float] = []
    while len(dispatched) < rounds:
        _fill(dispatched, submitted, ended)
    return {
        "decide_p50_us": quantile(dispatched, 0.5) * 1e6,
        "decide_p99_us": quantile(dispatched, 0.99) * 1e6,
        "decide_submit_p50_us": quantile(submitted, 0.5) * 1e6,
        "decide_submit_p99_us": quantile(submitted, 0.99) * 1e6,
        "decide_finish_p50_us": quantile(ended, 0.5) * 1e6,
    }


def _fill(dispatched: list[float], submitted: list[float], ended: list[float]) -> None:
    desk = Desk()
    bodies = [
        Submit(id=f"s{number}", task_class="call", payload=b"x", program=f"p{number % 2}")
        for number in range(WORKERS * SLOTS + 1_000)
    ]
    half = WORKERS * SLOTS // 2
    for number, body in enumerate(bodies[half:]):
        desk.decide(f"agent-{number % 10}", body)
    for number in range(WORKERS):
        desk.decide(f"w{number}", Register(id=f"r{number}", session="s", slots=SLOTS, classes=("call",)))
    gc.collect()
    gc.freeze()
    while _timed(dispatched, desk.dispatch):
        pass
    dispatched.pop()  # the last one found nothing to do
    for number, body in enumerate(bodies[: WORKERS * SLOTS - len(dispatched) % (WORKERS * SLOTS)]):
        _timed(submitted, lambda body=body, number=number: desk.decide(f"agent-{number % 10}", body))  # type: ignore[misc]
    for number, task in enumerate([task for task in desk.state.tasks.values() if task.token][:half]):
        worker, token = task.worker, task.token
        desk.decide(worker, Start(id=f"b{number}", task=task.id, token=token))
        end = Finish(id=f"f{number}", task=task.id, token=token)
        _timed(ended, lambda end=end, worker=worker: desk.decide(worker, end))  # type: ignore[misc]


def _timed(taken: list[float], what: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    answer = what()
    taken.append(time.perf_counter() - began)
    return answer


def placements(rounds: int) -> dict[str, float]:
    """The score of all workers with the record of the best four; the arrays are kept up after each."""
    speeds = Speeds()
    fleet = Fleet(speeds)
    fleet.lane("lane", lambda _: True)
    for number in range(WORKERS):
        speeds.learn("call", f"w{number}", 10_000 + 7_919 * number % 50_000)
        fleet.join(Offer(f"w{number}", slots=SLOTS, price=number % 5, region=f"r{number % 3}"))
    ask = Ask("lane", "call", 30_000)
    taken, kept = [], []
    for number in range(rounds):
        began = time.perf_counter()
        verdict = best(fleet, ask)
        taken.append(time.perf_counter() - began)
        assert verdict is not None
        name = verdict.chosen.worker
        busy = fleet.loads[fleet.rows[name]].taken
        began = time.perf_counter()
        fleet.note(name, Load((busy + 1) % SLOTS))
        kept.append(time.perf_counter() - began)
        if number % 8 == 0:
            fleet.learn("call", name)
    return {
        "place_p50_us": quantile(taken, 0.5) * 1e6,
        "place_p99_us": quantile(taken, 0.99) * 1e6,
        "place_upkeep_p50_us": quantile(kept, 0.5) * 1e6,
    }
