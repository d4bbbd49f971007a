"""Fences that a message carries as a proof are checked at the border: a decider may believe their numbers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.codec import encode
from bursar.bus.memory import MemoryNetwork
from bursar.bus.signing import Signer
from bursar.contracts.base import Fence, Request
from bursar.kernel.doors import open_doors
from bursar.kernel.fencing import EVERYBODY, Fencer
from bursar.kernel.host import Host
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec, Verb
from tests.bus.endpoints import error_in
from tests.integration.toy_service import Counter

KEY = b"k" * 32
FENCE = (3, 14, 159)
GIVEN = Fencer(KEY).seal(FENCE, "a1")

Ask = Callable[[Mapping[str, Any]], Any]


class Give(Request):
    """A request that proves two things, one of them only perhaps."""

    held: Fence
    other: Fence | None = None


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    """Sends a `Give` to a host that owns nothing, and brings back the code of its error."""
    (tmp_path / "fence.key").write_bytes(KEY)
    Signer.load_or_create(tmp_path / "signing.nk")
    network = MemoryNetwork()
    agent, bus = network.connect("a1"), network.connect("svc-toy")
    spec = ServiceSpec("toy", "1.0.0", "A toy.", Counter, {"give": Verb(Give, genuine=("held", "other"))})
    untyped: Any = bus
    host = Host(spec, ServiceSettings(keys_dir=tmp_path), untyped, untyped)
    await open_doors(host.service, spec, host._on_call, host._on_observation)
    await host.service.start()
    await host.service.endpoints["give"].listen()

    async def send(fields: Mapping[str, Any]) -> Any:
        message = encode({"v": 1, "id": "a-1", **fields}, "msgpack")
        return error_in(await agent.request("bursar.req.toy.give.a1", message, 1))

    yield send
    await host.service.stop()


def forged() -> list[str]:
    """Other numbers under a true MAC, another MAC, the MAC of another service, what somebody else was given, and what
    all were."""
    mac = GIVEN.rpartition(".")[2]
    others = [Fencer(KEY).seal(FENCE, "a2"), Fencer(KEY).seal(FENCE, EVERYBODY)]
    return [f"3.14.160.{mac}", f"3.14.159.{'0' * 16}", Fencer(b"x" * 32).seal(FENCE, "a1"), *others]


@pytest.mark.parametrize("fence", forged())
@pytest.mark.parametrize("field", ["held", "other"])
async def test_forged_fence_is_refused_before_anything_is_decided(ask: Ask, field: str, fence: str) -> None:
    """Whichever field it stands in; the error names the field."""
    error = await ask({"held": GIVEN, field: fence})
    assert (error.code, error.status, error.facts) == ("bad_fence", 409, {"field": field})


@pytest.mark.parametrize("other", [{}, {"other": None}, {"other": Fencer(KEY).seal((1, 1, 1), "a1")}])
async def test_genuine_fence_passes_and_an_absent_one_too(ask: Ask, other: Mapping[str, Any]) -> None:
    """The request goes on to the shard (which this host does not own)."""
    assert (await ask({"held": GIVEN, **other})).code == "not_ready"


@pytest.mark.parametrize("given_to", ["a1", EVERYBODY])
async def test_fence_that_the_caller_was_given_or_heard_with_all_may_be_shown_as_seen(ask: Ask, given_to: str) -> None:
    """It is above what this host knows: who shows it is asked to come again, and the host looks into it."""
    assert (await ask({"held": GIVEN, "seen": Fencer(KEY).seal(FENCE, given_to)})).code == "not_ready"


@pytest.mark.parametrize("seen", [Fencer(KEY).seal(FENCE, "a2"), "3.14.159.0123456789abcdef"])
async def test_fence_that_somebody_else_was_given_is_not_believed_as_seen(ask: Ask, seen: str) -> None:
    """Whoever collects what others were given has no way to make a service look into a loss."""
    error = await ask({"held": GIVEN, "seen": seen})
    assert (error.code, error.status) == ("bad_fence", 409)
