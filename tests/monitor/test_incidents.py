"""Incidents: what people are notified of, when, and with which cause."""

from __future__ import annotations

from bursar.contracts.monitor import Acknowledge, DiskSample, SetRules, Silence, Unsilence
from bursar.contracts.monitor_picture import CircuitRow, DeviceRow, QueueRow
from bursar.contracts.monitor_policy import Grouping, Inhibition, Rule
from bursar.kernel.decider import Refuse
from bursar_monitor import incidents
from bursar_monitor.state import MAX_INCIDENTS, OUTBOX
from tests.monitor.fleet import BUSY, SILENT, Desk

WAIT, INTERVAL, REPEAT = 5_000, 300_000, 14_400_000

OPEN = Rule(name="circuit-open", signal="circuit_open", at_least=1, clear_ms=1_000)
GROWING = Rule(name="queue-growing", signal="queue_growth", at_least=50, clear_ms=1_000, severity="critical")
LOST = Rule(name="gpu-lost", signal="gpu_lost", at_least=1, severity="critical", clear_ms=1_000)
DISK = Rule(name="disk-full", signal="disk_permille", at_least=900, clear_ms=1_000, severity="info")


def desk(*rules: Rule, inhibitions: tuple[Inhibition, ...] = (), grouping: Grouping | None = None) -> Desk:
    made = Desk(*rules)
    made.must(SetRules(id=made.id(), rules=rules, inhibitions=inhibitions, grouping=grouping))
    return made


def circuit(made: Desk, state: str, *targets: str) -> None:
    made.page("breaker", circuits=[CircuitRow(target=target, state=state) for target in targets or ("p",)])


def heal(made: Desk, *targets: str) -> None:
    circuit(made, "closed", *targets)
    made.advance(1_000)
    circuit(made, "closed", *targets)


def grow(made: Desk) -> None:
    made.page("scheduler", queues=[QueueRow(queue="reactive", waiting=0, running=0)])
    made.advance(1_000)
    made.page("scheduler", queues=[QueueRow(queue="reactive", waiting=60, running=0)])


def test_the_first_notification_waits_for_what_belongs_to_it_and_names_the_cause() -> None:
    """The symptom fires first and is worse; five seconds later one notification names the provider."""
    made = desk(OPEN, GROWING)
    grow(made)
    made.advance(2_000)
    circuit(made, "open", "p", "p/eu")
    made.advance(2_999)
    assert not made.notified
    made.advance(1)
    assert made.notifications() == [("new", "circuit-open", "p")]
    (told,) = made.notified
    assert (told["severity"], len(told["alerts"]), told["muted"], told["number"]) == ("critical", 3, 0, 1)
    assert told["text"] == "The circuit to p is open. 2 more alerts with it."
    assert len(made.told) == 3, "each alert is still told by itself"
    made.check()


def test_what_is_over_before_it_is_told_is_not_told() -> None:
    """A moment's trouble wakes nobody."""
    made = desk(OPEN)
    circuit(made, "open")
    made.advance(1_000)
    heal(made)
    made.advance(REPEAT)
    assert not made.notified
    made.check()


def test_changes_are_told_after_the_interval_and_the_end_once() -> None:
    """What joins, what is over: at most one notification in five minutes; and the end is the last."""
    made = desk(OPEN)
    circuit(made, "open", "p")
    made.advance(WAIT)
    circuit(made, "open", "q")
    made.advance(INTERVAL - 1)
    assert len(made.notified) == 1
    made.advance(1)
    assert made.notifications()[1:] == [("changed", "circuit-open", "p")]
    heal(made, "p", "q")
    made.advance(INTERVAL)
    assert made.notifications()[2:] == [("over", "circuit-open", "p")]
    assert made.notified[2]["text"].startswith("Over: ")
    assert [told["number"] for told in made.notified] == [1, 2, 3]
    assert not made.state.incidents
    made.advance(2 * REPEAT)
    assert len(made.notified) == 3
    made.check()


