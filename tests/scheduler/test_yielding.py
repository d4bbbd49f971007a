"""Preemption at the end of a chunk, checkpoints, hosts that are taken away, quarantine, suspicion."""

from __future__ import annotations

from typing import Any

from bursar.contracts import scheduler as wire
from bursar_scheduler import events
from tests.scheduler.desk import Desk


def yields(desk: Desk, task: str, checkpoint: Any = None, **fields: Any) -> dict[str, Any]:
    body = {"id": desk.new_id(), "task": task, "token": desk.token(task), "checkpoint": checkpoint, **fields}
    return desk.must(wire.Yield.model_validate(body), desk.worker(task))


def busy(**rules: Any) -> tuple[Desk, str]:
    """A worker with one slot runs a proactive task that may be preempted."""
    desk = Desk(**{"min_run_ms": 500, "yield_within_ms": 1_000, **rules})
    desk.register()
    task = desk.submit(priority="proactive", preemptible=True, payload=b"p", lease_ms=60_000)
    desk.start(task)
    return desk, task


def asked(desk: Desk, worker: str = "w1") -> list[str]:
    return [notice["task"] for notice in desk.notices(worker, "stop") if notice.get("preempt")]


def test_a_task_of_a_higher_band_gets_the_slot_at_the_end_of_a_chunk() -> None:
    """The other one goes on from its checkpoint afterwards, and no failure is held against it."""
    desk, task = busy()
    desk.advance(500)
    urgent = desk.submit(priority="reactive")
    assert asked(desk) == [task]
    assert (desk.where(task), desk.where(urgent)) == ("preempting", "ready")
    assert yields(desk, task, {"page": 7})["state"] == "ready"
    assert desk.where(urgent) == "assigned"
    desk.check()
    desk.run(urgent)
    again = desk.notices("w1", "assign")[-1]
    assert (again["task"], again["checkpoint"], again["attempt"]) == (task, {"page": 7}, 2)
    assert (desk.state.tasks[task].failures, desk.state.tasks[task].losses) == (0, 0)
    desk.run(task)
    assert desk.where(task) == "done"
    desk.check()


def test_an_attempt_runs_for_a_while_before_it_is_preempted() -> None:
    """And is asked as soon as that is over, without anything else happening."""
    desk, task = busy(min_run_ms=3_000)
    desk.submit(priority="reactive")
    for _ in range(2):
        desk.advance(1_000)
        desk.beat("w1", desk.token(task))
    assert not asked(desk)
    desk.advance(1_000)
    assert asked(desk) == [task]


def test_only_who_may_be_preempted_by_a_higher_band_is_asked() -> None:
    """Not by an equal, not when it has not said that it can, not when it would not help."""
    cases: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"preemptible": False, "priority": "proactive"}, {"priority": "reactive"}),
        ({"preemptible": True, "priority": "standard"}, {"priority": "standard"}),
        ({"preemptible": True, "priority": "standard"}, {"priority": "proactive"}),
        ({"preemptible": True, "priority": "proactive"}, {"priority": "reactive", "needs": {"labels": {"a": "b"}}}),
        ({"preemptible": True, "priority": "proactive"}, {"priority": "reactive", "needs": {"ram_mib": 10}}),
    )
    for fields, other in cases:
        desk = Desk(min_run_ms=0)
        desk.register(ram_mib=5)
        task = desk.submit(**fields)
        desk.start(task)
        desk.submit(**other)
        desk.advance(2_000)
        assert not asked(desk)
        desk.check()


def test_one_yields_for_each_that_waits_the_lowest_and_newest_first() -> None:
    """Least is lost with who has begun last; a standard task only after the proactive ones."""
    desk = Desk(min_run_ms=0, yield_within_ms=10_000)
    desk.register(slots=3)
    running = []
    for band in ("standard", "proactive", "proactive"):
        task = desk.submit(priority=band, preemptible=True, lease_ms=60_000)
        desk.start(task)
        running.append(task)
        desk.advance(10)
    first = desk.submit(priority="reactive")
    assert asked(desk) == [running[2]]
    desk.submit(priority="reactive")
    assert asked(desk) == [running[2], running[1]]
    desk.cancel(first)
    desk.submit(priority="reactive")
    assert asked(desk) == [running[2], running[1], running[0]]
    desk.submit(priority="reactive")
    desk.check()


def test_who_finishes_instead_has_finished() -> None:
    """Its end counts, and the one that waited gets the slot."""
    desk, task = busy(min_run_ms=0)
    urgent = desk.submit(priority="reactive")
    desk.finish(task, result=b"done")
    assert (desk.where(task), desk.where(urgent)) == ("done", "assigned")
    desk.check()


def test_who_does_not_yield_in_time_loses_the_task_and_keeps_its_slot() -> None:
    """Until it says that nothing of it runs any more; a late yield is stale and frees the slot."""
    desk, task = busy(min_run_ms=0)
    urgent = desk.submit(priority="reactive")
    token = desk.token(task)
    desk.advance(1_000)
    assert (desk.where(task), desk.where(urgent)) == ("ready", "ready")
    assert desk.find(task)["reason"] == "not yielded in time"
    late = wire.Yield(id="y-1", task=task, token=token)
    assert desk.code(late, "w1") == "stale_attempt"
    desk.settle()
    assert desk.where(urgent) == "assigned"
    desk.check()


