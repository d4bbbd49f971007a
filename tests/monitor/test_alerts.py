"""Alerts: when they fire, when they are over, what a take-over does to them."""

from __future__ import annotations

from bursar.contracts.base import Message
from bursar.contracts.monitor import AlertChanged, Forget, GpuSample, SetRules, Silence
from bursar.contracts.monitor_host import GroupSample
from bursar.contracts.monitor_picture import BudgetRow, CircuitRow, DeviceRow, QueueRow
from bursar.contracts.monitor_policy import Rule
from bursar.kernel.decider import Refuse
from bursar_monitor import alerting
from bursar_monitor.observing import MAX_HOSTS
from bursar_monitor.samples import HostView
from bursar_monitor.signals import MAX_QUEUES
from bursar_monitor.state import MAX_ALERTS, MAX_KNOWN, MAX_TRACKS
from bursar_monitor.track import FORGET_MS, Track
from tests.monitor.fleet import BUSY, FENCE, GONE, OPEN, OWNERLESS, SILENT, Desk, full, instance


def test_an_alert_fires_when_its_evidence_has_held() -> None:
    """Not before, and once."""
    desk = Desk(BUSY)
    desk.samples(3, cpu=950)
    assert not desk.firing
    desk.samples(5, cpu=950)
    assert desk.firing == {("cpu-high", "alpha")}
    assert desk.stories() == [("firing", "cpu-high", "alpha")]
    desk.check()


def test_the_broadcast_is_the_contracts() -> None:
    """What is told is an `AlertChanged`, with words and numbers."""
    desk = Desk(BUSY)
    desk.samples(5, cpu=950)
    told = AlertChanged(**{**desk.told[0], "fence": FENCE})
    assert (told.value, told.at_least, told.since_ms, told.at_ms) == (950, 900, 1_000, 4_000)
    assert told.text == "Host alpha uses 95 % of its CPU (limit 90 %)."


def test_a_signal_that_jumps_across_its_limit_makes_one_alert() -> None:
    """It is over only when it has stayed below for as long as the rule says."""
    desk = Desk(BUSY)
    desk.samples(4, cpu=950)
    for _ in range(10):
        desk.samples(2, cpu=100)
        desk.samples(1, cpu=950)
    assert desk.stories() == [("firing", "cpu-high", "alpha")]
    desk.samples(6, cpu=100)
    assert desk.stories()[1:] == [("resolved", "cpu-high", "alpha")]
    assert desk.told[1]["why"] == "cleared"
    desk.check()


def test_a_silent_host_is_missed_within_bounds_and_welcomed_back() -> None:
    """Five seconds of silence that last two more; over when it has been heard for three."""
    desk = Desk(SILENT)
    desk.samples(3)
    desk.advance(5_500)
    assert not desk.firing
    desk.advance(3_000)
    assert desk.firing == {("host-silent", "alpha")}
    desk.samples(2)
    assert desk.firing
    desk.samples(3)
    assert not desk.firing
    desk.check()


def test_a_host_that_falls_silent_during_a_take_over_is_missed() -> None:
    """Who is expected is durable: the new owner has not heard the host and yet knows that it should."""
    desk = Desk(SILENT)
    desk.samples(3)
    desk.take_over()
    desk.advance(9_000)
    assert desk.firing == {("host-silent", "alpha")}


def test_a_take_over_neither_fires_nor_ends_anything_by_itself() -> None:
    """The new owner waits for evidence of its own; alerts stay what they were, and are not told again."""
    desk = Desk(SILENT, BUSY)
    desk.samples(5, "alpha", cpu=950)
    desk.samples(3, "beta")
    desk.take_over()
    assert desk.firing == {("cpu-high", "alpha")}
    desk.samples(2, "alpha", cpu=100)
    assert desk.firing == {("cpu-high", "alpha")}
    assert len(desk.told) == 1
    desk.samples(3, "alpha", cpu=100)
    assert not desk.firing
    desk.check()


def test_a_monitor_that_was_paused_calls_nobody_silent() -> None:
    """After a pause the clock has moved and no sample was read: that is its own silence, not the hosts'."""
    desk = Desk(SILENT)
    desk.samples(3)
    desk.now += 60_000
    desk.settle_due()
    assert not desk.firing
    desk.samples(10)
    assert not desk.told


def test_a_service_without_owner_and_a_lost_instance_are_told() -> None:
    """Seen by sweeps; a sweep that does not come says nothing."""
    desk = Desk(OWNERLESS, GONE)
    two = (instance(), instance(name="limiter-2", owner=False))
    desk.sweep(*two)
    for _ in range(4):
        desk.advance(1_000)
        desk.sweep(two[1])
    assert desk.firing == {("no-owner", "limiter"), ("instance-gone", "limiter/limiter-1")}
    desk.advance(8_000)
    desk.take_over()
    for _ in range(3):
        desk.advance(1_000)
        desk.sweep(*two)
    assert not desk.firing
    desk.check()


