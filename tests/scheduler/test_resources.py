"""What tasks share beside slots: memory of GPUs, CPU, RAM, tokens in flight."""

from __future__ import annotations

from typing import Any

import pytest

from bursar_scheduler.resources import rounded_up
from tests.scheduler.desk import Desk

GPU: dict[str, Any] = {"kind": "gpu", "gpu_memory_mib": 24_564, "gpu_model": "RTX 4090", "cpu_millis": 4_000}


@pytest.mark.parametrize(
    ("needs", "fits"),
    [
        ({"gpu_memory_mib": 24_564}, True),
        ({"gpu_memory_mib": 24_565}, False),
        ({"gpu_memory_mib": 20_000, "gpu_model": "RTX 4090"}, True),
        ({"gpu_memory_mib": 20_000, "gpu_model": "H200"}, False),
        ({"cpu_millis": 4_000}, True),
        ({"ram_mib": 1}, False),
        ({"tokens": {"openai": 5}}, False),
    ],
)
def test_a_worker_gets_what_it_has_room_for(needs: dict[str, Any], fits: bool) -> None:
    """What a worker does not name, it has none of; whoever comes first."""
    for worker_first in (True, False):
        desk = Desk()
        if worker_first:
            desk.register(**GPU)
        task = desk.submit(needs=needs)
        if not worker_first:
            desk.register(**GPU)
        assert desk.where(task) == ("assigned" if fits else "ready")
        desk.check()


def test_resources_are_shared_by_all_that_runs_on_a_worker() -> None:
    """They come back with the slot, when the worker itself has stopped the attempt."""
    desk = Desk()
    desk.register(slots=8, **GPU)
    first, second, third = (desk.submit(needs={"gpu_memory_mib": 10_000}) for _ in range(3))
    small = desk.submit(needs={"gpu_memory_mib": 4_000})
    free = desk.submit()
    assert [desk.where(task) for task in (first, second, third, small, free)] == [
        "assigned", "assigned", "ready", "assigned", "assigned",
    ]  # fmt: skip
    token = desk.start(first)
    desk.cancel(first)
    assert desk.where(third) == "ready", "it may still run"
    desk.check()
    desk.release(first, token, "w1")
    assert desk.where(third) == "assigned"
    desk.check()


def test_an_end_brings_only_what_then_has_room() -> None:
    """The next in line on the same worker, counted without the attempt that ends."""
    desk = Desk()
    desk.register(slots=2, **GPU)
    first = desk.submit(needs={"gpu_memory_mib": 16_000})
    large = desk.submit(needs={"gpu_memory_mib": 20_000})
    small = desk.submit(needs={"gpu_memory_mib": 8_000})
    assert [desk.where(task) for task in (large, small)] == ["ready", "assigned"]
    desk.run(first)
    assert desk.where(large) == "ready"
    desk.run(small)
    assert desk.where(large) == "assigned"
    desk.check()


def test_tokens_in_flight_are_counted_by_provider() -> None:
    """Rounded up by less than a quarter, so that calls of nearly the same size stand in one line."""
    desk = Desk()
    desk.register(kind="remote", slots=64, tokens={"openai": 20_000, "other": 1_000})
    tasks = [desk.submit(needs={"tokens": {"openai": 3_900 + number}}) for number in range(6)]
    assert [desk.where(task) for task in tasks] == ["assigned"] * 5 + ["ready"]
    assert len({desk.state.tasks[task].lane for task in tasks}) == 1
    for amount in (1, 7, 8, 1_000, 4_097, 999_999):
        assert amount <= rounded_up(amount) < 1.25 * amount or amount < 8
    desk.check()


def test_what_runs_keeps_its_room_when_its_worker_registers_again() -> None:
    """With a smaller card nothing more fits until there is room."""
    desk = Desk()
    desk.register(slots=4, **GPU)
    task, other = (desk.submit(needs={"gpu_memory_mib": 12_000}) for _ in range(2))
    tokens = [desk.start(task), desk.start(other)]
    desk.register(slots=4, **{**GPU, "gpu_memory_mib": 16_000}, running=tuple(tokens))
    waiting = desk.submit(needs={"gpu_memory_mib": 10_000})
    desk.finish(task)
    assert desk.where(waiting) == "ready"
    desk.finish(other)
    assert desk.where(waiting) == "assigned"
    desk.check()


def test_where_a_worker_is_and_what_it_costs_is_kept() -> None:
    """For placement, and for the operators to see."""
    desk = Desk()
    desk.register(host="node-7", numa_node=1, region="eu", preemptible=True, price=250, models=("llama-8b",))
    told = {"host": "node-7", "numa": 1, "region": "eu", "preemptible": True, "price": 250, "models": ("llama-8b",)}
    assert desk.state.workers["w1"].place == told
    desk.check()
