"""Estimates that learn from what was observed."""

from __future__ import annotations

from typing import Any

from bursar.contracts import gpu as wire
from bursar.contracts import gpu_advice as advice
from bursar.kernel.decider import Refuse
from bursar_gpu_manager.correcting import MOST
from tests.gpu_manager.desk import GIB, MAC, Desk

LOAD = wire.ModelLoad(model="qwen2.5-0.5b", context=4_096, max_num_sequences=4)


def asked(desk: Desk, load: wire.ModelLoad = LOAD) -> wire.Explained:
    outcome = desk.ask(wire.Explain(load=load), "ann")
    assert isinstance(outcome, Refuse)
    return wire.Explained.model_validate({**outcome.reply, "fence": f"1.1.1.{MAC}"})


def started(desk: Desk, lease: str) -> Any:
    outcome = desk.ask(advice.Startup(lease=lease, fence=f"{lease}.{MAC}", load=LOAD), "ann")
    assert isinstance(outcome, Refuse)
    return outcome.reply


def test_what_an_engine_really_took_is_what_the_next_one_is_estimated_at() -> None:
    """Only when it has loaded, and only for this model in this format."""
    desk = Desk("h1=24GiB")
    before, other = asked(desk), asked(desk, LOAD.model_copy(update={"form": "awq"}))
    assert before.estimate is not None
    pid, process = desk.process("h1")
    lease = desk.granted(6 * GIB, "ann", processes=(process,))["lease"]
    tokens = started(desk, lease)["tokens"]
    cache = tokens * before.estimate.kv_per_token
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", GIB)
    desk.observe("h1")
    assert asked(desk).memory == before.memory
    fixed = before.memory - before.estimate.kv_cache
    desk.hosts["h1"].allocate(pid, "SIM-h1-0", fixed + cache + GIB // 2 - GIB)
    desk.observe("h1")
    learned = asked(desk).memory
    assert 0 <= learned - before.memory - GIB // 2 < 1 << 20
    assert asked(desk).memory == learned
    assert asked(desk, LOAD.model_copy(update={"form": "awq"})).memory == other.memory
    assert not desk.state.expected


def test_a_lease_that_has_ended_teaches_nothing() -> None:
    """And of so many at most it is remembered what goes into them."""
    desk = Desk("h1=80GiB")
    lease = desk.granted(6 * GIB, "ann")["lease"]
    started(desk, lease)
    started(desk, lease)
    assert len(desk.state.expected) == 1
    desk.release(lease, "ann")
    before = asked(desk).memory
    assert not desk.state.expected
    lease = desk.granted(6 * GIB, "ann")["lease"]
    started(desk, lease)
    [one] = desk.state.expected.values()
    desk.state.expected.update({f"x{number}": one for number in range(MOST)})
    second = desk.granted(6 * GIB, "ann")["lease"]
    started(desk, second)
    assert lease not in desk.state.expected
    assert asked(desk).memory == before
