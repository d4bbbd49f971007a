"""Whose process it is: nobody hides what others have on a card behind a lease of his."""

from __future__ import annotations

import pytest

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Notice, Refuse
from bursar_gpu_manager.claiming import MOST_BEFORE
from tests.gpu_manager.desk import GIB, MAC, Desk

CARD, UUID = "h1/SIM-h1-0", "SIM-h1-0"


def with_stranger(memory: int = 6 * GIB) -> tuple[Desk, int, wire.Process]:
    """A card of 16 GiB; a stranger is there before anybody has a lease."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    desk.hosts["h1"].allocate(pid, UUID, memory)
    desk.observe("h1")
    return desk, pid, process


@pytest.mark.parametrize("when", ["with the lease", "later"])
def test_what_was_there_before_a_lease_is_not_hidden_by_it(when: str) -> None:
    """Whenever its holder names the process; a take-over changes nothing. What the process takes beside it is the
    lease's."""
    desk, pid, stranger = with_stranger()
    lease = desk.granted(6 * GIB, "ann", processes=(stranger,) if when == "with the lease" else ())["lease"]
    desk.renew(lease, "ann", processes=(stranger,))
    assert desk.device(CARD).foreign == 6 * GIB
    desk.refused(4 * GIB, "bob")
    desk.take_over()
    desk.observe("h1")
    desk.refused(4 * GIB, "bob")
    desk.hosts["h1"].allocate(pid, UUID, 2 * GIB)
    desk.observe("h1")
    assert desk.device(CARD).foreign == 6 * GIB
    desk.granted(3 * GIB, "bob")
    desk.check()


def test_what_was_freed_since_is_the_leases_when_it_is_loaded_again() -> None:
    """An agent that leases again while its memory of before is not quite back is not charged twice for ever."""
    desk, pid, process = with_stranger()
    lease = desk.granted(6 * GIB, "ann", processes=(process,))["lease"]
    desk.hosts["h1"].free(pid, UUID, 6 * GIB)
    desk.observe("h1")
    desk.hosts["h1"].allocate(pid, UUID, 6 * GIB)
    desk.observe("h1")
    assert desk.device(CARD).foreign == 0
    assert desk.release(lease, "ann")
    desk.check()


def test_what_a_driver_cannot_tell_was_not_freed() -> None:
    """Unknown is not zero: neither a process whose memory, nor one whose start is not told has less than before, nor
    one of a card that does not tell which there are."""
    desk, pid, process = with_stranger()
    desk.granted(6 * GIB, "ann", processes=(process,))
    card = wire.DeviceReport(uuid=UUID, index=0, total=16 * GIB, reserved=0, used=6 * GIB)
    for row in (
        wire.ProcessMemory(pid=pid, started=process.started),
        wire.ProcessMemory(pid=pid, memory=GIB),
    ):
        devices = (card.model_copy(update={"processes": (row,)}),)
        desk.say("h1", wire.Report(boot="b0", seq=desk.seqs["b0"] + 1, devices=devices))
        desk.seqs["b0"] += 1
    desk.hosts["h1"].hide_list(UUID)
    desk.observe("h1")
    desk.hosts["h1"].hide_list(UUID, hidden=False)
    desk.observe("h1")
    assert desk.device(CARD).foreign == 6 * GIB
    desk.check()


def test_a_process_is_his_who_named_it_first() -> None:
    """Another's lease neither hides what it uses, nor ends it; when the first one's leases have ended it may be
    named."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    first = desk.granted(4 * GIB, "ann", processes=(process,))["lease"]
    second = desk.granted(4 * GIB, "ann", processes=(process, process))["lease"]
    other = desk.granted(4 * GIB, "bob", processes=(process,))["lease"]
    desk.hosts["h1"].allocate(pid, UUID, 11 * GIB)
    desk.observe("h1")
    assert named(desk, other) == []
    desk.refused(GIB, "eve")
    desk.renew(other, "bob", processes=(process,))
    desk.take_over()
    desk.observe("h1")
    desk.renew(other, "bob", processes=(process,))
    assert named(desk, other) == []
    desk.ask(wire.Drop(id="d-1", lease=other, kill=True), "ops")
    assert not [told for told in desk.told if isinstance(told, Notice) and told.body["what"] == "end_processes"]
    desk.release(first, "ann")
    last = desk.granted(GIB // 2, "bob")["lease"]
    desk.renew(last, "bob", processes=(process,))
    assert named(desk, last) == []
    desk.release(second, "ann")
    desk.renew(last, "bob", processes=(process,))
    assert named(desk, last) == [process]
    desk.check()


def holdings(desk: Desk) -> list[wire.Holding]:
    outcome = desk.ask(wire.Holdings(), "h1")
    assert isinstance(outcome, Refuse)
    return wire.HoldingsReply.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"}).leases


def named(desk: Desk, lease: str) -> list[wire.Process]:
    return next(one.processes for one in holdings(desk) if one.lease == lease)


def test_a_stranger_does_not_end_with_the_lease_that_names_it() -> None:
    """The probe is told who was there before; its own word at the gate decides."""
    desk, _, stranger = with_stranger()
    _, child = desk.process("h1")
    lease = desk.granted(6 * GIB, "ann", processes=(stranger, child))["lease"]
    assert [one.spared for one in holdings(desk)] == [[stranger]]
    desk.ask(wire.Drop(id="d-1", lease=lease, kill=True), "ops")
    [order] = [told.body for told in desk.told if isinstance(told, Notice) and told.body["what"] == "end_processes"]
    kill = wire.Kill.model_validate({**order, "fence": f"1.1.1.{MAC}"})
    assert (kill.processes, kill.spared) == ([stranger, child], [stranger])


def test_an_adopted_lease_is_believed_but_for_the_processes_of_others() -> None:
    """After a loss what a holder has loaded is there already."""
    desk = Desk("h1=16GiB")
    pid, process = desk.process("h1")
    _, others = desk.process("h1")
    desk.granted(GIB, "bob", processes=(others,))
    desk.hosts["h1"].allocate(pid, UUID, 6 * GIB)
    desk.observe("h1")
    desk.lose_log()
    assert isinstance(desk.redeclare("1.1.900", CARD, 6 * GIB, "ann", processes=(process, others)), Accept)
    assert desk.device(CARD).foreign == 0
    assert named(desk, "1.1.900") == [process]
    desk.check()


def test_of_very_many_strangers_those_with_most_are_remembered() -> None:
    """A lease stays small."""
    desk = Desk("h1=16GiB")
    pids = [desk.process("h1")[0] for _ in range(MOST_BEFORE + 8)]
    for number, pid in enumerate(pids):
        desk.hosts["h1"].allocate(pid, UUID, (number + 1) << 20)
    desk.observe("h1")
    lease = desk.granted(GIB, "ann")["lease"]
    assert [row[1] for row in desk.state.leases[lease].before] == pids[:7:-1]
    desk.check()
