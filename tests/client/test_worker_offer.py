"""What a worker says of itself reaches the scheduler; what cannot be said is refused when it is made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bursar import prefix_of
from bursar.client.worker import Worker
from bursar.client.worker_offer import host_name
from bursar.contracts.scheduler import Submit
from bursar.errors import CallerError
from tests.client.worker_site import Site, play


def test_what_a_worker_has_is_known_to_the_scheduler() -> None:
    """Where it is, what it costs, what its tasks share; and a task that needs more than it has waits."""
    has: dict[str, Any] = {
        "host": "box-1", "numa_node": 1, "region": "eu-west", "preemptible": True, "price": 12, "models": ["llama3:8b"],
        "gpu_model": "H200", "gpu_memory_mib": 1_024, "cpu_millis": 4_000, "ram_mib": 512, "tokens": {"openai": 4_096},
        "batch_tokens": 8_192,
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


def test_models_that_are_loaded_later_are_told() -> None:
    """A task that needs one waits until then."""

    async def test(site: Site) -> None:
        @site.worker.task("work")
        async def work(_: object) -> str:
            return "done"

        await site.work()
        waits = await site.agent.scheduler.submit("work", needs={"model": "llama3:8b"})
        with pytest.raises(TimeoutError):
            await waits.result(2)
        with pytest.raises(CallerError, match="models"):
            site.worker.loaded(["no such model"])
        site.worker.loaded(["llama3:8b"])
        assert await waits.result(5) == "done"

    play(test)


def test_the_way_is_measured_and_told() -> None:
    """To the scheduler, until a function has measured the way to what it works with; the shortest counts."""

    async def test(site: Site) -> None:
        site.worker.task("work")(lambda task: None)
        await site.work()
        await asyncio.sleep(6)
        beats = [body for space, _, _, body in site.there.heard if space == "obs"]
        assert beats[-1].latency_us is not None
        site.worker.measured(0.9)
        site.worker.measured(0.25)
        site.worker.measured(0.4)
        await asyncio.sleep(1.1)
        beats = [body for space, _, _, body in site.there.heard if space == "obs"]
        assert beats[-1].latency_us == 250_000

    play(test, region="far")


def test_equal_beginnings_have_equal_hashes() -> None:
    """Of texts and of tokens; only whole blocks count, and 32 of them at most."""
    one, other = "a" * 1_024 + "b" * 1_024, "a" * 1_024 + "c" * 2_000
    assert prefix_of(one)[0] == prefix_of(other)[0]
    assert prefix_of(one)[1] != prefix_of(other)[1]
    assert len(prefix_of(one)) == len(prefix_of(other)) == 2
    assert prefix_of([1, 2, 3, 4, 5], block=2) == prefix_of([1, 2, 3, 4, 9], block=2)
    assert len(prefix_of(range(1_000), block=1)) == 32
    assert prefix_of("short") == ()
    with pytest.raises(ValueError, match="one token"):
        prefix_of("text", block=0)
    body = {"id": "s-1", "task_class": "chat", "hints": {"prefix": prefix_of(one), "data": {"host": "h1"}}}
    assert Submit.model_validate(body).hints is not None
