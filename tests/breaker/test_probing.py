"""Half-open: permits, their ends, and what their results bring about."""

from __future__ import annotations

import pytest

from bursar.kernel.decider import Reject
from bursar_breaker.lifecycle import PROBE_FAILED
from tests.breaker.desk import Desk, rule


def test_at_most_k_probes_are_out() -> None:
    """In the whole fleet, whoever asks; who comes too late hears when to ask again."""
    desk = Desk(rule(probes=2))
    desk.half_open()
    desk.probe(who="ann")
    desk.advance(100)
    desk.probe(who="bob")
    told = desk.no_probe(who="cat")
    assert (told["reason"], told["retry_in_ms"]) == ("busy", 200)
    assert desk.status().circuits[0].probes == 2
    desk.check()


def test_a_dead_probers_permit_is_taken_over() -> None:
    """When its time is over the next who asks gets one; a killed prober holds nobody up."""
    desk = Desk()
    desk.half_open()
    for who in ("ann", "bob", "cat"):
        desk.probe(who=who)
        desk.advance(299)
        assert desk.no_probe(who="dan")["reason"] == "busy"
        desk.advance(1)
    last = desk.probe(who="dan")
    assert desk.probed(last, who="dan")["reason"] == "counted"
    assert desk.state_of() == "closed"
    desk.check()


def test_enough_successes_close() -> None:
    """Slow is a success; one after the other or at a time."""
    desk = Desk(rule(probes=2, successes=3))
    desk.half_open()
    first, second = desk.probe(), desk.probe(who="bob")
    desk.probed(first, "slow")
    desk.probed(second, who="bob")
    assert desk.state_of() == "half_open"
    reply = desk.probed(desk.probe())
    assert desk.state_of() == "closed"
    assert reply["circuits"] == []
    assert desk.told[-1]["state"] == "closed"


@pytest.mark.parametrize("outcome", ["timeout", "error", "overload"])
def test_one_failed_probe_opens_again_for_longer(outcome: str) -> None:
    """And the times grow."""
    desk = Desk(rule(successes=2))
    desk.half_open()
    desk.probed(desk.probe())
    reply = desk.probed(desk.probe(), outcome)
    circuit = desk.state.circuits["p"]
    assert (circuit.state, circuit.reason, circuit.until - desk.now) == ("open", PROBE_FAILED, 1_000)
    assert reply["circuits"][0]["state"] == "open"
    desk.advance(1_000)
    desk.probed(desk.probe(), outcome)
    assert desk.until() - desk.now == 2_000
    desk.check()


def test_a_failed_probe_that_is_told_a_time_opens_for_that_time() -> None:
    """If it is the later one."""
    desk = Desk()
    desk.half_open()
    desk.probed(desk.probe(), "overload", retry_after_ms=6_000)
    assert desk.until() - desk.now == 6_000


@pytest.mark.parametrize("outcome", ["rate_limited", "auth", "cancelled"])
def test_a_result_that_says_nothing_gives_the_permit_back(outcome: str) -> None:
    """Neither closed nor open: another may try."""
    desk = Desk()
    desk.half_open()
    assert desk.probed(desk.probe(), outcome)["reason"] == "neutral"
    assert desk.state_of() == "half_open"
    desk.probe(who="bob")


def test_a_result_of_an_earlier_generation_is_stale() -> None:
    """It neither closes nor opens, but its permit is free again."""
    desk = Desk(rule(probe_ttl_ms=5_000))
    desk.half_open()
    early = desk.probe()
    desk.force("p", "reset")
    desk.half_open()
    reply = desk.probed(early, "ok")
    assert (reply["ok"], reply["reason"]) == (False, "stale")
    assert desk.state_of() == "half_open"
    desk.probe(who="bob")
    desk.check()


def test_a_permit_of_an_earlier_generation_keeps_its_place() -> None:
    """Its call may still be under way: never more than k by true time."""
    desk = Desk(rule(probe_ttl_ms=5_000))
    desk.half_open()
    desk.probe()
    desk.force("p", "reset")
    desk.half_open()
    assert desk.no_probe(who="bob")["reason"] == "busy"
    desk.advance(5_000)
    desk.probe(who="bob")
    desk.check()


def test_a_permit_that_ran_out_counts_for_nothing() -> None:
    """Reported too late, or twice, or made up."""
    desk = Desk()
    desk.half_open()
    lease = desk.probe()
    desk.advance(300)
    assert desk.probed(lease)["reason"] == "unknown"
    assert desk.probed("9.9.9")["reason"] == "unknown"
    assert desk.state_of() == "half_open"


def test_only_who_got_the_permit_may_report_on_it() -> None:
    """Another agent's result is an error."""
    desk = Desk()
    desk.half_open()
    lease = desk.probe()
    outcome = desk.probed(lease, who="eve")
    assert isinstance(outcome, Reject)
    assert outcome.code == "not_yours"
    assert desk.state_of() == "half_open"


def test_one_permit_covers_all_half_open_circuits_on_the_way() -> None:
    """All or none; its result counts for each."""
    desk = Desk(rule(), rule("p/m", successes=2))
    desk.report("p/m", error=4)
    desk.report("p", error=1)
    assert desk.state_of("p") == desk.state_of("p/m") == "open"
    desk.advance(500)
    lease = desk.probe("p/m/key")
    assert desk.state.leases[lease].circuits == (("p", desk.state.circuits["p"].generation),
                                                 ("p/m", desk.state.circuits["p/m"].generation))  # fmt: skip
    assert desk.no_probe("p/other")["reason"] == "busy"
    desk.probed(lease)
    assert (desk.state_of("p"), desk.state_of("p/m")) == ("closed", "half_open")
    desk.check()


def test_no_probe_where_something_above_is_open() -> None:
    """Nor where nothing stands in the way."""
    desk = Desk()
    desk.half_open("p/m")
    desk.force("p", "open")
    told = desk.no_probe("p/m/key")
    assert (told["reason"], told["retry_in_ms"]) == ("open", None)
    assert [row["state"] for row in told["circuits"]] == ["forced_open", "half_open"]
    assert desk.no_probe("q")["reason"] == "closed"
    desk.open("r")
    assert desk.no_probe("r")["retry_in_ms"] == 500


def test_half_open_without_traffic_waits() -> None:
    """No circuit changes without evidence; the first call that comes finds a permit."""
    desk = Desk()
    desk.half_open()
    desk.advance(10_000_000)
    assert desk.state_of() == "half_open"
    desk.probed(desk.probe())
    assert desk.state_of() == "closed"
