"""Observations, the subjects of workers and hosts, and what is told to one principal only."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from bursar.bus.codec import encode
from bursar.bus.memory import MemoryBus, MemoryNetwork
from bursar.contracts.base import Message
from bursar.contracts.base import Request as RequestMessage
from bursar.kernel.decider import Broadcast, Command, Notice
from bursar.kernel.desk import Request
from bursar.kernel.doors import open_doors
from bursar.kernel.host import OBSERVATIONS_WAITING, Host
from bursar.kernel.settings import ServiceSettings
from bursar.kernel.spec import ServiceSpec, Verb
from tests.bus.endpoints import error_in, settle
from tests.kernel.test_host_answers import _Nothing


class Seen(Message):
    """What an agent observed."""

    n: int
    fence: str | None = None


class Post(RequestMessage):
    """A request with a text."""

    text: str = ""


class Stage:
    """A host of a toy service whose runner only notes what it is offered."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.agent = self.network.connect("a1")
        bus: Any = self.network.connect("svc-toy")
        spec = ServiceSpec(
            "toy",
            "1.0.0",
            "A toy.",
            decider=_Nothing,
            verbs={"post": Verb(Post), "long": Verb(Post, strings=32_768)},
            work={"post": Verb(Post)},
            observations={"seen": Verb(Seen), "proven": Verb(Seen, genuine=("fence",))},
            nodes={"gpu": Verb(Seen)},
        )
        self.host = Host(spec, ServiceSettings(), bus, bus)
        self.runner = Runner()
        self.host.runner = self.runner  # type: ignore[assignment]

    async def start(self) -> None:
        await self.host.service.start()
        await open_doors(self.host.service, self.host.spec, self.host._on_call, self.host._on_observation)
        for endpoint in self.host.service.endpoints.values():
            await endpoint.listen()

    async def say(self, subject: str, value: Any, reply: str = "", by: MemoryBus | None = None) -> None:
        payload = value if isinstance(value, bytes) else encode(value)
        (by or self.agent).publish(subject, payload, reply)
        await settle(self.agent)

    def stats(self, name: str) -> Any:
        return self.host.service.endpoints[name].stats


class Runner:
    """Notes what is offered; ``queue`` is as long as the test says."""

    def __init__(self) -> None:
        self.offered: list[Request] = []
        self.replica: Any = self
        self.queue: list[None] = []

    def offer(self, request: Request) -> bool:
        self.offered.append(request)
        return True

    take = offer

    def pump_offered(self) -> None:
        """Nothing is decided here."""


@pytest.fixture
async def stage() -> Stage:
    made = Stage()
    await made.start()
    return made


async def test_an_observation_is_a_command_of_its_sender_and_is_never_answered(stage: Stage) -> None:
    """Not even when it names somewhere to be answered; and it carries no request id, so that nothing is remembered."""
    heard: list[Any] = []
    await stage.agent.subscribe("_R.a1.>", heard.append)
    await stage.say("bursar.obs.toy.seen.a1", {"v": 1, "n": 7}, reply="_R.a1.m0.x")
    assert [request.command for request in stage.runner.offered] == [Command("a1", "", Seen(n=7))]
    assert stage.runner.offered[0].ticket is None
    assert heard == []


async def test_a_probe_speaks_for_the_host_whose_name_its_subject_has(stage: Stage) -> None:
    """``bursar.node.<host>.<kind>``: the host stands before the kind, not at the end."""
    await stage.say("bursar.node.host-1.gpu", {"v": 1, "n": 1})
    assert stage.runner.offered[0].command.principal == "host-1"


@pytest.mark.parametrize(
    "payload", [b"", b"junk", encode({"v": 1}), encode({"v": 1, "n": 1, "x": 1}), b"\xc1" * 70_000]
)
async def test_an_observation_that_cannot_be_read_is_counted_and_goes_nowhere(stage: Stage, payload: bytes) -> None:
    """The decider never sees it; the count is kept for the principal."""
    await stage.say("bursar.obs.toy.seen.a1", payload)
    assert stage.runner.offered == []
    assert stage.stats("obs-seen").num_errors == 1
    assert sum(stage.host.service.violations.of("a1").values()) == 1


