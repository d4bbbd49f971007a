"""Workers: registration, heartbeats, silence, draining, leaving; lost notices are repaired."""

from __future__ import annotations

import pytest

from bursar.contracts import scheduler as wire
from bursar.kernel.decider import Accept, Refuse
from bursar_scheduler import events
from tests.scheduler.desk import Desk


def test_registration_tells_the_times() -> None:
    """How long a worker may be silent, and how often it should be heard."""
    reply = Desk(worker_ttl_ms=6_000).register()
    assert (reply["ttl_ms"], reply["heartbeat_ms"], reply["void"]) == (6_000, 2_000, [])


def test_a_silent_worker_loses_what_it_has_to_others_at_once() -> None:
    """After its time to live and a tenth more; the others are heard."""
    desk = Desk()
    desk.register("w1")
    tasks = [desk.submit(lease_ms=60_000), desk.submit(lease_ms=60_000)]
    desk.register("w2", slots=2)
    desk.start(tasks[0])
    for _ in range(3):
        desk.advance(1_000)
        desk.beat("w2", desk.token(tasks[1]))
    assert desk.worker(tasks[0]) == "w1"
    desk.advance(299)
    assert desk.worker(tasks[0]) == "w1"
    desk.advance(1)
    assert desk.worker(tasks[0]) == "w2"
    assert set(desk.state.workers) == {"w2"}
    desk.check()


def test_heartbeats_keep_a_worker_and_its_leases() -> None:
    """For as long as they come and list the attempt, with little in the journal."""
    desk = Desk()
    desk.register()
    task = desk.submit(lease_ms=2_000)
    token = desk.start(task)
    written = len(desk.journal)
    for _ in range(60):
        desk.advance(1_000)
        desk.beat("w1", token)
    assert desk.where(task) == "running"
    assert [event[0] for event in desk.journal[written:]] == [events.HEARD] * 30


def test_a_sign_of_life_is_journaled_at_half_of_the_time_to_live() -> None:
    """Of a worker that works on something; an assignment counts as one, and who idles writes nothing."""
    desk = Desk(worker_ttl_ms=3_000)
    desk.register("w1")
    desk.register("w2")
    token = desk.start(desk.submit())
    began = len(desk.journal)
    for _ in range(12):
        desk.advance(500)
        desk.beat("w1", token)
        desk.beat("w2")
    assert [event[0] for event in desk.journal[began:]] == [events.HEARD] * 4
    assert [event[1:] for event in desk.journal[began:]] == [(1_000 + 1_500 * n, "w1") for n in (1, 2, 3, 4)]
    desk.check()


def test_take_overs_do_not_prolong_a_silence() -> None:
    """One after the other gave a worker that is dead a whole time each; the journal shows that others were heard."""
    desk = Desk(worker_ttl_ms=3_000, start_within_ms=600_000)
    desk.register("w1")
    dead, alive = desk.submit(), desk.submit()
    desk.start(dead)
    desk.register("w2")
    token = desk.start(alive)
    for _ in range(4):
        for _ in range(4):
            desk.advance(500)
            desk.beat("w2", token)
        desk.take_over()
    desk.settle()
    assert (list(desk.state.workers), desk.where(dead), desk.where(alive)) == (["w2"], "ready", "running")
    desk.check()


def test_when_all_were_silent_a_take_over_gives_everybody_a_whole_time() -> None:
    """It was rather the network: nobody was heard after the others."""
    desk = Desk(worker_ttl_ms=3_000)
    for name in ("w1", "w2"):
        desk.register(name)
        desk.start(desk.submit())
    desk.now += 60_000
    desk.take_over()
    desk.settle()
    desk.advance(3_000)
    assert set(desk.state.workers) == {"w1", "w2"}


def test_when_all_are_silent_it_is_rather_the_network() -> None:
    """Three times as long is waited, and the first that is heard speaks for all: nothing is lost in a short outage."""
    desk = Desk()
    for name in ("w1", "w2"):
        desk.register(name)
    tasks = [desk.submit(lease_ms=60_000) for _ in range(2)]
    tokens = {desk.worker(task): desk.start(task) for task in tasks}
    desk.advance(9_000)
    desk.beat("w1", tokens["w1"])
    desk.advance(2_000)
    desk.beat("w1", tokens["w1"])
    desk.beat("w2", tokens["w2"])
    assert set(desk.state.workers) == {"w1", "w2"}
    desk.advance(9_900)
    assert not desk.state.workers, "they are gone in the end"
    assert [desk.where(task) for task in tasks] == ["ready", "ready"]
    desk.check()


