"""Renewal, release, expiry; fences."""

from __future__ import annotations

import pytest

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Refuse
from tests.gpu_manager.desk import GIB, MAC, Desk, code


def test_a_renewed_lease_lives_on() -> None:
    """From the time of the renewal, for the same time to live unless another is asked for."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(ttl_ms=5_000)["lease"]
    desk.live(3_000)
    renewed = desk.renew(lease)
    assert isinstance(renewed, Accept)
    assert (renewed.reply["ttl_ms"], renewed.reply["expires_at_ms"]) == (5_000, desk.now + 5_000)
    desk.live(4_000)
    assert list(desk.state.leases) == [lease]
    renewed = desk.renew(lease, ttl_ms=20_000)
    assert isinstance(renewed, Accept)
    assert renewed.reply["ttl_ms"] == 20_000
    shorter = desk.renew(lease, ttl_ms=100)
    assert isinstance(shorter, Accept)
    assert shorter.reply["expires_at_ms"] == desk.now + 20_000, "a holder may still believe in the longer one"
    desk.check()


def test_a_longer_time_to_live_than_allowed_is_cut() -> None:
    """The answer says what it is."""
    desk = Desk("h1=1x16GiB")
    desk.configure(max_ttl_ms=3_000)
    reply = desk.granted(ttl_ms=60_000)
    assert reply["ttl_ms"] == 3_000
    renewed = desk.renew(reply["lease"], ttl_ms=60_000)
    assert isinstance(renewed, Accept)
    assert renewed.reply["ttl_ms"] == 3_000


def test_memory_is_granted_again_only_after_ttl_and_margin() -> None:
    """To the millisecond, as long as reports come."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(15 * GIB, ttl_ms=2_000)["lease"]
    desk.live(2_000)
    assert code(desk.renew(lease)) == "lease_ended"
    desk.advance(499)
    assert desk.refused(GIB)["retry_in_ms"] == 1
    desk.advance(1)
    assert desk.state.leases == {}
    desk.granted(GIB)
    desk.check()


def test_after_an_expiry_a_report_from_after_it_is_needed() -> None:
    """The holder may have allocated until its last moment, which an older report does not show."""
    desk = Desk("h1=1x16GiB")
    desk.configure(margin_ms=0)
    pid, _ = desk.process("h1")
    desk.granted(15 * GIB, ttl_ms=1_000)
    desk.advance(400)
    desk.observe("h1")
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 15 * GIB)
    desk.advance(600)
    assert desk.state.leases == {}
    assert desk.refused(GIB)["reason"] == "not_observed"
    desk.observe("h1")
    assert desk.refused(GIB)["reason"] == "no_room"
    desk.check()


def test_an_expired_lease_is_not_resurrected() -> None:
    """Neither before nor after its memory is free again."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(ttl_ms=1_000)["lease"]
    desk.live(1_000)
    assert code(desk.renew(lease)) == "lease_ended"
    desk.live(600)
    assert code(desk.renew(lease)) == "lease_ended"
    outcome = desk.release(lease)
    assert isinstance(outcome, Refuse)
    assert outcome.reply["outcome"] == "expired"
    desk.check()


@pytest.mark.parametrize("fence", ["1.1.1", "1.1.999", "2.1.1"])
def test_a_stale_fence_neither_renews_nor_releases(fence: str) -> None:
    """Only the fence that came with the lease proves that it is one's own."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted()["lease"]
    assert code(desk.renew(lease, fence=f"{fence}.{MAC}")) == "bad_fence"
    assert code(desk.release(lease, fence=f"{fence}.{MAC}")) == "bad_fence"
    assert list(desk.state.leases) == [lease]


def test_nobody_touches_the_lease_of_another() -> None:
    """Alive or ended."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(principal="ann")["lease"]
    assert code(desk.renew(lease, "bob")) == "not_yours"
    assert code(desk.release(lease, "bob")) == "not_yours"
    assert isinstance(desk.release(lease, "ann"), Accept)
    assert code(desk.release(lease, "bob")) == "not_yours"
    assert code(desk.renew(lease, "bob")) == "not_yours"
    assert code(desk.renew(lease, "ann")) == "lease_ended"
    again = desk.release(lease, "ann")
    assert isinstance(again, Refuse)
    assert again.reply["outcome"] == "released"


def test_what_never_was_is_unknown() -> None:
    """A lease that nobody was granted."""
    desk = Desk("h1=1x16GiB")
    assert code(desk.renew("1.1.999")) == "unknown_lease"
    assert code(desk.release("1.1.999")) == "unknown_lease"
    assert code(desk.ask(wire.Drop(id="d-1", lease="1.1.999"), "ops")) == "unknown_lease"


def test_fences_grow_with_every_lease() -> None:
    """Whoever holds memory later has the higher fence."""
    desk = Desk("h1=2x16GiB")
    leases = [desk.granted()["lease"] for _ in range(5)]
    numbers = [tuple(map(int, lease.split("."))) for lease in leases]
    assert numbers == sorted(set(numbers))


def test_the_last_lease_of_a_set_frees_all_its_devices() -> None:
    """It is one lease, whatever number of devices it has."""
    desk = Desk("h1=3x16GiB")
    lease = desk.granted(15 * GIB, devices=3)["lease"]
    assert desk.refused(GIB)["reason"] == "no_room"
    desk.release(lease)
    desk.granted(15 * GIB, devices=3)
    desk.check()


def test_old_ends_are_forgotten_in_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the latest ends are known."""
    monkeypatch.setattr("bursar_gpu_manager.state.REMEMBER_COUNT", 2)
    desk = Desk("h1=1x16GiB")
    leases = []
    for _ in range(6):
        leases.append(desk.granted()["lease"])
        desk.release(leases[-1])
    assert code(desk.renew(leases[-1])) == "lease_ended"
    assert code(desk.renew(leases[0])) == "unknown_lease"
    desk.check()
