"""What an attacker with real credentials tries, and what the principals of a service need, on the real server.

Replies are the way around permissions: a server or a service that answers to a subject of the caller's choice speaks
with its own rights. So each attack here names a subject that the attacker may not publish to as the place to answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from bursar.bus.call import Call
from bursar.bus.connection import NatsBus, connect
from bursar.bus.identity import Home, create_home, jwt, mint_agent
from bursar.bus.micro import Service
from bursar.bus.server import NatsServer, provision
from bursar.contracts.limiter import Status
from tests.bus.attacker import Attacker
from tests.bus.support import eventually

pytestmark = pytest.mark.integration

LOG = "BURSAR_LOG_LIMITER"
ELSEWHERE = [
    "bursar.log.limiter.0",
    "bursar.log.breaker.0",
    "bursar.ckpt.limiter.0.manifest",
    "bursar.evt.limiter.circuit.x",
    "bursar.evt.breaker.state.x",
    "bursar.assign.a2",
    "bursar.inbox.limiter.a2",
    "bursar.req.limiter.echo.a2",
    "bursar.adm.limiter.reload.ops",
    f"$JS.API.STREAM.DELETE.{LOG}",
    f"$JS.API.STREAM.PURGE.{LOG}",
    f"$JS.API.STREAM.MSG.DELETE.{LOG}",
    "$SRV.PING",
    "$SYS.REQ.SERVER.PING",
    "_R.a2.stolen",
    "_R.a10.stolen",
    "_R.ops.stolen",
    "_R.svc-limiter-log.stolen",
]
"""Places that must never hear an answer to a1."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = create_home(tmp_path_factory.mktemp("permissions"), ["limiter", "breaker"])
    for name in ("a1", "a2", "a10"):
        mint_agent(made, name)
    return made


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[NatsServer]:
    async def prepare(url: str) -> None:
        for service in ("limiter", "breaker"):
            principal = f"svc-{service}-provisioner"
            bus = await connect(url, home.creds(principal), principal=principal)
            await provision(bus, service)
            await bus.close()

    running = NatsServer(home)
    asyncio.run(running.start())
    try:
        asyncio.run(prepare(running.url))
        yield running
    finally:
        asyncio.run(running.stop())


async def _as(principal: str, home: Home, server: NatsServer) -> AsyncIterator[NatsBus]:
    bus = await connect(server.url, home.creds(principal), principal=principal)
    yield bus
    await bus.close()


@pytest.fixture
async def journal(home: Home, server: NatsServer) -> AsyncIterator[NatsBus]:
    """The log principal, on empty streams."""
    async for bus in _as("svc-limiter-log", home, server):
        for stream in (LOG, "BURSAR_CKPT_LIMITER"):
            assert (await ask(bus, f"STREAM.PURGE.{stream}"))["success"]
        yield bus


@pytest.fixture
async def service(home: Home, server: NatsServer) -> AsyncIterator[Service]:
    """A service as svc-limiter: one verb that answers, one that raises, one that refuses what it cannot decode."""

    def broken(call: Call) -> None:
        raise RuntimeError("secret")

    def strict(call: Call) -> None:
        call.respond_value(call.decode(Status))

    async for bus in _as("svc-limiter", home, server):
        made = Service(bus, "limiter", "1.0.0")
        await made.add_endpoint("echo", "bursar.req.limiter.echo.*", lambda call: call.respond(call.data))
        await made.add_endpoint("broken", "bursar.req.limiter.broken.*", broken)
        await made.add_endpoint(
            "strict", "bursar.req.limiter.strict.*", lambda call: call.respond_value(call.decode(Status))
        )
        await made.start()
        yield made
        await made.stop()


async def ask(bus: NatsBus, verb: str, **body: Any) -> dict[str, Any]:
    """One JetStream API request."""
    payload = json.dumps(body).encode() if body else b""
    return dict(json.loads((await bus.request(f"$JS.API.{verb}", payload, 5.0)).data))