def test_an_incident_that_jumps_tells_no_more_than_its_interval_allows() -> None:
    """Open and closed every few seconds for half an hour: seven notifications, not hundreds."""
    made = desk(OPEN)
    for _ in range(180):
        circuit(made, "open")
        made.advance(6_000)
        heal(made)
        made.advance(3_000)
    assert 5 <= len(made.notified) <= 7
    assert len(made.told) == 360


def test_an_incident_that_lasts_is_told_again_after_four_hours_unless_somebody_looks_at_it() -> None:
    """Repeat interval; an acknowledgement is the answer to it."""
    made = desk(SILENT)
    made.samples(2)
    made.advance(REPEAT + 60_000)
    assert made.notifications() == [("new", "host-silent", "alpha"), ("repeat", "host-silent", "alpha")]
    made.must(Acknowledge(id=made.id(), alert=next(iter(made.state.alerts))))
    made.advance(REPEAT + 60_000)
    assert len(made.notified) == 2


def test_what_is_worse_is_told_at_once() -> None:
    """Nobody learns of something critical five minutes late because of a warning before it."""
    made = desk(OPEN, GROWING)
    circuit(made, "open")
    made.advance(WAIT + 2_000)
    grow(made)
    made.advance(WAIT)
    assert made.notifications() == [("new", "circuit-open", "p"), ("worse", "circuit-open", "p")]
    assert made.notified[1]["severity"] == "critical"


def test_a_cause_that_is_found_later_is_told_at_once() -> None:
    """Who was told of a symptom is told what it comes from."""
    made = desk(OPEN, GROWING)
    grow(made)
    made.advance(WAIT + 2_000)
    circuit(made, "open")
    made.advance(WAIT)
    assert made.notifications() == [("new", "queue-growing", "reactive"), ("cause", "circuit-open", "p")]


def test_what_is_unrelated_or_much_later_is_another_incident() -> None:
    """By the graph, and by time: a circuit that opens an hour after another is news."""
    made = desk(OPEN, BUSY)
    circuit(made, "open")
    made.samples(6, cpu=950)
    made.advance(WAIT)
    assert sorted(made.notifications()) == [("new", "circuit-open", "p"), ("new", "cpu-high", "alpha")]
    made.advance(3_600_000)
    circuit(made, "open", "q")
    made.advance(WAIT)
    assert ("new", "circuit-open", "q") in made.notifications()


def test_fifty_machines_that_fail_are_one_notification() -> None:
    """Twenty are listed, the rest is counted."""
    made = desk(SILENT)
    for number in range(50):
        made.sample(f"h-{number:02}")
    made.advance(30_000)
    (told,) = made.notified
    assert (len(told["alerts"]), told["more"]) == (20, 30)
    made.check()


