"""The probe looks at the processes as often as it can pay for."""

from __future__ import annotations

from bursar_monitor.frugal import LONGEST, MOST_PPM, SPAN_MS, Frugal


def spend(frugal: Frugal, began: int, share_ppm: int) -> int:
    """Half a minute, a look a second, at that cost; how often it was the processes' turn."""
    spent = began * 100
    return sum(
        frugal.is_turn(began + second * 1_000, spent + second * share_ppm // 1_000)
        for second in range(1, SPAN_MS // 1_000 + 1)
    )


def test_it_looks_less_often_when_it_costs_too_much_and_more_often_again() -> None:
    """Half as often each time, never less than every eighth look; and back in the same steps."""
    frugal = Frugal(0, 0)
    found: list[int] = []
    spent = 0
    for share in (*[MOST_PPM * 2] * 5, MOST_PPM * 3 // 4, *[MOST_PPM // 4] * 4):
        for second in range(SPAN_MS // 1_000):
            now = len(found) * SPAN_MS + (second + 1) * 1_000
            frugal.is_turn(now, spent + share * (second + 1) // 1_000)
        spent += share * SPAN_MS // 1_000_000
        found.append(frugal.every)
    assert found == [2, 4, LONGEST, LONGEST, LONGEST, LONGEST, 4, 2, 1, 1]


def test_every_look_is_its_turn_at_first() -> None:
    """A short life of the probe is not long enough to judge."""
    assert spend(Frugal(0, 0), 0, 0) == SPAN_MS // 1_000
