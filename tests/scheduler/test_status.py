"""Queries, settings, and words for operators."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.contracts.base import Query, Request
from bursar.contracts.rights import RightsRule, SetRights
from bursar.contracts.scheduler_graph import CancelProgram
from bursar.kernel.decider import Accept
from bursar_scheduler import events
from bursar_scheduler.configuring import ConfigureFromSettings
from bursar_scheduler.service import SPEC, position, start
from bursar_scheduler.settings import SchedulerSettings, rules_of
from bursar_scheduler.status import ListAll
from tests.scheduler.blobs import put_all
from tests.scheduler.desk import Desk

FENCE = "1.1.1.0123456789abcdef"


def busy() -> Desk:
    desk = Desk()
    desk.register(slots=2, labels={"a": "b"})
    running, failed = desk.submit(payload=b"12345"), desk.submit(backoff_ms=10_000)
    desk.start(running)
    desk.start(failed)
    desk.fail(failed)
    desk.submit("other", priority="reactive")
    desk.submit()
    desk.advance(400)
    desk.hears(wire.Heartbeat(session="sw1", running=(desk.token(running),), load_permille=700), "w1")
    desk.advance(100)
    return desk


def test_the_status_counts_what_is_there() -> None:
    """Per state, band, class and worker."""
    desk = busy()
    told = wire.StatusReply.model_validate({**desk.hears(wire.Status()), "fence": FENCE})
    assert (told.waiting, told.delayed, told.assigned, told.running, told.dead) == (1, 1, 1, 1, 0)
    assert told.bytes == 5
    assert told.bands["reactive"] == {"waiting": 1, "running": 0}
    assert told.classes == {"work": {"waiting": 1, "running": 2}, "other": {"waiting": 1, "running": 0}}
    (worker,) = told.workers
    assert (worker.name, worker.used, worker.slots, worker.heard_ms, worker.load_permille) == ("w1", 2, 2, 100, 700)
    assert (told.counts["accepted"], told.counts["retried"], told.counts["refused"]) == (4, 1, 0)


def test_a_page_goes_on_where_the_last_one_ended() -> None:
    """Own tasks in their order, with their age; a page begins anew when its anchor is gone."""
    desk = Desk()
    tasks = [desk.submit() for _ in range(5)]
    desk.submit(principal="bob")
    first = wire.ListReply.model_validate({**desk.hears(wire.List(limit=3)), "fence": FENCE})
    assert [row.task for row in first.tasks] == tasks[:3]
    assert first.more
    rest = desk.hears(wire.List(limit=3, after=tasks[2]))
    assert [row["task"] for row in rest["tasks"]] == tasks[3:]
    assert not rest["more"]
    assert len(desk.hears(wire.List(after="ann.gone"))["tasks"]) == 5
    desk.advance(700)
    assert [row["age_ms"] for row in desk.hears(wire.List(limit=1))["tasks"]] == [700]
    assert desk.hears(wire.List(), "nobody")["tasks"] == []


def test_agents_list_their_own_and_operators_all() -> None:
    """The principal in the question is for operators."""
    desk = Desk()
    desk.submit()
    desk.submit(principal="bob")
    assert desk.code(wire.List(principal="bob")) == "not_yours"
    assert len(desk.hears(ListAll(), "ops")["tasks"]) == 2
    assert len(desk.hears(ListAll(principal="bob"), "ops")["tasks"]) == 1


def test_dead_letters_are_listed_apart() -> None:
    """With the reason and what the worker said."""
    desk = Desk()
    desk.register()
    task = desk.submit(retries=0)
    desk.start(task)
    desk.fail(task, "boom")
    (row,) = desk.hears(ListAll(dead=True), "ops")["tasks"]
    assert (row["task"], row["state"], row["error"]) == (task, "dead", "boom")
    assert desk.hears(wire.List(dead=True))["tasks"] == [row]
    assert desk.hears(wire.List(dead=True), "bob")["tasks"] == []


def test_which_of_many_have_ended() -> None:
    """One question for many handles."""
    desk = Desk()
    desk.register()
    done, waiting = desk.submit(), desk.submit()
    desk.run(done)
    told = desk.hears(wire.Ended(tasks=(done, waiting, "ann.none")))
    assert (told["ended"], told["unknown"]) == ([[done, "done"]], ["ann.none"])


def test_every_answer_fits_its_contract() -> None:
    """What the core says is what the contract module promises."""
    desk = busy()
    task = next(iter(desk.state.tasks))
    wire.Found.model_validate({**desk.find(task), "fence": FENCE})
    desk.finish(task)
    wire.Found.model_validate({**desk.find(task), "fence": FENCE})
    desk.cancel(desk.submit())
    models: dict[str, Any] = {
        "assign": wire.Assign,
        "stop": wire.Stop,
        "register": wire.RegisterAgain,
        "ended": wire.TaskEnded,
    }
    for notice in desk.told:
        models[notice.body["what"]].model_validate({**notice.body, "fence": FENCE})


def test_settings_are_applied_once() -> None:
    """A restart does not undo what an operator has changed since; other settings do."""
    desk = Desk()
    settings = SchedulerSettings(scheduler_policy="round_robin", scheduler_max_tasks=5)
    (body,) = start(settings, desk.state)
    assert isinstance(body, ConfigureFromSettings)
    desk.must(body, "svc-scheduler")
    assert (desk.state.config.policy, desk.state.config.max_tasks) == ("round_robin", 5)
    desk.must(wire.Configure(id="c-1", max_tasks=6), "ops")
    assert list(start(settings, desk.state)) == []
    assert len(list(start(SchedulerSettings(scheduler_max_tasks=7), desk.state))) == 1
    assert position(desk.state) == 0
    desk.check()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rule has its variable."""
    monkeypatch.setenv("BURSAR_SCHEDULER_WORKER_TTL_MS", "9000")
    assert rules_of(SchedulerSettings())["worker_ttl_ms"] == 9_000


