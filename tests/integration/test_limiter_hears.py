"""What the limiter hears of the breaker: under the real permissions, and only by its signature."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import bursar
from bursar.bus.identity import Home, create_home, mint_agent
from bursar.bus.server import NatsServer
from bursar.bus.signing import Signer
from bursar.contracts.base import event_subject
from bursar.contracts.breaker import SERVICE as BREAKER
from bursar.contracts.breaker import SHARE
from bursar.contracts.limiter import SERVICE
from tests.bus.attacker import Attacker
from tests.integration.support import ROOT, settled_in, until

pytestmark = pytest.mark.integration

NAME = f"svc-{SERVICE}"
SUBJECT = event_subject(BREAKER, SHARE, "b")
BUDGETS = '[budgets.b]\nlimits.requests = { limit = 6000, window = "1m" }\n'


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[tuple[Home, str]]:
    """A home with both services, and a limiter that runs."""
    home = create_home(tmp_path / "home", [SERVICE, BREAKER])
    mint_agent(home, "ann")
    budgets, log = tmp_path / "budgets.toml", tmp_path / "limiter.log"
    budgets.write_text(BUDGETS)
    async with NatsServer(home) as server:
        env = await settled_in(home, server.url, SERVICE)
        env |= {"BURSAR_TRUST": str(home.trust_file), "BURSAR_BUDGETS": str(budgets)}
        with log.open("wb") as out:
            command = [sys.executable, "-m", "bursar_limiter"]
            process = subprocess.Popen(command, env=env, stderr=out, cwd=ROOT)  # noqa: ASYNC220 - at start
        try:
            await until(lambda: b'"owner"' in log.read_bytes(), 15, "the limiter owns its shard")
            yield home, server.url
        finally:
            process.kill()
            process.wait()


def said(signer: Signer, share: int, revision: int) -> bytes:
    fence = f"1.1.{revision}.{'0' * 16}"
    body = {"v": 1, "budget": "b", "target": "p/m", "share": share, "revision": revision, "fence": fence}
    return signer.sign(SUBJECT, body)


async def test_the_breakers_word_sets_the_pace_and_nobody_elses(here: tuple[Home, str]) -> None:
    """An agent may not speak there; what the breaker's own principal says with another key is not believed."""
    home, url = here
    key = Signer.load(home.service_dir(BREAKER) / "signing.nk")
    async with (
        bursar.connect(url, creds=home.creds("ann")) as fleet,
        Attacker(url, home.creds(f"svc-{BREAKER}")) as breaker,
        Attacker(url, home.creds("ann")) as agent,
    ):

        async def pace() -> int:
            return (await fleet.limiter.status("b")).budgets[0].dimensions["requests"].pace_permille

        async def becomes(permille: int, share: int, revision: int) -> None:
            """Said until it is heard: the limiter may only just have begun to listen."""
            async with asyncio.timeout(10):
                while await pace() != permille:
                    assert not await breaker.publish(SUBJECT, said(key, share, revision))

        await becomes(250, 250, 1)
        assert await agent.publish(SUBJECT, said(key, 50, 99))
        assert not await breaker.publish(SUBJECT, said(Signer.generate(), 50, 99))
        assert not await breaker.publish(SUBJECT, b"\xc1")
        assert not await breaker.publish(event_subject(BREAKER, SHARE, "c"), said(key, 50, 99))
        await becomes(500, 500, 5)  # which would be old, had one of these been believed
        await becomes(1_000, 1_000, 6)
