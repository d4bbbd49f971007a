"""Orders beside forcing open and closed: disabled, metrics only, release, and orders that end by themselves."""

from __future__ import annotations

import pytest

from bursar.contracts.breaker import Disable, ForceClose, ForceOpen, MetricsOnly, Release
from bursar.kernel.decider import Reject
from tests.breaker.desk import Desk, rule


def test_a_disabled_circuit_neither_counts_nor_opens() -> None:
    """As if it were not there; what is above it counts on."""
    desk = Desk()
    desk.force("p/m", "disabled")
    desk.report("p/m", error=3)
    assert desk.state.windows.get("p/m") is None
    assert desk.status("p").circuits[-1].calls == 3
    desk.report("p/m", error=50)
    assert desk.state_of("p/m") == "disabled"
    desk.force("p/m", "release")
    desk.report("p/m", error=3)
    assert desk.state_of("p/m") == "closed", "nothing was remembered"


def test_metrics_only_judges_and_tells_but_lets_go() -> None:
    """The status says what it would have opened on."""
    desk = Desk()
    desk.force("p", "metrics")
    desk.report(error=3)
    assert desk.explain().would_open == ""
    desk.report(error=1)
    assert desk.state_of() == "metrics_only"
    assert desk.status().circuits[0].would_open == desk.explain().would_open == "failure_rate"
    assert desk.no_probe()["reason"] == "closed"
    desk.force("p", "release")
    assert (desk.state_of(), desk.explain().would_open) == ("closed", "")
    desk.check()


def test_what_is_released_from_forced_open_is_tried_first() -> None:
    """Nobody knows how it is: half-open at once, and only then closed."""
    desk = Desk()
    desk.force("p", "open")
    desk.force("p", "release", "done")
    assert desk.state_of() == "half_open"
    desk.probed(desk.probe())
    assert desk.state_of() == "closed"
    desk.check()


@pytest.mark.parametrize("to", ["closed", "disabled", "metrics"])
def test_what_is_released_from_other_orders_is_closed(to: str) -> None:
    """Calls went all the time."""
    desk = Desk()
    desk.force("p", to)
    desk.force("p", "release")
    assert desk.state_of() == "closed"


def test_nothing_to_release_is_a_typed_error() -> None:
    """And changes nothing: a closed or open circuit has no order."""
    desk = Desk()
    desk.open("q")
    for target in ("p", "q"):
        outcome = desk.ask(Release(id=desk.new_id(), target=target), "ops")
        assert isinstance(outcome, Reject)
        assert outcome.code == "not_forced"
    assert desk.state_of("q") == "open"


@pytest.mark.parametrize(
    ("kind", "after"), [(ForceOpen, "half_open"), (ForceClose, "closed"), (Disable, "closed"), (MetricsOnly, "closed")]
)
def test_an_order_ends_when_its_time_is_over(kind: type[ForceOpen], after: str) -> None:
    """To the millisecond, also after a take-over; the history tells it."""
    desk = Desk()
    desk.order(kind, note="an hour", for_ms=3_600)
    ordered = desk.state_of()
    assert desk.told[-1]["remaining_ms"] == 3_600
    desk.advance(3_599)
    assert desk.state_of() == ordered
    desk = desk.restarted()
    desk.advance(1)
    assert desk.state_of() == after
    assert "order_over" in [step.reason for step in desk.explain().history]
    desk.check()


def test_a_later_order_takes_the_time_of_an_earlier_one_away() -> None:
    """The end of the first does not end the second."""
    desk = Desk()
    desk.order(ForceOpen, for_ms=100)
    desk.advance(50)
    desk.force("p", "open")
    desk.advance(10_000)
    assert desk.state_of() == "forced_open"


def test_when_an_order_that_keeps_out_ends_is_known() -> None:
    """Who asks for a probe is told, and so is who asks why."""
    desk = Desk()
    desk.order(ForceOpen, for_ms=700)
    assert desk.no_probe()["retry_in_ms"] == 700
    assert desk.explain().next_probe_ms == 700


def test_after_a_loss_release_waits_for_lost_probes() -> None:
    """Half-open only when permits of before must be over."""
    desk = Desk(rule(probe_ttl_ms=3_000))
    desk.force("p", "open")
    for event in desk.decider.recover(desk.state, desk.now):
        desk.decider.evolve(desk.state, event)
        desk.journal.append(event)
    desk.force("p", "release")
    assert desk.state_of() == "open"
    desk.advance(3_000)
    assert desk.state_of() == "half_open"
    desk.check()
