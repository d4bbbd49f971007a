"""What a lease is for; the emergency reserve; what is known of a lease after a restart."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Refuse
from tests.gpu_manager.desk import GIB, Desk, code

HALF = GIB // 2


def phases(desk: Desk) -> list[str]:
    return [lease.phase for lease in desk.status().leases]


@pytest.mark.parametrize("purpose", ["weights", "kv_cache", "workspace", "loading"])
def test_a_lease_says_what_it_is_for(purpose: wire.Purpose) -> None:
    """Durably; anything else is an error."""
    desk = Desk("h1=16GiB")
    desk.granted(purpose=purpose, note="m")
    desk.take_over()
    assert [(lease.purpose, lease.note) for lease in desk.status().leases] == [(purpose, "m")]
    with pytest.raises(ValidationError):
        wire.Lease(id="a-1", memory=1, purpose="fun")  # type: ignore[arg-type]


def test_only_one_lease_of_a_device_is_loading_at_a_time() -> None:
    """Two engines that start together would each take the other's memory for the model's; other leases go on."""
    desk = Desk("h1=16GiB")
    first = desk.granted(4 * GIB, purpose="loading", ttl_ms=5_000)["lease"]
    refused = desk.refused(4 * GIB, purpose="loading")
    assert (refused["reason"], refused["missing"], refused["retry_in_ms"]) == ("loading", 0, 5_500)
    desk.granted(GIB, purpose="kv_cache")
    assert desk.device("h1/SIM-h1-0").loading == first
    assert isinstance(desk.renew(first, purpose="weights"), Accept)
    second = desk.granted(4 * GIB, purpose="loading")["lease"]
    conflict = desk.renew(first, purpose="loading")
    assert code(conflict) == "conflict"
    desk.release(second)
    assert isinstance(desk.renew(first, purpose="loading"), Accept)
    desk.check()


def test_who_waits_to_load_is_next_when_the_other_has_loaded() -> None:
    """In turn, and on another device at once."""
    desk = Desk("h1=16GiB")
    first = desk.granted(4 * GIB, purpose="loading", ttl_ms=60_000)["lease"]
    body = wire.Lease(id="w-1", memory=4 * GIB, purpose="loading", wait_ms=5_000)
    desk.ask(body, "bob")
    desk.live(500)
    assert desk.answers == {}
    desk.renew(first, purpose="weights")
    desk.live(500)
    assert isinstance(desk.answers["bob", "w-1"], Accept)
    desk = Desk("h1=2x16GiB")
    desk.granted(4 * GIB, purpose="loading")
    desk.granted(4 * GIB, purpose="loading")


def test_the_emergency_reserve_is_for_emergencies_only() -> None:
    """Ordinary leases stop before it; an emergency takes nothing else, and what it took is not kept free twice."""
    desk = Desk("h1=16GiB")
    rest = desk.granted(16 * GIB - HALF)["lease"]
    assert desk.refused(1)["reason"] == "no_room"

    def emergency(memory: int, wait_ms: int = 0) -> Accept | Refuse:
        outcome = desk.ask(wire.Emergency(id=desk.new_id(), memory=memory, wait_ms=wait_ms), "ops")
        assert isinstance(outcome, Accept | Refuse)
        return outcome

    first = emergency(HALF // 2)
    assert isinstance(first, Accept)
    assert emergency(HALF // 2 + 1).reply["reason"] == "no_room"
    assert emergency(HALF + 1).reply["reason"] == "never_fits"
    assert isinstance(emergency(HALF // 2), Accept)
    assert emergency(1, wait_ms=9_000).reply["ok"] is False
    assert desk.device("h1/SIM-h1-0").emergency == HALF
    desk.release(rest)
    assert desk.device("h1/SIM-h1-0").room == 16 * GIB - HALF
    desk.release(first.reply["lease"], "ops")
    assert desk.device("h1/SIM-h1-0").room == 16 * GIB - HALF
    assert isinstance(emergency(HALF // 2), Accept)
    desk.check()


def test_foreign_memory_in_the_reserve_leaves_less_for_emergencies() -> None:
    """What is not there is granted to nobody."""
    desk = Desk("h1=16GiB")
    desk.granted(16 * GIB - HALF)
    pid, _ = desk.hosts["h1"].start(foreign=True)
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", HALF - 1_000)
    desk.observe("h1")
    outcome = desk.ask(wire.Emergency(id="e-1", memory=1_001), "ops")
    assert isinstance(outcome, Refuse)
    assert isinstance(desk.ask(wire.Emergency(id="e-2", memory=1_000), "ops"), Accept)


def test_after_a_restart_every_lease_is_unknown_and_charged_until_its_process_is_seen() -> None:
    """By pid and start; a process with the same pid is another one; nothing is granted from what is not known."""
    desk = Desk("h1=16GiB", "h2=16GiB")
    desk.configure(silence_ms=60_000)
    pid, process = desk.process("h1")
    mine = desk.granted(6 * GIB, hosts=("h1",), ttl_ms=60_000, processes=(process,))["lease"]
    desk.granted(5 * GIB, hosts=("h1",), ttl_ms=60_000)
    desk.granted(4 * GIB, hosts=("h2",), ttl_ms=60_000, processes=(process,))
    assert phases(desk) == ["granted"] * 3
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 6 * GIB)
    desk.observe("h1")
    assert phases(desk) == ["active", "granted", "granted"]
    desk.take_over()
    assert phases(desk) == ["unknown"] * 3
    assert desk.status().leases_unknown == 3
    assert [device.charged for device in desk.status().devices] == [11 * GIB, 4 * GIB]
    assert desk.refused(GIB)["reason"] == "not_observed"
    desk.observe("h1")
    assert phases(desk) == ["active", "granted", "unknown"]
    assert desk.refused(5 * GIB, hosts=("h1",))["missing"] == HALF
    desk.hosts["h1"].started[pid] += 1
    desk.take_over()
    desk.observe("h1")
    assert phases(desk) == ["granted", "granted", "unknown"]
    assert desk.device("h1/SIM-h1-0").foreign == 6 * GIB
    desk.live(3_000, silent=("h1", "h2"))
    assert phases(desk) == ["unknown"] * 3
    assert isinstance(desk.renew(mine), Accept)
    desk.check()


def test_dropping_a_lease_may_order_the_end_of_its_processes() -> None:
    """Each of its hosts is told, and told again when asked again; the lease counts until it must have stopped."""
    desk = Desk("h1=16GiB", "h2=16GiB")
    _, process = desk.process("h1")
    lease = desk.granted(GIB, devices=2, one_host=False, processes=(process,))["lease"]
    for _ in range(2):
        assert isinstance(desk.ask(wire.Drop(id=desk.new_id(), lease=lease, kill=True), "ops"), Accept)
    orders = [told for told in desk.told if getattr(told, "body", {}).get("what") == "end_processes"]
    assert [getattr(told, "principal", "") for told in orders] == ["h1", "h2"] * 2
    wire.Kill.model_validate({**orders[0].body, "fence": "1.1.1.0123456789abcdef"})
    assert desk.status().counters.dropped == 1
    assert phases(desk) == ["ending"]
    assert isinstance(desk.ask(wire.Drop(id=desk.new_id(), lease=lease), "ops"), Refuse)
    desk.check()


def test_a_probe_is_told_the_leases_of_its_own_cards_and_of_no_other() -> None:
    """By whom they are, who allocates, whether they end; a set is told to each of its hosts, for its part."""
    desk = Desk("h1=16GiB", "h2=16GiB")
    pid, process = desk.process("h1")
    both = desk.granted(4 * GIB, "ann", devices=2, one_host=False, processes=(process,), purpose="weights")["lease"]
    other = desk.granted(GIB, "bob", hosts=("h2",))["lease"]
    desk.ask(wire.Drop(id="d-1", lease=other), "ops")

    def told(host: str) -> list[wire.Holding]:
        outcome = desk.ask(wire.Holdings(), host)
        assert isinstance(outcome, Refuse)
        return wire.HoldingsReply.model_validate({**outcome.reply, "fence": "1.1.9.0123456789abcdef"}).leases

    [mine] = told("h1")
    assert (mine.lease, mine.principal, mine.purpose, mine.devices) == (both, "ann", "weights", ["SIM-h1-0"])
    assert (mine.memory, [one.pid for one in mine.processes], mine.ending) == (4 * GIB, [pid], False)
    assert [(one.lease, one.devices, one.ending) for one in told("h2")] == [
        (both, ["SIM-h2-0"], False),
        (other, ["SIM-h2-0"], True),
    ]
    assert told("h3") == []
