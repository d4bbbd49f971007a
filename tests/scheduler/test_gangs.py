"""Tasks that take several workers at once: all or none, with one token, and released together."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_explain import Why
from bursar.kernel.decider import Accept, Refuse
from bursar_scheduler.validate import is_conserving
from tests.scheduler.desk import Desk


def gang_of(desk: Desk, size: int = 3, **fields: Any) -> str:
    fields.setdefault("needs", {"gang": size})
    return desk.submit(**fields)


def crew(size: int = 3, slots: int = 1, **rules: Any) -> Desk:
    desk = Desk(**rules)
    for number in range(1, size + 1):
        desk.register(f"w{number}", slots, host=f"h{number % 2}")
    return desk


def start(desk: Desk, task: str, *workers: str) -> str:
    token = desk.token(task)
    for worker in workers or desk.state.tasks[task].members:
        desk.must(wire.Start(id=desk.new_id(), task=task, token=token), worker)
    return token


def part(desk: Desk, task: str, token: str, worker: str, result: Any = None) -> dict[str, Any]:
    body = wire.Finish(id=desk.new_id(), task=task, token=token, result=result, next=True)
    return desk.must(body, worker)


def used(desk: Desk) -> dict[str, int]:
    return {name: len(worker.attempts) for name, worker in desk.state.workers.items()}


def test_all_of_a_gang_are_told_with_one_token_or_nobody() -> None:
    """Two of three workers are not enough; why says so."""
    desk = crew(2)
    task = gang_of(desk)
    assert used(desk) == {"w1": 0, "w2": 0}
    told = desk.hears(Why(task=task))
    assert (told["cause"], told["with_room"]) == ("gang", 2)
    assert "3 workers at once" in told["text"]
    desk.register("w3", host="h1")
    token = desk.token(task)
    notices = {name: desk.notices(name, "assign")[0] for name in ("w1", "w2", "w3")}
    assert {notice["token"] for notice in notices.values()} == {token}
    members = notices["w1"]["members"]
    assert [notices[name]["rank"] for name in members] == [0, 1, 2]
    assert {notices["w1"]["members"][0], *members} == {"w1", "w2", "w3"}
    assert desk.find(task)["worker"] == members[0]
    desk.check()


def test_the_slots_of_a_gang_come_back_together() -> None:
    """With the last part; the result is that of the first rank, whenever it came."""
    desk = crew()
    task = gang_of(desk)
    token = start(desk, task)
    members = desk.state.tasks[task].members
    single = desk.submit()
    assert part(desk, task, token, members[0], b"result")["state"] == "running"
    desk.check()
    assert "next" not in part(desk, task, token, members[1], b"ignored")
    assert used(desk) == {"w1": 1, "w2": 1, "w3": 1}
    assert desk.where(single) == "ready"
    desk.take_over()
    desk.check()
    reply = part(desk, task, token, members[2])
    assert reply["state"] == "done"
    assert desk.find(task)["result"] == b"result"
    assert desk.where(single) == "assigned"
    assert sum(used(desk).values()) == 1
    assert desk.state.bytes == 0
    assert desk.notices("ann", "ended")[-1]["result"] == b"result"
    desk.check()


def test_a_failure_of_one_is_the_failure_of_all() -> None:
    """The others are told to stop, and their slots come back when they have; it is tried again with a new token."""
    desk = crew()
    task = gang_of(desk, backoff_ms=0)
    token = start(desk, task)
    first, second, third = desk.state.tasks[task].members
    desk.must(wire.Fail(id=desk.new_id(), task=task, token=token, error="cuda"), second)
    assert [desk.notices(name, "stop")[-1:] == [] for name in (first, second, third)] == [False, True, False]
    assert used(desk) == {first: 1, second: 0, third: 1}
    assert desk.where(task) == "ready"
    assert desk.code(wire.Finish(id=desk.new_id(), task=task, token=token), first) == "stale_attempt"
    desk.settle()
    desk.release(task, token, third)
    assert desk.where(task) == "assigned", "the refused finish has freed the first one's slot"
    assert desk.token(task) != token
    assert desk.find(task)["attempts"] == 2
    desk.check()


@pytest.mark.parametrize("verb", ["release", "yield", "leave", "silence", "cancel", "deadline"])
def test_whatever_ends_one_part_ends_all(verb: str) -> None:
    """Each slot comes back when its worker says so, or is gone."""
    desk = crew()
    task = gang_of(desk, deadline_ms=4_000 if verb == "deadline" else None, lease_ms=60_000)
    token = start(desk, task)
    first, second, third = desk.state.tasks[task].members
    if verb == "release":
        desk.release(task, token, second)
    elif verb == "yield":
        desk.must(wire.Yield(id=desk.new_id(), task=task, token=token, checkpoint=b"half"), second)
        assert desk.state.tasks[task].checkpoint == b"half"
    elif verb == "leave":
        desk.must(wire.Leave(id=desk.new_id(), session=f"s{second}"), second)
    elif verb == "cancel":
        desk.cancel(task)
    for _ in range(5 if verb in {"silence", "deadline"} else 0):
        desk.advance(1_000)
        for name in (first, third, *([second] if verb == "deadline" else [])):
            desk.beat(name, token)
    assert {name: len(desk.notices(name, "stop")) > 0 for name in (first, third)} == {first: True, third: True}
    where = {"cancel": "cancelled", "deadline": "expired"}.get(verb, "ready")
    assert desk.where(task) == where
    desk.check()
    assert used(desk)[first] == used(desk)[third] == 1
    for name in (first, third):
        desk.release(task, token, name)
    desk.check()


def test_one_that_does_not_start_gives_all_back() -> None:
    """Those that have started are stopped; the others never began."""
    desk = crew(start_within_ms=1_500, worker_ttl_ms=60_000)
    task = gang_of(desk)
    first, *_ = desk.state.tasks[task].members
    token = start(desk, task, first)
    assert desk.where(task) == "running"
    desk.advance(1_600)
    assert desk.where(task) == "ready"
    assert desk.find(task)["reason"] == "not started in time"
    assert {name: count for name, count in used(desk).items() if count} == {first: 1}
    assert desk.notices(first, "stop")[-1]["token"] == token
    desk.release(task, token, first)
    assert desk.where(task) == "assigned"
    desk.check()


def test_a_notice_that_was_lost_is_repeated_to_whom_has_not_started() -> None:
    """With its rank and members."""
    desk = crew()
    task = gang_of(desk)
    first, second, _ = desk.state.tasks[task].members
    start(desk, task, first)
    before = len(desk.notices(second, "assign"))
    desk.advance(800)
    desk.beat(second)
    again = desk.notices(second, "assign")[before:]
    assert [notice["rank"] for notice in again] == [1]
    desk.check()


def test_a_lease_needs_a_sign_of_life_of_every_member() -> None:
    """One member that does not list the attempt any more has lost it, and so have the others."""
    desk = crew()
    task = gang_of(desk, lease_ms=2_000)
    token = start(desk, task)
    first, second, third = desk.state.tasks[task].members
    for _ in range(4):
        desk.advance(500)
        for name in (first, second, third):
            desk.beat(name, token)
    assert desk.where(task) == "running"
    part(desk, task, token, first)
    for _ in range(6):
        desk.advance(500)
        desk.beat(first)
        desk.beat(second, token)
        desk.beat(third, token)
    assert desk.where(task) == "running", "who has ended its part need not list it"
    for _ in range(5):
        desk.advance(500)
        desk.beat(first)
        desk.beat(second, token)
        desk.beat(third)
    assert desk.where(task) == "ready"
    assert desk.find(task)["reason"] == "lease lost"
    desk.check()


def test_a_member_says_only_what_is_its_own() -> None:
    """Who does not belong to it, has not started, or has ended its part."""
    desk = crew(4)
    task = gang_of(desk)
    members = desk.state.tasks[task].members
    (other,) = set(desk.state.workers) - set(members)
    token = desk.token(task)
    finish = wire.Finish(id="f-1", task=task, token=token)
    assert desk.code(finish, other) == "not_yours"
    start(desk, task, members[0])
    assert desk.code(finish, members[1]) == "not_started"
    assert desk.code(wire.Start(id="b-1", task=task, token=token), members[0]) == "stale_attempt"
    part(desk, task, token, members[0])
    assert desk.code(finish, members[0]) == "stale_attempt"
    assert isinstance(desk.release(task, token, members[0]), Refuse)
    assert used(desk)[members[0]] == 1
    desk.check()


def test_who_registers_again_goes_on_with_its_part() -> None:
    """Whether it works on it, has ended it, or has not started; another process has lost it for all."""
    desk = crew()
    task = gang_of(desk)
    first, second, third = desk.state.tasks[task].members
    token = start(desk, task, first, second)
    part(desk, task, token, second)
    for name, running in ((first, (token,)), (second, ()), (third, ())):
        assert desk.register(name, running=running)["void"] == []
        desk.check()
    assert desk.where(task) == "running"
    desk.register(second, session="another")
    assert desk.where(task) == "running", "its part was over"
    desk.check()
    desk.register(first, session="another", running=(token,))
    assert desk.where(task) == "ready"
    desk.check()


def test_a_gang_with_which_two_workers_die_is_quarantined() -> None:
    """Whichever of its members they were."""
    desk = crew(4)
    task = gang_of(desk)
    for _ in range(2):
        token = start(desk, task)
        *others, last = desk.state.tasks[task].members
        desk.register(last, session=f"after {token}".replace(" ", "_").replace(".", "_"))
        for name in others:
            desk.release(task, token, name)
        desk.check()
    found = desk.find(task)
    assert (found["state"], found["reason"]) == ("dead", "quarantined: workers died with it")


def test_a_gang_is_charged_for_all_its_slots() -> None:
    """Until the last of them is free."""
    desk = crew()
    desk.must(wire.Share(id="s-1", agent="ann", slots=3, borrow=0), "ops")
    task = gang_of(desk)
    token = start(desk, task)
    assert desk.must(wire.Share(id="s-2", agent="ann", slots=3, borrow=0), "ops")["running"] == 3
    desk.cancel(task)
    for name in ("w1", "w2"):
        desk.release(task, token, name)
        assert desk.must(wire.Share(id=desk.new_id(), agent="ann", slots=3, borrow=0), "ops")["running"] == 3
    desk.take_over()
    desk.release(task, token, "w3")
    assert desk.must(wire.Share(id=desk.new_id(), agent="ann", slots=3, borrow=0), "ops")["running"] == 0
    desk.check()


def test_a_gang_is_not_preempted() -> None:
    """Though it says that it could be."""
    desk = crew(min_run_ms=0)
    task = gang_of(desk, priority="proactive", preemptible=True)
    start(desk, task)
    desk.submit(priority="reactive")
    desk.advance(500)
    assert desk.where(task) == "running"
    desk.check()


def test_what_was_lost_of_a_gang_is_put_aside() -> None:
    """As every live task; nothing of it holds a slot."""
    desk = crew()
    task = gang_of(desk)
    token = start(desk, task)
    part(desk, task, token, "w1" if desk.state.tasks[task].members[0] == "w1" else "w2", b"x")
    desk.lose(1)
    assert desk.where(task) == "dead"
    for name in ("w1", "w2", "w3"):
        assert desk.register(name, running=(token,))["void"] == [token]
    desk.must(wire.Requeue(id="q-1", task=task), "ops")
    for name in ("w1", "w2", "w3"):
        desk.release(task, token, name)
    assert desk.where(task) == "assigned"
    desk.check()


def test_gangs_of_all_sizes_end() -> None:
    """A mix of singles and gangs is worked off, whoever comes first; nothing idles that could be used."""
    desk = crew(4, slots=2)
    tasks = [gang_of(desk, 1 + number % 4) for number in range(12)]
    for _ in range(40):
        live = [name for name in tasks if name in desk.state.tasks and desk.where(name) == "assigned"]
        for task in live:
            token = start(desk, task)
            for name in desk.state.tasks[task].members:
                assert isinstance(desk.finish(task, token, name), Accept)
            assert is_conserving(desk.state)
            desk.check()
        desk.advance(300)
        for name in desk.state.workers:
            desk.beat(name)
    assert {desk.where(task) for task in tasks} == {"done"}
