"""The examples in Python, as they stand in the folder, against real processes."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from tests.demo.conftest import Provider, start_provider
from tests.examples.installation import ROOT, Installation

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
