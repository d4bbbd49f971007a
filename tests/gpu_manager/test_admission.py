"""The admission rule: examples, the sums at their edges, and why the five other rules in use are wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from bursar_gpu_manager.admission import Claim, attribute, charge, foreign, room
from tests.gpu_manager.desk import GIB, Desk

Rule = Callable[[int, int, int, int], bool]


def test_a_lease_counts_with_the_larger_of_grant_and_observed() -> None:
    """Granted and not loaded yet counts; loaded beyond the grant counts as well."""
    claims = [Claim("a", 10, ()), Claim("b", 10, ()), Claim("c", 10, ())]
    assert charge(claims, {"a": 4, "b": 14}) == 10 + 14 + 10


def test_what_no_lease_uses_is_foreign_and_never_negative() -> None:
    """Used less what is observed of leases; figures of two instants may contradict each other."""
    assert foreign(10, {"a": 4, "b": 3}) == 3
    assert foreign(6, {"a": 4, "b": 3}) == 0
    assert room(100, 2, 30, 5, 10) == 53
    assert room(100, 0, 95, 0, 10) == -5


def test_a_process_with_two_leases_fills_both_before_it_overuses() -> None:
    """Together they count max(sum of grants, observed), in whole bytes."""
    one, two = (7, 70), (8, 80)
    claims = [Claim("a", 10, (one,)), Claim("b", 10, (one, two)), Claim("c", 5, ())]
    assert attribute(claims, {one: 12})[0] == {"a": 10, "b": 2}
    assert attribute(claims, {one: 25, two: 1})[0] == {"a": 15, "b": 11}
    assert attribute(claims, {(7, 71): 25}) == ({}, {(7, 71): 25})


def test_observed_of_a_named_process_is_not_counted_twice() -> None:
    """A holder that has loaded what it was granted leaves the room as it was."""
    desk = Desk("h1=1x16GiB")
    pid, process = desk.process("h1")
    desk.granted(8 * GIB, processes=(process,))
    before = desk.device("h1/SIM-h1-0").room
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 8 * GIB)
    desk.live(500)
    device = desk.device("h1/SIM-h1-0")
    assert (device.room, device.charged, device.foreign, device.used) == (before, 8 * GIB, 0, 8 * GIB)


def test_a_process_that_nobody_named_counts_beside_the_lease() -> None:
    """Twice rather than not at all, until its holder says who allocates."""
    desk = Desk("h1=1x16GiB")
    pid, process = desk.process("h1")
    lease = desk.granted(6 * GIB)["lease"]
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 6 * GIB)
    desk.live(500)
    assert desk.device("h1/SIM-h1-0").foreign == 6 * GIB
    assert desk.refused(4 * GIB)["missing"] == GIB // 2
    desk.renew(lease, processes=(process,))
    assert desk.device("h1/SIM-h1-0").foreign == 0
    desk.granted(4 * GIB)
    desk.check()


def test_a_pid_that_is_used_again_is_another_process() -> None:
    """The start decides."""
    desk = Desk("h1=1x16GiB")
    pid, process = desk.process("h1")
    desk.granted(6 * GIB, processes=(process.model_copy(update={"started": process.started + 1}),))
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", GIB)
    desk.live(500)
    assert desk.device("h1/SIM-h1-0").foreign == GIB


def test_overuse_is_seen_charged_and_counted() -> None:
    """What a holder uses beyond its lease leaves less for others; it is told when it renews."""
    desk = Desk("h1=1x16GiB")
    pid, process = desk.process("h1")
    lease = desk.granted(4 * GIB, processes=(process,))["lease"]
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 5 * GIB)
    desk.live(500)
    device = desk.device("h1/SIM-h1-0")
    assert (device.charged, device.granted, device.foreign, device.overused) == (5 * GIB, 4 * GIB, 0, 1)
    assert desk.status().leases[0].observed == 5 * GIB
    renewed = desk.renew(lease)
    assert getattr(renewed, "reply", {})["overuse"] == GIB
    assert desk.refused(11 * GIB)["missing"] == GIB // 2


def test_memory_that_the_driver_cannot_attribute_counts_as_foreign() -> None:
    """Unknown is not zero: the lease counts, and what is used counts beside it."""
    desk = Desk("h1=1x16GiB")
    pid, process = desk.process("h1")
    desk.hosts["h1"].hide_processes("SIM-h1-0")
    desk.granted(4 * GIB, processes=(process,))
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 4 * GIB)
    desk.live(500)
    device = desk.device("h1/SIM-h1-0")
    assert (device.foreign, device.charged, device.overused) == (4 * GIB, 4 * GIB, 0)
    assert desk.status().leases[0].observed is None


def test_what_was_released_and_not_freed_counts_as_foreign() -> None:
    """It is not promised to anybody before it is gone."""
    desk = Desk("h1=1x16GiB")
    pid, process = desk.process("h1")
    lease = desk.granted(8 * GIB, processes=(process,))["lease"]
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 8 * GIB)
    desk.live(500)
    desk.release(lease)
    assert desk.refused(8 * GIB)["reason"] == "no_room"
    desk.hosts["h1"].exit(pid)
    desk.live(500)
    desk.granted(8 * GIB)


def test_what_the_driver_keeps_is_not_granted() -> None:
    """Version 2 of NVML's call tells it apart from what is used."""
    desk = Desk("h1=1x16GiB")
    desk.hosts["h1"].devices["SIM-h1-0"].reserved = GIB
    desk.observe("h1")
    desk.granted(16 * GIB - GIB - GIB // 2)
    assert desk.refused(1)["missing"] == 1


RULES: dict[str, Rule] = {
    "max(grant, observed) + foreign": lambda free, grants, foreign_, charged: charged + foreign_ < 8,
    "as free as the driver says": lambda free, grants, foreign_, charged: free >= 1,
    "free less all leases": lambda free, grants, foreign_, charged: free - grants >= 1,
    "total less all grants": lambda free, grants, foreign_, charged: 8 - grants >= 1,
    "the lesser of both": lambda free, grants, foreign_, charged: min(free, 8 - grants) >= 1,
}


def _play(rule: Rule, seed: int) -> tuple[int, int]:
    """One device of 8 units; holders of 1 unit load late; a foreign process comes and goes, as far as it finds room.
    Returns (grants that made the device's promises exceed it, refusals though there was room)."""
    rng = random.Random(seed)
    leases: list[bool] = []
    others = wrong = needless = 0
    for _ in range(200):
        match rng.randrange(5):
            case 0 | 1:
                free, loaded = 8 - others - sum(leases), sum(leases)
                fits = len(leases) + others < 8
                if rule(free, len(leases), 8 - free - loaded, len(leases)):
                    wrong += not fits
                    leases.append(False)
                else:
                    needless += fits
            case 2 if leases:
                leases[rng.randrange(len(leases))] = True
            case 3 if leases:
                leases.pop(rng.randrange(len(leases)))
            case 4:
                others = min(rng.randrange(4), max(0, 8 - len(leases)))
    return wrong, needless


@pytest.mark.parametrize("name", RULES)
def test_only_one_rule_neither_grants_too_much_nor_refuses_what_fits(name: str) -> None:
    """Why the sum is what it is: each of the other rules is wrong one way or the other while holders load."""
    plays = [_play(RULES[name], seed) for seed in range(100)]
    wrong, needless = sum(play[0] for play in plays), sum(play[1] for play in plays)
    if name == "max(grant, observed) + foreign":
        assert (wrong, needless) == (0, 0)
    else:
        assert wrong + needless > 0
