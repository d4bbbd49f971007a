"""Leases: granted, refused with reasons, in line, in sets."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Park, Refuse
from bursar_gpu_manager import fitting, leasing
from bursar_gpu_manager.state import State
from tests.gpu_manager.desk import GIB, Desk

RESERVE = wire.DEFAULT_RESERVE


def test_a_lease_names_its_device_and_carries_the_fence_of_its_grant() -> None:
    """The lease's name is the fence that its decision carries."""
    desk = Desk("h1=1x16GiB")
    reply = desk.granted(4 * GIB)
    assert reply["lease"] == f"1.1.{desk.number}"
    assert reply["devices"] == [
        {"device": "h1/SIM-h1-0", "host": "h1", "uuid": "SIM-h1-0", "index": 0, "memory": 4 * GIB}
    ]
    assert (reply["ttl_ms"], reply["expires_at_ms"]) == (10_000, desk.now + 10_000)
    desk.check()


def test_the_last_byte_is_granted_and_not_one_more() -> None:
    """Total less the reserve, exactly."""
    desk = Desk("h1=1x16GiB")
    desk.granted(10 * GIB)
    last = 6 * GIB - RESERVE
    refused = desk.refused(last + 1)
    assert (refused["reason"], refused["closest"], refused["missing"]) == ("no_room", "h1/SIM-h1-0", 1)
    desk.granted(last)
    assert desk.refused(1)["missing"] == 1
    desk.check()


def test_a_refusal_tells_when_the_leases_in_the_way_end() -> None:
    """The first that end and together make up for what is missing, with the margin."""
    desk = Desk("h1=1x16GiB")
    desk.granted(6 * GIB, ttl_ms=4_000)
    desk.granted(8 * GIB, ttl_ms=9_000)
    assert desk.refused(4 * GIB)["retry_in_ms"] == 4_500
    assert desk.refused(12 * GIB)["retry_in_ms"] == 9_500
    desk.live(4_500)
    desk.granted(4 * GIB)
    desk.check()


def test_what_can_never_fit_is_said_so() -> None:
    """Larger than the largest device, or a set that no host has."""
    desk = Desk("h1=2x16GiB", "h2=1x24GiB")
    refused = desk.refused(24 * GIB)
    assert (refused["reason"], refused["closest"], refused["missing"]) == ("never_fits", "h2/SIM-h2-0", RESERVE)
    assert desk.refused(24 * GIB, wait_ms=5_000)["reason"] == "never_fits"
    assert desk.refused(GIB, devices=3)["reason"] == "never_fits"
    assert desk.refused(20 * GIB, devices=2, one_host=False)["reason"] == "never_fits"
    assert desk.refused(GIB, devices=4, one_host=False)["reason"] == "never_fits"
    desk.granted(GIB, devices=3, one_host=False)


def test_best_fit_leaves_the_large_hole() -> None:
    """The device that is left with the least; ties by host and number."""
    desk = Desk("h2=2x16GiB", "h1=1x24GiB+1x16GiB")
    assert desk.granted(2 * GIB)["devices"][0]["device"] == "h1/SIM-h1-1"
    assert desk.granted(14 * GIB)["devices"][0]["device"] == "h2/SIM-h2-0"
    assert desk.granted(GIB)["devices"][0]["device"] == "h2/SIM-h2-0"
    assert desk.granted(20 * GIB)["devices"][0]["device"] == "h1/SIM-h1-0"


def test_a_set_is_granted_whole_or_not_at_all() -> None:
    """On one host, on different devices."""
    desk = Desk("h1=2x16GiB", "h2=2x16GiB")
    desk.granted(12 * GIB, hosts=("h1",))
    reply = desk.granted(8 * GIB, devices=2)
    assert [held["device"] for held in reply["devices"]] == ["h2/SIM-h2-0", "h2/SIM-h2-1"]
    before = desk.dump()
    refused = desk.refused(8 * GIB, devices=2)
    assert (refused["reason"], refused["closest"]) == ("no_room", "h2/SIM-h2-0")
    assert refused["missing"] == 8 * GIB - (8 * GIB - RESERVE)
    assert desk.dump() == before
    desk.granted(7 * GIB, devices=3, one_host=False)
    desk.check()


@pytest.mark.parametrize(
    ("ask", "device"),
    [
        ({"model": "24gib"}, "h2/SIM-h2-0"),
        ({"labels": {"zone": "2"}}, "h2/SIM-h2-0"),
        ({"hosts": ("h2", "h3")}, "h2/SIM-h2-0"),
        ({"exclude": ("h2", "SIM-h1-0")}, "h1/SIM-h1-1"),
        ({"exclude": ("h1/SIM-h1-0", "h2")}, "h1/SIM-h1-1"),
    ],
)
def test_a_request_says_which_devices_it_takes(ask: dict[str, Any], device: str) -> None:
    """By the card's name, the host's labels, the host, or what to leave out."""
    desk = Desk("h1=2x16GiB", "h2=1x24GiB")
    assert desk.granted(GIB, **ask)["devices"][0]["device"] == device


def test_no_such_device_is_a_reason_of_its_own() -> None:
    """Nothing is there that matches."""
    desk = Desk("h1=1x16GiB")
    assert desk.refused(model="H100")["reason"] == "no_device"
    assert desk.refused(labels={"zone": "9"})["reason"] == "no_device"
    assert desk.refused(hosts=("h10",))["reason"] == "no_device"


