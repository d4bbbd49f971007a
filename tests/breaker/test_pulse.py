"""What the registry says every second, and more often after a change."""

from __future__ import annotations

from itertools import pairwise

from bursar.contracts.breaker import MAX_FREE, MAX_RECENT, Pulse, Snapshot, digest_of
from bursar_breaker.telling import LIVELY_PULSE_MS, LIVELY_PULSES, pulse
from tests.breaker.desk import Desk, rule


def said(desk: Desk) -> Pulse:
    """The pulse as it is on the wire; making it changes nothing."""
    before = desk.dump()
    desk.state.pulsed_at = -1
    told = pulse(desk.state, desk.now)
    assert desk.dump() == before
    assert told is not None
    assert (told.kind, told.name) == ("pulse", "registry")
    return Pulse.model_validate({**told.body, "fence": "1.1.1.0"})


def test_a_pulse_says_what_a_query_would_say() -> None:
    """Revision and digest: who has both would be answered that it has it all."""
    desk = Desk()
    desk.half_open("p")
    desk.force("q", "open")
    told = said(desk)
    assert told.now_ms == desk.now
    assert desk.refused(Snapshot(revision=told.revision, digest=told.digest))["same"]
    desk.force("q", "closed")
    assert not desk.refused(Snapshot(revision=told.revision, digest=told.digest))["same"]
    assert said(desk).revision > told.revision


def test_a_pulse_names_what_a_permit_would_be_given_for() -> None:
    """Half-open targets that nobody tries, or not as many as may; not those below one that is stopped or tried."""
    desk = Desk(rule(successes=5), rule("p", successes=5, probes=2))
    assert said(desk).free == []
    for target in ("p", "q"):
        desk.half_open(target)
    assert sorted(said(desk).free) == ["p", "q"]
    first = desk.probe("p")
    assert sorted(said(desk).free) == ["p", "q"], "two may try it"
    desk.probe("p", who="bob")
    assert said(desk).free == ["q"]
    assert desk.no_probe("p", who="cat")["reason"] == "busy"
    desk.probed(first)
    assert sorted(said(desk).free) == ["p", "q"]
    desk.force("p", "open")
    assert said(desk).free == ["q"]


def test_a_pulse_stays_small() -> None:
    """However many targets are half-open."""
    desk = Desk()
    for n in range(MAX_FREE + 5):
        desk.open(f"p{n}")
    desk.advance(600)
    assert len(said(desk).free) == MAX_FREE


def test_a_pulse_is_told_each_second_and_often_in_the_one_after_a_change() -> None:
    """Soon after it, so that lost messages are healed by the next ones; three in a second when changes go on and on."""
    desk = Desk(now=10_000)

    def moments(ms: int) -> list[int]:
        """When pulses are told, if the shell asks each tenth of a second."""
        began, told = desk.now, []
        while desk.now < began + ms:
            desk.advance(LIVELY_PULSE_MS)
            if pulse(desk.state, desk.now) is not None:
                told.append(desk.now - began)
        return told

    moments(4_000)
    assert {b - a for a, b in pairwise(moments(5_000))} == {1_000}
    desk.force("p", "open")
    soon = moments(1_000)
    assert soon[:LIVELY_PULSES] == [100 * n for n in range(1, LIVELY_PULSES + 1)]
    assert len(soon) <= LIVELY_PULSES + 2
    assert len(moments(1_000)) <= 3
    assert len(moments(6_000)) in {6, 7}
    desk.force("p", "reset")
    for _ in range(100):
        desk.force("p", "open")
        moments(100)
    count = 0
    for _ in range(30):
        desk.force("p", "open")
        count += len(moments(100))
    assert 3 <= count <= 3 * 3 + 1


def test_the_latest_changes_are_repeated() -> None:
    """The newest first, closed ones too; not those of long ago, and not too many."""
    desk = Desk()
    desk.force("a", "open")
    desk.advance(3_000)
    assert said(desk).recent == []
    desk.force("b", "open")
    desk.force("c", "open")
    desk.force("b", "reset")
    assert [(row.target, row.state) for row in said(desk).recent] == [("b", "closed"), ("c", "forced_open")]
    for n in range(MAX_RECENT + 5):
        desk.force(f"d{n}", "open")
    assert len(said(desk).recent) == MAX_RECENT


def test_who_hears_one_pulse_after_a_change_needs_no_broadcast_of_it() -> None:
    """It has the circuit, revision and digest: nothing need be asked."""
    desk = Desk()
    desk.open("p")
    told = said(desk)
    [row] = told.recent
    assert told.digest == digest_of([(row.target, row.state, row.revision)])
    assert (row.state, row.remaining_ms, row.share) == ("open", 500, 0)


def test_a_permit_that_comes_back_is_told_at_once() -> None:
    """After a success that is not the last, after a result that says nothing, and when a dead prober's time is over."""
    desk = Desk(rule(successes=3))
    desk.half_open()
    desk.probed(desk.probe())
    assert [told.free for told in desk.pulses] == [["p"]]
    desk.advance(50)
    desk.probed(desk.probe(), "cancelled")
    assert (desk.pulses[-1].now_ms, desk.pulses[-1].free) == (desk.now, ["p"])
    desk.probe()
    desk.advance(299)
    count = len(desk.pulses)
    desk.advance(1)
    assert len(desk.pulses) == count + 1
    assert desk.pulses[-1].free == ["p"]


def test_a_permit_that_nobody_can_use_is_not_told() -> None:
    """Its circuit was reset meanwhile."""
    desk = Desk()
    desk.half_open()
    desk.probe()
    desk.force("p", "reset")
    desk.advance(5_000)
    assert desk.pulses == []
