"""Operators: forced circuits, resets, new rules; and what others are told."""

from __future__ import annotations

import pytest

from bursar.contracts.breaker import Configure, ForceOpen, digest_of
from bursar.kernel.decider import Reject
from bursar_breaker import state as states
from bursar_breaker.configuring import LoadFile
from tests.breaker.desk import Desk, rule


def test_forced_open_stays_until_it_is_reset() -> None:
    """No time ends it and no report moves it; the audit has who and why."""
    desk = Desk()
    told = desk.force("p", "open", "key leaked")
    assert told["circuit"]["state"] == "forced_open"
    assert told["circuit"]["remaining_ms"] is None
    desk.report(ok=100)
    desk.advance(10_000_000)
    assert desk.state_of() == "forced_open"
    assert desk.status().circuits[0].note == "ops: key leaked"
    assert "force_open by ops: key leaked" in desk.decider.describe(desk.journal[-1])
    desk.force("p", "reset")
    assert desk.state_of() == "closed"
    desk.check()


def test_forced_closed_trips_by_nothing() -> None:
    """Whatever is reported; reset gives it back to the rules, with an empty window."""
    desk = Desk()
    desk.force("p", "closed")
    desk.report(error=1_000)
    desk.report(overload=5, retry_after_ms=1_000)
    assert desk.state_of() == "forced_closed"
    desk.force("p", "reset")
    assert desk.state_of() == "closed"
    desk.report(error=3)
    assert desk.state_of() == "closed"
    desk.report(error=1)
    assert desk.state_of() == "open"


@pytest.mark.parametrize("to", ["open", "closed", "reset"])
def test_orders_work_in_every_state(to: str) -> None:
    """From closed, open, half-open and forced."""
    after = {"open": "forced_open", "closed": "forced_closed", "reset": "closed"}[to]
    desk = Desk()
    desk.force("a", to)
    desk.open("b")
    desk.half_open("c")
    desk.force("d", "open")
    desk.force("e", "closed")
    for target in "bcde":
        desk.force(target, to)
    assert {desk.state_of(target) for target in "abcde"} == {after}
    assert [told["revision"] for told in desk.told] == list(range(1, len(desk.told) + 1))
    desk.check()


def test_an_order_of_the_same_again_is_an_order() -> None:
    """It has a revision of its own, and the audit has the note."""
    desk = Desk()
    desk.force("p", "open")
    desk.force("p", "open", "still")
    assert desk.state.revision == 2


def test_rules_hold_below_their_target_and_the_closest_wins() -> None:
    """The one without a target holds for all others."""
    desk = Desk(rule(), rule("a", minimum_calls=10), rule("a/b", minimum_calls=20))
    rules = desk.state.rules
    assert [rules.of(target).minimum_calls for target in ("c", "a", "a/x", "a/b", "a/b/c")] == [4, 10, 10, 20, 20]


def test_new_rules_keep_circuits_and_forget_windows() -> None:
    """What was counted under other rules is not comparable."""
    desk = Desk()
    desk.open("p")
    desk.report("q", error=3)
    reply = desk.must(Configure(id="c-1", rules=(rule(open_ms=100), rule("q", minimum_calls=9))), "ops")
    assert (reply["added"], reply["changed"], reply["removed"]) == (["q"], ["default"], [])
    assert desk.state_of("p") == "open"
    desk.report("q", error=8)
    assert desk.state_of("q") == "closed"
    desk.check()


def test_the_same_rules_again_change_nothing() -> None:
    """Neither by an operator nor from the file."""
    desk = Desk()
    desk.refused(Configure(id="c-1", rules=(rule(),)), "ops")
    desk.must(LoadFile(rules=(rule(open_ms=100),)), "svc-breaker")
    desk.must(Configure(id="c-2", rules=(rule(open_ms=200),)), "ops")
    desk.refused(LoadFile(rules=(rule(open_ms=100),)), "svc-breaker")
    assert desk.state.rules.default.open_ms == 200


def test_rules_that_contradict_are_refused() -> None:
    """Two for one target, or a longest time below the first."""
    desk = Desk()
    for rules in ((rule("a"), rule("a")), (rule(open_ms=9_000),)):
        outcome = desk.ask(Configure(id="c-1", rules=rules), "ops")
        assert isinstance(outcome, Reject)
        assert outcome.code == "bad_rule"


def test_a_snapshot_tells_all_that_is_not_closed() -> None:
    """With the revision and a digest, by which a view can be compared with it."""
    desk = Desk()
    desk.open("a/b")
    desk.half_open("c")
    desk.force("d", "closed")
    desk.force("e", "open")
    desk.force("e", "reset")
    told = desk.snapshot()
    rows = {row["target"]: row["state"] for row in told["circuits"]}
    assert rows == {"a/b": "half_open", "c": "half_open", "d": "forced_closed"}
    assert told["revision"] == desk.state.revision
    assert told["digest"] == digest_of((r["target"], r["state"], r["revision"]) for r in told["circuits"])
    again = desk.snapshot(told["revision"], told["digest"])
    assert (again["same"], again["circuits"]) == (True, [])
    assert not desk.snapshot(told["revision"], "other")["same"]


def test_broadcasts_alone_keep_a_view_up_to_date() -> None:
    """Whoever has heard them all has what a snapshot tells."""
    desk = Desk()
    desk.open("a/b")
    desk.half_open("c")
    desk.probed(desk.probe("c"))
    desk.force("d", "open")
    view = {told["target"]: told for told in desk.told}
    heard = {(t, told["state"], told["revision"]) for t, told in view.items() if told["state"] != "closed"}
    assert digest_of(heard) == desk.snapshot()["digest"]


def test_status_explains_an_opening() -> None:
    """What it opened on, since when and until when; those that are not closed come first."""
    desk = Desk()
    desk.report("q", ok=3, rate_limited=2)
    desk.report("p", ok=1, error=2, timeout=1)
    desk.advance(100)
    first, second = desk.status().circuits
    assert (first.target, first.state, first.reason, first.for_ms, first.remaining_ms) == (
        "p", "open", "failure_rate", 100, 400,
    )  # fmt: skip
    assert first.evidence == {"calls": 4, "failed": 3, "slow": 0, "reporters": 1, "voices": 1}
    assert (second.target, second.calls, second.counts["rate_limited"], second.failure_permille) == ("q", 3, 2, 0)
    assert desk.status("p").circuits == [first]
    assert desk.status(limit=1).more == 1


def test_a_full_registry_takes_no_further_circuit_and_keeps_those_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has been closed for longest makes room; when none is closed, nothing new opens."""
    monkeypatch.setattr(states, "MAX_CIRCUITS", 3)
    desk = Desk()
    for target in ("a", "b"):
        desk.force(target, "open")
    desk.force("c", "reset")
    desk.open("d")
    assert "c" not in desk.state.circuits
    outcome = desk.ask(ForceOpen(id="f-1", target="e"), "ops")
    assert isinstance(outcome, Reject)
    assert outcome.code == "too_many"
    desk.report("e", error=99)
    assert desk.state_of("e") == "closed"
    assert {desk.state_of(target) for target in "abd"} == {"forced_open", "open"}