def test_an_outage_does_not_cost_leases_when_somebody_is_heard_again() -> None:
    """The first heartbeat after a silence of all extends every lease."""
    desk = Desk()
    for name in ("w1", "w2"):
        desk.register(name)
    tasks = [desk.submit(lease_ms=9_000) for _ in range(2)]
    for task in tasks:
        desk.start(task)
    desk.advance(8_500)
    desk.beat("w1")
    desk.advance(600)
    assert [desk.where(task) for task in tasks] == ["running", "running"]


def test_a_take_over_gives_everybody_a_whole_time() -> None:
    """The new owner has heard nobody yet."""
    desk = Desk()
    desk.register()
    task = desk.submit(lease_ms=2_000)
    token = desk.start(task)
    desk.advance(1_500)
    desk.beat("w1", token)
    desk.advance(1_900)
    desk.take_over()
    desk.advance(1_900)
    desk.beat("w1", token)
    assert desk.where(task) == "running"
    desk.check()


def test_a_stranger_is_told_to_register_once_a_second_at_most() -> None:
    """Whoever was forgotten, after a silence or a loss, learns of it by its own heartbeats."""
    desk = Desk()
    for _ in range(10):
        desk.beat("w9")
        desk.advance(250)
    assert len(desk.notices("w9", "register")) == 3
    assert not desk.journal


def test_heartbeats_of_another_session_are_not_heard() -> None:
    """A process that was replaced does not keep its successor alive."""
    desk = Desk()
    desk.register(session="new")
    desk.register("w2")
    desk.beat("w1", "3.3.3", session="old")
    assert [notice["token"] for notice in desk.notices("w1", "stop")] == ["3.3.3"], "it is to stop what it does"
    for _ in range(4):
        desk.advance(1_000)
        desk.beat("w1", session="old")
        desk.beat("w2")
    assert "w1" not in desk.state.workers


def test_an_assignment_that_a_heartbeat_does_not_list_is_sent_again() -> None:
    """A lost notice costs a second, not the task's lease."""
    desk = Desk()
    desk.register()
    task = desk.submit(payload=b"x")
    desk.advance(600)
    desk.beat("w1")
    assert len(desk.notices("w1", "assign")) == 1, "it may still be on its way"
    desk.advance(100)
    desk.beat("w1")
    first, again = desk.notices("w1", "assign")
    assert {**again, "deadline_in_ms": None} == {**first, "deadline_in_ms": None}
    desk.beat("w1")
    assert len(desk.notices("w1", "assign")) == 2
    assert again["task"] == task


def test_an_assignment_that_is_listed_is_being_started() -> None:
    """The start may be on its way: the time for it is extended."""
    desk = Desk(start_within_ms=1_000)
    desk.register()
    task = desk.submit(lease_ms=3_000)
    token = desk.token(task)
    for _ in range(5):
        desk.advance(900)
        desk.beat("w1", token)
    assert desk.token(task) == token
    desk.register("w2")
    for _ in range(10):
        desk.advance(900)
        desk.beat("w1", token)
        desk.beat("w2")
    assert desk.token(task) != token, "who says for ever that it is starting has not got it"


