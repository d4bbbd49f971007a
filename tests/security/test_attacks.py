"""What somebody with real credentials tries against a whole running installation: to speak, hear and act for others.

`bursar up` runs as a process, all services are the real ones, and attackers write the protocol by hand.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bursar.bus.codec import decode_value, encode
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, keys, load_home
from bursar.bus.signing import EVENT_LIMITS, Verifier
from bursar.errors import ServiceError
from tests.bus.attacker import Attacker
from tests.bus.support import eventually
from tests.examples.installation import Installation, running

pytestmark = pytest.mark.integration

SERVICES = ("limiter", "breaker", "gpu-manager", "scheduler", "monitor")

HEAR = (
    *(f"bursar.req.{service}.>" for service in SERVICES),
    *(f"bursar.adm.{service}.>" for service in SERVICES),
    *(f"bursar.obs.{service}.>" for service in SERVICES),
    *("bursar.req.*.*.bob", "bursar.work.scheduler.>", "bursar.node.>", "bursar.inbox.>", "bursar.line.>"),
    *("_R.bob.>", "_R.*.>", "_R.>", "_R_.>", "bursar.assign.bob", "bursar.assign.*", ">", "*.>", "bursar.>"),
    *("bursar.log.>", "bursar.ckpt.>", "bursar.audit.>", "bursar.audited.>", "$JS.>", "$SYS.>", "$SRV.>", "$KV.>"),
)
"""What is not for alice's ears, alone or in a queue group with those whom it is for."""

SAY = (
    *(f"bursar.adm.{service}.rights.alice" for service in SERVICES),
    *(f"bursar.req.{service}.status.bob" for service in SERVICES),
    *(f"bursar.evt.{service}.state.x" for service in SERVICES),
    *(f"bursar.log.{service}.0" for service in SERVICES),
    *(f"bursar.audit.{service}" for service in SERVICES),
    *("bursar.work.scheduler.register.alice", "bursar.node.alice.gpu", "bursar.inbox.scheduler.bob"),
    *("bursar.assign.bob", "_R.bob.x.1", "_R.ops.x.1", "_R.svc-limiter.x.1", "_R_.x", "bursar.line.limiter.error"),
    *("$JS.API.STREAM.DELETE.BURSAR_AUDIT", "$JS.API.STREAM.PURGE.BURSAR_LOG_LIMITER", "$SYS.REQ.CLAIMS.UPDATE"),
    *("$JS.ACK.BURSAR_LOG_LIMITER.c.1.1.1.1.0", "$SRV.PING", "$SYS.REQ.SERVER.PING.CONNZ"),
)
"""What alice may not say."""