def test_every_event_has_words() -> None:
    """For the operator who reads the journal; payloads and results are not shown."""
    desk = busy()
    task = desk.submit(payload=b"secret", needs={"kind": "cpu", "labels": {"a": "b"}}, retries=0)
    desk.post("p")
    desk.must(wire.Share(id="h-1", agent="ann", weight=2), "ops")
    other = desk.submit(task_class="other")
    desk.submit(after=(other,), after_failure="run")
    desk.cancel(other)
    desk.must(wire.Configure(id="c-1", max_tasks=1), "ops")
    desk.post("q")
    running = next(t.id for t in desk.state.tasks.values() if t.state == "running")
    token = desk.token(running)
    desk.cancel(running)
    desk.release(running, token, "w1")
    for _ in range(3):
        for name in [t.id for t in desk.state.tasks.values() if t.state == "assigned"]:
            desk.start(name)
            desk.fail(name)
    desk.must(wire.Configure(id="c-2", max_tasks=99, min_run_ms=0), "ops")
    chunked = desk.submit(priority="proactive", preemptible=True)
    desk.state.workers["w1"].slots = len(desk.state.workers["w1"].attempts) + 1
    desk.register(slots=9, running=tuple(desk.state.workers["w1"].attempts))
    desk.start(chunked)
    desk.must(wire.Drain(id="d-1", session="sw1", within_ms=9_000), "w1")
    token = desk.token(chunked)
    desk.must(wire.Yield(id="y-1", task=chunked, token=token, checkpoint=b"c"), "w1")
    desk.must(wire.Leave(id="l-1", session="sw1"), "w1")
    desk.must(wire.Requeue(id="o-1", task=next(iter(desk.state.dead))), "ops")
    for name in ("w1", "w2"):
        desk.register(name, 9)
    gang = desk.submit(needs={"gang": 2})
    for name in desk.state.tasks[gang].members:
        desk.must(wire.Start(id=desk.new_id(), task=gang, token=desk.token(gang)), name)
        assert isinstance(desk.finish(gang, worker=name), Accept)
    desk.must(SetRights(id="r-1", rules=(RightsRule(who=("bob",)),)), "ops")
    put_all(desk, b"large")
    desk.submit(program="run")
    desk.must(CancelProgram(id="p-1", program="run"))
    beating = desk.worker(desk.submit())
    for _ in range(3):
        desk.advance(1_600)
        desk.beat(beating, *desk.state.workers[beating].attempts)
    desk.lose(0)
    words = [desk.decider.describe(event) for event in desk.journal]
    assert {event[0] for event in desk.journal} == set(events._WORDS)
    assert not any("secret" in line for line in words)
    assert any(task in line for line in words)


def test_the_service_listens_to_every_message_of_the_contract() -> None:
    """No request without an endpoint."""
    heard = {
        verb.message for verbs in (SPEC.verbs, SPEC.admin, SPEC.work, SPEC.observations) for verb in verbs.values()
    }
    requests = {kind for kind in vars(wire).values()
                if isinstance(kind, type) and issubclass(kind, Request | Query)
                and kind not in (Request, Query)}  # fmt: skip
    assert requests <= heard
    assert SPEC.inbox is not None
    assert SPEC.inbox.message is wire.Post
