"""Placements are worked out again from the journal as they were decided."""

from __future__ import annotations

import random
from typing import Any

from bursar_scheduler import events
from tests.scheduler.desk import Desk


def records(desk: Desk) -> list[dict[str, Any]]:
    """Of all assignments of the journal, from a state that is rebuilt event by event."""
    state, found = desk.decider.initial(), []
    for event in desk.journal:
        record = desk.decider.explain(state, event)
        if record is not None:
            found.append(record)
        desk.decider.evolve(state, event)
        state.board = None
    return found


def test_each_assignment_is_explained_from_the_journal_as_it_was_decided() -> None:
    """Whoever was chosen is chosen again; with the same alternatives and terms as the live record."""
    desk = Desk()
    rng = random.Random(7)
    for number in range(6):
        desk.register(f"w{number}", slots=rng.randint(1, 3), price=number, kind="gpu" if number == 5 else "cpu")
    live = []
    for number in range(40):
        task = desk.submit(needs={"kind": "cpu"}, key=f"t{number}")
        if desk.where(task) == "assigned":
            live.append(desk.state.board.verdicts[task] if desk.state.board else None)
        for running in [one.id for one in desk.state.tasks.values() if one.token][: rng.randint(0, 3)]:
            desk.run(running)
        desk.advance(rng.randint(1, 40))
        for name in list(desk.state.workers):
            desk.beat(name, *desk.state.workers[name].attempts)
    told = records(desk)
    assert len(told) == sum(event[0] == events.ASSIGNED for event in desk.journal) > 20
    assert all(record["agrees"] for record in told)
    assert all(["w5", "kind"] in record["holds"] for record in told)
    first = next(record for record in told if record["task"] == "ann.t0")
    assert live[0] is not None
    assert first["chosen"]["worker"] == live[0].chosen.worker
    assert [row["worker"] for row in first["rejected"]] == [row.worker for row in live[0].rejected]
    assert len(first["rejected"]) == 3
    assert sum(first["chosen"]["terms"].values()) == first["chosen"]["score_us"]


def test_what_is_no_assignment_has_no_record() -> None:
    """An end, a start, a registration."""
    desk = Desk()
    desk.register()
    desk.run(desk.submit())
    state = desk.decider.initial()
    told = []
    for event in desk.journal:
        told.append(desk.decider.explain(state, event) is not None)
        desk.decider.evolve(state, event)
    assert sum(told) == 1
