"""Copies of weights in a host's memory, for which no card is a witness."""

from __future__ import annotations

from typing import Any

from bursar.contracts import gpu_cache as wire
from bursar.kernel.decider import Accept, Refuse
from tests.gpu_manager.test_caching import CacheDesk


def test_a_copy_in_a_hosts_memory_is_gone_with_its_owner() -> None:
    """Who says nothing any more has no process that could hold it: the bound is free for others."""
    desk = CacheDesk("h1=24GiB")
    ram: dict[str, Any] = {"place": "h1", "tier": "ram"}
    for who, model in (("dead", "old"), ("ann", "kept")):
        load = desk.want(who, model, 3 * 10**9, "h1", "ram").load
        assert isinstance(desk.loaded(who, load, None, model, size=3 * 10**9, **ram), Accept)
        desk.leave(who, model, **ram)
    kept = wire.CopyName(model="kept", place="h1", tier="ram")
    for number in range(5):
        desk.live(20_000)
        outcome = desk.ask(wire.CacheKeep(copies=(kept,)), "ann")
        assert isinstance(outcome, Refuse)
        assert outcome.reply["gone"] == []
        if number == 1:
            assert [copy.model for copy in desk.where().copies] == ["old", "kept"]
            desk.take_over()
            desk.observe("h1")
    assert [copy.model for copy in desk.where().copies] == ["kept"]
    assert desk.want("bob", "new", 5 * 10**9, "h1", "ram").what == "load"
    desk.check()


def test_of_a_copy_in_a_hosts_memory_only_its_owner_can_say_that_it_is_gone() -> None:
    """It is asked, by steps; no card is a witness."""
    desk = CacheDesk("h1=24GiB")
    ram: dict[str, Any] = {"place": "h1", "tier": "ram"}
    load = desk.want("ann", "m", 3 * 10**9, "h1", "ram").load
    assert isinstance(desk.loaded("ann", load, None, size=3 * 10**9, **ram), Accept)
    desk.leave("ann", **ram)
    desk.live(11_000)
    desk.said()
    desk.ask(wire.CacheBound(id="b-1", host="h1", tier="ram", size=10**9), "ops")
    desk.live(6_000)
    assert desk.said() == [("ann", "ask"), ("ann", "sleep")]
    assert [copy.phase for copy in desk.where().copies] == ["evicting"]
    assert isinstance(desk.ask(wire.CacheGone(id="g-1", model="m", **ram), "ann"), Accept)
    assert desk.where().copies == []
    desk.check()
