"""Reports that were held up on their way say what was true when they were made."""

from __future__ import annotations

from bursar.contracts import gpu as wire
from bursar_gpu_manager.ageing import SPAN_MS, Lag, heard, made_at
from bursar_gpu_manager.simulated import GIB
from tests.gpu_manager.desk import Desk

APART = 7_000_000
"""The probe's clock is so far ahead of the manager's, in ms."""


class TimedDesk(Desk):
    """One card of 16 GiB whose probe says when it looks; reports can be held up."""

    def __init__(self) -> None:
        super().__init__(now=1_000)
        self.held: list[wire.Report] = []
        self.free = 16 * GIB

    def look(self, cut_off: bool = False) -> None:
        self.number_of_reports = getattr(self, "number_of_reports", 0) + 1
        card = wire.DeviceReport(uuid="GPU-0", index=0, model="Card", total=16 * GIB, used=16 * GIB - self.free)
        fields = {"boot": "b0", "seq": self.number_of_reports, "at_ms": self.now + APART}
        self.held.append(wire.Report.model_validate({**fields, "devices": (card,)}))
        if not cut_off:
            self.arrive()

    def arrive(self, count: int = 1_000) -> None:
        now, self.held = self.held[:count], self.held[count:]
        for one in now:
            self.say("h1", one)

    def go_on(self, ms: int, cut_off: bool = False) -> None:
        for _ in range(ms // 500):
            self.advance(500)
            self.look(cut_off)


def test_reports_that_were_held_up_grant_nothing() -> None:
    """A host is cut off, a stranger takes the card, the cut heals: the old reports come first."""
    desk = TimedDesk()
    desk.go_on(2_000)
    desk.granted(GIB)
    desk.go_on(3_000, cut_off=True)
    desk.free = 0
    desk.go_on(2_000, cut_off=True)
    desk.arrive(3)
    assert desk.refused(8 * GIB)["reason"] in ("not_observed", "no_device")
    desk.arrive()
    assert desk.refused(8 * GIB)["reason"] == "no_room"
    desk.free = 16 * GIB
    desk.go_on(1_000)
    desk.granted(8 * GIB)
    desk.check()


def test_whoever_stands_in_line_is_not_served_by_what_was_true_before() -> None:
    """Neither at the first report of the heap, nor at any other that is too old."""
    desk = TimedDesk()
    desk.go_on(2_000)
    desk.go_on(2_500, cut_off=True)
    desk.free = 0
    desk.go_on(2_500, cut_off=True)
    desk.lease(8 * GIB, wait_ms=60_000)
    desk.arrive()
    desk.go_on(5_000)
    assert not desk.state.leases
    desk.free = 16 * GIB
    desk.go_on(1_000)
    assert len(desk.state.leases) == 1


def test_the_end_of_a_lease_is_seen_by_a_report_that_was_made_after_it() -> None:
    """Not by one that only came after it: its holder may have used memory until then."""
    desk = TimedDesk()
    desk.configure(fresh_ms=10_000, silence_ms=60_000)
    desk.go_on(2_000)
    desk.granted(8 * GIB, ttl_ms=1_000)
    desk.look(cut_off=True)
    desk.advance(1_600)
    desk.arrive()
    assert desk.refused(12 * GIB)["reason"] == "not_observed"
    desk.look()
    desk.granted(12 * GIB)


def test_clocks_may_be_apart_drift_and_jump() -> None:
    """A probe is believed again within a span; while its clock only drifts it never is not."""
    lag = heard(None, 5, 1_000_005)
    assert made_at(lag, 5, 1_000_005) == 1_000_005
    now, at = 1_000_005, 5.0
    for _ in range(2 * 3_600):
        now, at = now + 500, at + 499.5
        lag = heard(lag, int(at), now)
        assert now - made_at(lag, int(at), now) <= 100
    at -= 60_000
    ages = []
    for _ in range(2 * SPAN_MS // 500 + 2):
        now, at = now + 500, at + 500
        lag = heard(lag, int(at), now)
        ages.append(now - made_at(lag, int(at), now))
    assert ages[0] >= 59_900
    assert ages[-1] == 0
    assert heard(Lag(10, 0, 10), 0, 5) == Lag(5, 0, 5)