def test_an_inhibited_alert_is_told_to_nobody_while_its_source_fires() -> None:
    """Neither begins an incident nor is listed; when its source is over and it still fires, it is told."""
    inhibition = Inhibition(source="disk-full", target="cpu-high", equal="subject")
    made = desk(BUSY, DISK, inhibitions=(inhibition,))
    for _ in range(12):
        made.sample("other", cpu=950)
        made.samples(1, cpu=950, disk=DiskSample(total_bytes=100, used_bytes=95))
    assert ("cpu-high", "alpha") in made.firing
    assert {row.inhibited for row in made.status().alerts if row.subject == "alpha"} == {True, False}
    assert ("new", "disk-full", "alpha") in made.notifications()
    assert [alert["subject"] for told in made.notified for alert in told["alerts"] if alert["rule"] == "cpu-high"] == [
        "other"
    ]
    for _ in range((WAIT + INTERVAL) // 1_000):
        made.sample("other", cpu=950)
        made.samples(1, cpu=950, disk=DiskSample(total_bytes=100, used_bytes=10))
    assert {"other", "alpha"} in [{alert["subject"] for alert in told["alerts"]} for told in made.notified]
    made.check()


def test_inhibitions_compare_subjects_as_they_say() -> None:
    """Equal, with the same first part, or any."""
    for equal, muted in (("subject", False), ("head", True), ("any", True)):
        made = desk(SILENT, LOST, inhibitions=(Inhibition(source="host-silent", target="*", equal=equal),))  # type: ignore[arg-type]
        made.samples(2)
        made.advance(9_000)
        made.page("gpu-manager", devices=[DeviceRow(host="alpha", device="GPU-1", state="lost")])
        made.advance(WAIT)
        (row,) = [row for row in made.status().alerts if row.rule == "gpu-lost"]
        assert row.inhibited is muted


def test_a_silence_covers_notifications_and_what_it_covered_is_told_when_it_ends() -> None:
    """A silenced alert begins no incident; one that is silenced later is not told again, but its end is."""
    made = desk(OPEN, grouping=Grouping(repeat_ms=60_000, interval_ms=30_000))
    muting = made.must(Silence(id=made.id(), subject="p", for_ms=600_000))
    circuit(made, "open", "p")
    made.advance(60_000)
    assert not made.notified
    made.must(Unsilence(id=made.id(), silence=muting["silence"]))
    assert made.notifications() == [("new", "circuit-open", "p")]
    made.must(Silence(id=made.id(), for_ms=3_600_000))
    made.advance(180_000)
    assert len(made.notified) == 1
    heal(made, "p")
    made.advance(30_000)
    assert made.notifications()[1:] == [("over", "circuit-open", "p")]
    made.check()


def test_incidents_survive_a_take_over_and_are_told_again_after_a_loss() -> None:
    """The heir neither tells twice nor forgets the end; after lost entries it tells what lasts once more."""
    made = desk(OPEN)
    circuit(made, "open")
    made.take_over(1_000)
    made.advance(WAIT)
    made.take_over(1_000)
    assert len(made.notified) == 1
    for event in made.decider.recover(made.state, made.now):
        made.journal.append(event)
        made.decider.evolve(made.state, event)
    made.settle_due()
    assert made.notifications()[1:] == [("changed", "circuit-open", "p")]
    heal(made)
    made.advance(INTERVAL)
    assert made.notifications()[2:] == [("over", "circuit-open", "p")]
    made.check()


def test_what_an_output_has_not_taken_is_kept_and_bounded() -> None:
    """Numbered, in order; what was taken is durable, and never goes back."""
    made = desk(OPEN, grouping=Grouping(wait_ms=0, interval_ms=1_000, together_ms=1_000))
    for _ in range(OUTBOX):
        circuit(made, "open")
        heal(made)
        made.advance(3_000)
    assert made.state.notified == 2 * OUTBOX
    assert [posted.number for posted in made.state.outbox] == list(range(OUTBOX + 1, 2 * OUTBOX + 1))
    made.ask(incidents.Delivered(7))
    assert isinstance(made.ask(incidents.Delivered(7)), Refuse)
    made.take_over()
    assert (made.state.delivered, len(made.state.outbox)) == (7, OUTBOX)
    made.check()


def test_the_number_of_incidents_is_bounded_and_overtaken_commands_change_nothing() -> None:
    """What is not placed waits; who is told to gather what is placed, or to tell what is over, does nothing."""
    made = desk(OPEN, grouping=Grouping(wait_ms=0, interval_ms=86_400_000, together_ms=1_000))
    for number in range(MAX_INCIDENTS + 3):
        circuit(made, "open", f"p-{number}")
        made.advance(2_000)
    assert len(made.state.incidents) == MAX_INCIDENTS
    assert len(made.state.unplaced) == 3
    before = list(made.journal)
    for body in (incidents.Gather(next(iter(made.state.unplaced))), incidents.Gather("9.9.9"), incidents.Notify("9")):
        assert isinstance(made.ask(body), Refuse)
    assert made.journal == before
    made.check()


def test_the_picture_shows_incidents_with_their_alerts() -> None:
    """The worst first; each alert says which incident it is part of."""
    made = desk(OPEN, GROWING)
    circuit(made, "open")
    made.advance(WAIT + 1_000)
    status = made.status()
    (row,) = status.incidents
    assert (row.rule, row.subject, row.firing, row.number, row.told_ms) == ("circuit-open", "p", 1, 1, 1_000)
    assert [alert.incident for alert in status.alerts] == [row.incident]
