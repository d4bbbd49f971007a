"""Large payloads and results: stored in parts, checked against their names, read by those whose they are, forgotten."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from pydantic import ValidationError

from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_blobs import PART_BYTES, Get, Put
from bursar.contracts.scheduler_graph import Graph, Item
from bursar.kernel.decider import Refuse, Reject
from bursar_scheduler.blobs import IDLE_MS
from tests.scheduler.blobs import put_all
from tests.scheduler.desk import Desk

DATA = bytes(range(256)) * 512
"""More than two parts."""


def read(desk: Desk, ref: dict[str, Any], task: str, who: str) -> bytes:
    parts = range(-(-ref["packed"] // PART_BYTES))
    body = {"task": task, "owner": ref["owner"], "blob": ref["$blob"]}
    return b"".join(desk.hears(Get(**body, part=part), who)["data"] for part in parts)


def code(desk: Desk, ref: dict[str, Any], task: str, who: str, part: int = 0) -> str:
    return desk.code(Get(task=task, owner=ref["owner"], blob=ref["$blob"], part=part), who)


def test_a_payload_is_stored_in_parts_and_read_by_who_runs_the_task() -> None:
    """And by nobody else but its submitter; a worker only as long as it has the task."""
    desk = Desk()
    ref = put_all(desk, DATA)
    task = desk.submit(payload=ref)
    assert code(desk, ref, task, "w1") == "not_yours"
    desk.register()
    assert desk.notices("w1", "assign")[0]["payload"] == ref
    assert read(desk, ref, task, "w1") == DATA == read(desk, ref, task, "ann")
    assert code(desk, ref, task, "bob") == code(desk, ref, task, "w2") == "not_yours"
    desk.run(task)
    assert code(desk, ref, task, "w1") == "not_yours"
    desk.check()


def test_a_result_is_read_by_the_submitter_and_by_the_worker_of_the_next_task() -> None:
    """Whoever has made it reads it no more."""
    desk = Desk()
    desk.register()
    first = desk.submit()
    after = desk.submit(after=(first,))
    token, ref = desk.start(first), put_all(desk, DATA, "w1")
    desk.finish(first, token, "w1", result=ref)
    assert desk.find(first)["result"] == ref
    assert read(desk, ref, first, "ann") == DATA
    assert code(desk, ref, first, "w1") == code(desk, ref, first, "bob") == "not_yours"
    assert desk.worker(after) == "w1"
    assert read(desk, ref, after, "w1") == DATA
    desk.check()


def test_only_what_is_whole_and_ones_own_may_be_referred_to() -> None:
    """A task with anything else is not accepted; a posted one is a dead letter."""
    desk = Desk()
    ref = put_all(desk, DATA, "bob")
    mine = {**ref, "owner": "ann"}
    for payload, why in ((ref, "not_yours"), (mine, "unknown_blob")):
        assert desk.code(wire.Submit(id=desk.new_id(), task_class="work", payload=payload)) == why
        graph = Graph(id=desk.new_id(), name="g", template=wire.Task(task_class="work"),
                      items=(Item(name="a", payload=payload),))  # fmt: skip
        assert desk.code(graph) == why
    posted = desk.post("p", payload=mine)
    assert desk.find(posted)["reason"] == "posted, not accepted: unknown_blob"
    put_all(desk, DATA)
    assert desk.code(wire.Submit(id=desk.new_id(), task_class="work", payload={**mine, "packed": 7})) == "unknown_blob"
    desk.submit(payload=mine)
    desk.check()


def test_a_result_that_was_not_stored_ends_nothing() -> None:
    """The attempt goes on, and may end with another one."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    token = desk.start(task)
    ref = {"$blob": "0" * 64, "owner": "w1", "size": 9, "packed": 9, "encoding": "none"}
    assert desk.code(wire.Finish(id=desk.new_id(), task=task, token=token, result=ref), "w1") == "unknown_blob"
    assert desk.where(task) == "running"


