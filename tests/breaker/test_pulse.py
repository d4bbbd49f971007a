"""What the registry says every two seconds."""

from __future__ import annotations

from bursar.contracts.breaker import MAX_FREE, Pulse, Snapshot
from bursar_breaker.telling import pulse
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