def test_what_services_say_of_themselves_fires_too() -> None:
    """Budgets, circuits, devices, queues."""
    rules = (
        OPEN,
        Rule(name="spent", signal="budget_permille", at_least=960),
        Rule(name="shared", signal="foreign_permille", at_least=50),
        Rule(name="lost", signal="gpu_lost", at_least=1),
        Rule(name="growing", signal="queue_growth", at_least=50),
    )
    desk = Desk(*rules)
    budget = BudgetRow(budget="b", dimension="requests", limit=100, window_ms=1, used=96, in_flight=0, headroom=4,
                       waiting=0, foreign=7)  # fmt: skip
    desk.page("limiter", budgets=[budget, budget.model_copy(update={"limit": 0})])
    desk.page("breaker", circuits=[CircuitRow(target="p/eu", state="open"), CircuitRow(target="q", state="closed")])
    desk.page("gpu-manager", devices=[DeviceRow(host="g", device="GPU-1", state="lost")])
    desk.page("scheduler", queues=[QueueRow(queue="reactive", waiting=10, running=1)])
    desk.advance(9_000)
    desk.page("scheduler", queues=[QueueRow(queue="reactive", waiting=60, running=1)])
    expected = {
        *(("circuit-open", "p/eu"), ("spent", "b/requests"), ("shared", "b/requests")),
        *(("lost", "g/GPU-1"), ("growing", "reactive")),
    }
    assert desk.firing == expected
    assert all(told["text"] for told in desk.told)
    desk.advance(70_000)
    desk.page("scheduler", queues=[QueueRow(queue="reactive", waiting=60, running=1)])
    assert desk.state.tracks["growing", "reactive"].value == 0, "growth is over a minute"


def test_a_gpu_that_falls_off_is_told_by_the_probe() -> None:
    """Called lost by the driver, or simply not listed any more."""
    desk = Desk(Rule(name="lost", signal="gpu_lost", at_least=1, hold_ms=1_000))
    one = full(1).gpus[0]
    desk.samples(2, gpus=(one,))
    assert not desk.firing
    desk.samples(3, gpus=())
    assert desk.firing == {("lost", "alpha/GPU-1")}
    desk.samples(7, gpus=(one,))
    assert not desk.firing
    desk.samples(3, gpus=(GpuSample(index=0, uuid="GPU-1", lost=True),))
    assert desk.firing


def test_a_rule_looks_only_at_its_subjects() -> None:
    """A name, or the beginning of one before a star."""
    desk = Desk(BUSY.model_copy(update={"subjects": "gpu-*", "hold_ms": 0}))
    desk.sample("alpha", cpu=999)
    desk.sample("gpu-1", cpu=999)
    assert desk.firing == {("cpu-high", "gpu-1")}


def test_an_alert_whose_subject_is_never_heard_again_is_forgotten() -> None:
    """After ten minutes without a reading, and told as over."""
    desk = Desk(BUSY)
    desk.samples(5, cpu=950)
    desk.advance(FORGET_MS - 5_000)
    assert desk.firing
    desk.advance(10_000)
    assert not desk.firing
    assert desk.told[-1]["why"] == "forgotten"
    desk.check()


def test_a_forgotten_alert_of_a_past_owner_is_over_too() -> None:
    """The ten minutes begin with the take-over at the latest."""
    desk = Desk(BUSY)
    desk.samples(5, cpu=950)
    desk.take_over()
    desk.advance(FORGET_MS + 2_000)
    assert not desk.firing


def test_other_rules_end_what_they_no_longer_say() -> None:
    """An alert of a removed rule is over; names must differ, and limits be the right way round."""
    desk = Desk(BUSY, SILENT)
    desk.samples(5, cpu=950)
    reply = desk.must(SetRules(id=desk.id(), rules=(SILENT.model_copy(update={"hold_ms": 1}), OPEN)))
    assert (reply["added"], reply["changed"], reply["removed"]) == (["circuit-open"], ["host-silent"], ["cpu-high"])
    assert not desk.firing
    assert desk.told[-1]["why"] == "rule removed"
    assert desk.rejected(SetRules(id=desk.id(), rules=(OPEN, OPEN))) == "bad_request"
    upside_down = BUSY.model_copy(update={"clear_below": 901})
    assert desk.rejected(SetRules(id=desk.id(), rules=(upside_down,))) == "bad_request"
    desk.check()


def test_what_is_gone_for_good_can_be_forgotten() -> None:
    """It is expected no more, and what fires about it is over; when it is heard again it is known again."""
    desk = Desk(SILENT, BUSY)
    desk.samples(5, cpu=950)
    desk.advance(9_000)
    assert len(desk.firing) == 2
    desk.must(Forget(id=desk.id(), kind="host", name="alpha"))
    assert not desk.firing
    assert [told["state"] for told in desk.told] == ["firing", "firing", "resolved", "resolved"]
    assert desk.rejected(Forget(id=desk.id(), kind="host", name="alpha")) == "unknown"
    desk.advance(60_000)
    assert not desk.firing
    desk.sample(seq=99)
    assert ("host", "alpha") in desk.state.known
    desk.check()


