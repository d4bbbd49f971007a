"""The model cache in the ledger: loaded once, owned under a lease, evicted by steps and only when the card says so."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.contracts import gpu
from bursar.contracts import gpu_cache as wire
from bursar.contracts.catalog.gpu_cache import CacheAlarm
from bursar.kernel.decider import Accept, Broadcast, Command, Notice, Outcome, Refuse
from tests.gpu_manager.desk import GIB, MAC, Desk, code

CARD = "h1/SIM-h1-0"


class CacheDesk(Desk):
    """A desk that also asks for weights. ``most``: the events of its largest decision."""

    most = 0

    def _decide(self, command: Command) -> Outcome:
        outcome = super()._decide(command)
        if isinstance(outcome, Accept):
            self.most = max(self.most, len(outcome.events))
        return outcome

    def want(self, who: str, model: str = "m", size: int = 4 * GIB, place: str = CARD, tier: wire.Tier = "gpu") -> Any:
        outcome = self.ask(wire.CacheWant(id=self.new_id(), model=model, place=place, size=size, tier=tier), who)
        assert isinstance(outcome, Accept | Refuse), outcome
        return wire.CacheAnswer.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})

    def loaded(self, who: str, load: int, lease: str | None, model: str = "m", **more: Any) -> Outcome:
        fields = {"place": CARD, "size": 4 * GIB, "took_ms": 3_000, **more}
        body = wire.CacheLoaded(id=self.new_id(), model=model, load=load, lease=lease, **fields)
        return self.ask(body, who)

    def leave(self, who: str, model: str = "m", **more: Any) -> Outcome:
        body = wire.CacheLeave(id=self.new_id(), model=model, place=more.pop("place", CARD), **more)
        outcome = self.ask(body, who)
        self.settle_due()
        return outcome

    def keep(self, who: str, *models: str) -> wire.CacheKept:
        copies = tuple(wire.CopyName(model=model, place=CARD) for model in models)
        outcome = self.ask(wire.CacheKeep(copies=copies), who)
        assert isinstance(outcome, Refuse)
        return wire.CacheKept.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})

    def where(self, model: str | None = None) -> wire.CacheReply:
        outcome = self.ask(wire.CacheWhere(model=model), "ops")
        assert isinstance(outcome, Refuse)
        return wire.CacheReply.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})

    def said(self) -> list[tuple[str, str]]:
        """(principal, step) of what was told since the last look."""
        told = [one for one in self.told if isinstance(one, Notice) and one.body["what"] == "cache"]
        self.told.clear()
        bodies = [wire.CacheTold.model_validate({**one.body, "fence": f"1.1.1.{MAC}"}) for one in told]
        return [(one.principal, body.step) for one, body in zip(told, bodies, strict=True)]

    def load(self, who: str, model: str = "m", size: int = 4 * GIB) -> tuple[str, int]:
        """Want, lease, allocate, report: lease and pid."""
        answer = self.want(who, model, size)
        assert answer.what == "load"
        pid, process = self.process("h1")
        lease = self.granted(size, who, hosts=("h1",), processes=(process,), ttl_ms=60_000, purpose="weights")["lease"]
        self.hosts["h1"].allocate(pid, "SIM-h1-0", size)
        self.observe("h1")
        assert isinstance(self.loaded(who, answer.load, lease, model, size=size), Accept)
        return lease, pid


def test_weights_are_loaded_once_and_shared() -> None:
    """One loads, the others wait and are told; then everybody hits, after a take-over too."""
    desk = CacheDesk("h1=24GiB")
    first = desk.want("ann")
    assert (first.what, first.source) == ("load", "disk")
    assert [desk.want(who).what for who in ("bob", "eve")] == ["wait", "wait"]
    lease = desk.granted(4 * GIB, "ann")["lease"]
    assert code(desk.loaded("bob", first.load, lease)) == "not_yours"
    assert code(desk.loaded("ann", first.load, None)) == "unknown_lease"
    assert code(desk.loaded("ann", first.load + 1, lease)) == "conflict"
    assert isinstance(desk.loaded("ann", first.load, lease), Accept)
    assert desk.said() == [("bob", "ready"), ("eve", "ready")]
    desk.take_over()
    desk.observe("h1")
    assert desk.want("joe").what == "hit"
    told = desk.where("m")
    assert [(copy.phase, copy.users, copy.owner) for copy in told.copies] == [("ready", 4, "ann")]
    assert (told.hit_permille, told.mean_load_ms, told.saved_ms) == (750, 3_000, 9_000)
    assert desk.where("other").copies == []
    desk.check()


def test_when_a_load_fails_the_next_who_waits_loads() -> None:
    """Also when the loader is silent past its time; what an earlier load says counts for nothing."""
    desk = CacheDesk("h1=24GiB")
    desk.configure(cache_use_ms=3_600_000)
    first = desk.want("ann")
    desk.want("bob")
    desk.want("eve")
    body = wire.CacheFailed(id="f-1", model="m", place=CARD, load=first.load)
    assert isinstance(desk.ask(body, "ann"), Accept)
    assert desk.said() == [("bob", "load")]
    assert code(desk.ask(body.model_copy(update={"id": "f-2"}), "bob")) == "conflict"
    desk.live(600_000)
    assert desk.said() == [("eve", "load")]
    desk.live(600_000)
    assert desk.where().copies == []
    desk.check()


def test_a_full_host_evicts_by_steps_and_believes_only_the_card() -> None:
    """Ask, sleep, kill; at the kill the lease is taken away and the probe is ordered; freed is what the card says."""
    desk = CacheDesk("h1=24GiB")
    lease, pid = desk.load("ann")
    assert desk.want("bob", "other", 5 * 10**9).what == "refused"
    desk.leave("ann")
    desk.live(10_000)
    desk.said()
    answer = desk.want("bob", "other", 5 * 10**9)
    assert (answer.what, len(answer.evict)) == ("room", 1)
    assert desk.said() == [("ann", "ask")]
    desk.renew(lease, "ann", ttl_ms=60_000)
    desk.live(5_500)
    assert desk.said() == [("ann", "sleep")]
    assert desk.want("bob", "other", 5 * 10**9).what == "room"
    desk.live(10_500)
    orders = [told for told in desk.told if getattr(told, "body", {}).get("what") == "end_processes"]
    assert desk.said() == [("ann", "kill")]
    assert len(orders) == 1
    assert desk.status().leases[0].phase == "ending"
    assert [copy.step for copy in desk.where().copies] == ["kill"]
    desk.hosts["h1"].exit(pid)
    desk.live(1_000)
    assert desk.where().copies == []
    assert desk.where().evicted == 1
    assert desk.want("bob", "other", 5 * 10**9).what == "load"
    desk.check()


def test_an_owner_that_unloads_when_asked_keeps_its_peace() -> None:
    """The memory is back before the next step; a partial unload is none."""
    desk = CacheDesk("h1=24GiB")
    _, pid = desk.load("ann")
    desk.leave("ann")
    desk.live(10_000)
    desk.want("bob", "other", 5 * 10**9)
    desk.said()
    desk.hosts["h1"].free(pid, "SIM-h1-0", 2 * GIB)
    desk.live(1_000)
    assert [copy.phase for copy in desk.where().copies] == ["evicting"]
    desk.hosts["h1"].free(pid, "SIM-h1-0", 2 * GIB)
    desk.live(1_000)
    assert desk.where().copies == []
    assert [step for _, step in desk.said()] == []


def test_what_does_not_come_back_after_a_kill_is_quarantined_and_everybody_is_told() -> None:
    """It stays charged, and leaves quarantine when the card says that it is gone."""
    desk = CacheDesk("h1=24GiB")
    lease, pid = desk.load("ann")
    desk.leave("ann")
    desk.live(10_000)
    desk.want("bob", "other", 5 * 10**9)
    for _ in range(26):
        if lease in desk.state.leases and not desk.state.leases[lease].taken:
            desk.renew(lease, "ann", ttl_ms=60_000)
        desk.live(1_000)
    told = [one for one in desk.told if isinstance(one, Broadcast) and one.kind == "cache"]
    assert [CacheAlarm.model_validate({**one.body, "fence": f"1.1.1.{MAC}"}).bytes for one in told] == [4 * GIB]
    assert desk.where().quarantined == 1
    assert desk.device(CARD).room == 24 * GIB - 4 * GIB - GIB // 2
    desk.hosts["h1"].exit(pid)
    desk.live(1_000)
    assert desk.where().copies == []


def test_idle_weights_make_room_for_who_waits_in_line() -> None:
    """No more of them than it takes, and none that are used, pinned, or no help."""
    desk = CacheDesk("h1=16GiB")
    desk.ask(gpu.Lease(id="w-0", memory=GIB, wait_ms=1), "joe")
    lease, pid = desk.load("ann", "m", 4 * GIB)
    desk.load("ann", "n", 3 * GIB)
    desk.leave("ann", "m")
    desk.leave("ann", "n")
    desk.live(11_000)
    desk.said()
    desk.ask(gpu.Lease(id="w-1", memory=20 * GIB, wait_ms=20_000), "bob")
    desk.ask(gpu.Lease(id="w-2", memory=11 * GIB, wait_ms=20_000), "bob")
    desk.live(1_000)
    assert desk.said() == [("ann", "ask")]
    desk.hosts["h1"].exit(pid)
    desk.release(lease, "ann")
    desk.live(600)
    assert isinstance(desk.answers["bob", "w-2"], Accept)
    assert [copy.phase for copy in desk.where().copies].count("ready") == 1
    desk.check()


@pytest.mark.parametrize("hide", ["hide_processes", "hide_list"])
def test_an_unknown_observation_frees_nothing(hide: str) -> None:
    """Neither silence of the host, nor a driver that cannot tell: how much a process uses, or which there are."""
    desk = CacheDesk("h1=24GiB")
    desk.configure(silence_ms=60_000)
    lease, _ = desk.load("ann")
    desk.leave("ann")
    desk.live(10_000)
    desk.want("bob", "other", 5 * 10**9)
    desk.renew(lease, "ann", ttl_ms=60_000)
    getattr(desk.hosts["h1"], hide)("SIM-h1-0")
    desk.live(3_000)
    desk.advance(1_500)
    assert [copy.phase for copy in desk.where().copies] == ["evicting"]


def test_weights_that_were_loaded_before_they_were_leased_are_not_gone_for_that() -> None:
    """They are foreign to the lease, and there."""
    desk = CacheDesk("h1=24GiB")
    load = desk.want("ann").load
    pid, process = desk.process("h1")
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", 4 * GIB)
    desk.observe("h1")
    lease = desk.granted(4 * GIB, "ann", processes=(process,), ttl_ms=60_000, purpose="weights")["lease"]
    assert isinstance(desk.loaded("ann", load, lease), Accept)
    desk.leave("ann")
    desk.live(10_000)
    desk.want("bob", "other", 5 * 10**9)
    desk.live(3_000)
    assert [copy.phase for copy in desk.where().copies] == ["evicting"]
    desk.hosts["h1"].exit(pid)
    desk.live(1_000)
    assert desk.where().copies == []
    desk.check()


def test_a_copy_ends_with_the_lease_under_which_it_is_held() -> None:
    """Who uses it is told."""
    desk = CacheDesk("h1=24GiB")
    lease, pid = desk.load("ann")
    assert desk.want("bob").what == "hit"
    desk.hosts["h1"].exit(pid)
    desk.release(lease, "ann")
    desk.said()
    desk.live(1_000)
    assert desk.where().copies == []
    desk.take_over()
    desk.check()
    assert desk.state.copies == {}


def test_what_a_dead_agent_used_or_was_loading_is_not_held_for_ever() -> None:
    """Who does not say that he still uses, waits or loads has left: his use keeps nothing, and the next one loads."""
    desk = CacheDesk("h1=24GiB")
    lease, _ = desk.load("ann")
    assert desk.want("bob").what == "hit"
    assert desk.want("dead", "slow", 10**9).what == "load"
    assert [desk.want(who, "slow", 10**9).what for who in ("gone", "eve")] == ["wait", "wait"]
    desk.take_over()
    for _ in range(5):
        desk.live(15_000)
        desk.renew(lease, "ann", ttl_ms=60_000)
        assert desk.keep("bob", "m").gone == []
        assert desk.keep("eve", "slow").gone == []
    assert [(copy.model, copy.users, copy.owner) for copy in desk.where().copies] == [
        ("m", 1, "ann"),
        ("slow", 0, "eve"),
    ]
    assert ("eve", "load") in desk.said()
    assert [name.model for name in desk.keep("ann", "m", "slow", "none").gone] == ["m", "slow", "none"]
    assert desk.want("bob", "other", 7 * 10**9).what == "refused"
    for _ in range(2):
        desk.live(30_500)
        desk.renew(lease, "ann", ttl_ms=60_000)
    assert [(copy.model, copy.users) for copy in desk.where().copies] == [("m", 0)]
    assert desk.want("bob", "other", 7 * 10**9).what == "room"
    desk.check()


def test_what_is_beyond_a_smaller_bound_goes_when_it_is_used_no_more() -> None:
    """Nobody has to ask for room first; and a copy whose lease has just ended goes once."""
    desk = CacheDesk("h1=24GiB")
    lease, pid = desk.load("ann")
    desk.ask(wire.CacheBound(id="b-1", host="h1", size=10**9), "ops")
    desk.live(11_000)
    assert [copy.phase for copy in desk.where().copies] == ["ready"]
    desk.leave("ann")
    desk.live(1_000)
    assert [copy.step for copy in desk.where().copies] == ["ask"]
    desk.hosts["h1"].exit(pid)
    desk.release(lease, "ann")
    desk.live(1_000)
    assert desk.where().copies == []
    desk.check()


def test_a_copy_that_has_just_gone_makes_no_room_twice() -> None:
    """Its lease has ended while somebody waits in line for what it had."""
    desk = CacheDesk("h1=16GiB")
    lease, _ = desk.load("ann")
    desk.leave("ann")
    desk.live(11_000)
    desk.ask(gpu.Lease(id="w-1", memory=12 * GIB, wait_ms=20_000), "bob")
    desk.release(lease, "ann")
    desk.live(1_000)
    assert desk.where().copies == []
    desk.check()


def test_each_step_of_an_eviction_has_the_time_that_is_set() -> None:
    """Operators set it; a take-over keeps it."""
    desk = CacheDesk("h1=24GiB")
    desk.configure(evict_ask_ms=100, evict_sleep_ms=100, evict_kill_ms=100)
    desk.load("ann", size=9 * 10**9)
    desk.take_over()
    desk.observe("h1")
    desk.said()
    desk.leave("ann")
    desk.live(400)
    assert [step for _, step in desk.said()] == ["ask", "sleep", "kill"]
    assert desk.where().quarantined == 1


def test_pins_bounds_and_places() -> None:
    """A pinned copy stays; a smaller bound makes room; there is no copy where there is no card or host."""
    desk = CacheDesk("h1=24GiB")
    desk.load("ann")
    desk.leave("ann")
    pin = wire.CachePin(id="p-1", model="m", place=CARD)
    assert isinstance(desk.ask(pin, "ops"), Accept)
    assert isinstance(desk.ask(pin.model_copy(update={"id": "p-2"}), "ops"), Refuse)
    desk.live(11_000)
    assert desk.want("bob", "other", 5 * 10**9).what == "refused"
    assert isinstance(desk.ask(wire.CacheBound(id="b-1", host="h1", size=20 * 10**9), "ops"), Accept)
    assert desk.want("bob", "other", 5 * 10**9).what == "load"
    desk.ask(wire.CachePin(id="p-3", model="m", place=CARD, pinned=False), "ops")
    assert isinstance(desk.ask(wire.CacheBound(id="b-2", host="h1", size=10**9), "ops"), Accept)
    assert [copy.phase for copy in desk.where("m").copies] == ["evicting"]
    assert code(desk.ask(wire.CachePin(id="p-4", model="x", place=CARD), "ops")) == "unknown_copy"
    assert code(desk.ask(wire.CacheBound(id="b-3", host="h9", size=1), "ops")) == "unknown_host"
    for place, tier, expected in ((CARD, "ram", "unknown_host"), ("h1", "gpu", "unknown_device")):
        body = wire.CacheWant(id=desk.new_id(), model="m", place=place, tier=tier, size=1)  # type: ignore[arg-type]
        assert code(desk.ask(body, "ann")) == expected
    desk.check()


@pytest.mark.parametrize("tier", ["ram", "mmap"])
def test_copies_in_a_hosts_memory_have_no_witness_but_their_owner(tier: wire.Tier) -> None:
    """They are a quicker source for a card; nobody else can say that they are gone, and of a card nobody can."""
    desk = CacheDesk("h1=24GiB")
    answer = desk.want("ann", place="h1", tier=tier)
    assert isinstance(desk.loaded("ann", answer.load, None, place="h1", tier=tier), Accept)
    assert desk.want("bob").source == tier
    gone = wire.CacheGone(id="g-1", model="m", place="h1", tier=tier)
    assert code(desk.ask(gone, "bob")) == "not_yours"
    assert isinstance(desk.ask(gone.model_copy(update={"id": "g-2"}), "ann"), Accept)
    assert [copy.tier for copy in desk.where().copies] == ["gpu"]
    assert isinstance(desk.ask(gone.model_copy(update={"id": "g-3"}), "ann"), Refuse)
    assert code(desk.ask(wire.CacheGone(id="g-4", model="m", place=CARD), "ann")) == "conflict"
    assert isinstance(desk.leave("nobody", "x"), Refuse)
    desk.check()


def test_weights_stay_where_their_end_would_help_nobody_in_line() -> None:
    """Those that are used, and those on a card that nobody knows enough of."""
    desk = CacheDesk("h1=24GiB", "h2=24GiB")
    desk.configure(silence_ms=600_000)
    desk.load("ann")
    desk.granted(20 * GIB, hosts=("h2",), ttl_ms=60_000)
    desk.lease(23 * GIB, "bob", wait_ms=60_000)
    desk.live(12_000, silent=("h2",))
    assert [copy.phase for copy in desk.where().copies] == ["ready"]
    assert desk.said() == []
    desk.check()