def test_a_waiting_request_gets_what_is_given_back() -> None:
    """It is parked, and answered when it fits."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(12 * GIB)["lease"]
    assert isinstance(desk.lease(8 * GIB, "bob", wait_ms=5_000), Park)
    desk.advance(100)
    assert not desk.answers
    assert isinstance(desk.release(lease), Accept)
    desk.settle_due()
    [answer] = desk.answers.values()
    assert isinstance(answer, Accept)
    desk.check()


def test_waiting_ends_at_its_deadline_with_the_reason() -> None:
    """And a retry of a request in line does not stand there twice."""
    desk = Desk("h1=1x16GiB")
    desk.granted(12 * GIB)
    body = wire.Lease(id="w-1", memory=8 * GIB, wait_ms=2_000)
    assert isinstance(desk.ask(body), Park)
    assert isinstance(desk.ask(body), Park)
    assert len(desk.state.line) == 1
    desk.live(1_999)
    assert not desk.answers
    desk.live(1)
    answer = desk.answers["agent", "w-1"]
    assert isinstance(answer, Refuse)
    assert (answer.reply["reason"], answer.reply["missing"]) == ("wait_too_long", 4 * GIB + RESERVE)
    desk.check()


def test_nobody_overtakes_who_waits_for_the_same_devices() -> None:
    """A large request is not starved by small ones; requests for other devices pass."""
    desk = Desk("h1=1x16GiB", "h2=1x8GiB")
    lease = desk.granted(12 * GIB, ttl_ms=60_000)["lease"]
    assert isinstance(desk.lease(14 * GIB, "large", wait_ms=60_000, hosts=("h1",)), Park)
    refused = desk.refused(GIB, "small", hosts=("h1",))
    assert (refused["reason"], refused["waiting"], refused["missing"]) == ("no_room", 1, 0)
    assert "stand in line" in refused["text"]
    assert desk.granted(GIB, "small")["devices"][0]["host"] == "h2"
    assert isinstance(desk.lease(GIB, "next", wait_ms=60_000, hosts=("h1",)), Park)
    desk.release(lease)
    desk.settle_due()
    assert [who for (who, _), answer in desk.answers.items() if isinstance(answer, Accept)] == ["large", "next"]


def test_a_full_line_takes_nobody() -> None:
    """`max_waiting` bounds it."""
    desk = Desk("h1=1x16GiB")
    desk.configure(max_waiting=1)
    desk.granted(15 * GIB)
    assert isinstance(desk.lease(GIB, wait_ms=9_000), Park)
    assert desk.refused(GIB, wait_ms=9_000)["reason"] == "queue_full"


def test_waiting_for_a_device_that_is_announced_later() -> None:
    """The first agents may come before the first probe."""
    desk = Desk()
    assert isinstance(desk.lease(GIB, wait_ms=9_000), Park)
    other = Desk("h1=1x16GiB")
    desk.hosts = other.hosts
    desk.observe("h1")
    assert [type(answer) for answer in desk.answers.values()] == [Accept]
    desk.check()


def test_the_line_is_forgotten_by_a_take_over_and_the_leases_are_not() -> None:
    """Nobody in line was promised anything."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(12 * GIB)["lease"]
    assert isinstance(desk.lease(8 * GIB, wait_ms=5_000), Park)
    desk.take_over()
    assert len(desk.state.line) == 0
    assert list(desk.state.leases) == [lease]
    assert desk.refused(GIB)["reason"] == "not_observed"
    desk.observe("h1")
    desk.granted(GIB)
    desk.check()


def test_a_device_has_a_bounded_number_of_leases() -> None:
    """So that the end of a device fits into one decision."""
    desk = Desk("h1=1x16GiB")
    for _ in range(1_024):
        desk.granted(1)
    assert desk.refused(1)["reason"] == "no_room"
    desk.check()


def test_the_line_is_looked_at_only_when_something_may_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that brings nothing looks at nobody; one that brings room looks at the first of each kind."""
    desk = Desk("h1=16GiB", "h2=16GiB")
    stranger, _ = desk.process("h1")
    desk.hosts["h1"].allocate(stranger, "SIM-h1-0", 8 * GIB)
    desk.observe("h1")
    desk.granted(15 * GIB, hosts=("h2",), ttl_ms=60_000)
    for host in ("h1", "h2", "h1", "h2"):
        assert isinstance(desk.lease(10 * GIB, hosts=(host,), wait_ms=60_000), Park)
    looked: list[tuple[str, ...]] = []

    def place(state: State, body: wire.Wanted, now: int, blocked: set[str]) -> tuple[str, ...] | None:
        looked.append(body.hosts)
        return fitting.place(state, body, now, blocked)

    desk.observe("h1")
    monkeypatch.setattr(leasing, "place", place)
    desk.observe("h1")
    desk.observe("h2")
    assert looked == []
    desk.hosts["h1"].free(stranger, "SIM-h1-0", GIB)
    desk.observe("h1")
    assert looked == [("h1",), ("h2",)]
    desk.hosts["h1"].free(stranger, "SIM-h1-0", 7 * GIB)
    desk.observe("h1")
    assert len(desk.state.leases) == 2
    desk.check()
