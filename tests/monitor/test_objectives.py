"""Objectives: which readings are good, when their error budgets burn, and what a take-over leaves of them."""

from __future__ import annotations

from bursar.contracts.monitor import SetRules, Took
from bursar.contracts.monitor_picture import BudgetRow, QueueRow, SloRow
from bursar.contracts.monitor_policy import Rule, Slo
from bursar_monitor.objectives import RECENT_MS
from bursar_monitor.observing import Polled, Swept
from bursar_monitor.state import MAX_SERIES
from tests.monitor.fleet import GB, Desk, full, instance

CPU = Slo(name="cpu", signal="cpu_permille", low=700, high=850, objective_ppm=950_000, at_least_readings=10)
UP = Slo(name="up", signal="owner_missing", high=0, objective_ppm=999_000, each=True, at_least_readings=10)
QUOTA = Slo(name="quota", signal="budget_permille", low=850, high=950, objective_ppm=950_000)
FAST = Rule(name="fast", signal="burn_1h", at_least=14_400, clear_ms=10_000, severity="critical")


def desk(*slos: Slo) -> Desk:
    made = Desk(FAST)
    made.must(SetRules(id=made.id(), rules=(FAST,), slos=slos))
    return made


def row(made: Desk, name: str, subject: str = "") -> SloRow:
    return next(row for row in made.status(only="slos").slos if (row.slo, row.subject) == (name, subject))


def queue(made: Desk, waiting: int) -> None:
    made.page("scheduler", queues=[QueueRow(queue="reactive", waiting=waiting, running=0)])


def test_a_reading_is_good_within_its_band_and_idle_only_while_nobody_waits() -> None:
    """Above is bad; below is bad while tasks wait; what was told of waiting ten seconds ago says nothing."""
    made = desk(CPU)
    for cpu in (900, 800, 300):
        made.sample(cpu=cpu)
    queue(made, 3)
    made.sample(cpu=300)
    queue(made, 0)
    made.sample(cpu=300)
    queue(made, 3)
    made.advance(10_000)
    made.sample(cpu=300)
    made.advance(60_000)
    assert (row(made, "cpu").good, row(made, "cpu").bad) == (4, 2)
    made.check()


def test_a_budget_is_wanted_by_its_own_line() -> None:
    """Idle is bad for the budget that somebody stands in line for, and for no other."""
    made = desk(QUOTA)
    budget = BudgetRow(
        budget="b", dimension="requests", limit=100, window_ms=1, used=10, in_flight=0, headroom=90, waiting=1
    )
    for waiting in (1, 0):
        one = budget.model_copy(update={"waiting": waiting})
        other = budget.model_copy(update={"budget": "c", "waiting": 1 - waiting, "used": 90})
        made.page("limiter", budgets=[one, other])
    made.advance(60_000)
    assert (row(made, "quota").good, row(made, "quota").bad) == (3, 1)


def test_memory_is_measured_against_what_is_handed_out() -> None:
    """75 of 100 GB are 94 % of the 80 that are allocatable."""
    slo = Slo(name="memory", signal="allocatable_permille", low=800, high=930, objective_ppm=950_000)
    made = desk(slo)
    made.observe(full(1), "alpha")
    made.advance(60_000)
    assert (row(made, "memory").bad, 75 * GB * 1000 // (80 * GB)) == (1, 937)


def test_an_outage_burns_the_budget_of_its_subject_and_is_told() -> None:
    """No owner of the limiter: its budget alone burns, and the alert ends with the short window."""
    made = desk(UP)

    def sweeps(minutes: int, owner: bool) -> None:
        for _ in range(minutes * 12):
            made.sweep(instance(owner=owner), instance("breaker", "b-1"))
            made.advance(5_000)

    sweeps(10, owner=True)
    assert not made.firing
    sweeps(3, owner=False)
    assert made.firing == {("fast", "up/limiter")}
    assert (row(made, "up", "limiter").left_permille or 0) < 0
    assert row(made, "up", "breaker").left_permille == 1_000
    assert made.told[0]["text"].startswith("Objective up/limiter uses up its error budget ")
    sweeps(8, owner=True)
    assert not made.firing
    made.check()


def test_a_take_over_costs_no_budget() -> None:
    """What was counted is durable; the readings of the last minute at most are lost."""
    made = desk(CPU)
    made.samples(130, cpu=900)
    made.take_over()
    assert 65 < row(made, "cpu").bad <= 130
    made.samples(70, cpu=900)
    assert made.firing == {("fast", "cpu")}


def test_agents_tell_how_long_things_took() -> None:
    """Each duration is a reading."""
    made = desk(Slo(name="spawn", signal="spawn_ms", high=5_000, objective_ppm=950_000))
    made.observe(Took(what="spawn", ms=(900, 5_000, 5_001)), "pool")
    made.observe(Took(what="completion", ms=(900,)), "pool")
    made.advance(60_000)
    assert (row(made, "spawn").good, row(made, "spawn").bad) == (2, 1)


def test_a_duration_has_its_95th_percentile() -> None:
    """Of the last half hour to hour, within a hundredth; nothing that is no time has one, and none is left of old."""
    made = desk(Slo(name="spawn", signal="spawn_ms", high=5_000, objective_ppm=950_000), CPU)
    made.observe(Took(what="spawn", ms=tuple(range(100, 6_500, 100))), "pool")
    made.samples(1, cpu=800)
    made.advance(60_000)
    p95 = row(made, "spawn").p95_ms
    assert p95 is not None
    assert abs(p95 - 6_100) <= 61
    assert row(made, "cpu").p95_ms is None
    made.advance(RECENT_MS)
    assert row(made, "spawn").p95_ms == p95
    made.observe(Took(what="spawn", ms=(1_000,) * 64), "pool")
    assert (row(made, "spawn").p95_ms or 0) > 5_000, "both half hours together"
    made.advance(RECENT_MS)
    assert abs((row(made, "spawn").p95_ms or 0) - 1_000) <= 10
    made.advance(2 * RECENT_MS)
    assert row(made, "spawn").p95_ms is None


def test_answers_and_round_trips_are_readings_too() -> None:
    """How long services and the NATS server took; an answer that does not come took as long as it was waited for."""
    rules = (
        Rule(name="slow", signal="coordination_ms", at_least=100),
        Rule(name="nats", signal="nats_rtt_ms", at_least=250),
    )
    made = Desk(*rules)
    made.observe(Polled("limiter", None, 1_000))
    made.observe(Polled("breaker", {}, 3))
    made.observe(Swept([], rtt_ms=300))
    assert made.firing == {("slow", "limiter"), ("nats", "nats")}


def test_other_objectives_take_their_own_budgets_and_the_number_is_bounded() -> None:
    """A budget whose objective is gone, or is counted otherwise now, goes with it; subjects beyond the bound too."""
    made = desk(CPU, UP)
    made.samples(70, cpu=900)
    made.must(SetRules(id=made.id(), rules=(), slos=(CPU.model_copy(update={"each": True}),)))
    assert not made.state.series
    for number in range(MAX_SERIES + 20):
        made.sample(f"h-{number}", cpu=900)
    made.advance(61_000)
    assert len(made.state.series) == MAX_SERIES
    assert made.rejected(SetRules(id=made.id(), rules=(FAST,), slos=(CPU, CPU))) == "bad_request"
    made.check()
