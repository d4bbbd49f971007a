"""What one decision costs in this process, with 1,000 workers: the whole of it, and the placement alone."""

from __future__ import annotations

import gc
import time
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
    """The decider without a kernel; `taken` has the seconds of each decision that assigned something."""

    def __init__(self) -> None:
        self.decider = SchedulerDecider()
        self.state: Any = self.decider.initial()
        self.number = 0
        self.taken: list[float] = []

    def decide(self, who: str, body: Any) -> Accept:
        self.number += 1
        drawn = self.state.drawn
        began = time.perf_counter()
        outcome = self.decider.decide(self.state, Command(who, body.id, body), self.number // 20, (1, 1, self.number))
        assert isinstance(outcome, Accept), outcome
        for event in outcome.events:
            self.decider.evolve(self.state, event)
        took = time.perf_counter() - began
        if self.state.drawn > drawn:
            self.taken.append(took)
        return outcome

    def settle(self) -> None:
        """All that is due: dispatches, above all."""
        while (command := self.decider.due(self.state, self.number // 20)) is not None:
            self.number += 1
            outcome = self.decider.decide(self.state, command, self.number // 20, (1, 1, self.number))
            for event in outcome.events if isinstance(outcome, Accept) else ():
                self.decider.evolve(self.state, event)


def decisions(rounds: int) -> dict[str, float]:
    """Submissions that find a worker, and ends whose slot goes to the next of a hundred that wait: ordered, placed,
    journaled as events and applied. Ten agents with two programs each."""
    desk = Desk()
    for number in range(WORKERS):
        desk.decide(f"w{number}", Register(id=f"r{number}", session="s", slots=SLOTS, classes=("call",)))
    live: list[str] = []
    serial = 0

    def submit() -> None:
        nonlocal serial
        serial += 1
        body = Submit(id=f"s{serial}", task_class="call", payload=b"x")
        task = desk.decide(f"agent-{serial % 10}", body).reply["task"]
        if desk.state.tasks[task].token:
            live.append(task)

    def finish() -> None:
        nonlocal serial
        serial += 1
        task = live.pop(serial * 7_919 % len(live))
        held = desk.state.tasks[task]
        worker, token = held.worker, held.token
        desk.decide(worker, Start(id=f"b{serial}", task=task, token=token))
        before = set(desk.state.workers[worker].attempts)
        desk.decide(worker, Finish(id=f"f{serial}", task=task, token=token))
        desk.settle()
        given = desk.state.workers[worker].attempts
        live.extend(given[token] for token in given if token not in before)

    for _ in range(WORKERS * SLOTS * 7 // 10):
        submit()
    desk.taken.clear()
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        submit()
        finish()
    placed = list(desk.taken)
    while len(live) < WORKERS * SLOTS:
        submit()
    for _ in range(100):
        submit()
    desk.taken.clear()
    for _ in range(rounds // 2):
        finish()
        submit()
    both = placed + desk.taken
    return {"decide_p50_us": quantile(both, 0.5) * 1e6, "decide_p99_us": quantile(both, 0.99) * 1e6}


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
