"""Uses of cached weights: so many for each principal, and any number of them may end together."""

from __future__ import annotations

from bursar.contracts import gpu_cache as wire
from bursar_gpu_manager.caching import MOST_AT_ONCE
from bursar_gpu_manager.model_cache import MOST_USES
from tests.gpu_manager.desk import GIB, code
from tests.gpu_manager.test_caching import CARD, CacheDesk


def test_nobody_uses_a_copy_more_often_than_so() -> None:
    """Who never leaves would fill the ledger, and end in one decision; others, and other copies, are not concerned."""
    desk = CacheDesk("h1=24GiB")
    desk.load("ann")
    for _ in range(MOST_USES):
        assert desk.want("bob").what == "hit"
    before = desk.dump()
    again = wire.CacheWant(id="u-1", model="m", place=CARD, size=GIB)
    assert code(desk.ask(again, "bob")) == "too_many_uses"
    assert desk.dump() == before
    assert desk.want("ann").what == "hit"
    assert desk.want("bob", "other", 10**9).what == "load"
    for _ in range(MOST_USES):
        assert desk.want("bob", "other", 10**9).what == "wait"
    assert code(desk.ask(again.model_copy(update={"id": "u-2", "model": "other"}), "bob")) == "too_many_uses"
    desk.leave("bob")
    assert desk.want("bob").what == "hit"
    desk.check()


def test_any_number_of_uses_may_lapse_together() -> None:
    """They end some at a time: a decision that does not fit into the journal would be refused, and be due at once again
    for ever."""
    desk = CacheDesk("h1=24GiB")
    desk.load("ann")
    desk.configure(cache_use_ms=5_000)
    for number in range(2 * MOST_AT_ONCE + 50):
        assert desk.want(f"a{number}").what == "hit"
    desk.live(6_000)
    assert [copy.users for copy in desk.where().copies] == [0]
    assert desk.most <= MOST_AT_ONCE
