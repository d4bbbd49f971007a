"""Back-pressure: when to come again."""

from __future__ import annotations

from bursar_scheduler.admission import LEAST_MS, MOST_MS, Drain, come_again_ms


def draining(per_s: int, seconds: int = 120) -> tuple[Drain, int]:
    drain, now = Drain(), 0
    for _ in range(per_s * seconds):
        now += 1_000 // per_s
        drain.ended(now)
    return drain, now


def test_who_is_turned_away_is_told_when_there_will_be_room() -> None:
    """Twenty too many at ten a second: two seconds, and up to a quarter more so that not all come at once."""
    drain, now = draining(10)
    waits = [come_again_ms(20, drain.per_minute(now), number) for number in range(200)]
    assert all(1_800 <= wait <= 2_200 * 5 // 4 for wait in waits)
    assert len(set(waits)) > 50


def test_a_queue_that_does_not_drain_says_a_minute() -> None:
    """And nobody is told less than a tenth of a second."""
    assert MOST_MS <= come_again_ms(5, 0, 1) <= MOST_MS * 5 // 4
    assert LEAST_MS <= come_again_ms(1, 10**9, 1) <= LEAST_MS * 5 // 4


def test_the_rate_is_measured_and_fades() -> None:
    """Ends a minute, within a tenth; after a minute of silence little is left of it."""
    for per_s in (1, 10, 100):
        drain, now = draining(per_s)
        assert 0.9 * 60 * per_s <= drain.per_minute(now) <= 1.1 * 60 * per_s
        assert drain.per_minute(now + 60_000) <= 60 * per_s // 32
        assert Drain(*drain.dump()).per_minute(now) == drain.per_minute(now)
    assert Drain().per_minute(5) == 0
