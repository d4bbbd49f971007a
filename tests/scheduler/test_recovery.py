"""After a loss of acknowledged entries nothing of before counts, and nothing runs twice by itself."""

from __future__ import annotations

from typing import Any

from bursar.contracts import scheduler as wire
from bursar.kernel.decider import Accept, Refuse
from tests.scheduler.desk import Desk

OLD = "1.1.7.0123456789abcdef"
NEW = "2.1.7.0123456789abcdef"


def lost(entries: int = 0) -> Desk:
    """One task running, one waiting, one done; then the journal loses something."""
    desk = Desk()
    desk.register()
    done, running, waiting = desk.submit(key="done"), desk.submit(key="running"), desk.submit(key="waiting")
    assert waiting == "ann.waiting"
    desk.run(done, result=b"r")
    desk.start(running)
    desk.lose(entries)
    desk.settle()
    return desk


def test_what_was_live_is_a_dead_letter_in_doubt() -> None:
    """It may have run, and its end may have been accepted; an end that is known stays."""
    desk = lost()
    assert desk.where("ann.done") == "done"
    for task in ("ann.running", "ann.waiting"):
        told = desk.find(task)
        assert (told["state"], told["reason"]) == ("dead", "log lost")
    desk.check()


def test_attempts_of_before_are_void() -> None:
    """Their workers are forgotten, are told to register, and to stop what they do."""
    desk = Desk()
    desk.register()
    task = desk.submit()
    token = desk.start(task)
    desk.lose(0)
    assert desk.code(wire.Finish(id="f-1", task=task, token=token), "w1") == "stale_attempt"
    desk.beat("w1", token)
    assert desk.notices("w1", "register")
    assert desk.register(running=(token,))["void"] == [token]
    assert desk.state.workers["w1"].attempts == {token: ""}


def test_an_operator_who_knows_has_it_run_again() -> None:
    """With a token above all of before."""
    desk = lost()
    desk.must(wire.Requeue(id="o-1", task="ann.running"), "ops")
    desk.register()
    assert desk.token("ann.running").startswith("2.")
    desk.run("ann.running")
    assert desk.where("ann.running") == "done"
    desk.check()


def submit(number: int, **fields: Any) -> wire.Submit:
    return wire.Submit.model_validate({"id": f"n-{number}", "task_class": "work", **fields})


def test_a_request_from_before_the_loss_is_not_accepted_again() -> None:
    """Its first copy may have been accepted in what is lost; whoever asks anew, with the new fence, is believed."""
    desk = lost(2)
    assert desk.hears(submit(1, seen=OLD))["reason"] == "in_doubt"
    assert desk.hears(submit(2))["reason"] == "in_doubt"
    assert desk.hears(submit(3, seen=NEW, key="k"))["reason"] == "in_doubt"
    desk.must(submit(4, seen=NEW))
    desk.now += 600_000
    assert desk.hears(submit(5, seen=OLD))["reason"] == "in_doubt", "it was made before the loss, whenever it comes"
    desk.must(submit(6))
    desk.must(submit(7, seen=NEW, key="k"))


def test_a_post_from_before_the_loss_is_set_aside() -> None:
    """The position went back: what is read again may have been decided, so it is not run, and not lost."""
    desk = Desk()
    desk.register()
    desk.run(desk.post("p1"))
    desk.lose(5)
    assert desk.state.position == 0
    outcome = desk.deliver(1, wire.Post(name="p1", task_class="work"))
    assert isinstance(outcome, Accept)
    assert desk.where("ann.p1") == "dead"
    assert desk.notices("ann", "ended")[-1]["reason"] == "posted, not accepted: in_doubt"
    assert isinstance(desk.deliver(2, wire.Post(name="p2", task_class="work", seen=NEW)), Accept)
    assert desk.where("ann.p2") == "ready"
    assert isinstance(desk.deliver(2, wire.Post(name="p2", task_class="work", seen=NEW)), Refuse)
    desk.check()


def test_nothing_is_in_doubt_without_a_loss() -> None:
    """An old fence, or none, is ordinary then."""
    desk = Desk()
    desk.must(submit(1))
    desk.must(submit(2, seen=OLD, key="k"))