async def test_a_malformed_name_is_nobody(stage: Stage) -> None:
    """A server without permissions proves no names: what is not one is not heard."""
    await stage.say("bursar.obs.toy.seen.NOBODY", {"v": 1, "n": 1})
    assert stage.runner.offered == []
    assert stage.stats("obs-seen").num_requests == 0


async def test_observations_do_not_take_the_place_of_requests(stage: Stage) -> None:
    """With a long line they are dropped and counted, while requests still join it."""
    stage.runner.queue = [None] * OBSERVATIONS_WAITING
    await stage.say("bursar.obs.toy.seen.a1", {"v": 1, "n": 1})
    assert stage.runner.offered == []
    assert stage.stats("obs-seen").dropped == 1
    await stage.say("bursar.req.toy.post.a1", {"v": 1, "id": "x-1"}, reply="_R.a1.m0.x")
    assert len(stage.runner.offered) == 1


async def test_an_observation_with_a_forged_fence_is_not_believed(stage: Stage) -> None:
    """`Verb.genuine` holds for observations too, without an answer: nor is one that somebody else was given."""
    await stage.say("bursar.obs.toy.proven.a1", {"v": 1, "n": 1, "fence": "1.1.1.0123456789abcdef"})
    assert stage.runner.offered == []
    await stage.say("bursar.obs.toy.proven.a1", {"v": 1, "n": 1, "fence": stage.host._fencer.seal((1, 1, 1), "a2")})
    assert stage.runner.offered == []
    await stage.say("bursar.obs.toy.proven.a1", {"v": 1, "n": 1, "fence": stage.host._fencer.seal((1, 1, 1), "a1")})
    assert len(stage.runner.offered) == 1


async def test_a_worker_may_use_a_verb_that_agents_have_too(stage: Stage) -> None:
    """The two are different endpoints; each answers below the principal's own prefix only."""
    await stage.say("bursar.work.toy.post.w1", {"v": 1, "id": "x-1"}, reply="_R.w1.x")
    await stage.say("bursar.work.toy.post.w1", {"v": 1, "id": "x-2"}, reply="_R.a1.x")
    assert [request.command.principal for request in stage.runner.offered] == ["w1"]
    assert stage.stats("work-post").bad_reply == 1


@pytest.mark.parametrize(
    ("verb", "size", "taken"), [("post", 4_097, False), ("long", 32_768, True), ("long", 32_769, False)]
)
async def test_a_verb_says_how_long_its_strings_may_be(stage: Stage, verb: str, size: int, taken: bool) -> None:
    """4096 bytes unless the verb says more."""
    asked = encode({"v": 1, "id": "x-1", "text": "x" * size})
    if taken:
        await stage.say(f"bursar.req.toy.{verb}.a1", asked, reply="_R.a1.m0.x")
        assert len(stage.runner.offered) == 1
    else:
        assert error_in(await stage.agent.request(f"bursar.req.toy.{verb}.a1", asked, 1)).code == "bad_shape"


async def test_a_notice_goes_to_one_principal_with_its_fence(stage: Stage) -> None:
    """Unsigned: only services may publish there. It is a message like any other, with a version and a fence that is
    that principal's own."""
    heard: list[tuple[str, Any]] = []
    await stage.agent.subscribe("bursar.assign.*", lambda msg: heard.append((msg.subject, msgpack.unpackb(msg.data))))
    stage.host.announce(Notice("w1", {"task": "t-1"}), (1, 2, 3))
    await settle(stage.agent)
    sealed = stage.host._fencer.seal((1, 2, 3), "w1")
    assert heard == [("bursar.assign.w1", {"v": 1, "task": "t-1", "fence": sealed})]


@pytest.mark.parametrize("told", [Notice("w1", {"n": 2**70}), Notice("", {}), Broadcast("state", "x", {"n": object()})])
async def test_what_cannot_be_announced_does_not_end_the_service(stage: Stage, told: Any) -> None:
    """A fault of a decider in what it wants told costs that announcement, not everybody's service."""
    stage.host.announce(told, (1, 2, 3))