def test_instances_and_hosts_that_stay_away_are_dropped() -> None:
    """An instance after ten minutes of sweeps without it, a host after a day of silence."""
    desk = Desk(GONE)
    desk.sweep(instance(), instance(name="other", owner=False))
    desk.sample()
    assert len(desk.state.known) == 4
    for _ in range(FORGET_MS // 5_000 + 2):
        desk.advance(5_000)
        desk.sweep(instance())
    assert ("instance", "limiter/other") not in desk.state.known
    assert ("host", "alpha") in desk.state.known
    desk.advance(86_500_000)
    assert ("host", "alpha") not in desk.state.known
    desk.check()


def test_evidence_under_old_rules_does_not_count_under_new_ones() -> None:
    """An operator sets rules a moment before one would have fired: it is held for its whole time anew."""
    desk = Desk(BUSY)
    desk.samples(3, cpu=950)
    desk.must(SetRules(id=desk.id(), rules=(BUSY.model_copy(update={"severity": "info"}),)))
    desk.samples(3, cpu=950)
    assert not desk.firing
    desk.samples(1, cpu=950)
    assert desk.firing
    desk.check()


def test_everything_is_bounded() -> None:
    """Hosts that are expected, alerts that fire: beyond, they are shown or counted."""
    desk = Desk(BUSY.model_copy(update={"hold_ms": 0}))
    desk.state.known = {("host", f"old-{n}"): 0 for n in range(MAX_KNOWN)}
    desk.sample("alpha", cpu=950)
    assert ("host", "alpha") not in desk.state.known
    assert desk.firing
    for number in range(MAX_ALERTS + 10):
        desk.sample(f"h-{number}", cpu=950)
    assert len(desk.firing) == MAX_ALERTS
    assert desk.state.overflow > 0


def test_services_of_others_are_not_expected() -> None:
    """Whoever answers to $SRV.STATS under another name is none of Bursar's."""
    desk = Desk(OWNERLESS)
    desk.sweep(instance("unheard-of", "x", owner=False))
    assert not desk.state.known
    assert not desk.status().services


def test_what_has_been_overtaken_changes_nothing() -> None:
    """Something due that is no longer so: no evidence any more, told meanwhile, known or dropped meanwhile."""
    desk = Desk(BUSY)
    desk.samples(5, cpu=950)
    (alert,) = desk.state.alerts
    before = list(desk.journal)
    for body in (
        alerting.Look("cpu-high", "alpha"),
        alerting.Look("cpu-high", "nobody"),
        alerting.Look("no-such-rule", "alpha"),
        alerting.Tell(alert),
        alerting.Tell("9.9.9"),
        alerting.Expect("host", "alpha"),
        alerting.Drop("host", "nobody"),
    ):
        assert isinstance(desk.ask(body, ""), Refuse)
    desk.take_over()
    desk.state.tracks.clear()
    assert isinstance(desk.ask(alerting.Look("cpu-high", "alpha"), ""), Refuse)
    assert desk.journal == before


def test_the_monitor_wakes_up_for_what_is_due() -> None:
    """At once when something is to be looked at, else once a second or when a silence ends."""
    desk = Desk(BUSY)
    assert desk.decider.wake_at(desk.state) == desk.state.tick_at
    desk.must(Silence(id=desk.id(), for_ms=1_000))
    desk.advance(500)
    assert desk.decider.wake_at(desk.state) == desk.now + 500
    desk.state.look["cpu-high", "alpha"] = None
    wake = desk.decider.wake_at(desk.state)
    assert wake is not None
    assert wake <= desk.now


def test_hosts_and_evidence_beyond_the_bounds_are_left_out() -> None:
    """So many hosts, so many tracks."""
    desk = Desk(BUSY.model_copy(update={"hold_ms": 0}))
    desk.state.tracks = {("cpu-high", f"s-{n}"): Track(desk.now) for n in range(MAX_TRACKS)}
    desk.sample("alpha", cpu=950)
    assert not desk.firing
    desk.state.hosts = {f"h-{n}": HostView(f"h-{n}", 0) for n in range(MAX_HOSTS)}
    desk.sample("beta", cpu=950)
    assert "beta" not in desk.state.hosts
    queues: list[Message] = [QueueRow(queue=f"q-{n}", waiting=1, running=0) for n in range(MAX_QUEUES + 5)]
    desk.page("scheduler", queues=queues)
    assert len(desk.state.queues) == MAX_QUEUES


def test_a_crash_loop_is_over_when_its_group_is_well_or_has_gone() -> None:
    """A group that has no processes any more is not told any more: it crashes no longer."""
    loop = Rule(name="crash-loop", signal="crashes", at_least=3, clear_below=1, clear_ms=2_000)
    desk = Desk(loop)
    bad = GroupSample(group="agent.w", processes=1, cpu_milli=0, rss_bytes=1, crashes=3)
    desk.samples(5, groups=(bad,))
    assert desk.firing == {("crash-loop", "alpha/agent.w")}
    desk.samples(4)
    assert not desk.firing
    desk.check()
