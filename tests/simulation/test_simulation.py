"""Thousands of histories of would-be owners on a store that fails in every way; a failure names its seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bursar.kernel import bugs
from tests.simulation.run import WORKLOADS, play
from tests.simulation.simulator import Violation

SEEDS = int(os.environ.get("BURSAR_SEEDS", "2000"))
"""Histories in all; see `SHARES`."""

SHARES = {"bank": 40, "limiter": 40, "limiter-leases": 1}
"""Percent of the histories that a decider gets; most go to those that try the kernel hardest."""

SHARE = 5
"""What the others get."""

CHUNKS = 8

pytestmark = pytest.mark.simulation


def seeds_of(decider: str, chunk: int) -> range:
    each = max(1, SEEDS * SHARES.get(decider, SHARE) // (100 * CHUNKS))
    return range(chunk * each, (chunk + 1) * each)


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("decider", WORKLOADS)
def test_promises_hold_whatever_fails(decider: str, chunk: int) -> None:
    """Half of the histories demand progress after healing; all of them demand that nothing promised is broken."""
    total = play(decider, seeds_of(decider, chunk))
    assert total["comparisons"] > 0
    assert total["take_overs"] > 0


def test_histories_meet_every_fault() -> None:
    """The faults do strike: recoveries, snapshots, retries answered from the table, stale answers ignored."""
    total = play("bank", range(10_000, 10_120))
    for what in ("entries_recovery", "entries_beat", "snapshots", "answers_bytes", "replays", "liveness", "safety"):
        assert total[what] > 0, what


@pytest.mark.parametrize("decider", WORKLOADS)
def test_same_seed_is_the_same_history(decider: str) -> None:
    """A seed replays exactly, whatever Python's hash seed is."""
    program = (
        "import sys\nfrom tests.simulation.run import WORKLOADS\nfrom tests.simulation.world import History\n"
        f"for seed in range(20):\n    history = History(seed, WORKLOADS[{decider!r}], hashed=True)\n"
        "    history.play()\n    print(history.simulator.digest, history.simulator.steps)\n"
    )
    root = Path(__file__).parents[2]
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True, timeout=60,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]
    assert len(set(runs[0].splitlines())) == 20


def test_failure_tells_its_seed_and_what_came_before() -> None:
    """Whoever reads a failure can play it again."""
    with bugs.switched_on("reply_before_ack"), pytest.raises(Violation) as caught:
        play("bank", range(50))
    notes = "\n".join(caught.value.__notes__)
    assert "seed=" in notes
    assert "append" in notes
