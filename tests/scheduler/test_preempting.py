"""Who makes room for whom, who goes on first, and what may fill a gap."""

from __future__ import annotations

from bursar_scheduler.preempting import MIN_RUN_MS, Runner, Stopped, agrees, fills, resume_order, victim

NOW = 10_000


def runner(
    task: str, band: int = 2, ran: int = 5_000, saved: int = 100, remaining: int = 20_000, bandwidth: int = 0
) -> Runner:
    return Runner(task, band, NOW - ran, NOW - saved, remaining, bandwidth=bandwidth)


def test_only_lower_bands_make_room() -> None:
    """Equal ones wait for each other."""
    running = [runner("a", band=1), runner("b", band=1)]
    assert victim(1, running, NOW) is None
    assert victim(2, running, NOW) is None
    assert victim(0, running, NOW) is not None


def test_the_lowest_band_then_who_loses_least() -> None:
    """Work since the last checkpoint is lost."""
    running = [runner("a", band=1, saved=0), runner("b", saved=900), runner("c", saved=40), runner("d", saved=300)]
    chosen = victim(0, running, NOW)
    assert chosen is not None
    assert chosen.task == "c"


def test_who_has_just_begun_is_left_alone() -> None:
    """A minimum run time: nobody is stopped again before it has got anywhere."""
    assert victim(0, [runner("a", ran=MIN_RUN_MS - 1)], NOW) is None
    assert victim(0, [runner("a", ran=MIN_RUN_MS)], NOW) is not None


def test_nobody_is_stopped_for_less_than_is_lost() -> None:
    """When a slot is free soon, or the work since the checkpoint is much, waiting is better."""
    assert victim(0, [runner("a", remaining=105)], NOW) is None
    assert victim(1, [runner("a", saved=5_000, remaining=1_200)], NOW) is None
    assert victim(0, [runner("a", saved=5_000, remaining=1_200)], NOW) is not None
    assert victim(0, [runner("a"), runner("soon", remaining=100)], NOW) is None


def test_what_cannot_be_stopped_is_not() -> None:
    """A worker that does not keep to chunks says so."""
    assert victim(0, [runner("a")._replace(preemptible=False)], NOW) is None
    assert victim(0, [], NOW) is None


def test_who_was_stopped_goes_on_by_least_remaining_time_unless_it_starves() -> None:
    """Bands first; whoever has waited for half a minute before all others of its band."""
    stopped = [
        Stopped("long", 2, NOW - 50, 9_000, 1), Stopped("short", 2, NOW - 50, 100, 2),
        Stopped("old", 2, NOW - 30_000, 8_000, 3), Stopped("older", 2, NOW - 31_000, 9_500, 4),
        Stopped("urgent", 1, NOW, 9_999, 5),
    ]  # fmt: skip
    assert [one.task for one in resume_order(stopped, NOW)] == ["urgent", "older", "old", "short", "long"]


def test_a_gap_is_filled_by_what_ends_or_stops_in_time() -> None:
    """And by nothing else."""
    stubborn = runner("a", remaining=400)._replace(preemptible=False)
    assert fills(stubborn, NOW + 400, [], NOW)
    assert not fills(stubborn, NOW + 399, [], NOW)
    assert fills(runner("b", remaining=9_000), NOW + 600, [], NOW)
    assert not fills(runner("b", remaining=9_000), NOW + 599, [], NOW)


def test_pressure_on_the_memory_decides_what_runs_beside_what() -> None:
    """Below 0.4 anything; up to 0.7 a lower band may join if it does not hurt; from 0.7 on nothing joins."""
    reactive = runner("r", band=0, bandwidth=300)
    assert agrees(runner("p", bandwidth=99), [reactive])
    assert agrees(runner("p", bandwidth=350), [])
    assert not agrees(runner("p", bandwidth=400), [reactive])
    assert not agrees(runner("p", bandwidth=150), [reactive])
    assert agrees(runner("s", band=0, bandwidth=200), [reactive])
    assert not fills(runner("p", bandwidth=450, remaining=10), NOW + 1_000, [reactive], NOW)
