"""What slots cost: each attempt once, at the price of its assignment, whatever became of its task."""

from __future__ import annotations

import pytest

from bursar.contracts.scheduler_explain import SlotsSpent, Spending, SpendingReply
from bursar_scheduler import fairness, spending
from tests.scheduler.desk import Desk


def told(desk: Desk, offset: int = 0) -> SpendingReply:
    return SpendingReply.model_validate({**desk.hears(Spending(offset=offset), "ops"), "fence": "f"})


def only(desk: Desk) -> SlotsSpent:
    (row,) = told(desk).rows
    return row


def test_a_slot_costs_what_its_worker_said_for_as_long_as_it_was_taken() -> None:
    """By who submitted, class and worker; a result that is told twice costs nothing more."""
    desk = Desk()
    desk.register(price=50, preemptible=True, kind="gpu")
    task = desk.submit("work")
    token = desk.start(task)
    assert told(desk).rows == []
    desk.advance(4_000)
    for _ in range(2):
        desk.finish(task, token, "w1")
    row = only(desk)
    assert (row.agent, row.task_class, row.worker, row.kind, row.preemptible) == ("ann", "work", "w1", "gpu", True)
    assert (row.attempts, row.slot_ms, row.usd_micros) == (1, 4_000, 200)
    desk.check()


def test_a_void_attempt_costs_until_its_worker_has_stopped_it() -> None:
    """Its slot is taken all the same. A worker that names no price costs time alone."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    token = desk.start(task)
    desk.advance(1_000)
    desk.cancel(task)
    desk.advance(500)
    desk.release(task, token, "w1")
    row = only(desk)
    assert (row.attempts, row.slot_ms, row.usd_micros) == (1, 1_500, 0)
    desk.check()


def test_every_attempt_counts_and_a_take_over_forgets_none() -> None:
    """One that runs meanwhile is counted when it ends."""
    desk = Desk()
    desk.register(price=10)
    task = desk.submit(backoff_ms=1)
    desk.start(task)
    desk.advance(2_000)
    desk.fail(task)
    desk.advance(10)
    desk.start(task)
    desk.take_over()
    desk.advance(1_000)
    desk.finish(task)
    row = only(desk)
    assert (row.attempts, row.slot_ms >= 3_000) == (2, True)
    assert row.usd_micros == row.slot_ms * 10 // 1_000
    desk.check()


def test_pages_do_not_move_and_the_book_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is too many is counted with all others."""
    monkeypatch.setattr(spending, "PAGE", 2)
    monkeypatch.setattr(fairness, "MAX_SPENT", 3)
    desk = Desk()
    desk.register(classes=tuple(f"class-{number}" for number in range(5)))
    for number in range(5):
        desk.run(desk.submit(f"class-{number}"))
    pages = [told(desk, offset) for offset in (0, 2)]
    assert [page.more for page in pages] == [True, False]
    assert [row.task_class for page in pages for row in page.rows] == ["class-0", "class-1", "class-2", "others"]
    assert pages[1].rows[-1].attempts == 2
    desk.check()
