"""A test must be able to fail: each known mistake is switched on, and the state machine must object, for its reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from bursar.contracts import scheduler as wire
from bursar.kernel.bugs import switched_on
from bursar_scheduler import bugs
from tests.scheduler import test_blobs, test_cancelling, test_filling, test_gangs, test_gathering
from tests.scheduler.desk import Desk
from tests.scheduler.history import check_history
from tests.scheduler.test_machine import Machine
from tests.scheduler.truth import Truth

pytestmark = pytest.mark.property

QUICK = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


def objection(bug: str) -> str:
    """What the state machine says with the bug in place."""
    with switched_on(bug), pytest.raises((AssertionError, KeyError)) as caught:
        run_state_machine_as_test(Machine, settings=QUICK)
    return str(caught.value)


def played(task: dict[str, Any], ms: int) -> Machine:
    """The state machine with one task that runs, and then so much time without a heartbeat that lists it."""
    machine = Machine()
    machine.begin(may_lose=False)
    machine.truth.accepted.add(machine.desk.submit(**task))
    machine.note()
    machine.start()
    for _ in range(ms // 500):
        machine.desk.advance(500)
        for worker in machine.sessions:
            machine.beat(worker, hides=True)
    return machine


def ended_by_a_void_attempt() -> None:
    """A worker whose lease was lost finishes the task that another one works on."""
    desk = Desk()
    desk.register("w1")
    task = desk.submit(lease_ms=1_000)
    old = desk.start(task)
    desk.advance(1_000)
    desk.register("w2")
    desk.start(task)
    desk.ask(wire.Finish(id="f-1", task=task, token=old), "w1")
    assert task in desk.state.tasks, f"{old} is void and has ended it"


def silent_attempt() -> None:
    played({"lease_ms": 1_000}, 3_000).no_attempt_outlives_its_lease()


def cancelled_and_still_running() -> None:
    """A worker with one slot runs a task that is cancelled, and whatever it is given next."""
    desk, truth = Desk(), Truth(slots={"w1": 1})
    desk.register()
    first = desk.submit()
    truth.started("w1", desk.start(first), first)
    desk.cancel(first)
    second = desk.submit()
    if desk.where(second) == "assigned":
        truth.started("w1", desk.start(second), second)


def failed_once() -> Desk:
    """A task that has failed, and has a pause of seconds before it; its worker is free."""
    desk = Desk()
    desk.register()
    desk.submit(retries=1, backoff_ms=5_000)
    notice = desk.told[-1].body
    attempt = {"task": notice["task"], "token": notice["token"]}
    desk.must(wire.Start.model_validate({"id": desk.new_id(), **attempt}), "w1")
    desk.must(wire.Fail.model_validate({"id": desk.new_id(), **attempt}), "w1")
    desk.settle()
    return desk


def test_seeded_bug_scheduler_stale_token_finishes_is_caught() -> None:
    """An attempt that is void must not end its task."""
    ended_by_a_void_attempt()
    with switched_on(bugs.STALE_TOKEN_FINISHES), pytest.raises(AssertionError, match="is void and has ended it"):
        ended_by_a_void_attempt()


def test_seeded_bug_scheduler_lease_expiry_keeps_attempt_is_caught() -> None:
    """A task must not stay with a worker of which nothing is heard."""
    silent_attempt()
    with switched_on(bugs.LEASE_EXPIRY_KEEPS_ATTEMPT), pytest.raises(AssertionError, match="without a sign of life"):
        silent_attempt()


def test_seeded_bug_scheduler_double_assign_is_caught() -> None:
    """Who is assigned does not wait any more."""
    assert "with token" in objection(bugs.DOUBLE_ASSIGN)


def test_seeded_bug_scheduler_slots_exceeded_is_caught() -> None:
    """A cancelled attempt runs until its worker has stopped it."""
    cancelled_and_still_running()
    with switched_on(bugs.SLOTS_EXCEEDED), pytest.raises(AssertionError, match="1 slots"):
        cancelled_and_still_running()


def test_seeded_bug_scheduler_backoff_ignored_is_caught() -> None:
    """A pause is kept."""
    check_history(failed_once().journal, 0)
    with switched_on(bugs.BACKOFF_IGNORED), pytest.raises(AssertionError, match="too early"):
        check_history(failed_once().journal, 0)


def test_seeded_bug_scheduler_inbox_position_lost_is_caught() -> None:
    """What was decided is not read again."""
    assert "position" in objection(bugs.INBOX_POSITION_LOST)


def test_seeded_bug_scheduler_cancelled_task_runs_is_caught() -> None:
    """A cancellation that was answered holds."""
    assert "worked on" in objection(bugs.CANCELLED_TASK_RUNS)


def test_seeded_bug_scheduler_ended_id_forgotten_is_caught() -> None:
    """A name that has ended is not accepted again."""
    assert "there and ended" in objection(bugs.ENDED_ID_FORGOTTEN)


def test_seeded_bug_scheduler_loss_runs_again_is_caught() -> None:
    """After a loss of entries a task that may have ended does not run."""
    said = objection(bugs.LOSS_RUNS_AGAIN)
    assert "second end" in said or "worked on" in said or "ready" in said or "waits for" in said


def chain_with_a_failure() -> Desk:
    """The first of two is cancelled."""
    desk = Desk()
    first = desk.submit()
    desk.submit(after=(first,))
    desk.cancel(first)
    return desk


def test_seeded_bug_scheduler_failed_dependency_runs_is_caught() -> None:
    """What a task comes after must be done."""
    check_history(chain_with_a_failure().journal)
    with switched_on(bugs.FAILED_DEPENDENCY_RUNS), pytest.raises(AssertionError, match="runs though"):
        check_history(chain_with_a_failure().journal)


def test_seeded_bug_scheduler_runs_before_its_dependencies_is_caught() -> None:
    """A task that comes after others is not ready before they have ended."""
    assert "waits for" in objection(bugs.RUNS_BEFORE_ITS_DEPENDENCIES)


def two_workers_die() -> Desk:
    """With the same task."""
    desk = Desk(max_losses=50)
    task = desk.submit(retries=50)
    for session in ("one", "two", "three"):
        desk.register(session=session)
        if desk.where(task) == "assigned":
            desk.start(task)
    return desk


def test_seeded_bug_scheduler_kills_for_ever_is_caught() -> None:
    """A task runs on two workers that die with it, and on no third one."""
    check_history(two_workers_die().journal[1:])
    with switched_on(bugs.KILLS_FOR_EVER), pytest.raises(AssertionError, match="died with it"):
        check_history(two_workers_die().journal[1:])


def test_seeded_bug_scheduler_yields_without_checkpoint_is_caught() -> None:
    """What an attempt has kept, the next one gets."""
    yielded()
    with switched_on(bugs.YIELDS_WITHOUT_CHECKPOINT), pytest.raises(AssertionError, match="goes on without"):
        yielded()


def yielded() -> None:
    """An attempt that keeps something, as the state machine sees it."""
    machine = played({"lease_ms": 5_000}, 0)
    (worker,) = (name for name, running in machine.truth.running.items() if running)
    ((token, task),) = machine.truth.running[worker].items()
    machine.desk.must(wire.Yield(id="y-1", task=task, token=token, checkpoint="kept"), worker)
    machine.checkpoints[task] = "kept"
    machine.truth.stopped(worker, token)
    machine.note()


def an_equal_waits() -> Desk:
    desk = Desk(min_run_ms=0)
    desk.register()
    desk.start(desk.submit(preemptible=True))
    desk.submit()
    return desk


def test_seeded_bug_scheduler_preempts_equals_is_caught() -> None:
    """Nobody yields for a task of the same band."""
    check_history(an_equal_waits().journal[1:])
    with switched_on(bugs.PREEMPTS_EQUALS), pytest.raises(AssertionError, match="for nobody above it"):
        check_history(an_equal_waits().journal[1:])


def test_seeded_bug_scheduler_blobs_for_all_is_caught() -> None:
    """What belongs to a task is read by who submitted or runs it."""
    test_blobs.test_a_payload_is_stored_in_parts_and_read_by_who_runs_the_task()
    with switched_on(bugs.BLOBS_FOR_ALL), pytest.raises(AssertionError):
        test_blobs.test_a_payload_is_stored_in_parts_and_read_by_who_runs_the_task()


def test_seeded_bug_scheduler_program_half_cancelled_is_caught() -> None:
    """Nothing of a program that was cancelled goes on."""
    test_cancelling.test_a_large_program_ends_piece_by_piece_and_none_of_it_begins_meanwhile()
    with switched_on(bugs.PROGRAM_HALF_CANCELLED), pytest.raises(AssertionError):
        test_cancelling.test_a_large_program_ends_piece_by_piece_and_none_of_it_begins_meanwhile()


def test_every_seeded_bug_has_its_test() -> None:
    """None of the known mistakes goes without the test that shows that it is seen."""
    for name in bugs.NAMES:
        assert f"test_seeded_bug_{name}_is_caught" in globals(), name


def test_seeded_bug_scheduler_gang_ends_with_its_first_is_caught() -> None:
    """The end of one part is not the end of all."""
    with switched_on(bugs.GANG_ENDS_WITH_ITS_FIRST), pytest.raises(AssertionError, match="done"):
        test_gangs.test_the_slots_of_a_gang_come_back_together()


def test_seeded_bug_scheduler_held_for_nobody_is_caught() -> None:
    """Workers that were held for a gang that has gone stand idle while work waits."""
    with switched_on(bugs.HELD_FOR_NOBODY), pytest.raises(AssertionError, match="assigned"):
        test_gathering.test_nobody_is_held_for_a_gang_that_cannot_begin()


def test_seeded_bug_scheduler_fillers_stay_is_caught() -> None:
    """Chunks that were started on workers of a gang do not keep it from beginning."""
    with switched_on(bugs.FILLERS_STAY), pytest.raises(AssertionError):
        test_filling.test_a_proactive_chunk_runs_on_a_worker_that_is_held_and_gives_way()


def test_seeded_bug_scheduler_fills_beyond_the_slack_is_caught() -> None:
    """What is longer than the time until the gang begins is not started."""
    with switched_on(bugs.FILLS_BEYOND_THE_SLACK), pytest.raises(AssertionError, match="ready"):
        test_filling.test_a_chunk_that_does_not_fit_into_the_slack_is_not_started()
