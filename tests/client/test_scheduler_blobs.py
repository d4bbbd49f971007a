"""Large payloads and results: the client stores and fetches by itself, and checks what it reads."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from bursar.client.errors import BadReply
from bursar.client.scheduler_blobs import Blobs, _pressed
from bursar.client.worker_task import WorkerTask
from bursar.contracts.scheduler_blobs import PART_BYTES, is_reference
from bursar.errors import CallerError
from tests.client.test_worker import Site, site
from tests.client.virtual import run


async def begun(here: Site) -> None:
    """The worker has told of its functions."""
    here.worker.link.register_soon()
    await asyncio.sleep(0.1)


TEXT = "what an agent reads " * 10_000
NOISE = os.urandom(3 * PART_BYTES)


def test_a_large_payload_and_a_large_result_go_beside_the_messages() -> None:
    """Neither the agent nor the function notices; what is stored is smaller when it can be."""

    async def scenario() -> None:
        async with site() as here:

            @here.worker.task("turn")
            async def turn(task: WorkerTask) -> Any:
                return {"turned": task.payload["text"][::-1], "noise": task.payload["noise"]}

            await begun(here)
            handle = await here.agent.scheduler.submit("turn", {"text": TEXT, "noise": NOISE})
            assert await handle.result(30) == {"turned": TEXT[::-1], "noise": NOISE}
            assert await here.agent.scheduler.handle(handle.id).result(30) == await handle.result()
            blobs = here.there.state.blobs
            assert {owner for owner, _ in blobs.there} == {"ann", "w1"}
            assert blobs.bytes < 2 * (len(NOISE) + len(TEXT) // 10)
            assert is_reference((await handle.status()).result)

    run(scenario())


def test_large_results_are_the_inputs_of_the_next_task_and_large_items_of_a_map() -> None:
    """Graphs and maps store what is too large for one request."""

    async def scenario() -> None:
        async with site() as here:

            @here.worker.task("double")
            async def double(task: WorkerTask) -> Any:
                return task.payload * 2

            @here.worker.task("sizes")
            async def sizes(task: WorkerTask) -> Any:
                return [len(one) for one in task.inputs]

            await begun(here)
            mapped = await here.agent.scheduler.map("double", [NOISE, b"small", NOISE[1:]], gather="sizes")
            assert mapped.gathered is not None
            assert await mapped.gathered.result(60) == [2 * len(NOISE), 10, 2 * len(NOISE) - 2]
            posted = await here.agent.scheduler.post("double", NOISE)
            assert await here.agent.scheduler.handle(posted).result(30) == NOISE * 2

    run(scenario())


def test_the_same_content_is_stored_once() -> None:
    """The first part tells that all of it is there; a key with the same content is the same task."""

    async def scenario() -> None:
        async with site() as here:
            await begun(here)
            first = await here.agent.scheduler.submit("other", NOISE, key="k")
            again = await here.agent.scheduler.submit("other", NOISE, key="k")
            assert first.id == again.id
            assert here.there.verbs().count("put") == 4 + 1
            assert await here.agent.scheduler.cancel_program("none") == 0

    run(scenario())


async def test_what_is_too_large_is_said_at_once() -> None:
    """Before anything is stored; half a megabyte and more is pressed in a thread."""

    async def put(_verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        sent.append(fields["part"])
        return {"whole": False}

    sent: list[int] = []
    blobs = Blobs("ann", put, put)
    for value, most in ((os.urandom(9_000_000), 8_388_608), (bytes(67_108_864), 67_108_864)):
        with pytest.raises(CallerError, match=str(most)) as wrong:
            await blobs.send(value)
        assert wrong.value.code == "too_large"
    assert not sent
    assert is_reference(await blobs.send(os.urandom(600_000)))
    assert sorted(sent) == list(range(13))


@pytest.mark.parametrize("change", [{"size": 1}, {"encoding": "none"}, {"$blob": "0" * 64}])
async def test_what_is_not_what_was_stored_is_not_believed(change: dict[str, Any]) -> None:
    """Its hash is its name, and its length is as told; a bomb is not unpacked."""
    name, data, encoding = _pressed(b"\xc0" * 100_000)
    assert encoding == "zlib"
    told = {"$blob": name, "owner": "ann", "size": 100_000, "packed": len(data), "encoding": encoding, **change}

    async def get(_verb: str, fields: dict[str, Any]) -> dict[str, Any]:
        start = fields["part"] * PART_BYTES
        return {"data": data[start : start + PART_BYTES]}

    with pytest.raises(BadReply):
        await Blobs("ann", get, get).receive(told, "ann.t")
    assert await Blobs("ann", get, get).receive({**told, "size": 100_000, "encoding": "zlib", "$blob": name}, "ann.t")
