"""A whole program is cancelled: what waits, runs, comes after, or is a dead letter; and nothing else."""

from __future__ import annotations

from bursar.contracts.scheduler_graph import CancelProgram
from bursar_scheduler.cancelling import PIECE
from tests.scheduler.desk import Desk


def test_all_tasks_of_a_program_end() -> None:
    """Wherever they stand; those of other programs and other agents go on."""
    desk = Desk()
    desk.register(slots=1)
    dead = desk.submit(program="run", retries=0)
    desk.start(dead)
    desk.fail(dead)
    running = desk.submit(program="run")
    token = desk.start(running)
    waiting, blocked = desk.submit(program="run"), desk.submit(program="run", after=(running,))
    others = [desk.submit(program="other"), desk.submit(), desk.submit(principal="bob", program="run")]
    told = desk.must(CancelProgram(id=desk.new_id(), program="run"))
    assert told == {"ok": True, "program": "run", "tasks": 4}
    assert {desk.where(task) for task in (dead, running, waiting, blocked)} == {"cancelled"}
    assert [notice["token"] for notice in desk.notices("w1", "stop")] == [token]
    desk.release(running, token, "w1")
    assert "cancelled" not in {desk.where(task) for task in others}
    assert desk.hears(CancelProgram(id=desk.new_id(), program="run"))["tasks"] == 0
    desk.check()


def test_a_large_program_ends_piece_by_piece_and_none_of_it_begins_meanwhile() -> None:
    """Also when another owner goes on with it in the middle; what is submitted later is not part of it."""
    desk = Desk()
    tasks = [desk.submit(program="run") for _ in range(3 * PIECE)]
    desk.decide_only(CancelProgram(id=desk.new_id(), program="run"))
    later = desk.submit(program="run")
    desk.take_over()
    desk.register(slots=8)
    assert {desk.where(task) for task in tasks} == {"cancelled"}
    assert desk.where(later) == "assigned"
    assert len(desk.notices("ann", "ended")) == 3 * PIECE
    assert max(desk.sizes) <= PIECE + 1
    assert not desk.notices("w1", "assign")[1:]
    desk.check()
