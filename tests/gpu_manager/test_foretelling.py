"""Weights that are loaded before they are wanted."""

from __future__ import annotations

from bursar.contracts import gpu_cache as wire
from bursar.kernel.decider import Accept, Refuse
from bursar_gpu_manager.cache_state import CacheState
from bursar_gpu_manager.foretelling import SIZES, Foretelling
from bursar_gpu_manager.model_cache import Want
from tests.gpu_manager.desk import GIB, MAC, Desk

CARD = "h1/SIM-h1-0"


def want(desk: Desk, model: str, size: int = GIB, ahead: bool = False, tier: wire.Tier = "ram") -> wire.CacheAnswer:
    place = CARD if tier == "gpu" else "h1"
    body = wire.CacheWant(id=desk.new_id(), model=model, place=place, size=size, tier=tier, ahead=ahead)
    outcome = desk.ask(body, "ann")
    assert isinstance(outcome, Accept | Refuse)
    return wire.CacheAnswer.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


def loaded(desk: Desk, model: str, answer: wire.CacheAnswer, size: int = GIB) -> None:
    body = wire.CacheLoaded(
        id=desk.new_id(), model=model, place="h1", tier="ram", load=answer.load, size=size, took_ms=500
    )
    assert isinstance(desk.ask(body, "ann"), Accept)


def gone(desk: Desk, model: str) -> None:
    for kind in (wire.CacheLeave, wire.CacheGone):
        desk.ask(kind(id=desk.new_id(), model=model, place="h1", tier="ram"), "ann")


def habit(desk: Desk) -> None:
    """After "plan" comes "code", three times."""
    for _ in range(3):
        for model in ("plan", "code"):
            loaded(desk, model, want(desk, model))
            gone(desk, model)


def test_what_followed_before_is_foretold_and_loaded_ahead() -> None:
    """Nobody uses it then; who wants it has a hit."""
    desk = Desk("h1=16GiB")
    habit(desk)
    told = want(desk, "plan")
    assert (told.next, told.next_size) == ("code", GIB)
    early = want(desk, "code", ahead=True)
    assert early.what == "load"
    assert early.next is None
    loaded(desk, "code", early)
    assert want(desk, "plan").next is None
    assert want(desk, "code").what == "hit"
    desk.check()


def test_nothing_is_loaded_ahead_without_free_room() -> None:
    """Neither foretold nor done; and never in place of something that is there."""
    desk = Desk("h1=16GiB")
    habit(desk)
    loaded(desk, "big", want(desk, "big", 7 * 10**9), 7 * 10**9)
    assert want(desk, "plan", GIB // 2).next is None
    assert want(desk, "code", ahead=True).what == "refused"
    assert want(desk, "big", ahead=True).what == "refused"
    desk.check()


def test_sizes_are_bounded() -> None:
    """The model wanted longest ago is forgotten first; a model of no known size is not foretold."""
    found = Foretelling()
    for _ in range(3):
        for model in ("a", "b"):
            found.see(Want(model, "h1", GIB, "ann", "ram"))
    for number in range(SIZES):
        found.see(Want(f"m{number}", "h1", GIB, f"bob-{number}", "ram"))
    found.see(Want("a", "h1", GIB, "ann", "ram"))
    assert found.predictor.next_of("ann") == "b"
    assert found.next_of(CacheState(), Want("a", "h1", GIB, "ann", "ram")) is None
