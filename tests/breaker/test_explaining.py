"""Why is a circuit as it is? What is told, and the history of its changes."""

from __future__ import annotations

from bursar.contracts.breaker import MAX_HISTORY, MAX_WITNESSES, Annotate, Explain, ForceOpen
from bursar.kernel.decider import Reject
from tests.breaker.desk import Desk, rule


def test_an_opening_is_explained_with_counts_reporters_and_times() -> None:
    """What it opened on, who said so, since when, when it is tried again."""
    desk = Desk()
    desk.report("p/m", "bob", ok=1, timeout=1)
    desk.report("p/m", "ann", timeout=2, error=1)
    desk.advance(200)
    told = desk.explain("p/m")
    assert (told.state, told.reason, told.since_ms, told.next_probe_ms, told.share) == (
        "open", "failure_rate", 200, 300, 0,
    )  # fmt: skip
    assert told.counts == {
        "calls": 5, "failed": 4, "slow": 0, "reporters": 2, "voices": 2, "ok": 1, "timeout": 3, "error": 1,
    }  # fmt: skip
    assert [(one.reporter, one.calls, one.failed, one.view) for one in told.witnesses] == [
        ("ann", 3, 3, "failing"), ("bob", 2, 1, "failing"),
    ]  # fmt: skip
    assert told.why == (
        "It is open because too many of its calls failed (4 of 5 failed, 0 were slow; 2 of 2 reporters see it)."
    )
    assert [row.target for row in told.stopped_by] == ["p/m"]


def test_the_history_is_the_one_of_the_journal() -> None:
    """Every transition with its cause, who ordered it and what it opened on; the latest first; through take-overs."""
    desk = Desk(rule(ramp=(100,), ramp_step_ms=100))
    desk.half_open()
    desk.probed(desk.probe(), "timeout")
    desk.advance(1_000)
    desk.probed(desk.probe())
    desk.advance(100)
    desk.force("p", "open", "night")
    desk.advance(50)
    told = desk.restarted().explain()
    steps = [(step.before, step.after, step.reason) for step in reversed(told.history)]
    assert steps == [
        ("closed", "open", "failure_rate"),
        ("open", "half_open", "time_over"),
        ("half_open", "open", "probe_failed"),
        ("open", "half_open", "time_over"),
        ("half_open", "ramping", "ramp_begins"),
        ("ramping", "closed", "ramp_done"),
        ("closed", "forced_open", "force_open"),
    ]
    assert [step.revision for step in told.history] == [7, 6, 5, 4, 3, 2, 1]
    assert (told.history[0].who, told.history[0].note, told.history[0].ago_ms) == ("ops", "night", 50)
    assert told.history[-1].counts == {"calls": 4, "failed": 4, "slow": 0, "reporters": 1, "voices": 1}
    assert told.why == "By order of ops: night."
    assert told.next_probe_ms is None, "nobody knows when the order ends"
    assert len(desk.explain(history=2).history) == 2
    assert desk.explain(history=0).history == []


def test_the_history_is_bounded() -> None:
    """The latest changes of each circuit; the journal has them all."""
    desk = Desk()
    for _ in range(MAX_HISTORY):
        desk.force("p", "open")
        desk.force("p", "reset")
    assert len(desk.explain().history) == MAX_HISTORY
    desk.check()


def test_a_later_deadline_does_not_hide_why_it_opened() -> None:
    """The cause is that of the opening."""
    desk = Desk()
    desk.open()
    desk.report(overload=1, retry_after_ms=5_000)
    told = desk.explain()
    assert told.reason == "later_deadline"
    assert "too many of its calls failed" in told.why
    assert [step.reason for step in told.history] == ["later_deadline", "failure_rate"]


def test_the_next_probe_is_the_last_of_all_that_stand_in_the_way() -> None:
    """Open above for longer: then is when a call may be tried; now, where all are half-open."""
    desk = Desk(rule(), rule("p/m", open_ms=2_000))
    desk.open("p/m")
    desk.open("p")
    assert desk.explain("p/m").next_probe_ms == 2_000
    desk.advance(600)
    assert desk.explain("p").next_probe_ms == 0
    assert desk.explain("p/m").next_probe_ms == 1_400
    assert desk.explain("p").why.startswith("Probes find out how it is; it had opened because too many")
    assert desk.explain("q").next_probe_ms is None
    assert desk.explain("q").why == "It is closed: calls go."


def test_a_failed_probe_is_a_witness() -> None:
    """Who it was, and how it ended."""
    desk = Desk()
    desk.half_open()
    desk.probed(desk.probe(who="bob"), "timeout", who="bob")
    told = desk.explain()
    assert told.why == "It is open because a probe has failed."
    assert told.counts["timeout"] == 1
    assert [one.reporter for one in told.witnesses] == ["bob"]


def test_witnesses_are_few_and_the_worst_come_first() -> None:
    """However many have reported."""
    desk = Desk(rule(minimum_calls=1_000))
    for number in range(100):
        desk.report(who=f"a{number}", error=number + 1)
        if desk.state_of() == "open":
            break
    told = desk.explain()
    assert len(told.witnesses) == MAX_WITNESSES
    failed = [one.failed for one in told.witnesses]
    assert failed == sorted(failed, reverse=True)


def test_a_ramp_is_explained() -> None:
    """With its share."""
    desk = Desk(rule(ramp=(50,)))
    desk.half_open()
    desk.probed(desk.probe())
    assert desk.explain().why == "Probes have succeeded: 5 % of the calls go, and more if they go well."


def test_a_note_changes_nothing_but_the_note() -> None:
    """Whatever the state: its time goes on, what was counted stays, and the audit has who wrote it."""
    desk = Desk()
    desk.report(error=3)
    desk.order(Annotate, note="we know")
    assert (desk.state_of(), desk.explain().note) == ("closed", "ops: we know")
    desk.report(error=1)
    assert desk.state_of() == "open"
    until, evidence = desk.until(), desk.explain().counts
    desk.order(Annotate, note="the provider knows", who="bea")
    assert (desk.state_of(), desk.until(), desk.explain().counts) == ("open", until, evidence)
    assert desk.explain().history[0].who == "bea"
    assert "annotate by bea: the provider knows" in desk.decider.describe(desk.journal[-1])
    desk.advance(500)
    assert desk.state_of() == "half_open"
    assert desk.explain().note == "bea: the provider knows"
    desk.check()


def test_an_unknown_group_is_not_explained() -> None:
    """A typed error."""
    outcome = Desk().ask(Explain(target="group/none"), "ops")
    assert isinstance(outcome, Reject)
    assert outcome.code == "unknown_group"
    assert isinstance(Desk().ask(ForceOpen(id="f", target="group/none")), Reject)