def test_what_is_not_its_name_is_not_taken() -> None:
    """The part that completes a blob is refused, and a right one in its place completes it."""
    desk = Desk()
    name = hashlib.sha256(b"right").hexdigest()
    wrong = Put(id=desk.new_id(), blob=name, size=5, part=0, data=b"wrong")
    assert desk.code(wrong) == "bad_blob"
    assert desk.must(Put(id=desk.new_id(), blob=name, size=5, part=0, data=b"right"))["whole"] is True
    again = desk.hears(Put(id=desk.new_id(), blob=name, size=5, part=0, data=b"right"))
    assert again == {"ok": True, "blob": name, "whole": True}
    assert desk.code(Put(id=desk.new_id(), blob=name, size=6, part=0, data=b"right!")) == "bad_blob"
    assert desk.code(Put(id=desk.new_id(), blob="0" * 64, size=5, part=0, data=b"four")) == "bad_request"
    assert desk.code(Put(id=desk.new_id(), blob="0" * 64, size=5, part=1, data=b"five!")) == "bad_request"
    desk.check()


def test_a_blob_goes_with_its_task() -> None:
    """Five minutes after the last of those that need it, when the next is stored; nobody reads it in between."""
    desk = Desk(keep_results_ms=1_000)
    desk.register()
    ref = put_all(desk, DATA)
    task = desk.submit(payload=ref)
    desk.advance(2 * IDLE_MS)
    assert read(desk, ref, task, "ann") == DATA
    desk.beat()
    desk.register()
    token, result = desk.start(task), put_all(desk, b"result", "w1")
    desk.finish(task, token, "w1", result=result)
    desk.advance(IDLE_MS)
    assert desk.find(task)["result"] == result, "a result is there as long as it is kept"
    desk.register(session="again")
    desk.run(desk.submit())
    assert desk.find(task)["kept"] is False
    desk.check()
    desk.advance(IDLE_MS)
    put_all(desk, b"another")
    assert len(desk.state.blobs.there) == 1
    desk.check()


def test_room_is_bounded_in_all_and_for_each() -> None:
    """Half of it for one principal; a refusal tells how full it is, and what is over makes room."""
    desk = Desk(max_blob_bytes=1_000)
    put_all(desk, b"a" * 400)
    body = Put(id=desk.new_id(), blob=hashlib.sha256(b"b" * 200).hexdigest(), size=200, part=0, data=b"b" * 200)
    told = desk.hears(body)
    assert (told["reason"], told["dimension"], told["scope"], told["limit"], told["level"]) == (
        "queue_full", "blobs", "principal", 500, 400,
    )  # fmt: skip
    put_all(desk, b"b" * 400, "bob")
    put_all(desk, b"c" * 200, "cid")
    assert desk.hears(body, "dan")["scope"] == "all"
    desk.advance(IDLE_MS)
    put_all(desk, b"d" * 300, "dan")
    assert desk.state.blobs.bytes == 300
    desk.check()


def test_blobs_of_dead_letters_stay() -> None:
    """An operator may requeue them; a take-over changes nothing."""
    desk = Desk()
    desk.register()
    ref = put_all(desk, DATA)
    task = desk.submit(payload=ref, retries=0)
    desk.start(task)
    desk.fail(task)
    assert desk.where(task) == "dead"
    desk.advance(2 * IDLE_MS)
    desk.take_over()
    assert read(desk, ref, task, "ann") == DATA
    desk.must(wire.Requeue(id=desk.new_id(), task=task), "ops")
    desk.check()


@pytest.mark.parametrize(
    "change",
    [
        {"owner": "A b"},
        {"$blob": "xyz"},
        {"size": 0},
        {"packed": 1 << 30},
        {"encoding": "br"},
        {"more": 1},
        {"size": True},
    ],
)
def test_a_map_that_is_no_reference_may_not_look_like_one(change: dict[str, Any]) -> None:
    """It is refused at the border."""
    ref = {"$blob": "0" * 64, "owner": "ann", "size": 9, "packed": 9, "encoding": "none", **change}
    with pytest.raises(ValidationError):
        wire.Submit(id="x", task_class="work", payload=ref)


def test_parts_are_stored_in_any_order_and_read_one_by_one() -> None:
    """A part that is not there yet is no part."""
    desk = Desk()
    name = hashlib.sha256(DATA).hexdigest()
    last = DATA[2 * PART_BYTES :]
    desk.must(Put(id=desk.new_id(), blob=name, size=len(DATA), part=2, data=last))
    outcome = desk.ask(Get(task="ann.none", owner="ann", blob=name))
    assert isinstance(outcome, Reject)
    ref = put_all(desk, DATA, "bob")
    task = desk.submit(principal="bob", payload=ref)
    assert code(desk, ref, task, "bob", part=3) == "unknown_blob"
    assert isinstance(desk.ask(Get(task=task, owner="bob", blob=name, part=2), "bob"), Refuse)
