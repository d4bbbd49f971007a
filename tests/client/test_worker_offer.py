"""What a worker says of itself reaches the scheduler; what cannot be said is refused when it is made."""

from __future__ import annotations

from typing import Any

import pytest

from bursar.client.worker import Worker
from bursar.client.worker_offer import host_name
from bursar.errors import CallerError
from tests.client.worker_site import Site, play


def test_what_a_worker_has_is_known_to_the_scheduler() -> None:
    """Where it is, what it costs, what its tasks share; and a task that needs more than it has waits."""
    has: dict[str, Any] = {
        "host": "box-1", "numa_node": 1, "region": "eu-west", "preemptible": True, "price": 12, "models": ["llama3:8b"],
        "gpu_model": "H200", "gpu_memory_mib": 1_024, "cpu_millis": 4_000, "ram_mib": 512, "tokens": {"openai": 4_096},
    }  # fmt: skip

    async def test(site: Site) -> None:
        site.worker.task("work")(lambda task: None)

        @site.worker.task("quick")
        async def quick(_: object) -> str:
            return "done"

        await site.work()
        (body,) = [body for _, verb, _, body in site.there.heard if verb == "register"]
        told = body.model_dump()
        assert {name: told[name] for name in has} == {**has, "models": ("llama3:8b",)}
        submit = site.agent.scheduler.submit
        assert await (await submit("quick", needs={"gpu_memory_mib": 1_000, "gpu_model": "H200"})).result(5) == "done"
        waits = await submit("quick", needs={"gpu_memory_mib": 2_000})
        with pytest.raises(TimeoutError):
            await waits.result(5)

    play(test, kind="gpu", slots=2, **has)


def test_the_host_is_this_machine_unless_it_is_named() -> None:
    """So that what belongs together can be put together."""

    async def test(site: Site) -> None:
        site.worker.task("work")(lambda task: None)
        await site.work()
        (body,) = [body for _, verb, _, body in site.there.heard if verb == "register"]
        assert (body.host or "") == host_name()

    play(test)


@pytest.mark.parametrize(
    "wrong", [{"kind": "quantum"}, {"labels": {"": "a"}}, {"price": -1}, {"tokens": {"openai": 0}}, {"host": "Box 1"}]
)
def test_what_cannot_be_said_is_refused_at_once(wrong: dict[str, Any]) -> None:
    """With the name of what is wrong."""
    with pytest.raises(CallerError, match=next(iter(wrong))):
        Worker(**wrong)


def test_an_unknown_name_is_a_mistake_of_the_program() -> None:
    """As for any function."""
    with pytest.raises(TypeError, match="colour"):
        Worker(colour="blue")  # type: ignore[call-arg]
