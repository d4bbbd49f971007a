"""Why is my task waiting? Each cause, and what would have to change."""

from __future__ import annotations

from typing import Any

from bursar.bus.codec import decode_value, encode
from bursar.cli.why import in_lines
from bursar.contracts import scheduler as wire
from bursar.contracts.scheduler_explain import Why, WhyReply
from bursar_scheduler.explaining import TEXTS, WhyAny
from tests.scheduler.desk import Desk


def why(desk: Desk, task: str) -> dict[str, Any]:
    before = desk.dump()
    told = desk.hears(Why(task=task), task.partition(".")[0])
    assert desk.dump() == before
    WhyReply.model_validate({**told, "v": 1, "fence": "1.1.1.0123456789abcdef"})
    assert decode_value(encode(told))[0] == told
    return told


def test_it_waits_for_other_tasks() -> None:
    """Which, and how many."""
    desk = Desk()
    first = desk.submit(key="first")
    told = why(desk, desk.submit(after=(first,)))
    assert (told["cause"], told["after"]) == ("dependencies", ["ann.first"])
    assert told["text"] == "it waits for 1 other tasks to end, ann.first first"


def test_it_pauses_after_a_failure() -> None:
    """For how long, and what had failed."""
    desk = Desk()
    desk.register()
    task = desk.submit(backoff_ms=10_000)
    desk.start(task)
    desk.fail(task, "no answer")
    told = why(desk, task)
    assert (told["cause"], told["error"]) == ("pause", "no answer")
    assert 8_000 <= told["pause_ms"] <= 12_000


def test_no_worker_may_have_it() -> None:
    """And what each of those lacks that know its class."""
    desk = Desk()
    task = desk.submit(needs={"kind": "gpu", "labels": {"zone": "a"}, "gpu_memory_mib": 80_000})
    assert (why(desk, task)["cause"], why(desk, task)["holds"]) == ("no_worker", [])
    desk.register("w1")
    desk.register("w2", kind="gpu", gpu_memory_mib=80_000)
    assert why(desk, task)["cause"] == "no_worker"
    desk.register("w3", kind="gpu", labels={"zone": "a"}, gpu_memory_mib=24_000)
    told = why(desk, task)
    assert told["cause"] == "too_little"
    assert "gpu_memory_mib 80000" in told["text"]
    assert [(hold["worker"], hold["lacks"]) for hold in told["holds"]] == [
        ("w1", "kind"), ("w2", "labels"), ("w3", "resources"),
    ]  # fmt: skip
    reply = WhyReply.model_validate({**told, "fence": "1.1.1.0123456789abcdef"})
    assert in_lines(reply).splitlines()[1:] == ["  w1 (cpu): kind", "  w2 (gpu): labels", "  w3 (gpu): resources"]


def test_there_is_no_room() -> None:
    """Who goes first of those with the same needs, and how many they are."""
    desk = Desk()
    desk.register("w1")
    desk.submit()
    first = desk.submit(priority="reactive")
    told = why(desk, desk.submit())
    assert (told["cause"], told["serving"], told["with_room"], told["in_line"]) == ("no_room", 1, 0, 2)
    assert told["first"] == first
    assert told["holds"] == [{"v": 1, "worker": "w1", "kind": "cpu", "lacks": "room"}]


def test_all_that_may_have_it_drain_or_are_silent() -> None:
    """Each with its own word."""
    desk = Desk()
    for name in ("w1", "w2", "w3"):
        desk.register(name, classes=("work",) if name != "w3" else ("other",))
    desk.must(wire.Drain(id="d-1", session="sw1"), "w1")
    for _ in range(2):
        desk.advance(1_000)
        desk.beat("w1")
        desk.beat("w3")
    told = why(desk, desk.submit())
    assert told["cause"] == "draining"
    assert [hold["lacks"] for hold in told["holds"]] == ["draining", "suspect"]


def test_a_quota_keeps_it() -> None:
    """With how many slots its submitter has."""
    desk = Desk()
    desk.must(wire.Share(id="h-1", agent="ann", slots=1, borrow=0), "ops")
    desk.register(slots=4)
    desk.submit()
    told = why(desk, desk.submit())
    assert (told["cause"], told["running"], told["with_room"]) == ("quota", 1, 1)


def test_somebody_was_asked_to_yield_to_it() -> None:
    """And who."""
    desk = Desk(min_run_ms=0)
    desk.register()
    other = desk.submit(priority="proactive", preemptible=True)
    desk.start(other)
    told = why(desk, desk.submit(priority="reactive"))
    assert told["yields"] == other
    assert told["text"].endswith(f"{other} was asked to yield to it")
    assert why(desk, other)["cause"] == "yields"


def test_it_does_not_wait() -> None:
    """It is with a worker, a dead letter, or has ended."""
    desk = Desk()
    desk.register()
    task = desk.submit(retries=0)
    assert why(desk, task)["cause"] == "start"
    desk.start(task)
    assert (why(desk, task)["cause"], why(desk, task)["worker"]) == ("works", "w1")
    desk.fail(task)
    assert why(desk, task)["text"] == "it is a dead letter until an operator requeues it: fail, no retries left"
    desk.cancel(task)
    assert (why(desk, task)["cause"], why(desk, task)["text"]) == ("ended", "it has ended: cancelled")


def test_a_placement_is_told_with_its_alternatives() -> None:
    """Who was chosen, the top three that were not, and the terms of each score."""
    desk = Desk(policy="score")
    for number, price in enumerate((900, 100, 500, 300, 700)):
        desk.register(f"w{number}", price=price)
    told = why(desk, desk.submit())
    decision = told["decision"]
    assert decision["chosen"]["worker"] == told["worker"] == "w1"
    assert [rated["worker"] for rated in decision["rejected"]] == ["w3", "w2", "w4"]
    for row in (decision["chosen"], *decision["rejected"]):
        assert abs(sum(row["terms"].values()) - row["score_us"]) < len(row["terms"]), "each term is rounded down"
    reply = WhyReply.model_validate({**told, "fence": "1.1.1.0123456789abcdef"})
    assert in_lines(reply).splitlines()[-4].startswith("  chosen: w1 ")


def test_only_who_submitted_it_and_operators_are_told() -> None:
    """The others are refused."""
    desk = Desk()
    task = desk.submit()
    assert desk.code(Why(task=task), "bob") == "not_yours"
    assert desk.code(Why(task="ann.none")) == "unknown_task"
    assert desk.hears(WhyAny(task=task), "ops")["cause"] == "no_worker"


def test_every_cause_has_words() -> None:
    """The contract lists the same ones."""
    assert set(TEXTS) == set(WhyReply.model_fields["cause"].annotation.__args__)  # type: ignore[union-attr]
