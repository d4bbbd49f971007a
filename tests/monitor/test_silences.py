"""Silences and acknowledgements: who is told what."""

from __future__ import annotations

from bursar.contracts.monitor import Acknowledge, Acknowledged, Silence, Silenced, Unsilence, Unsilenced
from bursar.kernel.decider import Refuse
from bursar_monitor import events
from bursar_monitor.state import MAX_SILENCES, TELL_AGAIN
from bursar_monitor.state import Silence as Kept
from tests.monitor.fleet import BUSY, FENCE, OPEN, SILENT, Desk

HOUR = 3_600_000


def busy() -> Desk:
    desk = Desk(BUSY, SILENT)
    desk.samples(5, cpu=950)
    return desk


def test_a_silenced_alert_fires_and_is_told_to_nobody() -> None:
    """It is in the picture, marked, and its end is not told either."""
    desk = Desk(BUSY, SILENT)
    reply = desk.must(Silence(id=desk.id(), rule="cpu-high", subject="al*", for_ms=HOUR, reason="load test"))
    silenced = Silenced(**reply, fence=FENCE)
    assert (silenced.muted, silenced.until_ms) == (0, desk.now + HOUR)
    desk.samples(5, cpu=950)
    assert desk.firing
    assert not desk.told
    row = desk.status().alerts[0]
    assert row.silenced
    assert desk.status().silences[0].reason == "load test"
    desk.samples(6, cpu=10)
    assert not desk.firing
    assert not desk.told
    desk.check()


def test_a_silence_covers_what_it_names() -> None:
    """Another rule, or another subject, is told."""
    desk = Desk(BUSY)
    desk.must(Silence(id=desk.id(), rule="host-silent", for_ms=HOUR))
    desk.must(Silence(id=desk.id(), subject="beta", for_ms=HOUR))
    desk.samples(5, "alpha", cpu=950)
    desk.samples(5, "beta", cpu=950)
    assert desk.stories() == [("firing", "cpu-high", "alpha")]


def test_who_was_told_is_told_the_end() -> None:
    """A silence made afterwards does not leave anybody with an alert that is over."""
    desk = busy()
    assert desk.must(Silence(id=desk.id(), for_ms=HOUR))["muted"] == 1
    desk.samples(6, cpu=10)
    assert desk.stories() == [("firing", "cpu-high", "alpha"), ("resolved", "cpu-high", "alpha")]


def test_what_still_fires_when_a_silence_ends_is_told() -> None:
    """By expiry, or because an operator lifts it."""
    for lifted in (True, False):
        desk = Desk(BUSY)
        reply = desk.must(Silence(id=desk.id(), for_ms=60_000))
        desk.samples(5, cpu=950)
        assert not desk.told
        if lifted:
            done = desk.must(Unsilence(id=desk.id(), silence=reply["silence"]))
            assert Unsilenced(**done, fence=FENCE).silence == reply["silence"]
        else:
            desk.advance(60_000)
        assert desk.stories() == [("firing", "cpu-high", "alpha")]
        assert not desk.state.silences
        assert desk.rejected(Unsilence(id=desk.id(), silence=reply["silence"])) == "unknown"
        desk.check()


def test_silences_and_acknowledgements_survive_a_take_over() -> None:
    """They are durable."""
    desk = busy()
    (alert,) = desk.state.alerts
    desk.must(Acknowledge(id=desk.id(), alert=alert, note="on it"), "ops")
    desk.must(Silence(id=desk.id(), subject="gamma", for_ms=HOUR))
    desk.take_over()
    assert desk.status().alerts[0].acknowledged_by == "ops"
    desk.samples(5, "gamma", cpu=950)
    assert len(desk.told) == 1
    desk.check()


def test_the_first_acknowledgement_counts() -> None:
    """Later ones are told who it was; an alert that is over cannot be acknowledged."""
    desk = busy()
    (alert,) = desk.state.alerts
    first = desk.must(Acknowledge(id=desk.id(), alert=alert), "ops")
    assert Acknowledged(**first, fence=FENCE).by == "ops"
    again = desk.ask(Acknowledge(id=desk.id(), alert=alert), "someone-else")
    assert isinstance(again, Refuse)
    assert again.reply["by"] == "ops"
    assert desk.rejected(Acknowledge(id=desk.id(), alert="9.9.9")) == "unknown"
    assert desk.firing


def test_after_a_loss_all_that_fires_is_told_again() -> None:
    """What was told may be missing from the state, and the reverse; hearers are told that it is a repetition."""
    desk = busy()
    for event in desk.decider.recover(desk.state, desk.now):
        desk.decider.evolve(desk.state, event)
        desk.journal.append(event)
    assert {alert.told for alert in desk.state.alerts.values()} == {TELL_AGAIN}
    desk.settle_due()
    assert [told["again"] for told in desk.told] == [False, True]
    desk.settle_due()
    assert len(desk.told) == 2
    desk.check()


def test_the_journal_says_what_a_silence_covers() -> None:
    """The rule that it names, or that it names none."""
    desk = Desk(BUSY)
    desk.must(Silence(id=desk.id(), for_ms=60_000))
    desk.must(Silence(id=desk.id(), rule="cpu-high", subject="g*", for_ms=60_000, reason="moving"))
    words = [desk.decider.describe(event) for event in desk.journal if event[0] == events.SILENCED]
    assert "for any rule on *" in words[0]
    assert "for cpu-high on g* " in words[1]
    assert words[1].endswith(": moving")


def test_silences_are_bounded() -> None:
    """So many, and no more."""
    desk = Desk(OPEN)
    desk.state.silences = {f"1.1.{n}": Kept("", "*", 10**12, "ops", "") for n in range(MAX_SILENCES)}
    assert desk.rejected(Silence(id=desk.id(), for_ms=HOUR)) == "too_many"