ELSEWHERE = (
    *("_R.bob.x.1", "_R.ops.x.1", "_R.alice2.x", "bursar.assign.bob", "bursar.inbox.scheduler.bob"),
    *("bursar.req.limiter.reserve.bob", "bursar.adm.limiter.reload.ops", "bursar.evt.limiter.state.x"),
    *("bursar.evt.breaker.state.x", "bursar.log.limiter.0", "bursar.ckpt.limiter.0.manifest", "bursar.audit.limiter"),
    *("$JS.API.STREAM.DELETE.BURSAR_AUDIT", "$JS.API.STREAM.PURGE.BURSAR_LOG_LIMITER", "$SRV.PING"),
)
"""Where an answer to alice must never go, whatever reply subject she names."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    home = tmp_path_factory.mktemp("attacks") / "home"
    with running(home) as started:
        for name in ("alice", "alice2", "bob", "worker-1"):
            started.creds(name)
        yield started


@pytest.fixture
def home(site: Installation) -> Home:
    return load_home(site.home)


Join = Callable[[str], Any]


@pytest.fixture
async def join(site: Installation) -> AsyncIterator[Join]:
    """Connects somebody as the client does."""
    async with AsyncExitStack() as stack:

        async def joined(name: str) -> NatsBus:
            bus = await connect(site.url, site.creds(name), principal=name)
            stack.push_async_callback(bus.close)
            return bus

        yield joined


async def ask(bus: NatsBus, service: str, verb: str, /, kind: str = "req", **fields: Any) -> dict[str, Any]:
    """One request in JSON, and its answer."""
    subject = f"bursar.{kind}.{service}.{verb}.{bus.principal}"
    return dict(json.loads((await bus.request(subject, json.dumps(fields).encode(), 5.0)).data))


async def test_an_agent_overhears_nobody(
    site: Installation, join: Join, record_property: Callable[[str, object], None]
) -> None:
    """Eavesdropping: each subscription is refused, alone and in a queue group, and nothing of another's traffic
    arrives."""
    async with Attacker(site.url, site.creds("alice")) as alice:
        both = [(subject, queue) for subject in HEAR for queue in ("", "q")]
        assert [one for one in both if not await alice.subscribe(*one)] == []
        bob, ops = await join("bob"), await join("ops")
        assert (await ask(bob, "limiter", "reserve", id="e-1", budget="demo", amounts={}))["ok"]
        assert (await ask(ops, "scheduler", "list-all", "adm"))["ok"]
        await alice.verdict()
        assert alice.heard == []
    record_property("cases", 2 * len(HEAR) + 1)


async def test_an_agent_says_nothing_for_others(
    site: Installation, join: Join, record_property: Callable[[str, object], None]
) -> None:
    """Hijacking: of requests, answers, notices, broadcasts, journals, the audit log, the server itself."""
    bob = await join("bob")
    got: list[str] = []
    for subject in ("bursar.assign.bob", "bursar.evt.*.state.*"):
        await bob.subscribe(subject, lambda message: got.append(message.subject))
    async with Attacker(site.url, site.creds("alice")) as alice:
        said = [subject for subject in SAY if not await alice.publish(subject, b'{"v":1}')]
    assert said == []
    await bob.flush()
    assert got == []
    record_property("cases", len(SAY) + 1)


async def test_no_service_is_a_confused_deputy(
    site: Installation, join: Join, record_property: Callable[[str, object], None]
) -> None:
    """Whatever reply subject is named, and whatever is asked (also nonsense): no service answers there."""
    verbs = {"limiter": "status", "breaker": "status", "gpu-manager": "status", "scheduler": "status"}
    auditor = await join("auditor")

    async def audited() -> int:
        answer = await auditor.request("$JS.API.STREAM.INFO.BURSAR_AUDIT", b"", 5.0)
        return int(json.loads(answer.data).get("state", {}).get("last_seq", -1))

    before = await audited()
    async with Attacker(site.url, site.creds("bob")) as bob, Attacker(site.url, site.creds("alice")) as alice:
        for subject in ("_R.bob.>", "bursar.assign.bob", "bursar.evt.limiter.state.>", "bursar.evt.breaker.state.>"):
            assert not await bob.subscribe(subject)
        assert not await alice.subscribe("_R.alice.>")
        for service, verb in verbs.items():
            for place in ELSEWHERE:
                for payload in (b'{"v":1}', b"\xff"):
                    assert not await alice.publish(f"bursar.req.{service}.{verb}.alice", payload, reply=place)
            assert await alice.publish(f"bursar.req.{service}.{verb}.alice", b'{"v":1}', reply="_R_.x")
            assert not await alice.publish(f"bursar.req.{service}.{verb}.alice", b'{"v":1}', reply="_R.alice.x.1")
        await alice.until_heard(len(verbs))
        assert {heard.subject for heard in alice.heard} == {"_R.alice.x.1"}
        await bob.verdict()
        assert [heard.subject for heard in bob.heard if not heard.subject.startswith("bursar.evt.")] == []
    assert await audited() == before
    record_property("cases", len(verbs) * (2 * len(ELSEWHERE) + 1))


async def test_a_request_that_is_sent_again_is_not_granted_again(join: Join) -> None:
    """Replay: the same bytes bring the same answer; in another's name another decision; with other content an error."""
    alice, bob = await join("alice"), await join("bob")
    asked: dict[str, Any] = {"id": "replay-1", "budget": "demo", "amounts": {"requests": 1}}
    first = await ask(alice, "limiter", "reserve", **asked)
    again = await ask(alice, "limiter", "reserve", **asked)
    assert (first["ok"], again["reservation"]) == (True, first["reservation"])
    assert (await ask(bob, "limiter", "reserve", **asked))["reservation"] != first["reservation"]
    other = await ask(alice, "limiter", "reserve", **(asked | {"amounts": {"requests": 2}}))
    assert other["error"]["code"] == "id_reused"
    stolen = await ask(bob, "limiter", "settle", id="replay-2", reservation=first["reservation"], outcome="cancelled")
    assert stolen["error"]["code"] == "not_yours"


async def test_a_fence_of_somebody_else_is_worth_nothing(join: Join) -> None:
    """Shown as a proof by whom it was not given to, it is refused, and so is one that is made up."""
    alice, bob = await join("alice"), await join("bob")
    granted = await ask(alice, "limiter", "reserve", id="fence-1", budget="demo", amounts={"requests": 1})
    shown = {"budget": "demo", "amounts": {"requests": 1}, "reservation": granted["reservation"], "ttl_ms": 1_000}
    shown |= {"granted_at_ms": granted["granted_at_ms"], "fence": granted["fence"]}
    assert (await ask(bob, "limiter", "redeclare", id="fence-2", **shown))["error"]["code"] == "bad_fence"
    forged = shown | {"fence": granted["fence"][:-16] + "0" * 16}
    assert (await ask(alice, "limiter", "redeclare", id="fence-3", **forged))["error"]["code"] == "bad_fence"
    assert (await ask(alice, "limiter", "redeclare", id="fence-4", **shown))["ok"]


