"""How many workers there should be: what asks for them, what holds, and what a take-over leaves as it is."""

from __future__ import annotations

from bursar.contracts.monitor import SetRules
from bursar.contracts.monitor_picture import QueueRow, ScaleRow, WorkerRow
from bursar.contracts.monitor_scaling import Scaler, ScaleWanted
from bursar.kernel.decider import Refuse
from bursar_monitor import scaling
from tests.monitor.fleet import FENCE, Desk

POOL = Scaler(name="workers", least=2, most=50, busy_permille=800, waiting_each=4, predict=False, up_steps=())


class Fleet:
    """A scheduler that says so many workers are so busy, and so many tasks wait."""

    def __init__(self, *scalers: Scaler) -> None:
        self.desk = Desk()
        self.desk.must(SetRules(id=self.desk.id(), rules=(), scalers=scalers or (POOL,)))

    def say(self, workers: int, busy: int = 8, waiting: int = 0, silent: int = 0, seconds: int = 5) -> None:
        for _ in range(seconds):
            rows = [
                WorkerRow(worker=f"w-{number}", kind="cpu", state="up", slots=10, running=busy,
                          heard_ms=60_000 if number < silent else 100)
                for number in range(workers)
            ]  # fmt: skip
            draining = WorkerRow(worker="w-old", kind="cpu", state="draining", slots=10, running=1, heard_ms=1)
            queues = [
                QueueRow(queue="reactive", waiting=waiting, running=0),
                QueueRow(queue="dead", waiting=9, running=0),
            ]
            self.desk.page("scheduler", workers=[*rows, draining], queues=queues)
            self.desk.advance(1_000)

    @property
    def row(self) -> ScaleRow:
        (row,) = self.desk.status(only="scaling").scaling
        return row

    @property
    def desired(self) -> int | None:
        return self.row.desired


def test_slots_that_are_busy_ask_for_workers() -> None:
    """Ten workers at 100 % of which 80 % is wanted: thirteen; and it is told, once."""
    fleet = Fleet()
    fleet.say(10, busy=10, seconds=12)
    assert (fleet.desired, fleet.row.why, fleet.row.current, fleet.row.slots) == (13, "busy", 10, 100)
    (told,) = fleet.desk.scaled
    assert ScaleWanted(**told, fence=FENCE).desired == 13
    fleet.desk.check()


def test_tasks_that_wait_ask_for_workers_and_the_larger_number_counts() -> None:
    """A hundred tasks at four for each are 25, whatever the slots say; the bounds are kept."""
    fleet = Fleet()
    fleet.say(10, busy=9, waiting=100, seconds=12)
    assert (fleet.desired, fleet.row.why) == (25, "waiting")
    fleet.say(10, waiting=1_000)
    assert (fleet.desired, fleet.row.why) == (50, "most")


def test_without_workers_the_least_number_is_started() -> None:
    """And nothing is decided before the scheduler has said anything, or when it is silent."""
    fleet = Fleet()
    fleet.desk.advance(30_000)
    assert (fleet.desired, fleet.row.why) == (None, "unknown")
    fleet.say(0)
    assert fleet.desired == 2
    fleet.desk.advance(60_000)
    assert (fleet.desired, fleet.row.why) == (2, "unknown")


def test_a_fall_waits_five_minutes_and_a_take_over_does_not_shorten_that() -> None:
    """What was wanted within the window holds; a new owner begins its window with the number that it finds."""
    fleet = Fleet()
    fleet.say(10, busy=8, seconds=10)
    fleet.say(10, busy=1, seconds=200)
    assert (fleet.desired, fleet.row.why) == (10, "steady")
    fleet.desk.take_over()
    fleet.say(10, busy=1, seconds=200)
    assert fleet.desired == 10
    fleet.say(10, busy=1, seconds=120)
    assert fleet.desired == 2
    fleet.desk.check()


def test_workers_of_which_nothing_is_heard_take_nothing_away() -> None:
    """All silent: it stays; some: the others alone are not believed."""
    fleet = Fleet(POOL.model_copy(update={"waiting_each": None, "down_window_s": 0}))
    fleet.say(10, busy=8)
    fleet.say(10, busy=1, silent=10)
    assert (fleet.desired, fleet.row.why) == (10, "unknown")
    fleet.say(10, busy=1, silent=9)
    assert fleet.desired == 10
    fleet.say(10, busy=1)
    assert fleet.desired == 2


def test_steps_bound_how_fast_it_grows() -> None:
    """100 % or four in fifteen seconds."""
    fleet = Fleet(POOL.model_copy(update={"up_steps": Scaler(name="x").up_steps}))
    fleet.say(10, busy=8)
    fleet.say(10, waiting=2_000)
    assert (fleet.desired, fleet.row.why) == (20, "steady")
    fleet.say(10, waiting=2_000, seconds=10)
    assert fleet.desired == 20
    fleet.say(10, waiting=2_000, seconds=10)
    assert fleet.desired == 40


def test_capacity_is_there_before_the_surge() -> None:
    """After some seasons the number rises before the demand does; the errors of both forecasts are shown."""
    pool = POOL.model_copy(
        update={"predict": True, "step_s": 60, "season_steps": 20, "horizon_s": 120, "waiting_each": None,
                "down_window_s": 0}
    )  # fmt: skip
    fleet = Fleet(pool)

    def busy(step: int) -> int:
        return 8 if step % 20 >= 10 else 2

    wanted: dict[int, int] = {}
    for step in range(100):
        fleet.say(10, busy=busy(step), seconds=60)
        wanted[step] = fleet.desired or 0
    assert [wanted[step] for step in range(83, 87)] == [3] * 4, "little demand, and little to come"
    assert wanted[89] == 10, "a minute before the surge"
    assert fleet.row.forecast_error_milli is not None
    assert fleet.row.naive_error_milli is not None
    assert fleet.row.forecast_error_milli < fleet.row.naive_error_milli
    fleet.desk.take_over()
    fleet.say(10, busy=2, seconds=10)
    assert fleet.row.forecast is not None, "demand is durable: the heir knows the season"
    fleet.desk.check()


def test_other_scalers_take_their_pools_and_overtaken_commands_change_nothing() -> None:
    """A pool whose scaler is gone goes with it; what is due for one that is gone does nothing."""
    fleet = Fleet()
    fleet.say(10)
    for body in (scaling.Scale("none"), scaling.Demanded("none"), scaling.Demanded("workers")):
        assert isinstance(fleet.desk.ask(body), Refuse)
    fleet.desk.must(SetRules(id=fleet.desk.id(), rules=(), scalers=()))
    assert not fleet.desk.state.pools
    for wrong in (
        POOL.model_copy(update={"least": 60}),
        POOL.model_copy(update={"busy_permille": None, "waiting_each": None}),
    ):
        assert fleet.desk.rejected(SetRules(id=fleet.desk.id(), rules=(), scalers=(wrong,))) == "bad_request"
    fleet.desk.check()