def test_a_lost_request_to_yield_is_repeated_by_the_heartbeat() -> None:
    """For as long as there is time."""
    desk, task = busy(min_run_ms=0)
    desk.submit(priority="reactive")
    desk.advance(400)
    desk.beat("w1", desk.token(task))
    notices = [notice for notice in desk.notices("w1", "stop") if notice.get("preempt")]
    assert [notice["within_ms"] for notice in notices] == [1_000, 600]


def test_a_checkpoint_is_kept_through_losses_and_counts_as_bytes() -> None:
    """The next attempt begins with the last one, wherever it runs."""
    desk = Desk()
    desk.register()
    task = desk.submit(payload=b"abc", lease_ms=1_000)
    token = desk.start(task)
    for value in (b"x" * 100, b"y" * 50):
        body = wire.Checkpoint(id=desk.new_id(), task=task, token=token, checkpoint=value)
        assert desk.must(body, "w1")["lease_ms"] == 1_000
    assert desk.state.bytes == 53
    desk.take_over()
    desk.advance(1_100)
    desk.register("w2")
    assert desk.notices("w2", "assign")[-1]["checkpoint"] == b"y" * 50
    stale = wire.Checkpoint(id="k-1", task=task, token=token, checkpoint=b"z")
    assert desk.code(stale, "w1") == "stale_attempt"
    desk.check()
    desk.run(task)
    assert desk.state.bytes == 0
    desk.check()


def test_a_host_that_is_taken_away_is_empty_in_time() -> None:
    """What can be preempted yields at once; the rest goes to others a second before, and nothing is held against it."""
    desk = Desk()
    desk.register(slots=3, preemptible=True)
    chunked, stiff = desk.submit(preemptible=True, lease_ms=60_000), desk.submit(lease_ms=60_000)
    desk.start(chunked)
    desk.start(stiff)
    assigned = desk.submit()
    desk.must(wire.Drain(id="d-1", session="sw1", within_ms=5_000), "w1")
    assert asked(desk) == [chunked]
    yields(desk, chunked, b"c")
    desk.register("w2", slots=4)
    assert desk.worker(chunked) == "w2"
    for _ in range(4):
        desk.advance(999)
        desk.beat("w1", desk.token(stiff), desk.token(assigned))
        desk.beat("w2", desk.token(chunked))
    desk.take_over()
    desk.advance(4)
    assert desk.worker(stiff) == desk.worker(assigned) == "w2"
    assert (desk.state.tasks[stiff].losses, desk.state.tasks[stiff].killed) == (0, ())
    assert "w1" not in desk.state.workers
    desk.check()


def test_a_task_that_kills_two_workers_is_quarantined() -> None:
    """Two processes that died while it ran; its letter says which, and it can be requeued."""
    desk = Desk(max_losses=50)
    task = desk.submit(retries=50, lease_ms=60_000)
    desk.register("w1")
    desk.start(task)
    desk.register("w1", session="again")
    assert desk.where(task) == "assigned"
    desk.start(task)
    desk.register("w3", classes=("other",))
    for _ in range(5):
        desk.advance(900)
        desk.beat("w3")
    told = desk.find(task)
    assert (told["state"], told["reason"]) == ("dead", "quarantined: workers died with it")
    assert told["error"] == "died: w1 again, w1 sw1"
    assert desk.notices("ann", "ended")[-1]["error"] == told["error"]
    desk.must(wire.Requeue(id="o-1", task=task), "ops")
    assert desk.state.tasks[task].killed == ()
    desk.check()


def test_a_lost_lease_kills_nobody() -> None:
    """The worker lives: that is held against the task in another way."""
    desk = Desk(max_losses=3)
    desk.register()
    task = desk.submit(lease_ms=1_000)
    for _ in range(2):
        desk.start(task)
        token, worker = desk.token(task), desk.worker(task)
        desk.beat()
        desk.advance(1_000)
        desk.release(task, token, worker)
    assert desk.state.tasks[task].losses == 2
    desk.start(task)
    desk.beat()
    desk.advance(1_000)
    assert desk.find(task)["reason"] == "lost too often"
    desk.check()


def test_a_worker_that_falls_silent_gets_nothing_new_while_others_are_heard() -> None:
    """It is suspected before it is gone; a heartbeat clears it."""
    desk = Desk()
    desk.register("w1", slots=4)
    desk.register("w2", slots=4)
    for _ in range(2):
        desk.advance(1_000)
        desk.beat("w2")
    assert desk.state.workers["w1"].suspect
    tasks = [desk.submit() for _ in range(3)]
    assert {desk.worker(task) for task in tasks} == {"w2"}
    assert [row["suspect"] for row in desk.hears(wire.Status())["workers"]] == [True, False]
    desk.beat("w1")
    assert desk.worker(desk.submit()) == "w1"
    desk.check()


def test_preemption_is_in_the_journal() -> None:
    """Every edge of a task's life is."""
    desk, task = busy(min_run_ms=0)
    desk.submit(priority="reactive")
    yields(desk, task, b"c")
    kinds = [event[0] for event in desk.journal if len(event) > 2 and event[2] == task]
    assert kinds == [
        events.ACCEPTED, events.ASSIGNED, events.STARTED, events.PREEMPTING, events.CHECKPOINT, events.WAITS,
    ]  # fmt: skip