async def test_a_broadcast_counts_only_where_it_was_said_and_by_whom(site: Installation, join: Join) -> None:
    """Replay: moved to another subject, changed, or signed by another service, it is none."""
    alice = await join("alice")
    caught: list[tuple[str, bytes]] = []
    await alice.subscribe("bursar.evt.breaker.pulse.*", lambda message: caught.append((message.subject, message.data)))
    await eventually(lambda: bool(caught), within=5.0)
    subject, payload = caught[0]
    verifier = Verifier(json.loads((site.home / "trust.json").read_text()))
    assert verifier.open(subject, payload)["revision"] >= 0
    envelope, _ = decode_value(payload, EVENT_LIMITS)
    changed = encode(envelope | {"b": envelope["b"] + b"\x00"})
    for moved, what in (
        ("bursar.evt.breaker.state.registry", payload),
        ("bursar.evt.limiter.pulse.registry", payload),
        ("bursar.evt.nobody.pulse.registry", payload),
        (subject, changed),
        (subject, payload[:-1]),
    ):
        with pytest.raises(ServiceError, match="bad_signature"):
            verifier.open(moved, what)


async def test_a_login_cannot_be_used_again(site: Installation) -> None:
    """Replay: what somebody has sent to log in answers one challenge of the server, and no other."""
    creds = site.creds("alice")
    async with Attacker(site.url, creds) as first:
        said = first._login("a nonce of another connection")
    replayed = Attacker(site.url, creds)
    replayed._login = lambda nonce: said  # type: ignore[method-assign]
    async with replayed as again:
        assert "closed" in await again.publish("bursar.req.limiter.status.alice")


async def test_a_token_without_its_secret_key_opens_nothing(site: Installation, tmp_path: Path) -> None:
    """The JWT is no secret; who has it and not the seed is nobody."""
    text = site.creds("alice").read_text()
    seed = text.split("-----BEGIN USER NKEY SEED-----\n")[1].splitlines()[0]
    stolen = tmp_path / "alice.creds"
    stolen.write_text(text.replace(seed, keys.generate(keys.USER).seed.decode()))
    async with Attacker(site.url, stolen) as thief:
        assert "closed" in await thief.verdict() or "closed" in await thief.publish("bursar.req.limiter.status.alice")


async def test_rights_hold_on_a_running_installation(
    site: Installation, join: Join, record_property: Callable[[str, object], None]
) -> None:
    """Set by an operator, at once, for everybody they name; nobody else can set them."""
    ops, alice, bob = await join("ops"), await join("alice"), await join("bob")
    rules = [{"who": ["alice"], "budgets": ["mine"], "models": ["llama*"], "gpus": [], "targets": ["openai"]}]
    ruled = ("limiter", "breaker", "gpu-manager", "scheduler")
    for service in ruled:
        assert (await ask(ops, service, "rights", "adm", id="rights-1", rules=rules))["changed"]
    tries: list[tuple[str, str, dict[str, Any]]] = [
        ("limiter", "reserve", {"budget": "demo", "amounts": {"requests": 1}}),
        ("limiter", "rate-limited", {"budget": "demo"}),
        ("gpu-manager", "lease", {"memory": 1}),
        ("gpu-manager", "cache-want", {"model": "qwen", "place": "h1", "tier": "ram", "size": 1}),
        ("scheduler", "submit", {"task_class": "c", "needs": {"model": "qwen"}}),
        ("scheduler", "submit", {"task_class": "c", "needs": {"kind": "gpu"}}),
        ("breaker", "probe", {"target": "anthropic/eu"}),
    ]
    for number, (service, verb, fields) in enumerate(tries):
        refused = await ask(alice, service, verb, id=f"r-{number}", **fields)
        assert refused["error"]["code"] == "forbidden", (service, verb, refused)
        allowed = await ask(bob, service, verb, id=f"r-{number}", **fields)
        assert allowed.get("error", {}).get("code") != "forbidden", (service, verb, allowed)
    for service in ruled:
        assert (await ask(ops, service, "rights", "adm", id="rights-2", rules=[]))["rules"] == 0
    assert (await ask(alice, "scheduler", "submit", id="r-99", task_class="c", needs={"model": "qwen"}))["ok"]
    record_property("cases", 2 * len(tries) + 2)


async def test_command_line_sets_rights_while_all_runs(site: Installation, join: Join, tmp_path: Path) -> None:
    """In every service that hands something out; and says when it was so before."""
    alice, file = await join("alice"), tmp_path / "rights.toml"
    file.write_text('[[rule]]\nwho = ["alice"]\nmodels = ["llama"]\n')
    common = ("bursar.cli.main", "rights")
    python = (sys.executable, "-m")
    shown = site.run("ops", *python, *common, "check", file, "alice")
    assert shown.splitlines() == ["budgets\tall", "models\tllama", "gpus\tall", "targets\tall"]
    set_now = await asyncio.to_thread(site.run, "ops", *python, *common, "apply", file, "--home", site.home)
    assert [line.partition(": ")[2] for line in set_now.splitlines()] == ["1 rules"] * 4
    refused = await ask(alice, "scheduler", "submit", id="cli-1", task_class="c", needs={"model": "qwen"})
    assert refused["error"]["code"] == "forbidden"
    again = await asyncio.to_thread(site.run, "ops", *python, *common, "apply", file, "--home", site.home)
    assert all(line.endswith("as before") for line in again.splitlines())
    file.write_text("")
    await asyncio.to_thread(site.run, "ops", *python, *common, "apply", file, "--home", site.home)
    assert (await ask(alice, "scheduler", "submit", id="cli-2", task_class="c", needs={"model": "qwen"}))["ok"]
