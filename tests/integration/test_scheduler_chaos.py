"""A thousand workers in four processes under kills, pauses and cuts; the journal is judged at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.scheduler_chaos import run

pytestmark = pytest.mark.integration


@pytest.mark.timeout(240)
async def test_a_thousand_workers_under_kills_pauses_and_cuts_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Each fault once: every accepted task is done, once, and its submitter has the result that was accepted."""
    told = await run(tmp_path, 25.0, seed=1)
    assert told["accepted"] > 100
    assert sum(count for name, count in told.items() if name.startswith("_")) >= 6
