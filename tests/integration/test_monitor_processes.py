"""A worker that crashes again and again, and one that leaks: real processes, a real probe, one notification each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bursar.bus.identity import mint_agent
from bursar.cli.supervise import Backoff, ChildSpec, Supervisor
from bursar.contracts.monitor import IncidentChanged
from tests.bus.support import Awake
from tests.integration.monitor_site import HOST, Site
from tests.integration.support import until

pytestmark = pytest.mark.integration

SECONDS = 10.0
"""Within which the cause is named, from the third crash on, and from the start of the leak."""

RULES = """
[rules.crash-loop]
signal = "crashes"
at_least = 3
clear_below = 1

[rules.memory-leak]
signal = "leak_permille"
at_least = "5%"

[grouping]
wait = "1s"
"""
CRASHES = "import time; time.sleep(0.3); raise SystemExit('no such model')"
LEAKS = """
import time
held = []
while True:
    held.append(b"x" * 4_000_000)
    time.sleep(0.1)
"""


async def test_a_crash_loop_and_a_leak_are_named_within_ten_seconds(tmp_path: Path) -> None:
    """Each is one notification, whose cause is the group of processes on its host. What stands for a leak is a part of
    the memory that is free, so that the test does not have to fill the machine."""
    async with Site(tmp_path) as site:
        (tmp_path / "rules.toml").write_text(RULES)
        creds = {name: mint_agent(site.home, name, role="worker") for name in ("crasher", "leaker")}

        def told(rule: str) -> list[IncidentChanged]:
            return [one for one in site.notified if one.cause.rule == rule]

        await site.start("monitor", "m-1")
        site.start_node(BURSAR_SAMPLE_MS="1000", BURSAR_SAMPLE_MOST="4")
        await site.sees(lambda reply: any(row.cores for row in reply.hosts), 20, "the host is seen")
        supervisor = Supervisor(lambda line: None, Backoff(longest=0.5))
        try:
            for name, program in (("crasher", CRASHES), ("leaker", LEAKS)):
                command = (sys.executable, "-c", program)
                supervisor.start(ChildSpec(name, command, {"BURSAR_CREDS": str(creds[name])}))
            leaking = Awake(1.0)
            await until(lambda: supervisor.children[0].starts > 3, 40, "it has crashed three times")
            crashing = Awake(1.0)
            await until(lambda: bool(told("memory-leak")), SECONDS - min(leaking.spent(), 5), "the leak is told")
            await until(lambda: bool(told("crash-loop")), SECONDS - min(crashing.spent(), 5), "the loop is told")
        finally:
            await supervisor.stop(0.5)
        for rule, name in (("crash-loop", "crasher"), ("memory-leak", "leaker")):
            (one,) = told(rule)
            assert (one.why, one.cause.subject) == ("new", f"{HOST}/agent.{name}")
