"""Closing in steps: shares, their times, relapses, and what a limiter is told of them."""

from __future__ import annotations

from typing import Any

from bursar.contracts.breaker import ALL
from bursar_breaker.lifecycle import FAILURE_RATE, PROBES_OK, RAMP_BEGINS, RAMP_DONE
from tests.breaker.desk import Desk, rule

RAMP: Any = {"ramp": (50, 250, 500), "ramp_step_ms": 200}


def ramping(desk: Desk, target: str = "p") -> None:
    """Let probes succeed."""
    desk.half_open(target)
    desk.probed(desk.probe(target))
    assert desk.state_of(target) == "ramping"


def test_shares_grow_step_by_step_and_then_all_go() -> None:
    """5, 25, 50 % for as long as the rule says, then all; every step is told with the next revision."""
    desk = Desk(rule(**RAMP))
    desk.half_open()
    desk.probed(desk.probe())
    began = desk.now
    seen = []
    while desk.state_of() == "ramping":
        seen.append((desk.now - began, desk.state.circuits["p"].share))
        assert desk.told[-1]["remaining_ms"] == 200
        desk.advance(200)
    assert seen == [(0, 50), (200, 250), (400, 500)]
    assert desk.state_of() == "closed"
    assert [told["share"] for told in desk.told] == [0, 0, 50, 250, 500, ALL]
    assert [told["revision"] for told in desk.told] == [1, 2, 3, 4, 5, 6]
    assert desk.state.circuits["p"].reason == RAMP_DONE
    desk.check()


def test_without_a_ramp_probes_close_at_once() -> None:
    """A rule without shares."""
    desk = Desk(rule(ramp=()))
    desk.half_open()
    desk.probed(desk.probe())
    assert (desk.state_of(), desk.state.circuits["p"].reason) == ("closed", PROBES_OK)


def test_a_step_keeps_generation_and_beginning() -> None:
    """It is the same state: only the share and its time are others."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    first = desk.state.circuits["p"]
    desk.advance(200)
    second = desk.state.circuits["p"]
    assert (first.generation, first.since) == (second.generation, second.since)
    assert (first.reason, second.reason) == (RAMP_BEGINS, "ramp_step")


def test_a_relapse_opens_again_for_longer_than_before() -> None:
    """By the rules of a closed circuit, at any step."""
    for steps in (0, 1, 2):
        desk = Desk(rule(**RAMP))
        ramping(desk)
        desk.advance(200 * steps)
        desk.report(error=4)
        circuit = desk.state.circuits["p"]
        assert (circuit.state, circuit.reason, circuit.share) == ("open", FAILURE_RATE, 0)
        assert circuit.until - desk.now == 1_000
        desk.check()


def test_at_a_small_share_few_failures_are_a_relapse() -> None:
    """The rule wants only that share of the calls, but never a single one."""
    desk = Desk(rule(minimum_calls=100, **RAMP))
    desk.report(error=100)
    desk.advance(500)
    desk.probed(desk.probe())
    desk.report(error=1)
    assert desk.state_of() == "ramping"
    desk.report(error=4)
    assert desk.state_of() == "open", "five of a hundred at 5 %"


def test_a_relapse_needs_a_quorum_too() -> None:
    """One reporter that fails among others that do not stops no ramp."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    for who in ("bob", "cat"):
        desk.report(who=who, ok=2)
    desk.report(who="ann", error=50)
    assert desk.state_of() == "ramping"
    desk.advance(600)
    assert desk.state_of() == "closed"


def test_evidence_of_the_ramp_counts_when_it_is_done() -> None:
    """The window goes on through the steps and the closing: failures near the end are not forgotten by it."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    desk.advance(400)
    desk.report(error=1)
    desk.advance(200)
    assert desk.state_of() == "closed"
    desk.report(error=3)
    assert desk.state_of() == "open"


def test_an_overloaded_target_falls_back_for_as_long_as_it_asks() -> None:
    """Retry-After in the ramp."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    desk.report(overload=1, retry_after_ms=9_000)
    assert desk.until() - desk.now == 9_000


def test_no_probe_is_needed_in_a_ramp() -> None:
    """Calls go by the share; who asks is told so."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    assert desk.no_probe()["reason"] == "closed"


def test_operators_stop_a_ramp() -> None:
    """And its next step does not come."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    desk.force("p", "open")
    desk.advance(5_000)
    assert desk.state_of() == "forced_open"


def test_other_rules_change_the_rest_of_a_ramp() -> None:
    """The next share is the next one of the rule that holds then."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    desk.configure(rule(ramp=(100, 900), ramp_step_ms=300))
    desk.advance(200)
    assert desk.state.circuits["p"].share == 100
    desk.advance(300)
    assert desk.state.circuits["p"].share == 900
    desk.advance(300)
    assert desk.state_of() == "closed"


def test_a_ramp_goes_on_after_a_take_over() -> None:
    """At the same step, for the rest of its time."""
    desk = Desk(rule(**RAMP))
    ramping(desk)
    desk.advance(300)
    after = desk.restarted()
    assert after.state.circuits["p"].share == 250
    after.advance(100)
    assert after.state.circuits["p"].share == 500
    after.check()


def test_the_share_is_told_for_the_budget_that_is_linked() -> None:
    """At each change of that very target, not of what lies below it."""
    desk = Desk(rule(), rule("p", budget="acme/large", **RAMP))
    desk.open("p/m")
    assert desk.shares == []
    desk.report("p", error=1)
    assert desk.shares == [("acme/large", 0)]
    desk.advance(500)
    desk.probed(desk.probe("p/m"))
    desk.advance(10_000)
    assert [share for _, share in desk.shares] == [0, 0, 50, 250, 500, ALL]
    desk.force("p", "open")
    desk.force("p", "reset")
    assert [share for _, share in desk.shares[-2:]] == [0, ALL]
