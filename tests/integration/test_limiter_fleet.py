"""Two hundred agents in four processes on one key, and kill -9 of whatever there is; the provider's record judged."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bursar_limiter.core import LimiterDecider
from tests.integration.limiter_agents import BUDGETS, LIMITS, Told
from tests.integration.support import ROOT, Rig, until
from tests.oracle.judge import judge, shut_out

pytestmark = pytest.mark.integration

AGENTS, CONNECTIONS = 50, 2
"""In each of four processes. So few connections that each has demand enough for leases."""


class Agents:
    """A process of agents and its record."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.record = rig.directory / f"{name}.record"
        self.record.touch()
        self._counted, self._lines = 0, 0
        self._log = (rig.directory / f"{name}.log").open("wb")
        command = [sys.executable, "-m", "tests.integration.limiter_agents", rig.url, name, str(AGENTS)]
        command.append(str(CONNECTIONS))
        self.process = subprocess.Popen([*command, str(self.record)], cwd=ROOT, stderr=self._log, stdout=self._log)

    @property
    def calls(self) -> int:
        """How many the provider has been told of."""
        with self.record.open("rb") as file:
            file.seek(self._counted)
            fresh = file.read()
        whole = fresh.rfind(b"\n") + 1
        self._counted += whole
        self._lines += fresh[:whole].count(b'["call"')
        return self._lines

    async def work(self, more: int, what: str) -> None:
        """Wait for so many more calls."""
        wanted = self.calls + more
        await until(lambda: self.calls >= wanted, 15, f"{more} more calls {what}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


async def test_kill_9_of_owner_agents_and_holders_never_lets_the_key_be_exceeded(tmp_path: Path) -> None:
    """The owner is killed twice, a process of agents once (with the leases and permits that it holds), another stands
    still for longer than a lease; no window of the key or of a team, by any of three providers, holds more than its
    limit, and nobody who fits is told never."""
    file = tmp_path / "budgets.toml"
    file.write_text(BUDGETS)
    env = {"BURSAR_BUDGETS": str(file)}
    async with Rig(tmp_path, module="bursar_limiter", service="limiter", decider=LimiterDecider, env=env) as rig:
        await rig.start("a", "b")
        agents = [Agents(rig, name) for name in ("one", "two", "three", "four")]
        try:
            await asyncio.gather(*(each.work(25, "at first") for each in agents))
            await _kill_the_owner(rig)
            await agents[1].work(15, "under the second owner")
            agents[0].kill()
            agents.append(Agents(rig, "five"))
            agents[1].process.send_signal(signal.SIGSTOP)
            await agents[4].work(15, "by those who came later")
            await asyncio.sleep(1.5)  # how long the process stands still, longer than a lease
            agents[1].process.send_signal(signal.SIGCONT)
            await _kill_the_owner(rig)
            await asyncio.gather(*(each.work(15, "at last") for each in agents[1:]))
        finally:
            for each in agents:
                each.kill()
    told = Told(each.record for each in agents)
    judge(LIMITS, told.charges, told.flights).must_be_clean()
    assert not shut_out(LIMITS, told.wishes, 15_000_000 + 10_000_000)


async def _kill_the_owner(rig: Rig) -> None:
    """What is killed comes back as a standby, for the next time."""
    victim, standby = rig.owner(), rig.standby()
    await standby.is_up(("standby",))
    victim.kill()
    await standby.becomes("owner")
    rig.launch(victim.name)
