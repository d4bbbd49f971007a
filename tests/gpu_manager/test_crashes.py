"""A crash at every step of the journal: no lease is lost, none is doubled, no fence is used again."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept
from bursar_gpu_manager.state import validate
from tests.gpu_manager.desk import GIB, Desk

HOSTS = ("h1=2x16GiB", "h2=RTX4070")


def a_history(seed: int) -> Desk:
    """Leases of all kinds come and go, with operators, strangers, silence and lost cards in between."""
    random, desk = Random(seed), Desk(*HOSTS, now=1_000)
    for _ in range(60):
        what, keys = random.randrange(12), list(desk.state.leases)
        key = random.choice(keys) if keys else ""
        if what < 4:
            more: dict[str, Any] = {"devices": random.choice([1, 1, 2]), "ttl_ms": random.choice([700, 4_000, 30_000])}
            desk.lease(random.randrange(1, 9) * GIB, purpose=random.choice(["weights", "loading"]), **more)
        elif what == 4 and key:
            desk.renew(key, processes=(desk.process("h1")[1],))
        elif what == 5 and key:
            desk.release(key)
        elif what == 6 and key:
            desk.ask(wire.Drop(id=desk.new_id(), lease=key, kill=bool(random.randrange(2))), "ops")
        elif what == 7:
            pid, _ = desk.hosts["h1"].start(foreign=True)
            uuid = "SIM-h1-0"
            if not desk.hosts["h1"].devices[uuid].lost and desk.hosts["h1"].devices[uuid].free > GIB:
                desk.hosts["h1"].allocate(pid, uuid, GIB)
        elif what == 8:
            card = desk.hosts["h2"].devices["SIM-h2-0"]
            card.lost = not card.lost
        elif what == 9:
            desk.ask(wire.Emergency(id=desk.new_id(), memory=GIB // 4), "ops")
        elif what == 10:
            desk.ask((wire.Cordon, wire.Uncordon)[random.randrange(2)](id=desk.new_id(), target="h1"), "ops")
        desk.live(random.randrange(1, 1_500), silent=("h2",) if what == 11 else ())
    return desk


def leases_of(journal: list[Any]) -> dict[str, dict[str, int]]:
    """Told from the events alone: granted, and not released or expired since."""
    found: dict[str, dict[str, int]] = {}
    for event in journal:
        if event[0] == "g":
            assert event[2] not in found
            found[event[2]] = dict(event[6])
        elif event[0] in ("r", "x"):
            del found[event[2]]
    return found


@pytest.mark.parametrize("seed", range(2))
def test_a_crash_at_any_step_of_the_journal_loses_and_doubles_nothing(seed: int) -> None:
    """Whoever goes on from there holds exactly what was granted, charges it, and grants higher fences only."""
    before = a_history(seed)
    assert sum(event[0] == "g" for event in before.journal) > 5
    for step in range(len(before.journal) + 1):
        desk = Desk()
        desk.journal = before.journal[:step]
        for event in desk.journal:
            desk.decider.evolve(desk.state, event)
        desk.now, desk.number, desk.serial = desk.state.at, before.number, 1_000_000
        desk.take_over()
        validate(desk.state, desk.now)
        expected = leases_of(desk.journal)
        assert {key: dict(lease.devices) for key, lease in desk.state.leases.items()} == expected
        granted = [tuple(map(int, event[2].split("."))) for event in desk.journal if event[0] == "g"]
        assert granted == sorted(set(granted))
        assert desk.status().leases_unknown == sum(not lease.taken for lease in desk.state.leases.values())
        for name, device in desk.state.devices.items():
            assert sum(device.leases.values()) == sum(shares.get(name, 0) for shares in expected.values())
            assert desk.device(name).charged == sum(device.leases.values())
        if step % 7 == 0:
            _goes_on(desk, before, granted)


def _goes_on(desk: Desk, before: Desk, granted: list[tuple[int, ...]]) -> None:
    """With the cards as they are: nothing is granted unseen, then something is, and in the end all have ended."""
    assert not isinstance(desk.lease(GIB), Accept)
    desk.hosts, desk.seqs = before.hosts, {"b1": 0}
    for host in desk.hosts:
        desk.observe(host, boot="b1")
    for host in ("h1", "h2"):
        desk.ask(wire.Uncordon(id=desk.new_id(), target=host), "ops")
    outcome = desk.lease(GIB // 4)
    if isinstance(outcome, Accept):
        assert tuple(map(int, outcome.reply["lease"].split("."))) > max(granted, default=(0, 0, 0))
    for _ in range(70):
        desk.advance(500)
        for host in desk.hosts:
            desk.observe(host, boot="b1")
    assert desk.status().leases == []
    desk.check()
