"""What the services did, from notes that are written by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bursar.demo.control import circuit, first_answer, gpu, happenings, recoveries, taken_over, tasks, trips_ms
from bursar.demo.plan import Kill
from bursar.demo.run import Recording
from tests.demo.test_measure import recording

BEGIN = 50.0


def line(at: float, what: str, **facts: Any) -> dict[str, Any]:
    return {"at": BEGIN + at, "what": what, **facts}


def noted(**notes: list[dict[str, Any]]) -> Recording:
    return replace(recording(), notes={name.replace("_", "-"): lines for name, lines in notes.items()})


def test_recovery_is_the_first_answer_to_a_probe_that_was_sent_after_the_kill() -> None:
    """An answer that was on its way already says nothing; no answer at all is no recovery."""
    probed = [(9.99, 0.02), (10.05, 1.4), (10.10, -1.0), (11.30, 0.01)]
    assert first_answer(probed, 10.0) == pytest.approx(1.31)
    assert first_answer(probed[:1], 10.0) == float("inf")


def test_a_worker_is_made_up_for_when_all_that_it_worked_on_has_begun_elsewhere() -> None:
    """What had ended before does not count, nor what it never began."""
    notes = {
        "local-0": [line(0.5, "start", task="a"), line(3.0, "start", task="c"), line(2.5, "start", task="b")],
        "local-1": [line(1.0, "start", task="a"), line(1.2, "done", task="a"), line(1.5, "start", task="b"),
                    line(1.6, "start", task="c")],
    }  # fmt: skip
    assert taken_over(notes, "local-1", BEGIN + 2.0) == pytest.approx(1.0)
    assert taken_over({"local-1": []}, "local-1", BEGIN + 2.0) == 0.0
    assert taken_over({"local-1": notes["local-1"]}, "local-1", BEGIN + 2.0) == float("inf")


def test_each_kill_has_its_recovery() -> None:
    """Of the service that was killed, by the probe of that service."""
    found = replace(
        noted(local_0=[]),
        kills=[Kill(1.0, "limiter"), Kill(2.0, "breaker")],
        worker_killed_at=3.0,
        victim="local-0",
        probe={"probed": {"limiter": [(BEGIN + 1.1, 0.9)], "breaker": [(BEGIN + 2.1, 0.2)]}, "scheduler": {}},
    )
    assert [what for what, _, _ in recoveries(found)] == ["limiter", "breaker", "worker"]
    assert [seconds for _, _, seconds in recoveries(found)] == pytest.approx([1.0, 0.3, 0.0])
    assert [happening.label for happening in happenings(found)] == ["kill limiter", "kill breaker", "kill worker"]


def test_the_circuit_is_what_a_worker_saw_when_it_was_not_closed() -> None:
    """From each change to the next; the last one until the end."""
    changes = [line(0.2, "circuit", state="open"), line(0.5, "circuit", state="half_open"),
               line(0.6, "circuit", state="closed"), line(1.5, "circuit", state="open")]  # fmt: skip
    spans = circuit(noted(remote_0=changes, remote_1=[]))
    assert [state for _, _, state in spans] == ["open", "half_open", "open"]
    assert [edge for start, end, _ in spans for edge in (start, end)] == pytest.approx([0.2, 0.5, 0.5, 0.6, 1.5, 2.0])


def test_a_trip_is_from_the_first_failed_call_to_each_process_that_knows() -> None:
    """A process that never learns of it makes it endless; bad times without a failed call say nothing."""
    knows = noted(
        remote_0=[line(1.05, "failed", task="t", why="x"), line(1.15, "circuit", state="open")],
        remote_1=[line(1.25, "circuit", state="open")],
        local_0=[line(1.0, "failed", task="u", why="y")],
    )
    found = replace(knows, bad_times=[("outage", 1.0, 1.5), ("overload", 1.7, 1.8)])
    assert [pytest.approx(ms) for ms in trips_ms(found)] == [100.0, 200.0]
    deaf = replace(found, notes={**found.notes, "remote-1": []})
    assert trips_ms(deaf)[1] == float("inf")


def test_tasks_are_counted_by_those_who_submitted_and_did_them() -> None:
    """A second accepted end shows in the notices of the agents, or in the scheduler's own counts."""
    done = [[0, 0.1, 0.1, "done"], [1, 0.1, 0.2, "done"], [2, 0.1, 0.3, "TaskFailed"]]
    arm = [{"outcomes": done, "submits": [(0.0, 0.1)] * 3, "ended_twice": ["t-1"], "unavailable": 0}]
    starts = [line(0.1, "start", task="t-0"), line(0.2, "start", task="t-1"), line(0.9, "start", task="t-1")]
    found = replace(
        noted(remote_0=starts), arms={"managed": arm}, probe={"probed": {}, "scheduler": {"done": 2}}
    )  # fmt: skip
    assert tuple(tasks(found)) == (3, 2, 1, 1)
    more = replace(found, probe={"probed": {}, "scheduler": {"done": 3}})
    assert tasks(more).ended_twice == 2


def test_a_task_that_ended_after_its_agent_was_stopped_has_ended_once() -> None:
    """What a run that is cut off leaves open is lost, and no second end of another task."""
    done = [[0, 0.1, 0.1, "done"]]
    arm = [{"outcomes": done, "submits": [(0.0, 0.1)] * 3, "ended_twice": [], "unavailable": 0}]
    found = replace(noted(), arms={"managed": arm}, probe={"probed": {}, "scheduler": {"done": 3}})
    assert tuple(tasks(found)) == (3, 1, 0, 0)
    more = replace(found, probe={"probed": {}, "scheduler": {"done": 4}})
    assert tasks(more).ended_twice == 1


def test_the_cards_are_judged_by_their_drivers() -> None:
    """Oversubscribed is what went beyond the reserve, or failed, under leases."""
    host = {"violations": 1, "out_of_memory": 2, "allocations": 9, "devices": {}}
    found = replace(recording(), cards={"managed": {"a": host, "b": host}, "unmanaged": {"c": host}})
    assert tuple(gpu(found)) == (6, 18, 2, 9)
