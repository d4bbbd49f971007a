"""Every cell of who may say and hear what, against the real server.

The table below is written by hand, apart from the one that the server is configured with: a subject, and everybody
who may. Whoever is not named must be refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer
from tests.bus.attacker import Attacker

pytestmark = pytest.mark.integration

ENDS = ("", "-log", "-provisioner")
NAMES = ("limiter", "breaker", "gpu-manager", "scheduler", "monitor")
SERVICES = {f"svc-{name}" for name in NAMES}
LOGS = {f"svc-{name}-log" for name in NAMES}
AUDITING = ("auditor", "registrar", "audit-provisioner")
EVERYBODY = ("a1", "a2", "w1", "w2", "h1", "ops", *AUDITING, *(f"svc-{name}{end}" for name in NAMES for end in ENDS))
NOBODY: set[str] = set()
ALL_OF_THEM = {"a1", "a2", "w1", "w2", "h1", "ops"}

PUBLISH: dict[str, set[str]] = {
    # asking, always in one's own name
    "bursar.req.limiter.reserve.a1": {"a1"},
    "bursar.req.limiter.reserve.a2": {"a2"},
    "bursar.req.limiter.status.ops": {"ops"},
    "bursar.req.breaker.report.a1": {"a1"},
    "bursar.req.limiter.reserve.svc-limiter": NOBODY,
    "bursar.req.limiter.reserve.a3": NOBODY,
    "bursar.req.limiter.reserve": NOBODY,
    "bursar.req.limiter.a1": NOBODY,
    "bursar.req.limiter.reserve.a1.a2": NOBODY,
    "bursar.req.limiter.reserve.a2.a1": NOBODY,
    "bursar.inbox.scheduler.a1": {"a1"},
    "bursar.inbox.scheduler.a2": {"a2"},
    "bursar.inbox.scheduler.w1": {"w1"},
    "bursar.inbox.scheduler": NOBODY,
    "bursar.inbox.scheduler.svc-scheduler-log": NOBODY,
    # a service asks only when it is the one that watches the others
    "bursar.req.limiter.status.svc-monitor": {"svc-monitor"},
    "bursar.req.limiter.status.svc-scheduler": NOBODY,
    "bursar.adm.limiter.reload.svc-monitor": NOBODY,
    "bursar.work.scheduler.claim.svc-monitor": NOBODY,
    "bursar.obs.limiter.seen.svc-monitor": NOBODY,
    # a worker's requests, observations, a host's probe: in one's own name, and only with the role
    "bursar.req.scheduler.submit.w1": {"w1"},
    "bursar.req.scheduler.submit.h1": {"h1"},
    "bursar.work.scheduler.claim.a1": NOBODY,
    "bursar.work.scheduler.claim.w1": {"w1"},
    "bursar.work.scheduler.claim.w2": {"w2"},
    "bursar.work.scheduler.claim.h1": NOBODY,
    "bursar.work.scheduler.claim.ops": NOBODY,
    "bursar.work.scheduler.w1": NOBODY,
    "bursar.work.scheduler.claim.w2.w1": NOBODY,
    "bursar.obs.breaker.report.a1": {"a1"},
    "bursar.obs.breaker.report.w1": {"w1"},
    "bursar.obs.breaker.report.h1": {"h1"},
    "bursar.obs.breaker.a1": NOBODY,
    "bursar.node.h1.gpu": {"h1"},
    "bursar.node.h1.gpu.more": {"h1"},
    "bursar.node.h1": NOBODY,
    "bursar.node.w1.gpu": NOBODY,
    "bursar.node.a1.gpu": NOBODY,
    "bursar.node.h2.gpu": NOBODY,
    # administration
    "bursar.adm.limiter.reload.a1": NOBODY,
    "bursar.adm.limiter.reload.a2": NOBODY,
    "bursar.adm.limiter.reload.ops": {"ops"},
    "$SRV.PING": {"ops", "svc-monitor"},
    "$SRV.PING.limiter": {"ops", "svc-monitor"},
    "$SRV.INFO.limiter.one": {"ops", "svc-monitor"},
    "$SRV.STATS": {"ops", "svc-monitor"},
    "$SRV.SCHEMA": NOBODY,
    # broadcasts, assignments, observations
    "bursar.evt.limiter.circuit.x": {"svc-limiter"},
    "bursar.evt.limiter.owner.0": {"svc-limiter"},
    "bursar.evt.breaker.state.x": {"svc-breaker"},
    "bursar.evt.monitor.alert.x": {"svc-monitor"},
    "bursar.evt.scheduler.owner.0": {"svc-scheduler"},
    "bursar.evt.other.owner.0": NOBODY,
    # log lines: each service its own
    "bursar.line.limiter.error": {"svc-limiter"},
    "bursar.line.limiter.error.x": NOBODY,
    "bursar.line.other.error": NOBODY,
    "bursar.assign.a1": {"svc-scheduler", "svc-gpu-manager"},
    "bursar.assign.w1": {"svc-scheduler", "svc-gpu-manager"},
    "bursar.assign.w1.x": NOBODY,
    # inboxes: one's own; a service may answer everybody
    "_R.a1.x.1": {"a1"} | SERVICES,
    "_R.a2.x.1": {"a2"} | SERVICES,
    "_R.ops.x.1": {"ops"} | SERVICES,
    "_R.svc-limiter-log.x.1": {"svc-limiter-log"} | SERVICES,
    "_R.svc-limiter-provisioner.x": {"svc-limiter-provisioner"} | SERVICES,
    "_INBOX.x": NOBODY,
    # journals and checkpoints
    "bursar.log.limiter.0": {"svc-limiter-log"},
    "bursar.log.breaker.0": {"svc-breaker-log"},
    "bursar.log.limiter.0.x": NOBODY,
    "bursar.ckpt.limiter.0.manifest": {"svc-limiter-log"},
    "bursar.ckpt.breaker.0.7.1": {"svc-breaker-log"},
    "bursar.audit.limiter": {"svc-limiter-log"},
    "bursar.audit.scheduler": {"svc-scheduler-log"},
    "bursar.audit.registrar": {"registrar"},
    "bursar.audit.a1": NOBODY,
    "bursar.audited.limiter": {"svc-limiter-log"},
    "$JS.API.STREAM.INFO.BURSAR_AUDIT": {"auditor", "audit-provisioner"},
    "$JS.API.STREAM.CREATE.BURSAR_AUDIT": {"audit-provisioner"},
    "$JS.API.STREAM.UPDATE.BURSAR_AUDIT": NOBODY,
    "$JS.API.STREAM.DELETE.BURSAR_AUDIT": NOBODY,
    "$JS.API.STREAM.PURGE.BURSAR_AUDIT": NOBODY,
    "$JS.API.STREAM.MSG.DELETE.BURSAR_AUDIT": NOBODY,
    "$JS.API.STREAM.MSG.GET.BURSAR_AUDIT": {"auditor"},
    "$JS.API.CONSUMER.CREATE.BURSAR_AUDIT.c": {"auditor"},
    "$JS.API.DIRECT.GET.BURSAR_AUDIT.bursar.audit.registrar": {"auditor", "registrar"},
    "$JS.API.DIRECT.GET.BURSAR_AUDIT.bursar.audit.limiter": {"auditor"},
    # the JetStream API
    "$JS.API.INFO": LOGS,
    "$JS.API.STREAM.INFO.BURSAR_LOG_LIMITER": {"svc-limiter-log", "svc-limiter-provisioner"},
    "$JS.API.STREAM.INFO.BURSAR_CKPT_BREAKER": {"svc-breaker-log", "svc-breaker-provisioner"},
    "$JS.API.STREAM.INFO.BURSAR_INBOX_SCHEDULER": {"svc-scheduler-log", "svc-scheduler-provisioner"},
    "$JS.API.STREAM.INFO.BURSAR_INBOX_LIMITER": NOBODY,
    "$JS.API.STREAM.PURGE.BURSAR_INBOX_SCHEDULER": {"svc-scheduler-log"},
    "$JS.API.STREAM.CREATE.BURSAR_INBOX_SCHEDULER": {"svc-scheduler-provisioner"},
    "$JS.API.STREAM.DELETE.BURSAR_INBOX_SCHEDULER": NOBODY,
    "$JS.API.STREAM.INFO.OTHER": NOBODY,
    "$JS.API.STREAM.CREATE.BURSAR_LOG_LIMITER": {"svc-limiter-provisioner"},
    "$JS.API.STREAM.CREATE.OTHER": NOBODY,
    "$JS.API.STREAM.UPDATE.BURSAR_CKPT_LIMITER": {"svc-limiter-provisioner"},
    "$JS.API.STREAM.DELETE.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.STREAM.PURGE.BURSAR_LOG_LIMITER": {"svc-limiter-log"},
    "$JS.API.STREAM.PURGE.BURSAR_LOG_BREAKER": {"svc-breaker-log"},
    "$JS.API.STREAM.MSG.GET.BURSAR_LOG_LIMITER": {"svc-limiter-log"},
    "$JS.API.STREAM.MSG.DELETE.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.STREAM.SNAPSHOT.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.STREAM.RESTORE.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.STREAM.LIST": NOBODY,
    "$JS.API.STREAM.NAMES": NOBODY,
    "$JS.API.STREAM.LEADER.STEPDOWN.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.DIRECT.GET.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.CONSUMER.CREATE.BURSAR_LOG_LIMITER.c": {"svc-limiter-log"},
    "$JS.API.CONSUMER.CREATE.BURSAR_LOG_BREAKER.c.bursar.log.breaker.0": {"svc-breaker-log"},
    "$JS.API.CONSUMER.DURABLE.CREATE.BURSAR_LOG_LIMITER.c": NOBODY,
    "$JS.API.CONSUMER.MSG.NEXT.BURSAR_LOG_LIMITER.c": {"svc-limiter-log"},
    "$JS.API.CONSUMER.DELETE.BURSAR_LOG_BREAKER.c": {"svc-breaker-log"},
    "$JS.API.CONSUMER.LIST.BURSAR_LOG_LIMITER": NOBODY,
    "$JS.API.ACCOUNT.PURGE.x": NOBODY,
    "$JS.API.META.LEADER.STEPDOWN": NOBODY,
    "$JS.ACK.BURSAR_LOG_LIMITER.c.1.1.1.1.0": NOBODY,
    "$JS.FC.BURSAR_LOG_LIMITER.c.x": {"svc-limiter-log"},
    "$JS.EVENT.ADVISORY.x": NOBODY,
    "$SYS.REQ.SERVER.PING": NOBODY,
    "$SYS.REQ.USER.INFO": NOBODY,
    "$KV.x.y": NOBODY,
    "anything": NOBODY,
}

SUBSCRIBE: dict[str, set[str]] = {
    ">": NOBODY,
    "*": NOBODY,
    "*.>": NOBODY,
    "bursar.>": NOBODY,
    "bursar.req.>": NOBODY,
    "bursar.*.>": NOBODY,
    "bursar.adm.>": NOBODY,
    "bursar.inbox.>": NOBODY,
    "bursar.log.>": NOBODY,
    "bursar.log.limiter.0": NOBODY,
    "bursar.ckpt.>": NOBODY,
    "bursar.req.*.*.a1": NOBODY,
    "bursar.req.limiter.>": {"svc-limiter"},
    "bursar.req.limiter.*.*": {"svc-limiter"},
    "bursar.req.breaker.>": {"svc-breaker"},
    "bursar.adm.limiter.>": {"svc-limiter"},
    "bursar.adm.breaker.reload.*": {"svc-breaker"},
    "bursar.inbox.scheduler.>": NOBODY,
    "bursar.work.>": NOBODY,
    "bursar.work.scheduler.>": {"svc-scheduler"},
    "bursar.work.scheduler.claim.*": {"svc-scheduler"},
    "bursar.obs.>": NOBODY,
    "bursar.obs.breaker.>": {"svc-breaker"},
    "bursar.obs.limiter.seen.*": {"svc-limiter"},
    "bursar.node.>": {"svc-gpu-manager", "svc-monitor"},
    "bursar.node.*.gpu": {"svc-gpu-manager", "svc-monitor"},
    "bursar.node.h1.>": {"svc-gpu-manager", "svc-monitor"},
    "bursar.line.>": {"ops", "svc-monitor"},
    "bursar.line.limiter.error": {"ops", "svc-monitor"},
    "bursar.evt.>": ALL_OF_THEM | SERVICES,
    "bursar.evt.limiter.owner.*": ALL_OF_THEM | SERVICES,
    "bursar.evt.*.>": ALL_OF_THEM | SERVICES,
    "bursar.assign.a1": {"a1"},
    "bursar.assign.a2": {"a2"},
    "bursar.assign.w1": {"w1"},
    "bursar.assign.h1": {"h1"},
    "bursar.assign.*": NOBODY,
    "_R.>": NOBODY,
    "_R.*.>": NOBODY,
    "_R.a1.>": {"a1"},
    "_R.a2.>": {"a2"},
    "_R.a2.x.1": {"a2"},
    "_R.ops.>": {"ops"},
    "_R.auditor.>": {"auditor"},
    "_R.registrar.>": {"registrar"},
    "bursar.audit.>": NOBODY,
    "bursar.audit.limiter": NOBODY,
    "_R.svc-limiter.>": {"svc-limiter"},
    "_R.svc-limiter-log.>": {"svc-limiter-log"},
    "_R.svc-limiter-provisioner.>": {"svc-limiter-provisioner"},
    "_INBOX.>": NOBODY,
    "$SRV.>": NOBODY,
    "$SRV.PING": SERVICES,
    "$SRV.PING.limiter": {"svc-limiter"},
    "$SRV.INFO.limiter.*": {"svc-limiter"},
    "$SRV.STATS.breaker.one": {"svc-breaker"},
    "$JS.>": NOBODY,
    "$JS.API.>": NOBODY,
    "$JS.EVENT.>": NOBODY,
    "$SYS.>": NOBODY,
    "$KV.>": NOBODY,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    made = create_home(tmp_path_factory.mktemp("matrix"))
    for name, role in (("a1", "agent"), ("a2", "agent"), ("w1", "worker"), ("w2", "worker"), ("h1", "node")):
        mint_agent(made, name, role=role)
    return made


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[NatsServer]:
    running = NatsServer(home)
    asyncio.run(running.start())
    yield running
    asyncio.run(running.stop())


@pytest.mark.parametrize("who", EVERYBODY)
async def test_each_principal_may_publish_what_the_table_says_and_nothing_else(
    who: str, home: Home, server: NatsServer, record_property: Callable[[str, object], None]
) -> None:
    """The server refuses a publish to every subject whose row does not name the principal, and allows the others."""
    async with Attacker(server.url, home.creds(who)) as client:
        allowed = {subject for subject in PUBLISH if not await client.publish(subject)}
    assert allowed == {subject for subject, those in PUBLISH.items() if who in those}
    record_property("cases", len(PUBLISH))


@pytest.mark.parametrize("queue", ["", "group"])
@pytest.mark.parametrize("who", EVERYBODY)
async def test_each_principal_may_hear_what_the_table_says_and_nothing_else(
    who: str, queue: str, home: Home, server: NatsServer, record_property: Callable[[str, object], None]
) -> None:
    """The server refuses a subscription, also one in a queue group, unless its row names the principal."""
    async with Attacker(server.url, home.creds(who)) as client:
        allowed = {subject for subject in SUBSCRIBE if not await client.subscribe(subject, queue)}
    assert allowed == {subject for subject, those in SUBSCRIBE.items() if who in those}
    record_property("cases", len(SUBSCRIBE))


async def test_refused_publish_does_not_reach_anybody(home: Home, server: NatsServer) -> None:
    """A violation is not only reported: the message does not arrive."""
    async with Attacker(server.url, home.creds("a2")) as victim, Attacker(server.url, home.creds("a1")) as attacker:
        assert not await victim.subscribe("_R.a2.>")
        assert await attacker.publish("_R.a2.x", b"forged")
        await attacker.verdict()
        await victim.verdict()
        assert victim.heard == []


async def test_agent_payload_is_limited_to_64_kib(home: Home, server: NatsServer) -> None:
    """The limit stands in the role, so the server cuts an agent off before any service sees the message."""
    async with Attacker(server.url, home.creds("a1")) as agent:
        assert not await agent.publish("bursar.req.limiter.reserve.a1", b"x" * 65_536)
        errors = await agent.publish("bursar.req.limiter.reserve.a1", b"x" * 65_537)
        assert errors[-1] == "closed"


async def test_service_payload_may_be_a_mebibyte(home: Home, server: NatsServer) -> None:
    """Batches and snapshot chunks of the log principal are larger than an agent's requests."""
    async with Attacker(server.url, home.creds("svc-limiter-log")) as log:
        assert not await log.publish("bursar.log.limiter.0", b"x" * 1_048_576)


