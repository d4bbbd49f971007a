"""One reporter that says what nobody else sees: it is left out, and shown."""

from __future__ import annotations

import pytest

from bursar_breaker.lifecycle import FAILURE_RATE
from tests.breaker.desk import Desk, rule


def test_one_who_cries_wolf_is_left_out_and_shown() -> None:
    """Its failures are in nobody's rate."""
    desk = Desk()
    for who in ("bob", "cat", "dan"):
        desk.report(who=who, ok=3)
    desk.report(who="eve", error=5_000)
    assert desk.state_of() == "closed"
    shown = desk.status().circuits[0]
    assert (shown.excluded, shown.failing, shown.calls) == (["eve"], 1, 5_009)
    assert {one.reporter: one.view for one in desk.explain().reporters}["eve"] == "excluded"


def test_one_who_says_that_all_is_well_does_not_bury_the_others() -> None:
    """A thousand successes that nobody else has do not keep a dead target open."""
    desk = Desk()
    desk.report(who="eve", ok=100_000)
    for who in ("bob", "cat"):
        desk.report(who=who, error=2)
    assert desk.state_of() == "open"
    circuit = desk.state.circuits["p"]
    assert circuit.reason == FAILURE_RATE
    assert list(circuit.evidence["excluded"]) == ["eve"]
    assert circuit.evidence["counts"] == {"calls": 4, "failed": 4, "slow": 0, "reporters": 2, "voices": 2}


def test_two_against_two_are_no_liars() -> None:
    """Then all count, and the rate decides."""
    desk = Desk(rule(failure_permille=600))
    for who in ("ann", "bob"):
        desk.report(who=who, ok=5)
    for who in ("cat", "dan"):
        desk.report(who=who, error=5)
    assert desk.state_of() == "closed"
    assert desk.status().circuits[0].excluded == []
    for who in ("cat", "dan"):
        desk.report(who=who, error=10)
    assert desk.state_of() == "open"


def test_one_against_one_nobody_is_left_out() -> None:
    """Nobody knows who is wrong."""
    desk = Desk()
    desk.report(who="ann", ok=50)
    desk.report(who="eve", error=50)
    assert desk.state_of() == "closed"
    assert desk.status().circuits[0].excluded == []


def test_where_one_voice_is_enough_nobody_is_left_out() -> None:
    """An operator who wants a quorum of one believes everybody."""
    desk = Desk(rule(quorum=1, quorum_permille=0))
    for who in ("bob", "cat", "dan"):
        desk.report(who=who, ok=1)
    desk.report(who="eve", error=20)
    assert desk.state_of() == "open"


def test_a_liar_stops_being_one_when_others_see_it_too() -> None:
    """Its calls count again."""
    desk = Desk()
    for who in ("bob", "cat"):
        desk.report(who=who, ok=3)
    desk.report(who="eve", error=8)
    assert desk.state_of() == "closed"
    desk.report(who="bob", error=6)
    assert desk.state.circuits["p"].evidence["counts"]["failed"] == 14


def test_heavy_reporters_are_a_quorum_where_the_rule_allows_it() -> None:
    """Two of thirty that made most of the calls; but never one alone."""
    rules = rule(quorum_permille=500, quorum_traffic_permille=600, failure_permille=500)
    desk = Desk(rules)
    for number in range(30):
        desk.report(who=f"a{number}", ok=1)
    desk.report(who="big-1", error=400)
    assert desk.state_of() == "closed"
    desk.report(who="big-2", error=40)
    assert desk.state_of() == "open"
    assert desk.state.circuits["p"].evidence["counts"]["voices"] == 2


def test_one_who_is_first_in_a_new_window_is_no_fleet_of_one() -> None:
    """Others were heard of within the last minute: they have not spoken yet, but they are there."""
    desk = Desk()
    desk.report(who="bob", ok=1)
    desk.advance(30_000)
    desk.report(who="eve", error=5_000)
    assert desk.state_of() == "closed"
    desk.report(who="bob", error=1)
    assert desk.state_of() == "open"
    desk.advance(500)
    desk.probed(desk.probe())
    desk.report(who="eve", error=5_000)
    assert desk.state_of() == "closed", "a change of the circuit begins a new window, too"


def test_who_was_not_heard_of_for_a_minute_is_gone() -> None:
    """The last agent that works is believed."""
    desk = Desk()
    desk.report(who="bob", ok=1)
    desk.advance(61_000)
    desk.report(who="ann", error=4)
    assert desk.state_of() == "open"


def test_a_liar_and_somebodys_bad_luck_are_no_quorum() -> None:
    """Two voices, but all of it is the word of one: without it there is neither a rate nor a streak."""
    desk = Desk(rule(consecutive=5))
    for who in ("bob", "cat", "dan", "flo"):
        desk.report(who=who, ok=2)
    desk.report(who="eve", error=10_000)
    desk.report(who="bob", error=3)
    assert desk.state_of() == "closed"
    for who in ("cat", "dan", "flo"):
        desk.report(who=who, timeout=3)
    assert desk.state_of() == "open"


@pytest.mark.parametrize(("pause", "state"), [(0, "closed"), (1_999, "closed"), (2_000, "open")])
def test_a_new_owner_takes_nobody_for_a_fleet_of_one_at_first(pause: int, state: str) -> None:
    """It has not heard the others yet; two seconds after its first report whoever is alone is believed. Two are two at
    any time."""
    desk = Desk()
    desk.state.windows.began = None
    desk.report("elsewhere", who="eve", ok=1)
    desk.advance(pause)
    desk.report(who="eve", error=5_000)
    assert desk.state_of() == state
    for who in ("bob", "eve"):
        desk.report("q", who=who, error=2)
    assert desk.state_of("q") == "open"
