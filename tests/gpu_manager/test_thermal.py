"""Heat of cards, and how much of them is in use."""

from __future__ import annotations

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar_gpu_manager.contention import UNKNOWN, Contention, Load, Window, window_of_engine
from bursar_gpu_manager.thermal import (
    AHEAD_MS,
    COOLER_MS,
    HW_POWER_BRAKE,
    HW_SLOWDOWN,
    HW_THERMAL,
    SW_THERMAL,
    Heat,
    Sample,
    Thermometer,
    heat_of,
    slowdown_in,
)

SW_POWER_CAP = 0x4


@pytest.mark.parametrize(
    ("margin", "heat"),
    [(40, Heat.OK), (15, Heat.OK), (14, Heat.WARM), (5, Heat.WARM), (4, Heat.HOT), (-3, Heat.HOT), (None, Heat.WARM)],
)
def test_a_margin_has_its_class(margin: int | None, heat: Heat) -> None:
    """15 and more is well, below 5 is hot, unknown is the last choice and not cold."""
    assert heat_of(margin) is heat


@pytest.mark.parametrize("reasons", [SW_THERMAL, HW_THERMAL, HW_SLOWDOWN, HW_SLOWDOWN | HW_POWER_BRAKE | HW_THERMAL])
def test_a_card_that_slows_down_for_heat_is_hot(reasons: int) -> None:
    """Whatever its margin says."""
    assert heat_of(40, reasons) is heat_of(None, reasons) is Heat.HOT


@pytest.mark.parametrize("reasons", [SW_POWER_CAP, HW_POWER_BRAKE, HW_SLOWDOWN | HW_POWER_BRAKE])
def test_a_limit_of_power_is_not_heat(reasons: int) -> None:
    """The card is slower, and cool."""
    assert heat_of(40, reasons) is Heat.OK


def test_cooler_counts_after_thirty_seconds_by_five_degrees() -> None:
    """Warmer is believed at once; a dip in between starts the time again."""
    card = Thermometer()
    assert card.read(20, 0, 0) is Heat.OK
    assert card.read(14, 0, 60_000) is Heat.WARM
    assert card.read(19, 0, 120_000) is Heat.WARM
    assert card.read(20, 0, 180_000) is Heat.WARM
    assert card.read(18, 0, 190_000) is Heat.WARM
    assert card.read(20, 0, 200_000) is Heat.WARM
    assert card.read(20, 0, 199_999 + COOLER_MS) is Heat.WARM
    assert card.read(20, 0, 200_000 + COOLER_MS) is Heat.OK
    assert card.read(40, HW_THERMAL, 300_000) is Heat.HOT
    assert card.read(40, 0, 300_001) is Heat.HOT
    assert card.read(40, 0, 300_001 + COOLER_MS) is Heat.OK


def test_a_card_is_drained_before_it_slows_down() -> None:
    """A margin of 20 that falls by a degree a second is used up in twenty seconds."""
    card = Thermometer()
    for second in range(9):
        assert card.read(30 - second, 0, 1_000 * second) is Heat.OK
    assert card.read(20, 0, 10_000) is Heat.HOT


@pytest.mark.parametrize(
    ("samples", "now", "wait"),
    [
        ([], 0, None),
        ([Sample(0, 30)], 0, None),
        ([Sample(0, 30), Sample(5_000, 10)], 5_000, None),
        ([Sample(0, 30), Sample(10_000, 30)], 10_000, None),
        ([Sample(0, 20), Sample(10_000, 30)], 10_000, None),
        ([Sample(0, 30), Sample(10_000, 20)], 10_000, 20_000),
        ([Sample(0, 30), Sample(10_000, 20)], 15_000, 15_000),
        ([Sample(0, 30), Sample(10_000, 20)], 99_000, 0),
        ([Sample(0, 30), Sample(10_000, 29)], 10_000, None),
        ([Sample(0, 10), Sample(10_000, -2)], 10_000, 0),
    ],
)
def test_what_is_foretold(samples: list[Sample], now: int, wait: int | None) -> None:
    """Only from ten seconds and more of falling margin, and only for the next minute."""
    assert AHEAD_MS == 60_000
    assert slowdown_in(samples, now) == wait


def test_a_card_that_got_work_is_not_taken_for_one_that_overheats() -> None:
    """From 60 degrees of margin it settles at 20 or 10, the rate falling by half every twenty seconds: never hot."""
    for settled in (20, 10):
        card = Thermometer()
        for second in range(200):
            margin = settled + round((60 - settled) * 0.5 ** (second / 20))
            assert card.read(margin, 0, 1_000 * second) < Heat.HOT, (settled, second)


def test_unknown_margins_stay_the_last_choice() -> None:
    """Until they are known; an old reading changes nothing; a hot card that tells nothing cools down to warm."""
    card = Thermometer()
    assert card.read(None, 0, 0) is Heat.WARM
    assert card.read(30, 0, 1_000) is Heat.OK
    assert card.read(3, 0, 500) is Heat.OK
    assert card.read(None, HW_THERMAL, 2_000) is Heat.HOT
    assert card.read(None, 0, 3_000) is Heat.HOT
    assert card.read(None, 0, 3_000 + COOLER_MS) is Heat.WARM
    again = Thermometer.load(msgpack.unpackb(msgpack.packb(card.dump())))
    assert again.dump() == card.dump()


def test_a_card_is_saturated_in_three_windows_of_five() -> None:
    """Above 85 % bandwidth; two are not enough, and old windows go."""
    card = Contention()
    assert (card.score, card.load) == (UNKNOWN, Load.CALM)
    for bandwidth in (90, 20, 90, 20):
        card.see(Window(bandwidth, 20))
    before = card.load
    card.see(Window(86, 20))
    assert (before, card.load) == (Load.CALM, Load.SATURATED)
    for _ in range(3):
        card.see(Window(85, 90))
    assert card.load == Load.BUSY
    assert Contention.load_from(msgpack.unpackb(msgpack.packb(card.dump()))).dump() == card.dump()


def test_bandwidth_counts_more_than_processors_and_unknown_is_not_idle() -> None:
    """7 to 3; what is not measured is half in use, or as much as the other says."""
    assert Window(80, 20).score == 62
    assert Window(80, None).score == 80
    assert Window(None, None).score == UNKNOWN
    assert Window(None, 90).score == 90
    assert Window(None, 5).score == UNKNOWN


@pytest.mark.parametrize(
    ("efficiency", "slowdown", "bandwidth"),
    [(100, 48, 0), (47, 100, 58), (10, 100, 100), (50, 400, 100), (5, 900, 100)],
)
def test_an_engines_curve_stands_in_for_the_measurement(efficiency: int, slowdown: int, bandwidth: int) -> None:
    """At a tenth of the efficiency, or four times the latency of batch 32, the card is full."""
    assert window_of_engine(efficiency, slowdown) == Window(bandwidth, None)