async def stream_ends(home: Home, server: NatsServer) -> dict[str, int]:
    """Last sequence of all four streams, as their own log principals see them; raises when one is gone."""
    ends = {}
    for name in ("limiter", "breaker"):
        async for bus in _as(f"svc-{name}-log", home, server):
            for kind in ("LOG", "CKPT"):
                stream = f"BURSAR_{kind}_{name.upper()}"
                ends[stream] = int((await ask(bus, f"STREAM.INFO.{stream}"))["state"]["last_seq"])
    return ends


@asynccontextmanager
async def listening(who: str, home: Home, server: NatsServer) -> AsyncIterator[Attacker]:
    """A client of ``who`` that hears everything it may hear."""
    async with Attacker(server.url, home.creds(who)) as client:
        for subject in (f"_R.{who}.>", "bursar.evt.>", *([f"bursar.assign.{who}"] if who != "ops" else [])):
            assert not await client.subscribe(subject)
        yield client


@pytest.mark.parametrize("verb", ["echo", "broken", "strict"])
async def test_no_answer_and_no_error_goes_where_the_asker_may_not_be_answered(
    verb: str, service: Service, journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """Answers and errors of a service go to the asker's own inbox or nowhere."""
    before = await stream_ends(home, server)
    async with AsyncExitStack() as stack:
        witnesses = [await stack.enter_async_context(listening(who, home, server)) for who in ("a2", "a10", "ops")]
        attacker = await stack.enter_async_context(Attacker(server.url, home.creds("a1")))
        assert not await attacker.subscribe("_R.a1.>")
        for place in ELSEWHERE:
            assert not await attacker.publish(f"bursar.req.limiter.{verb}.a1", b'{"v":9}', reply=place)
        assert not await attacker.publish(f"bursar.req.limiter.{verb}.a1", b'{"v":9}', reply="_R.a1.mine")
        await attacker.until_heard(1)
        assert [heard.subject for heard in attacker.heard] == ["_R.a1.mine"]
        assert b"secret" not in attacker.heard[0].payload
        for witness in witnesses:
            await witness.verdict()
            assert witness.heard == []
    assert await stream_ends(home, server) == before
    assert service.endpoints[verb].stats.bad_reply == len(ELSEWHERE)


async def test_without_the_check_of_reply_subjects_an_answer_would_be_misplaced(
    service: Service, home: Home, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack of the test above is real: permissions alone let a service answer into any inbox."""
    monkeypatch.setattr(Service, "prefix", lambda self, principal: "")
    async with listening("a2", home, server) as victim, Attacker(server.url, home.creds("a1")) as attacker:
        for place in ("_R.a2.stolen", "bursar.evt.limiter.circuit.x"):
            assert not await attacker.publish("bursar.req.limiter.echo.a1", b"{}", reply=place)
        await eventually(lambda: service.endpoints["echo"].stats.num_requests == 2)
        await service.bus.flush()
        await victim.verdict()
        assert [heard.subject for heard in victim.heard] == ["_R.a2.stolen", "bursar.evt.limiter.circuit.x"]


@pytest.mark.parametrize("verb", ["PING", "INFO.limiter", "STATS"])
async def test_discovery_answers_go_to_inboxes_only(
    verb: str, service: Service, journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """Not even an operator can have a $SRV answer written into a journal, a broadcast or the JetStream API."""
    places = [place for place in ELSEWHERE if not place.startswith("_R.")]
    before = await stream_ends(home, server)
    async with listening("a2", home, server) as witness:
        async with Attacker(server.url, home.creds("ops")) as operator:
            assert not await operator.subscribe("_R.ops.>")
            for place in [*places, "_R.ops.mine"]:
                assert not await operator.publish(f"$SRV.{verb}", b"", reply=place)
            await eventually(lambda: service.control_dropped >= len(places))
            await operator.until_heard(1)
            assert [heard.subject for heard in operator.heard] == ["_R.ops.mine"]
        await witness.verdict()
        assert witness.heard == []
        assert await stream_ends(home, server) == before


@pytest.mark.parametrize("who", ["a1", "ops", "svc-limiter", "svc-breaker-log"])
async def test_nobody_else_gets_an_acknowledgement_out_of_a_journal(
    who: str, journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """PubAcks ignore permissions, so the publish itself is refused: no ack, no API answer arrives anywhere."""
    async with listening("a2", home, server) as witness:
        before = await stream_ends(home, server)
        async with Attacker(server.url, home.creds(who)) as attacker:
            for subject in ("bursar.log.limiter.0", "bursar.ckpt.limiter.0.manifest", f"$JS.API.STREAM.INFO.{LOG}"):
                assert await attacker.publish(subject, b"", reply="_R.a2.stolen")
                assert await attacker.publish(subject, b"", reply="bursar.evt.limiter.circuit.x")
        assert (await stream_ends(home, server)) == before
        await witness.verdict()
        assert witness.heard == []


@pytest.mark.parametrize(
    "place", ["bursar.log.limiter.0", "bursar.evt.limiter.circuit.x", "_R.a2.stolen", "$JS.API.INFO"]
)
async def test_message_traces_cannot_be_sent_elsewhere(
    place: str, journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """The header that asks the server for a trace names where to send it: only where the asker may publish."""
    async with listening("a2", home, server) as witness:
        before = await stream_ends(home, server)
        async with Attacker(server.url, home.creds("a1")) as attacker:
            await attacker.publish("bursar.req.limiter.echo.a1", headers=f"Nats-Trace-Dest: {place}")
        await journal.flush()
        await witness.verdict()
        assert witness.heard == []
        assert await stream_ends(home, server) == before


@pytest.mark.parametrize("who", ["svc-limiter-log", "svc-limiter-provisioner"])
async def test_jetstream_answers_of_one_journal_reach_nothing_outside_its_account(
    who: str, journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """Whoever may use JetStream can name any place for its answers; there must be nothing to find there."""
    async with listening("a2", home, server) as witness:
        before = await stream_ends(home, server)
        elsewhere = [place for place in ELSEWHERE if "limiter" not in place and LOG not in place]
        async with Attacker(server.url, home.creds(who)) as insider:
            for place in elsewhere:
                assert not await insider.publish(f"$JS.API.STREAM.INFO.{LOG}", reply=place)
                await insider.publish("bursar.log.limiter.0", reply=place)
        after = await stream_ends(home, server)
        assert {name: end for name, end in after.items() if "BREAKER" in name} == {
            name: end for name, end in before.items() if "BREAKER" in name
        }
        await witness.verdict()
        assert witness.heard == []


async def test_push_consumer_of_one_journal_cannot_deliver_into_another(
    journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """Deliveries of a push consumer ignore permissions too; accounts stop them."""
    await _append(journal, b"one", expected=0)
    before = (await stream_ends(home, server))["BURSAR_LOG_BREAKER"]
    config = {
        "name": "leak",
        "deliver_subject": "bursar.log.breaker.0",
        "ack_policy": "none",
        "inactive_threshold": 1_000_000_000,
    }
    await ask(journal, f"CONSUMER.CREATE.{LOG}.leak", stream_name=LOG, config=config)
    await journal.flush()
    assert (await stream_ends(home, server))["BURSAR_LOG_BREAKER"] == before


async def test_meeting_account_has_no_jetstream(home: Home, server: NatsServer) -> None:
    """Where agents and services meet there is no stream that anything could be written into."""
    claims = jwt.decode(jwt.token_in(home.creds("a1").read_text()))
    page = await server.monitor(f"accountz?acc={claims['nats']['issuer_account']}")
    assert page["account_detail"]["jetstream_enabled"] is False


async def test_agent_overhears_none_of_nine_conversations(
    service: Service, journal: NatsBus, home: Home, server: NatsServer
) -> None:
    """Wildcards of every shape are refused, and nothing of another agent's traffic arrives."""
    tries = [">", "*.>", "*", "bursar.req.>", "bursar.*.*.*.*", "_R.>", "_R.*.>", "$JS.>", "bursar.log.>"]
    async with Attacker(server.url, home.creds("a1")) as eavesdropper:
        refused = [subject for subject in tries if await eavesdropper.subscribe(subject)]
        async for bus in _as("a2", home, server):
            answer = await bus.request("bursar.req.limiter.echo.a2", b'{"v":1}', 5.0)
            assert answer.data == b'{"v":1}'
        await journal.request("bursar.log.limiter.0", b"entry", 5.0)
        await eavesdropper.verdict()
    assert refused == tries
    assert eavesdropper.heard == []


async def test_log_principal_appends_conditionally_and_reads_back(journal: NatsBus) -> None:
    """Everything a journal needs: append at an expected sequence, be refused at a wrong one, read, purge."""
    first = await _append(journal, b"one", expected=0)
    second = await _append(journal, b"two", expected=first["seq"])
    refused = await _append(journal, b"late", expected=first["seq"])
    assert refused["error"]["err_code"] == 10071
    last = await ask(journal, f"STREAM.MSG.GET.{LOG}", last_by_subj="bursar.log.limiter.0")
    assert last["message"]["seq"] == second["seq"]
    assert (await ask(journal, f"STREAM.PURGE.{LOG}", filter="bursar.log.limiter.0", seq=second["seq"]))["purged"] == 1


async def test_log_principal_reads_through_an_ephemeral_pull_consumer(journal: NatsBus) -> None:
    """Replay: a consumer of one's own, a batch, and its end."""
    start = (await _append(journal, b"one", expected=0))["seq"]
    config = {
        "name": "replay",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "filter_subject": "bursar.log.limiter.0",
        "ack_policy": "none",
        "inactive_threshold": 5_000_000_000,
        "mem_storage": True,
    }
    api = f"CONSUMER.CREATE.{LOG}.replay.bursar.log.limiter.0"
    created = await ask(journal, api, stream_name=LOG, config=config)
    assert created["name"] == "replay"
    inbox, got = journal.new_inbox(), []
    await journal.subscribe(inbox, lambda msg: got.append((msg.subject, msg.data)))
    journal.publish(f"$JS.API.CONSUMER.MSG.NEXT.{LOG}.replay", b'{"batch":1}', inbox)
    await eventually(lambda: bool(got))
    assert got == [("bursar.log.limiter.0", b"one")]
    assert (await ask(journal, f"CONSUMER.DELETE.{LOG}.replay"))["success"]


async def test_log_principal_may_answer_flow_control_of_its_push_consumer(journal: NatsBus) -> None:
    """A push consumer with flow control goes on past its window, so its answers are allowed."""
    for _ in range(40):
        await _append(journal, b"x" * 65_536, expected=None)
    inbox, got, controlled, done = journal.new_inbox(), [0], [0], asyncio.Event()

    def on_message(msg: Any) -> None:
        if (msg.headers or {}).get("Status") == "100":
            if msg.reply:
                controlled[0] += 1
                journal.publish(msg.reply, b"")
            return
        got[0] += 1
        if got[0] == 40:
            done.set()

    await journal.subscribe(inbox, on_message)
    config = {
        "name": "push",
        "deliver_subject": inbox,
        "ack_policy": "none",
        "flow_control": True,
        "idle_heartbeat": 1_000_000_000,
        "inactive_threshold": 5_000_000_000,
    }
    created = await ask(journal, f"CONSUMER.CREATE.{LOG}.push", stream_name=LOG, config=config)
    assert "error" not in created
    await asyncio.wait_for(done.wait(), 5)
    assert controlled[0] > 0
    assert journal.counts["denied"] == 0


async def test_service_principal_answers_and_broadcasts(service: Service, home: Home, server: NatsServer) -> None:
    """The allow side of svc-limiter: hear a request, answer it, broadcast to all agents."""
    async with listening("a2", home, server) as witness:
        service.bus.publish("bursar.evt.limiter.circuit.x", b"open")
        async for bus in _as("a1", home, server):
            assert (await bus.request("bursar.req.limiter.echo.a1", b"{}", 5.0)).data == b"{}"
        await witness.verdict()
        assert [heard.subject for heard in witness.heard] == ["bursar.evt.limiter.circuit.x"]


async def _append(bus: NatsBus, payload: bytes, expected: int | None) -> dict[str, Any]:
    headers = None if expected is None else {"Nats-Expected-Last-Subject-Sequence": str(expected)}
    return dict(json.loads((await bus.request("bursar.log.limiter.0", payload, 5.0, headers)).data))
