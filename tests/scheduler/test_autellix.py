"""Figure 2 of Autellix (arXiv 2502.13965): four programs on an engine that works on two calls at a time.

A: calls of 4, 3, 1, 1 steps; B: 3, 3, 4; C: 1, 2; D: 4; all come at once, each call when the one before it has ended.
The paper tells total waiting times of 18 units first come, first served, 18 with feedback queues for each call, and 12
by the service that programs have attained. It does not tell the widths of the queues: here a call stays in the first
one for four steps (so that no call of these is long enough to leave it), and programs go by their exact service.
"""

from __future__ import annotations

from collections.abc import Callable

from bursar_scheduler.accounts import Who
from bursar_scheduler.fairness import Ledger, level_of
from tests.scheduler.queueing import Call, Yard

PROGRAMS = {"A": (4, 3, 1, 1), "B": (3, 3, 4), "C": (1, 2), "D": (4,)}
BATCH = 2


def waited(rank: Callable[[str, int, int], int]) -> int:
    """Steps that calls wait, in all. ``rank``: of a program, with the steps of its call and its own steps so far; the
    lowest go first, among equals those that run, then those that came first. A call that runs is stopped for a lower
    one at the end of a step."""
    calls = {name: list(steps) for name, steps in PROGRAMS.items()}
    had = {name: [0, 0] for name in PROGRAMS}
    came = {name: place for place, name in enumerate(PROGRAMS)}
    running: list[str] = []
    total, number = 0, len(PROGRAMS)
    while calls:
        order = sorted(calls, key=lambda name: (rank(name, *had[name]), name not in running, came[name]))
        running, waiting = order[:BATCH], order[BATCH:]
        total += len(waiting)
        for name in sorted(running, key=lambda name: came[name]):
            calls[name][0] -= 1
            had[name] = [had[name][0] + 1, had[name][1] + 1]
            if not calls[name][0]:
                calls[name].pop(0)
                had[name][0] = 0
                came[name] = number
                number += 1
        running = [name for name in running if had[name][0]]
        calls = {name: steps for name, steps in calls.items() if steps}
    return total


def test_first_come_first_served_waits_18() -> None:
    """Long calls keep short ones waiting."""
    assert waited(lambda name, call, program: 0) == 18


def test_feedback_queues_of_calls_wait_18() -> None:
    """They know nothing of programs, so that each new call of A and B goes before D again."""
    assert waited(lambda name, call, program: call // 4) == 18


def test_attained_service_of_programs_waits_12() -> None:
    """What the scheduler's ledger has charged a program decides, with what runs counted while it runs."""

    def by_ledger(name: str, call: int, program: int) -> int:
        ledger, who = Ledger("plas"), Who("team", "agent", name)
        ledger.admit(who)
        before = program - call
        if before:
            ledger.begin(who, "before", 0, 1)
            ledger.end("before", before)
        if call:
            ledger.begin(who, "now", before, 1)
        return ledger.attained(who, program)

    assert waited(by_ledger) == 12


def test_levels_double() -> None:
    """A program leaves a level when its service doubles; the first is two seconds wide."""
    assert [level_of(ms) for ms in (0, 1_999, 2_000, 3_999, 4_000, 7_999, 8_000, 16_000)] == [0, 0, 1, 1, 2, 2, 3, 4]


def test_plas_adds_up_what_runs_in_parallel_and_atlas_takes_the_longest_path() -> None:
    """Ten calls of a second side by side are ten seconds of service, and a critical path of one."""
    for rule, expected in (("plas", 10_000), ("atlas", 1_000)):
        yard = Yard(rule=rule)
        who = Who("team", "agent", "wide")
        for number in range(10):
            yard.take(yard.submit(Call(number, who)))
        yard.now = 1_000
        assert yard.ledger.attained(who, yard.now) == expected
        for call in list(yard.running):
            yard.end(call)
        assert yard.ledger.attained(who, yard.now) == expected


def test_atlas_goes_on_from_the_path_of_the_parents() -> None:
    """A call after two others stands at the end of the longer one; a short branch beside it changes nothing."""
    ledger, who = Ledger("atlas"), Who("team", "agent", "graph")
    for token, path, began, ended in (
        ("a", 0, 0, 300),
        ("b", 0, 0, 700),
        ("c", 700, 1_000, 1_200),
        ("d", 300, 1_000, 1_100),
    ):
        ledger.admit(who)
        ledger.begin(who, token, began, 1, path=path)
        ledger.end(token, ended)
        ledger.retire(who)
    assert ledger.attained(who, 5_000) == 900
    assert ledger.admit(who) == 900
