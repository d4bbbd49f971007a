"""Fragmentation of the ledger, and moves that owners agree to."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import gpu_moves as moves
from bursar.kernel.decider import Accept, Notice, Refuse
from bursar_gpu_manager.defragmenting import PLAN_MS
from bursar_gpu_manager.moving import ANSWER_MS, LOAD_MS
from bursar_gpu_manager.simulated import simulated_host
from bursar_gpu_manager.thermal import Heat
from tests.gpu_manager.desk import GIB, MAC, Desk, code

HALF = GIB // 2
NAMES = [f"h1/SIM-h1-{number}" for number in range(3)]


def golden() -> tuple[Desk, str]:
    """Three cards with 3.5, 5 and 9 GiB free, and half a GiB on the first whose holder agrees to moves."""
    desk = Desk("h1=3x16GiB")
    for number, halves in enumerate((23, 21, 13)):
        others = tuple(name for name in NAMES if name != NAMES[number])
        desk.granted(halves * HALF, exclude=others, ttl_ms=60_000)
    lease = desk.granted(HALF, "ann", exclude=tuple(NAMES[1:]), ttl_ms=60_000)["lease"]
    return desk, lease


def told(desk: Desk, **fields: Any) -> moves.FragmentationReply:
    before = desk.dump()
    outcome = desk.ask(moves.Fragmentation(**fields), "ops")
    assert isinstance(outcome, Refuse)
    assert desk.dump() == before
    return moves.FragmentationReply.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


def movable(desk: Desk, lease: str, **fields: Any) -> Any:
    body = moves.Movable(id=desk.new_id(), lease=lease, fence=f"{lease}.{MAC}", **fields)
    return desk.ask(body, "ann")


def move(desk: Desk, lease: str, agree: bool = True) -> Any:
    return desk.ask(moves.Move(id=desk.new_id(), lease=lease, fence=f"{lease}.{MAC}", agree=agree), "ann")


def wanted(desk: Desk) -> list[moves.MoveWanted]:
    said = [one for one in desk.told if isinstance(one, Notice) and one.body["what"] == "move_wanted"]
    assert all(one.principal == "ann" for one in said)
    return [moves.MoveWanted.model_validate({**one.body, "fence": f"1.1.1.{MAC}"}) for one in said]


def proposed() -> tuple[Desk, str]:
    desk, lease = golden()
    assert isinstance(movable(desk, lease), Accept)
    desk.live(500)
    return desk, lease


def test_the_golden_case_is_measured_by_class_device_and_fleet() -> None:
    """0.314 at 4 GiB; the plan is made for the class that most bytes are asked for in."""
    desk, lease = golden()
    found = told(desk)
    assert [row.fragmentation for row in found.classes] == [0, 28_571, 314_285]
    assert found.free == 35 * HALF
    assert found.classes[2].usable == 12 * GIB
    assert (found.size, found.above) == (4 * GIB, 150_000)
    assert [row.fragmentation[2] for row in found.devices] == [1_000_000, 200_000, 111_111]
    assert found.plan == []
    movable(desk, lease, cost_ms=100)
    [planned] = told(desk).plan
    assert (planned.lease, planned.principal, planned.source, planned.target) == (lease, "ann", NAMES[0], NAMES[1])
    assert (planned.gain, planned.fragmentation, planned.cost_ms) == (4 * GIB, 85_714, 556)


def test_an_owner_that_agrees_moves_and_memory_is_usable_again() -> None:
    """A second lease is granted there; when the first is released, the move is done."""
    desk, lease = proposed()
    [said] = wanted(desk)
    assert (said.lease, said.device, said.memory, said.answer_in_ms) == (lease, NAMES[1], HALF, ANSWER_MS)
    assert told(desk).step == "proposed"
    outcome = move(desk, lease)
    assert isinstance(outcome, Accept)
    assert [held["device"] for held in outcome.reply["devices"]] == [NAMES[1]]
    copy = outcome.reply["lease"]
    assert {key for key in desk.state.leases if desk.state.leases[key].principal == "ann"} == {lease, copy}
    desk.take_over()
    desk.live(1_000)
    assert told(desk).step == "agreed"
    assert isinstance(desk.release(lease, "ann"), Accept)
    desk.live(1_000)
    found = told(desk)
    assert (found.moving, found.done) == (None, {"loaded": 1})
    assert found.classes[2].fragmentation == 85_714
    assert copy in desk.state.leases
    desk.check()


@pytest.mark.parametrize("strictly", [False, True])
@pytest.mark.parametrize("apart", ["device", "host"])
def test_a_move_does_not_bring_together_what_is_kept_apart(apart: str, strictly: bool) -> None:
    """Nor onto a host without the labels that were asked for; also after a take-over."""
    desk, lease = golden()
    desk.release(lease, "ann")
    desk.granted(1 << 20, group="replicas", exclude=(NAMES[0], NAMES[2]), ttl_ms=60_000)
    fields = {"group": "replicas", "apart": apart, "strictly": strictly and apart == "device"}
    lease = desk.granted(HALF, "ann", exclude=tuple(NAMES[1:]), ttl_ms=60_000, **fields)["lease"]
    movable(desk, lease)
    for _ in range(2):
        assert {row.target for row in told(desk).plan} <= ({NAMES[2]} if apart == "device" else set())
        desk.take_over()
        desk.observe("h1")
    desk.check()


def test_a_move_goes_only_where_the_labels_are() -> None:
    """That its request named."""
    desk, lease = golden()
    desk.release(lease, "ann")
    lease = desk.granted(HALF, "ann", labels={"zone": "1"}, exclude=tuple(NAMES[1:]), ttl_ms=60_000)["lease"]
    movable(desk, lease)
    assert [row.lease for row in told(desk).plan] == [lease]
    desk.hosts["h2"] = simulated_host("h2", "2x16GiB")
    desk.observe("h2", boot="b2")
    for name in NAMES:
        desk.state.cordoned.pop(name, None)
    assert all(row.target.startswith("h1/") for row in told(desk).plan)


def test_nothing_is_asked_of_owners_who_did_not_say_so() -> None:
    """Nor of those who took it back, nor when it would go to another host than they said."""
    desk, lease = golden()
    desk.live(2 * PLAN_MS)
    assert wanted(desk) == []
    movable(desk, lease, hosts=("h9",))
    assert told(desk).plan == []
    assert isinstance(movable(desk, lease, cost_ms=None), Accept)
    assert isinstance(movable(desk, lease, cost_ms=None), Refuse)
    desk.live(2 * PLAN_MS)
    assert wanted(desk) == []
    desk.check()


def test_an_owner_that_declines_is_left_alone() -> None:
    """For a while; and one that says nothing as well."""
    desk, lease = proposed()
    outcome = move(desk, lease, agree=False)
    assert isinstance(outcome, Accept)
    moves.Declined.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})
    desk.live(2 * PLAN_MS)
    assert (told(desk).done, len(wanted(desk))) == ({"declined": 1}, 1)
    other, second = proposed()
    other.live(ANSWER_MS + 1_000)
    assert told(other).done == {"lapsed": 1}
    assert code(move(other, second)) == "conflict"
    other.check()


def test_a_move_that_has_no_room_any_more_is_refused() -> None:
    """Somebody took it meanwhile; the lease stays where it is."""
    desk, lease = proposed()
    desk.granted(5 * GIB, exclude=(NAMES[0], NAMES[2]))
    outcome = move(desk, lease)
    assert isinstance(outcome, Accept)
    assert outcome.reply["reason"] == "no_room"
    assert told(desk).done == {"failed": 1}
    assert lease in desk.state.leases
    desk.check()


def test_when_the_time_of_a_move_is_over_the_second_lease_is_taken_away() -> None:
    """Its owner is told, like of any lease that is dropped; the first one stays."""
    desk, lease = proposed()
    copy = move(desk, lease).reply["lease"]
    until = desk.now + LOAD_MS
    while desk.now < until + 1_000:
        desk.live(20_000)
        for key, held in list(desk.state.leases.items()):
            desk.renew(key, held.principal)
    assert ("ann", copy, "dropped") in desk.notices()
    assert told(desk).done["lapsed"] == 1
    assert lease in desk.state.leases
    desk.check()


@pytest.mark.parametrize("ends", ["first", "second"])
def test_a_move_whose_lease_ends_has_failed(ends: str) -> None:
    """Before it was agreed the first, after it the second."""
    desk, lease = proposed()
    if ends == "first":
        desk.release(lease, "ann")
    else:
        desk.release(move(desk, lease).reply["lease"], "ann")
    desk.live(1_000)
    assert told(desk).done == {"failed": 1}
    desk.check()


def test_only_its_holder_says_that_a_lease_may_be_moved() -> None:
    """With its fence, while it lives."""
    desk, lease = golden()
    body = moves.Movable(id="m-1", lease=lease, fence=f"{lease}.{MAC}")
    assert code(desk.ask(body, "bob")) == "not_yours"
    assert code(desk.ask(body.model_copy(update={"fence": f"1.1.999.{MAC}"}), "ann")) == "bad_fence"
    assert code(desk.ask(moves.Move(id="m-2", lease=lease, fence=f"{lease}.{MAC}", agree=True), "bob")) == "not_yours"
    assert code(move(desk, lease)) == "conflict"
    desk.release(lease, "ann")
    assert code(movable(desk, lease)) == "lease_ended"


def test_what_has_to_move_for_one_request_is_told() -> None:
    """9.5 GiB fit when the half GiB of nobody's card goes; 16 GiB never do."""
    desk, lease = golden()
    assert told(desk, memory=4 * GIB, devices=3).clearing is None
    movable(desk, lease)
    found = told(desk, memory=4 * GIB).clearing
    assert found is not None
    assert found.moves == []
    found = told(desk, memory=4 * GIB, devices=3).clearing
    assert found is None
    assert told(desk, memory=16 * GIB).clearing is None


def test_a_loss_of_data_stops_moves() -> None:
    """Until everything that was granted has been declared or has ended."""
    desk, _ = proposed()
    desk.lose_log()
    desk.live(3_000)
    assert len(wanted(desk)) == 1
    desk.live(120_000)
    assert told(desk).moving is None
    desk.check()


def test_a_card_is_drained_before_it_slows_down() -> None:
    """Its leases are asked to leave to where least room is left over, whatever that does to fragmentation."""
    desk = Desk("h1=3x16GiB")
    desk.live(1_000)
    lease = desk.granted(6 * GIB, "ann", exclude=tuple(NAMES[1:]), ttl_ms=60_000)["lease"]
    desk.granted(4 * GIB, exclude=(NAMES[0], NAMES[1]), ttl_ms=60_000)
    assert isinstance(movable(desk, lease), Accept)
    desk.live(PLAN_MS)
    assert wanted(desk) == []
    desk.state.sheet.heats[NAMES[0]].heat = Heat.HOT
    desk.live(PLAN_MS + 500)
    said = wanted(desk)
    assert said
    assert {(one.lease, one.device) for one in said} == {(lease, NAMES[2])}
    desk.check()
