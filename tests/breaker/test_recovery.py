"""Take-overs and losses: what stays, what is forgotten, what is feared."""

from __future__ import annotations

from bursar.contracts.breaker import Configure
from bursar_breaker.state import validate
from tests.breaker.desk import Desk, rule


def recovered(desk: Desk) -> Desk:
    """The registry after a loss of acknowledged entries, at the same time."""
    other = desk.restarted()
    other.incarnation += 1
    for event in other.decider.recover(other.state, other.now):
        other.decider.evolve(other.state, event)
        other.journal.append(event)
    other.settle()
    return other


def test_a_take_over_keeps_circuits_and_forgets_windows() -> None:
    """Open for the rest of its time; reports of before do not count."""
    desk = Desk()
    desk.open("p")
    desk.report("q", error=3)
    desk.advance(200)
    after = desk.restarted()
    assert after.state_of("p") == "open"
    assert after.until("p") - after.now == 300
    after.report("q", error=1)
    assert after.state_of("q") == "closed"
    after.advance(300)
    assert after.state_of("p") == "half_open"
    after.check()


def test_a_take_over_keeps_probe_permits() -> None:
    """Reported to the new owner, they count; unreported, they end in time."""
    desk = Desk(rule(successes=2))
    desk.half_open()
    lease = desk.probe()
    after = desk.restarted()
    assert after.no_probe(who="bob")["reason"] == "busy"
    assert after.probed(lease)["reason"] == "counted"
    after.probe(who="bob")
    after = after.restarted()
    after.advance(300)
    after.probed(after.probe(who="cat"), who="cat")
    assert after.state_of() == "closed"


def test_after_a_loss_what_was_open_stays_open_and_nobody_probes_in_vain() -> None:
    """Probes that were lost are over before the next is given: k holds by true time."""
    desk = Desk(rule(probe_ttl_ms=3_000))
    desk.half_open("p")
    lease = desk.probe("p")
    desk.open("q")
    desk.force("r", "open")
    before = desk.state.revision
    after = recovered(desk)
    assert [after.state_of(target) for target in "pqr"] == ["open", "open", "forced_open"]
    assert after.state.revision == before + 2
    assert after.probed(lease)["reason"] == "stale"
    after.advance(2_999)
    assert after.state_of("p") == after.state_of("q") == "open"
    after.advance(1)
    assert after.state_of("p") == after.state_of("q") == "half_open"
    validate(after.state, after.now)


def test_after_a_loss_a_circuit_that_opens_anew_waits_for_lost_probes_too() -> None:
    """It may have been half-open in what was lost."""
    after = recovered(Desk(rule(probe_ttl_ms=3_000)))
    after.open("p")
    after.advance(500)
    assert after.state_of("p") == "open"
    after.advance(2_500)
    assert after.state_of("p") == "half_open"
    after.check()


def test_rules_that_come_after_a_loss_are_feared_as_well() -> None:
    """Permits that were lost may have been given under them, when the rules were lost with them."""
    after = recovered(Desk(rule(probe_ttl_ms=100)))
    after.must(Configure(id="c-9", rules=(rule(probe_ttl_ms=4_000),)), "ops")
    after.open("p")
    after.advance(3_999)
    assert after.state_of("p") == "open"
    after.advance(1)
    assert after.state_of("p") == "half_open"
