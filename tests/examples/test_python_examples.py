"""The examples in Python, as they stand in the folder, against real processes."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.demo.conftest import Provider, start_provider
from tests.examples.installation import ROOT, Installation
from tests.examples.talker import Talker

__all__ = ["start_provider"]
pytestmark = pytest.mark.integration
EXAMPLES = ROOT / "examples"


def test_agent_with_an_sdk_calls_under_its_budget(
    installation: Installation, start_provider: Callable[..., Provider]
) -> None:
    """The official SDK, its HTTP client changed, and a provider that speaks the same protocol: one call, answered."""
    provider = start_provider(keys={"sk-example": {"requests": 10}})
    agent = EXAMPLES / "agent.py"
    base = f"{provider.base}/v1"
    output = installation.run("writer", sys.executable, agent, OPENAI_BASE_URL=base, OPENAI_API_KEY="sk-example")
    assert output.startswith("word")


def test_agent_by_hand_reserves_and_settles(installation: Installation) -> None:
    """Without an SDK: the headroom afterwards counts the real usage, not the estimate."""
    output = installation.run("writer", sys.executable, EXAMPLES / "by_hand.py")
    assert "demo: {'requests': " in output
    assert "no: " not in output


async def test_worker_does_what_is_submitted_and_posted(installation: Installation) -> None:
    """A task that somebody awaits and one that nobody awaits; the worker ends well when it is asked to."""
    with installation.started("summariser", sys.executable, EXAMPLES / "worker.py"):
        output = installation.run("writer", sys.executable, EXAMPLES / "submit.py")
        first, posted = output.splitlines()
        assert first.startswith("writer.")
        assert first.endswith("{'words': 16, 'summary': 'Hundreds of agent processes share'}")
        async with Talker(installation, agent="writer") as talker:
            task = posted.removeprefix("posted ")
            await talker.until("it is done", lambda: state_of(talker, task), lambda state: state == "done")


async def state_of(talker: Talker, task: str) -> str:
    answer = await talker.ask("scheduler", "find", task=task)
    return str(answer.get("state"))


def test_worker_goes_on_after_kill_of_the_scheduler(installation: Installation) -> None:
    """kill -9 of the scheduler: the worker is known to the one that is started again, and the next task is done."""
    with installation.started("summariser", sys.executable, EXAMPLES / "worker.py"):
        installation.run("writer", sys.executable, EXAMPLES / "submit.py")
        installation.kill_service("scheduler")
        assert "'words': 16" in installation.run("writer", sys.executable, EXAMPLES / "submit.py", within=60)


def test_every_example_is_run() -> None:
    """Whoever adds an example adds its test, and its line in the list."""
    run = {"agent.py", "by_hand.py", "worker.py", "submit.py", "nats-cli.sh", "node-agent"}
    there = {path.name for path in EXAMPLES.iterdir() if path.name not in {"README.md", "__pycache__"}}
    assert there == run
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in page for name in there)
