"""What operators do."""

from __future__ import annotations

from bursar.contracts import gpu as wire
from bursar.contracts.gpu import Settings
from bursar.kernel.decider import Accept, Outcome, Park, Refuse
from bursar_gpu_manager.operating import Adopt
from bursar_gpu_manager.service import SPEC, start
from bursar_gpu_manager.settings import GpuSettings
from tests.gpu_manager.desk import GIB, Desk, code


def cordon(desk: Desk, target: str, on: bool = True) -> Outcome:
    kind = wire.Cordon if on else wire.Uncordon
    return desk.ask(kind(id=desk.new_id(), target=target), "ops")


def test_a_cordoned_device_keeps_its_leases_and_gets_no_new_ones() -> None:
    """By device or by host; also one that is not known yet; durable."""
    desk = Desk("h1=2x16GiB")
    lease = desk.granted(12 * GIB)["lease"]
    assert isinstance(cordon(desk, "h1/SIM-h1-0"), Accept)
    assert isinstance(cordon(desk, "h1/SIM-h1-0"), Refuse)
    assert desk.granted(GIB)["devices"][0]["device"] == "h1/SIM-h1-1"
    assert isinstance(cordon(desk, "h1"), Accept)
    assert isinstance(cordon(desk, "h9"), Accept)
    assert desk.refused(GIB)["reason"] == "no_device"
    assert isinstance(desk.renew(lease), Accept)
    desk.take_over()
    desk.observe("h1")
    assert [device.cordoned for device in desk.status().devices] == [True, True]
    assert desk.status().hosts[0].cordoned
    cordon(desk, "h1", on=False)
    cordon(desk, "h1/SIM-h1-0", on=False)
    desk.granted(12 * GIB)
    desk.check()


def test_uncordoning_lets_the_line_move() -> None:
    """Who waits is looked at again."""
    desk = Desk("h1=1x16GiB")
    cordon(desk, "h1")
    assert isinstance(desk.lease(GIB, wait_ms=9_000), Park)
    cordon(desk, "h1", on=False)
    desk.settle_due()
    assert [type(answer) for answer in desk.answers.values()] == [Accept]


def test_a_dropped_lease_counts_until_its_holder_gives_it_back() -> None:
    """The holder is told; it can only release."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted(12 * GIB, "ann", ttl_ms=8_000)["lease"]
    reply = desk.must(wire.Drop(id="d-1", lease=lease), "ops")
    assert (reply["principal"], reply["freed_in_ms"]) == ("ann", 8_500)
    assert isinstance(desk.ask(wire.Drop(id="d-2", lease=lease), "ops"), Refuse)
    assert desk.notices() == [("ann", lease, "dropped")]
    assert code(desk.renew(lease, "ann")) == "lease_ended"
    assert desk.refused(8 * GIB)["reason"] == "no_room"
    assert isinstance(desk.release(lease, "ann"), Accept)
    desk.granted(8 * GIB)
    assert code(desk.ask(wire.Drop(id="d-3", lease=lease), "ops")) == "lease_ended"
    assert desk.status().counters.dropped == 1
    desk.check()


def test_only_a_lost_device_without_leases_is_forgotten() -> None:
    """And it comes back as new when it is seen again."""
    desk = Desk("h1=1x16GiB")
    lease = desk.granted()["lease"]
    forget = wire.Forget(id="f-1", device="h1/SIM-h1-0")
    assert code(desk.ask(forget, "ops")) == "conflict"
    desk.advance(4_000)
    assert code(desk.ask(forget, "ops")) == "conflict"
    desk.release(lease)
    desk.must(forget, "ops")
    assert desk.status().devices == []
    assert code(desk.ask(forget, "ops")) == "unknown_device"
    desk.check()
    desk.observe("h1")
    desk.granted()
    desk.check()


def test_settings_change_what_is_granted_from_now_on() -> None:
    """A larger reserve ends no lease."""
    desk = Desk("h1=1x16GiB")
    desk.granted(15 * GIB)
    assert isinstance(desk.configure(reserve=4 * GIB), Accept)
    assert isinstance(desk.configure(reserve=4 * GIB), Refuse)
    assert desk.device("h1/SIM-h1-0").room == -3 * GIB
    assert desk.refused(14 * GIB)["reason"] == "never_fits"
    assert desk.status().settings == Settings(reserve=4 * GIB)
    desk.check()


def test_the_environments_settings_are_applied_once() -> None:
    """A restart does not undo what an operator has changed since; another environment does."""
    desk = Desk()
    settings = GpuSettings(gpu_reserve=GIB)
    for body in start(settings, desk.state):
        desk.must(body)
    assert desk.state.settings == Settings(reserve=GIB)
    desk.configure(reserve=2 * GIB)
    assert start(settings, desk.state) == []
    assert isinstance(desk.ask(Adopt(settings=settings.rules())), Refuse)
    [body] = start(GpuSettings(), desk.state)
    desk.must(body)
    assert desk.state.settings == Settings()
    desk.check()


def test_each_verb_has_a_message_and_a_rule() -> None:
    """What the service listens to, the core decides."""
    desk = Desk()
    for verb in (*SPEC.verbs.values(), *SPEC.admin.values(), *SPEC.nodes.values()):
        assert verb.message in desk.decider._rules