async def test_agent_subscriptions_are_bounded(home: Home, server: NatsServer) -> None:
    """One agent cannot fill the server's subscription tables."""
    async with Attacker(server.url, home.creds("a1")) as agent:
        verdicts = [await agent.subscribe(f"_R.a1.{number}") for number in range(140)]
    assert sum(1 for errors in verdicts if not errors) == 128


async def test_agent_minted_while_the_server_runs_connects_at_once(home: Home, server: NatsServer) -> None:
    """Minting is one local signature: no reload, and nobody is disconnected."""
    async with Attacker(server.url, home.creds("a1")) as witness:
        mint_agent(home, "newcomer")
        async with Attacker(server.url, home.creds("newcomer")) as agent:
            assert not await agent.publish("bursar.req.limiter.reserve.newcomer")
            assert await agent.publish("bursar.req.limiter.reserve.a1")
        assert not await witness.publish("bursar.req.limiter.reserve.a1")


async def test_unsigned_user_is_refused(home: Home, server: NatsServer, tmp_path: Path) -> None:
    """A role's key cannot be invented: credentials of another home's agent are worth nothing here."""
    stranger = mint_agent(create_home(tmp_path), "a1")
    async with Attacker(server.url, stranger) as client:
        assert await client.verdict() == ["closed"]
