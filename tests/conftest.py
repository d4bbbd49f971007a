"""Shared by all rings: how hard hypothesis works, and how many seeds or inputs the long tests take.

`make test` uses the defaults, with the same examples each time; `make soak` sets the environment variables for longer
histories, and draws others.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.again"]

settings.register_profile(
    "test", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.register_profile(
    "soak", settings.get_profile("test"), max_examples=5_000, stateful_step_count=200, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))


@pytest.fixture(scope="session")
def is_soak() -> bool:
    """Is this a soak? Then a test may take the longer of two histories."""
    return os.environ.get("BURSAR_SOAK", "") not in {"", "0"}
