"""Who may say what: a real home, the real permissions, the real registry, and agents that try what they may not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgpack  # type: ignore[import-untyped]
import pytest

import bursar
from bursar.bus.connection import connect
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer
from bursar.bus.signing import Signer
from bursar.contracts.breaker import SERVICE, state_subject
from tests.bus.attacker import Attacker
from tests.integration.breaker_rig import RULES
from tests.integration.support import ROOT, settled_in, until

pytestmark = pytest.mark.integration

NAME = f"svc-{SERVICE}"


class Installation:
    """A home, its server's address, and what the registry has broadcast."""

    def __init__(self, home: Home, url: str) -> None:
        self.home = home
        self.url = url
        self.told: list[tuple[str, bytes]] = []

    async def order(self, verb: str, target: str, number: int) -> dict[str, object]:
        bus = await connect(self.url, self.home.creds("ops"), principal="ops")
        payload = json.dumps({"id": f"o-{number}", "target": target}).encode()
        answer = await bus.request(f"bursar.adm.{SERVICE}.{verb}.ops", payload, 5.0)
        await bus.close()
        return dict(json.loads(answer.data))


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    home = create_home(tmp_path / "home", [SERVICE])
    mint_agent(home, "ann")
    mint_agent(home, "eve")
    circuits = tmp_path / "circuits.toml"
    circuits.write_text(RULES)
    async with NatsServer(home) as server:
        env = await settled_in(home, server.url, SERVICE)
        env |= {"BURSAR_CIRCUITS": str(circuits)}
        log = tmp_path / "breaker.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "bursar_breaker"]
            process = subprocess.Popen(command, env=env, stderr=out, cwd=ROOT)  # noqa: ASYNC220 - at start
        try:
            await until(lambda: b'"owner"' in log.read_bytes(), 15, "the registry owns its shard")
            yield Installation(home, server.url)
        finally:
            process.kill()
            process.wait()


async def test_agents_report_and_ask_in_their_own_name_only_and_force_nothing(here: Installation) -> None:
    """The server refuses what is not theirs to say, before anybody hears it."""
    report = msgpack.packb({"deltas": [{"target": "p", "error": 9}]})
    async with Attacker(here.url, here.home.creds("eve")) as eve:
        assert not await eve.publish("bursar.obs.breaker.report.eve", report)
        for subject in (
            "bursar.obs.breaker.report.ann",
            "bursar.req.breaker.probe.ann",
            "bursar.req.breaker.probed.ann",
            "bursar.adm.breaker.force-open.eve",
            "bursar.adm.breaker.force-close.ops",
            "bursar.adm.breaker.reset.eve",
            "bursar.adm.breaker.configure.eve",
            "bursar.evt.breaker.state.p",
            "bursar.log.breaker.0",
        ):
            assert await eve.publish(subject, report), subject
    async with Attacker(here.url, here.home.creds("ops")) as ops:
        assert await ops.publish("bursar.evt.breaker.state.p", report)
        assert not await ops.publish("bursar.adm.breaker.force-open.ops", report)


async def test_credentials_alone_make_an_agent_that_believes_the_registry_and_nobody_else(here: Installation) -> None:
    """`connect` finds the keys beside the credentials. Unsigned, forged and moved messages are ignored even where
    permissions fail (here: said by the registry's own principal), and so are true ones that are said again."""
    async with (
        bursar.connect(here.url, creds=here.home.creds("ann")) as fleet,
        Attacker(here.url, here.home.creds(NAME)) as voice,
    ):
        breaker = fleet.breaker
        assert await breaker.ready()
        assert not await voice.subscribe("bursar.evt.>")
        assert (await here.order("force-open", "p", 1))["ok"]
        await until(lambda: breaker.circuits() == {"p": "forced_open"}, 5, "it is told")
        assert not breaker.allows("p/m")
        await here.order("reset", "p", 2)
        await until(lambda: bool(breaker.allows("p/m")), 5, "it is told")
        assert not await voice.verdict()
        [kept, _] = [heard for heard in voice.heard if heard.subject == state_subject("p")]
        body = {"target": "p", "state": "forced_open", "revision": 99, "generation": 99, "reason": "x",
                "remaining_ms": None, "fence": f"1.9.99.{'0' * 16}"}  # fmt: skip
        lies = [
            (state_subject("p"), kept.payload),
            (state_subject("q"), kept.payload),
            (state_subject("p"), msgpack.packb(body)),
            (state_subject("p"), Signer.generate().sign(state_subject("p"), body)),
        ]
        for subject, payload in lies:
            assert not await voice.publish(subject, payload)
        await until(lambda: breaker.registry.refused == 3, 5, "all have arrived")
        await here.order("force-open", "r", 3)
        await until(lambda: breaker.circuits() == {"r": "forced_open"}, 5, "the true word is still heard")
        assert breaker.registry.view.revision == 3
