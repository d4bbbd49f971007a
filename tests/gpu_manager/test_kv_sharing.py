"""Pools of KV pages: what engines share of one lease, promised, lent, asked back, and never twice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bursar.contracts import gpu
from bursar.contracts import gpu_kv as wire
from bursar.kernel.decider import Accept, Notice, Outcome, Refuse
from tests.gpu_manager.desk import GIB, MAC, Desk, code

MIB = 1 << 20
FENCE = f"1.1.1.{MAC}"


class PoolDesk(Desk):
    """One card, a lease of 100 pages of 64 MiB that ``ann`` has opened for ``engines``."""

    def __init__(self, *engines: str) -> None:
        super().__init__("h1=24GiB")
        engines = engines or ("a", "b", "c", "d", "dead")
        self.pool = self.granted(6400 * MIB, "ann", purpose="kv_cache", ttl_ms=60_000)["lease"]
        assert isinstance(self.open(engines=engines), Accept)

    def open(self, who: str = "ann", lease: str = "", **more: Any) -> Outcome:
        lease = lease or self.pool
        fields = {"lease": lease, "fence": f"{lease}.{MAC}", "page": 64 * MIB, **more}
        return self.ask(wire.KvOpen.model_validate({"id": self.new_id(), **fields}), who)

    def join(self, who: str, promised: int, limit: int, per_page: int = 10, **holding: Any) -> Outcome:
        """``holding`` with a ``fence``; that of the last answer before a loss if it is not given."""
        fields = {"promised": promised, "limit": limit, "per_page": per_page, **holding}
        if "holding" in holding:
            fields.setdefault("fence", f"{self.incarnation - 1}.1.{self.number}.{MAC}")
        return self.ask(wire.KvJoin.model_validate({"id": self.new_id(), "lease": self.pool, **fields}), who)

    def pages(self, who: str, blocks: int = 0, **more: Any) -> wire.KvHeld:
        outcome = self.tell(who, blocks, **more)
        assert isinstance(outcome, Accept | Refuse), outcome
        return wire.KvHeld.model_validate({**outcome.reply, "fence": FENCE})

    def tell(self, who: str, blocks: int = 0, **more: Any) -> Outcome:
        return self.ask(wire.KvPages(id=self.new_id(), lease=self.pool, blocks=blocks, **more), who)

    def leave(self, who: str) -> bool:
        outcome = self.ask(wire.KvLeave(id=self.new_id(), lease=self.pool), who)
        assert isinstance(outcome, Accept | Refuse)
        return wire.KvLeft.model_validate({**outcome.reply, "fence": FENCE}).was_there

    def look(self) -> wire.KvReply:
        outcome = self.ask(wire.KvStatus(lease=self.pool), "ops")
        assert isinstance(outcome, Refuse)
        return wire.KvReply.model_validate({**outcome.reply, "fence": FENCE})

    def wanted(self) -> list[tuple[str, int]]:
        """(engine, pages) of what was asked for since the last look."""
        told = [one for one in self.told if isinstance(one, Notice) and one.body["what"] == "kv_wanted"]
        self.told.clear()
        return [(one.principal, wire.KvWanted.model_validate({**one.body, "fence": FENCE}).pages) for one in told]


def test_what_is_promised_is_there_and_what_is_free_is_lent() -> None:
    """Up to the limit; promises never exceed the pool; a take-over changes nothing."""
    desk = PoolDesk()
    assert isinstance(desk.join("a", 60, 100), Accept)
    assert isinstance(desk.join("b", 30, 50), Accept)
    assert isinstance(desk.join("a", 60, 100), Refuse)
    refused = desk.join("c", 20, 20)
    assert isinstance(refused, Refuse)
    assert wire.KvRefused.model_validate({**refused.reply, "fence": FENCE}).lendable == 10
    assert not desk.pages("a", take=71).taken
    assert desk.pages("a", take=70).taken
    assert not desk.pages("b", take=51).taken
    assert desk.wanted() == []
    desk.take_over()
    told = desk.pages("b", take=30)
    assert (told.taken, told.pages, told.lendable) == (True, 30, 0)
    assert (desk.look().free, desk.look().pages) == (0, 100)
    desk.check()


def test_what_was_lent_is_asked_back_once_and_given_by_whole_pages() -> None:
    """Of who has most beyond its promise; it is told which pages to empty; then the other one gets them."""
    desk = PoolDesk()
    desk.join("a", 20, 100)
    desk.join("b", 50, 50)
    assert desk.pages("a", blocks=0, take=50).taken
    told = desk.pages("b", take=50)
    assert told.taken
    desk.leave("b")
    assert desk.pages("a", blocks=300, take=50).taken
    assert not isinstance(desk.join("b", 50, 50), Accept)
    desk.pages("a", blocks=300, give=70)
    desk.join("b", 30, 80)
    desk.pages("a", blocks=300, take=40)
    told = desk.pages("b", take=60)
    assert (told.taken, told.asked) == (False, 30)
    assert desk.wanted() == [("a", 30)]
    assert desk.pages("b", take=60).asked == 30
    assert desk.wanted() == []
    desk.take_over()
    held = tuple(wire.KvPage(page=number, blocks=number % 7, busy=number % 2) for number in range(20))
    told = desk.pages("a", blocks=300, held=held)
    assert (told.wanted, told.empty[:4]) == (30, [0, 14, 8, 2])
    assert code(desk.tell("a", 500, give=30)) == "conflict"
    assert desk.pages("a", blocks=280, give=30).wanted == 0
    assert desk.pages("b", take=60).taken
    assert [(row.engine, row.pages) for row in desk.look().engines] == [("a", 40), ("b", 60)]
    desk.check()


def test_waste_is_what_is_held_and_not_used() -> None:
    """By engine and over all; the packed floor beside it: 1000 blocks at 64 a page are 16 pages."""
    desk = PoolDesk()
    desk.join("a", 0, 100, per_page=64)
    told = desk.pages("a", take=50)
    told = desk.pages("a", blocks=1_000)
    assert (told.packed, told.waste) == (16, 687_500)
    assert desk.look().waste == 680_000
    assert code(desk.tell("a", 50 * 64 + 1)) == "conflict"
    assert desk.look().engines[0].blocks == 1_000


def test_an_engine_that_says_nothing_any_more_has_left() -> None:
    """Its pages are free again; a take-over gives everybody his whole time, which is that of when the pool was
    opened."""
    desk = PoolDesk()
    desk.configure(cache_use_ms=10_000)
    desk.release(desk.pool, "ann")
    desk.pool = desk.granted(6400 * MIB, "ann", purpose="kv_cache", ttl_ms=60_000)["lease"]
    desk.open(engines=("a", "dead"))
    desk.configure(cache_use_ms=100)
    desk.join("a", 40, 40)
    desk.join("dead", 60, 60)
    desk.pages("dead", take=60)
    desk.live(8_000)
    desk.pages("a", take=40)
    desk.take_over()
    desk.live(9_000)
    desk.pages("a", blocks=1)
    assert [row.engine for row in desk.look().engines] == ["a", "dead"]
    desk.live(1_000)
    assert [row.engine for row in desk.look().engines] == ["a", "dead"]
    desk.live(1_000)
    assert [row.engine for row in desk.look().engines] == ["a"]
    assert desk.look().free == 60
    assert code(desk.tell("dead")) == "conflict"
    assert not desk.leave("dead")
    desk.check()


def test_a_pool_that_names_nobody_is_its_holders() -> None:
    """Who happens to know the lease has nothing to do with it."""
    desk = PoolDesk()
    desk.release(desk.pool, "ann")
    desk.pool = desk.granted(6400 * MIB, "ann", purpose="kv_cache", ttl_ms=60_000)["lease"]
    assert isinstance(desk.open(), Accept)
    assert code(desk.join("a", 1, 1)) == "not_yours"
    assert code(desk.tell("a", take=1)) == "not_yours"
    assert isinstance(desk.join("ann", 1, 1), Accept)
    desk.check()


def test_nobody_is_asked_any_more_for_what_is_not_wanted_any_more() -> None:
    """Ten seconds after it was wanted last; a take-over counts as having wanted it."""
    desk = PoolDesk()
    desk.join("a", 20, 100)
    desk.join("b", 30, 80)
    desk.pages("a", take=60)
    assert desk.pages("b", take=60).asked == 20
    for _ in range(3):
        desk.live(6_000)
        assert desk.pages("a").wanted == 20
        desk.pages("b", take=60)
    desk.take_over()
    desk.live(9_500)
    assert desk.pages("a").wanted == 20
    desk.live(1_000)
    assert desk.pages("a").wanted == 0
    assert desk.wanted() == [("a", 20)]
    desk.live(30_000)
    desk.pages("b", take=60)
    assert desk.wanted() == [("a", 20)]
    desk.check()


def test_an_engine_has_pages_no_longer_than_the_lease_has_its_holder() -> None:
    """Nor longer than a lease may live at all, whatever the setting; past its end nothing more is lent."""
    desk = PoolDesk()
    desk.configure(cache_use_ms=600_000)
    desk.release(desk.pool, "ann")
    desk.pool = desk.granted(6400 * MIB, "ann", purpose="kv_cache", ttl_ms=8_000)["lease"]
    desk.open(engines=("a",))
    assert keep_of(desk.join("a", 40, 40)) == 8_000
    desk.live(5_000)
    assert desk.pages("a").keep_ms == 3_000
    desk.renew(desk.pool, "ann", ttl_ms=60_000)
    assert desk.pages("a").keep_ms == 60_000
    desk.live(20_000)
    assert desk.pages("a").keep_ms == 40_000
    desk.live(39_900)
    desk.configure(margin_ms=10_000)
    desk.advance(200)
    assert code(desk.tell("a", take=1)) == "lease_ended"
    desk.check()


def test_a_loss_is_over_when_engines_that_nobody_hears_must_have_stopped() -> None:
    """Also where the longest time to live was made shorter after the pool was opened."""
    desk = PoolDesk()
    desk.join("a", 0, 100)
    desk.pages("a", take=60)
    desk.configure(max_ttl_ms=5_000)
    desk.lose_log()
    assert desk.state.recovering_until == desk.now + 60_000 + 500
    desk.check()


@pytest.mark.parametrize("reason", ["released", "expired", "dropped", "device_lost"])
def test_engines_are_told_when_their_pool_is_over(reason: str) -> None:
    """However its lease ends; the holder only when it does not know it, and nobody twice."""
    desk = PoolDesk("a", "b")
    for engine in ("a", "ann"):
        desk.join(engine, 10, 10)
    if reason == "released":
        desk.release(desk.pool, "ann")
    elif reason == "expired":
        for _ in range(7):
            desk.pages("a")
            desk.pages("ann")
            desk.live(9_000)
    elif reason == "dropped":
        desk.ask(gpu.Drop(id="d-1", lease=desk.pool), "ops")
    else:
        desk.hosts["h1"].lose("SIM-h1-0")
        desk.observe("h1")
    assert sorted(desk.notices()) == [(who, desk.pool, reason) for who in ("a", "ann")]
    desk.check()


def test_a_pool_is_opened_by_its_holder_and_ends_with_its_lease() -> None:
    """Only a lease for kv_cache on one device can be one; only the holder and who is named may join."""
    desk = PoolDesk("a")
    assert code(desk.open("bob")) == "not_yours"
    assert isinstance(desk.open(engines=("a",)), Refuse)
    assert code(desk.open(engines=("a", "b"))) == "conflict"
    assert code(desk.open(page=2 * MIB, engines=("a",))) == "conflict"
    assert code(desk.join("b", 1, 1)) == "not_yours"
    assert code(desk.join("a", 2, 1)) == "bad_request"
    assert isinstance(desk.join("a", 1, 1), Accept)
    assert isinstance(desk.join("ann", 1, 1), Accept)
    assert code(desk.join("a", 1, 2)) == "conflict"
    other = desk.granted(GIB, "ann")["lease"]
    assert code(desk.open(lease=other)) == "conflict"
    small = desk.granted(MIB, "ann", purpose="kv_cache")["lease"]
    assert code(desk.open(lease=small)) == "conflict"
    assert code(desk.ask(wire.KvStatus(lease=other), "ops")) == "conflict"
    assert code(desk.ask(wire.KvStatus(lease="1.1.999"), "ops")) == "unknown_lease"
    desk.release(desk.pool, "ann")
    assert desk.state.pools == {}
    assert code(desk.tell("a")) == "lease_ended"
    assert not desk.leave("a")
    desk.check()


def test_a_pool_whose_lease_was_taken_away_lends_nothing() -> None:
    """Until it has ended."""
    desk = PoolDesk()
    desk.join("a", 10, 10)
    desk.hosts["h1"].lose("SIM-h1-0")
    desk.observe("h1")
    assert code(desk.tell("a", take=1)) == "lease_ended"
    assert code(desk.open()) == "conflict"
    desk.check()


@pytest.mark.property
def test_pages_are_never_there_twice() -> None:
    """Whatever engines want, give and forget: what is held is at most the pool, and every promise can be had."""
    step = st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.integers(0, 60))

    @given(st.lists(step, max_size=40))
    def check(steps: list[tuple[str, int, int]]) -> None:
        desk = PoolDesk()
        for name, promised in (("a", 50), ("b", 30), ("c", 20)):
            desk.join(name, promised, 100)
        for name, give, take in steps:
            desk.tell(name, 0, give=give, take=take)
            engines = desk.state.pools[desk.pool].pages.engines
            assert sum(held.pages for held in engines.values()) <= 100
            for other, held in engines.items():
                owed = max(0, held.promised - held.pages)
                assert desk.state.pools[desk.pool].pages.lendable(other) >= owed
        desk.check()

    check()


def test_after_a_loss_engines_join_again_with_what_they_hold_and_nobody_else_does() -> None:
    """A page that another has said first is not given twice; what was lost of a pool's changes is put right. Who shows
    no fence of then has nothing."""
    desk = PoolDesk()
    desk.join("a", 20, 100)
    desk.join("b", 10, 100)
    desk.pages("a", take=60)
    desk.pages("b", take=30)
    desk.lose_log()
    assert code_of(desk.join("c", 1, 1)) == "recovering"
    assert not desk.pages("b", take=1).taken
    assert desk.wanted() == []
    for fence in (None, f"2.1.{desk.number}.{MAC}", f"{desk.pool}.{MAC}", f"1.1.1.{MAC}"):
        assert code(desk.join("b", 10, 100, holding=45, fence=fence)) == "bad_fence"
        assert code(desk.join("c", 0, 100, holding=45, fence=fence)) == "bad_fence"
    assert held(desk.join("b", 10, 100, holding=45)) == 40
    assert held(desk.join("a", 20, 100, holding=55)) == 55
    assert held(desk.join("b", 10, 100, holding=45)) == 45
    assert held(desk.join("c", 0, 10, holding=5)) == 0
    desk.live(30_000)
    desk.renew(desk.pool, "ann", ttl_ms=60_000)
    desk.live(31_000)
    assert code(desk.join("d", 0, 1, holding=1, fence=None)) == "bad_fence"
    assert held(desk.join("d", 0, 1)) == 0
    desk.check()


def code_of(outcome: Outcome) -> str:
    assert isinstance(outcome, Refuse)
    return wire.KvRefused.model_validate({**outcome.reply, "fence": FENCE}).reason


def held(outcome: Outcome) -> int:
    return told(outcome).pages


def keep_of(outcome: Outcome) -> int:
    return told(outcome).keep_ms


def told(outcome: Outcome) -> wire.KvHeld:
    assert isinstance(outcome, Accept | Refuse)
    return wire.KvHeld.model_validate({**outcome.reply, "fence": FENCE})
