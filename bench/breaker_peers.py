"""Other circuit breakers, from ``requirements/bench-peers-breaker.txt``, on a Redis of this run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from bench.figures import say
from bench.peers.runner import Missing, Redis

RUNNER = Path(__file__).parent / "peers" / "breakers.py"


def measure(python: Path) -> dict[str, Any]:
    """What each of them does on this machine. Raises `Missing` when something that this needs is not there."""
    if not python.exists():
        raise Missing(f"{python} is missing: `make bench-breaker` makes it")
    say("--- other breakers")
    with Redis() as redis:
        done = subprocess.run([str(python), str(RUNNER), str(redis.port)], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))
