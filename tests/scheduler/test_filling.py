"""Backfill: proactive chunks run on workers that wait for a gang, and give way to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from bursar.contracts import scheduler as wire
from bursar.kernel.decider import Accept
from bursar_scheduler.filling import CHUNK_MS
from bursar_scheduler.gathering import HOLD_AFTER_MS
from bursar_scheduler.validate import is_conserving
from tests.scheduler.desk import Desk
from tests.scheduler.history import check_history
from tests.scheduler.strategies import WORKERS, workers
from tests.scheduler.test_gangs import crew, gang_of
from tests.scheduler.test_machine import Machine
from tests.scheduler.test_yielding import asked, yields

pytestmark = pytest.mark.property


def beats(desk: Desk) -> None:
    for name, worker in desk.state.workers.items():
        desk.beat(name, *worker.attempts)


def wait(desk: Desk, ms: int) -> None:
    """Time passes, and everybody is heard."""
    for _ in range(0, ms, 500):
        desk.advance(min(500, ms))
        beats(desk)


def filler(desk: Desk, **fields: Any) -> str:
    return desk.submit(**{"priority": "proactive", "preemptible": True, "lease_ms": 60_000, **fields})


def gathering(size: int = 2, *, takes_ms: int = 60_000, **fields: Any) -> tuple[Desk, str, str]:
    """A gang that gathers: all workers but the first are free and held, and that one runs what takes so long."""
    desk = crew(size)
    long = desk.submit("work", lease_ms=60_000, hints={"expected_ms": takes_ms})
    desk.start(long)
    gang = gang_of(desk, size, **fields)
    wait(desk, HOLD_AFTER_MS)
    assert desk.where(gang) == "ready"
    return desk, gang, long


def test_a_proactive_chunk_runs_on_a_worker_that_is_held_and_gives_way() -> None:
    """As soon as enough workers are held it is asked, and the gang begins when it has yielded; its checkpoint stays."""
    desk, gang, long = gathering()
    standard = desk.submit(preemptible=True)
    chunks = filler(desk)
    assert (desk.where(chunks), desk.where(standard)) == ("assigned", "ready")
    desk.start(chunks)
    wait(desk, 500)
    assert not asked(desk, desk.worker(chunks)), "the gang cannot begin yet"
    desk.finish(long)
    assert asked(desk, desk.worker(chunks)) == [chunks], "at once, however short it has run"
    assert is_conserving(desk.state)
    yields(desk, chunks, {"page": 3})
    assert (desk.where(gang), desk.where(chunks)) == ("assigned", "ready")
    assert desk.state.tasks[chunks].checkpoint == {"page": 3}
    desk.check()
    check_history(desk.journal)


@pytest.mark.parametrize(
    "fields",
    [{"preemptible": False}, {"priority": "standard"}, {"priority": "reactive"}, {"needs": {"ram_mib": 1}}],
)
def test_only_proactive_tasks_that_may_be_stopped_and_fit_are_fillers(fields: dict[str, Any]) -> None:
    """Whatever else waits does so until the gang has begun."""
    desk, _, _ = gathering()
    task = filler(desk, **fields)
    wait(desk, 1_000)
    assert desk.where(task) == "ready"
    desk.check()


def test_nothing_is_filled_for_a_gang_of_the_lowest_band() -> None:
    """Nobody yields for an equal."""
    desk, _, _ = gathering(priority="proactive")
    task = filler(desk)
    wait(desk, 1_000)
    assert desk.where(task) == "ready"
    desk.check()


def test_a_chunk_that_does_not_fit_into_the_slack_is_not_started() -> None:
    """The one that is missing is expected in 60 ms: too short for a chunk, long enough for a call of 20 ms."""
    desk, _, long = gathering(takes_ms=HOLD_AFTER_MS + 60)
    assert desk.now - desk.state.tasks[long].since == HOLD_AFTER_MS
    chunks = filler(desk)
    assert desk.where(chunks) == "ready"
    desk.now += 10
    short = filler(desk, task_class="work", hints={"expected_ms": 20})
    desk.cancel(chunks)
    desk.now += 10
    desk.settle()
    assert desk.where(short) == "assigned"
    desk.check()


def test_a_busy_end_that_is_late_makes_slack_again() -> None:
    """What has run for longer than expected is expected to be as late again."""
    desk, _, _ = gathering(takes_ms=HOLD_AFTER_MS)
    chunks = filler(desk)
    assert desk.where(chunks) == "ready"
    wait(desk, 500)
    assert desk.where(chunks) == "assigned"
    desk.check()


def test_a_quota_keeps_fillers_too() -> None:
    """Free workers that are held are not beyond the rights of a submitter."""
    desk, _, _ = gathering()
    desk.must(wire.Share(id="s-1", agent="bob", slots=0, borrow=0), "ops")
    task = filler(desk, principal="bob")
    wait(desk, 1_000)
    assert desk.where(task) == "ready"
    desk.must(wire.Share(id="s-2", agent="bob", slots=1), "ops")
    assert desk.where(task) == "assigned"
    desk.check()


def test_a_loaded_worker_with_something_above_is_not_filled() -> None:
    """The second slot stays free while its host is loaded, and is filled when it is not."""
    desk = Desk()
    desk.register("w1", 2)
    desk.register("w2", 1)
    tasks = [desk.submit(lease_ms=60_000, hints={"expected_ms": 60_000}) for _ in range(3)]
    for task in tasks:
        desk.start(task)
    gang_of(desk, 2)
    wait(desk, HOLD_AFTER_MS)
    desk.finish(next(task for task in tasks if desk.worker(task) == "w1"))

    def tells(load: int) -> None:
        running = tuple(desk.state.workers["w1"].attempts)
        desk.ask(wire.Heartbeat(session="sw1", running=running, load_permille=load), "w1")

    tells(900)
    chunks = filler(desk)
    assert desk.where(chunks) == "ready"
    tells(300)
    assert desk.where(chunks) == "assigned"
    desk.check()


def test_after_a_take_over_fillers_give_way_all_the_same() -> None:
    """Who they were started for is not in the journal: all proactive attempts that may be stopped are, after
    ``min_run_ms``."""
    desk, gang, long = gathering()
    chunks = filler(desk)
    desk.start(chunks)
    desk.advance(10)
    desk.take_over()
    desk.settle()
    desk.finish(long)
    assert desk.where(chunks) == "running"
    desk.advance(desk.state.config.min_run_ms)
    assert asked(desk, "w2") == [chunks]
    yields(desk, chunks)
    assert desk.where(gang) == "assigned"
    desk.check()


def test_as_many_fillers_as_are_in_the_way_yield() -> None:
    """A worker with three slots has to give one of them; a gang that is cancelled stops nobody."""
    desk = Desk()
    desk.register("w1", 3)
    desk.register("w2", 1)
    tasks = [desk.submit(lease_ms=60_000, hints={"expected_ms": 60_000}) for _ in range(4)]
    for task in tasks:
        desk.start(task)
    gang = gang_of(desk, 2)
    wait(desk, HOLD_AFTER_MS)
    there = [task for task in tasks if desk.worker(task) == "w1"]
    for task in there:
        desk.finish(task)
    fillers = [filler(desk) for _ in range(3)]
    for task in fillers:
        desk.start(task)
        desk.advance(10)
    desk.finish(next(task for task in tasks if task not in there))
    assert asked(desk, "w1") == [fillers[2]], "the newest"
    desk.cancel(gang)
    yields(desk, fillers[2])
    assert desk.where(fillers[2]) == "assigned"
    desk.check()


def test_no_more_workers_are_held_than_are_missing() -> None:
    """All run chunks; one that is not needed for the gang goes to who comes next."""
    desk = crew(4, min_run_ms=60_000)
    chunks = [filler(desk) for _ in range(4)]
    for task in chunks:
        desk.start(task)
    gang = gang_of(desk, 2)
    wait(desk, HOLD_AFTER_MS)
    assert [worker.held for worker in desk.state.workers.values()] == [True, True, False, False]
    single = desk.submit()
    desk.finish(next(task for task in chunks if desk.worker(task) == "w1"))
    assert (desk.where(gang), desk.where(single)) == ("ready", "ready")
    desk.finish(next(task for task in chunks if desk.where(task) == "running" and desk.worker(task) == "w2"))
    assert desk.where(gang) == "assigned"
    desk.finish(next(task for task in chunks if desk.where(task) == "running" and desk.worker(task) == "w4"))
    assert desk.worker(single) == "w4"
    desk.check()


def begins_at(ends: list[int], chunk: int, fillers: int) -> int:
    """When a gang begins whose workers get free then, ms after it began to gather; fillers stop within a chunk."""
    desk = crew(len(ends))
    longs = [desk.submit(lease_ms=60_000, hints={"expected_ms": 10_000 + at}) for at in ends]
    for task in longs:
        desk.start(task)
    gang = gang_of(desk, len(ends))
    wait(desk, HOLD_AFTER_MS)
    begun = desk.now
    for _ in range(fillers):
        filler(desk)
    stops: dict[str, int] = {}
    while desk.where(gang) == "ready":
        for task, at in zip(longs, ends, strict=True):
            if desk.now - begun >= at and desk.where(task) == "running":
                desk.finish(task)
        for name, it in list(desk.state.tasks.items()):
            if it.band == 2 and it.state == "assigned":
                desk.start(name)
            if it.state == "preempting" and desk.now >= stops.setdefault(it.token, desk.now + chunk):
                yields(desk, name)
        assert desk.now - begun < 5_000
        if desk.where(gang) == "ready":
            desk.advance(10)
            beats(desk)
    check_history(desk.journal)
    desk.check()
    return desk.now - begun


@settings(max_examples=12, deadline=None)
@given(
    ends=st.lists(st.integers(0, 80).map(lambda n: 10 * n), min_size=2, max_size=3),
    chunk=st.integers(1, CHUNK_MS // 10).map(lambda n: 10 * n),
    fillers=st.integers(1, 4),
)
def test_fillers_delay_a_gang_by_a_chunk_at_most(ends: list[int], chunk: int, fillers: int) -> None:
    """Whenever its workers get free, and however many chunks wait."""
    assert begins_at(ends, chunk, 0) == max(ends)
    assert max(ends) <= begins_at(ends, chunk, fillers) <= max(ends) + chunk


class HeldMachine(Machine):
    """Any history in which gangs wait for long, and chunks run on the workers that are held for them."""

    @rule(size=st.integers(2, 3), band=st.sampled_from(["reactive", "standard"]), singles=st.integers(4, 7))
    def a_gang_waits(self, size: int, band: str, singles: int) -> None:
        """Behind others, until workers are held for it."""
        for _ in range(singles):
            self.offered("bob")
        self.start()
        self.offered(priority=band, needs={"gang": size})
        for _ in range(HOLD_AFTER_MS // 500):
            self.time_passes(500)
            for worker in WORKERS:
                self.beat(worker, False)

    @initialize(worker=workers, chunks=st.integers(1, 3), frees=st.booleans())
    def begins_held(self, worker: str, chunks: int, frees: bool) -> None:
        """Before or after the workers have come."""
        self.chunks_run_on_what_is_held(worker, chunks, frees)

    @rule(worker=workers, chunks=st.integers(1, 3), frees=st.booleans())
    def chunks_run_on_what_is_held(self, worker: str, chunks: int, frees: bool) -> None:
        """All workers but one get free, behind a large gang; then maybe the last one."""
        self.a_gang_waits(3, "standard", 6)
        for other in sorted(WORKERS.keys() - {worker}):
            self.all_ends_there(other)
        self.time_passes(300)
        for _ in range(chunks):
            self.a_chunk_comes({})
        if frees:
            self.all_ends_there(worker)

    @rule(worker=workers)
    def all_ends_there(self, worker: str) -> None:
        """The two attempts that it has had for longest."""
        for token, task in list(self.truth.running.get(worker, {}).items())[:2]:
            self.truth.stopped(worker, token)
            outcome = self.desk.ask(wire.Finish(id=self.desk.new_id(), task=task, token=token), worker)
            if isinstance(outcome, Accept) and outcome.reply["state"] == "done":
                self.truth.ended(task, "done")
            self.note()

    @rule(demands=st.sampled_from([{}, {"ram_mib": 300}]))
    def a_chunk_comes(self, demands: dict[str, Any]) -> None:
        self.offered(priority="proactive", preemptible=True, needs=demands)
        self.start()

    def offered(self, who: str = "ann", **fields: Any) -> None:
        seen = f"{self.desk.incarnation}.1.1.0123456789abcdef"
        body = wire.Submit.model_validate({"id": self.desk.new_id(), "task_class": "work", "seen": seen, **fields})
        outcome = self.desk.ask(body, who)
        if isinstance(outcome, Accept):
            self.truth.accepted.add(outcome.reply["task"])
        self.note()


TestHeldMachine = HeldMachine.TestCase
TestHeldMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