def test_a_void_attempt_that_is_listed_is_told_to_stop_again() -> None:
    """A lost stop costs a second."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    token = desk.start(task)
    desk.cancel(task)
    desk.told.clear()
    desk.beat("w1", token)
    assert [notice["token"] for notice in desk.notices("w1", "stop")] == [token]
    desk.beat("w1", "7.7.7")
    assert desk.notices("w1", "stop")[-1] == {"v": 1, "what": "stop", "task": None, "token": "7.7.7"}


def test_not_started_in_time_it_goes_to_another() -> None:
    """And does not count as an attempt that failed or was lost."""
    desk = Desk(start_within_ms=2_000)
    desk.register("w1")
    task = desk.submit(retries=0)
    desk.register("w2")
    token = desk.token(task)
    desk.must(wire.Configure(id="c-1", policy="round_robin"), "ops")
    for _ in range(2):
        desk.advance(1_000)
        desk.beat("w1")
        desk.beat("w2")
    assert desk.worker(task) == "w2"
    assert desk.code(wire.Start(id="s-1", task=task, token=token), "w1") == "stale_attempt"
    assert desk.state.tasks[task].failures == desk.state.tasks[task].losses == 0
    desk.check()


def test_another_session_ends_the_attempts_of_the_one_before() -> None:
    """The process was started again: what it ran is gone."""
    desk = Desk()
    desk.register(slots=2)
    running, assigned = desk.submit(), desk.submit()
    old = desk.start(running)
    desk.register(slots=2, session="other")
    assert desk.where(running) == desk.where(assigned) == "assigned"
    assert desk.token(running) != old
    assert (desk.state.tasks[running].losses, desk.state.tasks[assigned].losses) == (1, 0)
    desk.check()


def test_the_same_session_keeps_what_it_declares() -> None:
    """A worker that registers again (it was told to, or was cut off) goes on; what it has lost goes to others."""
    desk = Desk()
    desk.register(slots=3)
    kept, lost, assigned = (desk.submit() for _ in range(3))
    token, _ = desk.start(kept), desk.start(lost)
    waiting = desk.token(assigned)
    reply = desk.register(slots=3, running=(token, "5.5.5"))
    assert reply["void"] == ["5.5.5"]
    assert (desk.token(kept), desk.where(kept)) == (token, "running")
    assert desk.token(assigned) == waiting
    assert desk.state.tasks[lost].losses == 1
    desk.check()


def test_what_is_declared_and_void_takes_a_slot_until_it_is_released() -> None:
    """It runs, truly, so nothing may come in its place."""
    desk = Desk()
    desk.register(running=("5.5.5",))
    task = desk.submit()
    assert desk.where(task) == "ready"
    desk.release("ann.none", "5.5.5", "w1")
    assert desk.where(task) == "assigned"


def test_a_task_that_is_lost_too_often_is_a_dead_letter() -> None:
    """It may kill its workers."""
    desk = Desk(max_losses=2, max_kills=9)
    task = desk.submit(retries=50)
    for session in ("one", "two"):
        desk.register(session=session)
        desk.start(task)
        desk.register(session=f"after{session}", classes=("other",))
    assert desk.where(task) == "dead"
    assert desk.find(task)["reason"] == "lost too often"
    assert desk.notices("ann", "ended")[0]["state"] == "dead"
    desk.check()


def test_a_draining_worker_gets_nothing_new() -> None:
    """What it has goes on; registering again ends the draining."""
    desk = Desk()
    desk.register(slots=2)
    task = desk.submit()
    desk.must(wire.Drain(id="d-1", session="sw1"), "w1")
    other = desk.submit()
    desk.run(task)
    assert desk.where(other) == "ready"
    desk.register(slots=2)
    assert desk.where(other) == "assigned"
    desk.check()


def test_a_worker_that_leaves_hands_back_without_counting() -> None:
    """At once, whatever it runs."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit(retries=0)
    desk.start(task)
    desk.register("w2")
    assert desk.must(wire.Leave(id="l-1", session="sw1"), "w1")["returned"] == 1
    assert desk.worker(task) == "w2"
    assert desk.state.tasks[task].losses == 0
    desk.check()


@pytest.mark.parametrize("verb", [wire.Drain, wire.Leave])
def test_only_the_present_session_drains_and_leaves(verb: type[wire.Drain]) -> None:
    """A process that was replaced cannot take its successor away."""
    desk = Desk()
    desk.register()
    assert desk.code(verb(id="x-1", session="old"), "w1") == "not_registered"
    assert desk.code(verb(id="x-2", session="sw1"), "w2") == "not_registered"


def test_fewer_slots_than_attempts_get_nothing_until_there_is_room() -> None:
    """A worker may register with fewer slots while it works."""
    desk = Desk()
    desk.register(slots=3)
    tasks = [desk.submit() for _ in range(4)]
    tokens = [desk.start(task) for task in tasks[:3]]
    desk.register(slots=2, running=tuple(tokens))
    desk.finish(tasks[0])
    assert desk.where(tasks[3]) == "ready"
    desk.finish(tasks[1])
    assert desk.where(tasks[3]) == "assigned"
    desk.check()


def test_a_notice_that_is_out_of_date_is_not_sent() -> None:
    """Between the heartbeat and its consequence the task may have gone on."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    desk.advance(800)
    board = desk.state.awake(desk.now)
    board.tell["w1"] = {desk.token(task): "stop"}
    assert not desk.notices("w1", "stop")
    desk.settle()
    assert not desk.notices("w1", "stop")
    assert isinstance(desk.ask(wire.Heartbeat(session="sw1"), "w1"), Refuse)
    assert isinstance(desk.ask(wire.Leave(id="l-1", session="sw1"), "w1"), Accept)
