"""The kernel's figures: durable decisions against the raw echo, cold start, snapshot stall, take-over, idle writing.

    python -m bench.kernel [--quick] [--json FILE]

One run, one server with ``sync_interval: always``, the limiter as owner and standby. The echo and the durable path take
turns at each level from one client process with plain nats-py on both sides; a reserve and a settle count as one
decision each; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nats

from bench.figures import median, say, write
from bench.journal_load import Owner
from bench.load import Decisions, in_turn, quiet_collector
from bench.stack import Stack

LEVELS = (1, 64, 256, 400)
EVENTS = 200_000
WARM_UP = 50_000


async def throughput(url: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Echo and durable in turn at each level."""
    client = await nats.connect(url, inbox_prefix="_R.bench")
    quiet_collector()
    figures: dict[str, Any] = {}
    for level in LEVELS:
        figures |= await in_turn(client, level, rounds, seconds, lambda session: Decisions(client, session))
    await client.close()
    return figures


async def takeovers(stack: Stack, count: int) -> dict[str, Any]:
    """Kill the owner, ask until the standby grants, start the killed one again as standby."""
    times: list[float] = []
    owner, standby = "a", "b"
    for _ in range(count):
        stack.kill(owner)
        times.append(await stack.until_answered(20.0))
        say(f"take-over in {times[-1]:.2f} s")
        stack.start(owner)
        await stack.until_present(owner)
        owner, standby = standby, owner
    return {"takeover_max_s": max(times), "takeover_median_s": median(times), "takeovers": count}


async def idle_writing(stack: Stack, seconds: float) -> dict[str, Any]:
    """Bytes that the server writes to disk while nobody asks for anything (Linux: /proc), for a whole day."""
    source = Path(f"/proc/{stack.server.pid}/io")

    def written() -> int:
        return int(source.read_text().split("write_bytes: ")[1].split()[0])

    before, began = written(), time.perf_counter()
    await asyncio.sleep(seconds)
    return {"idle_bytes_per_day": (written() - before) / (time.perf_counter() - began) * 86_400}


async def journal(stack: Stack) -> dict[str, Any]:
    """A journal with a snapshot and 200,000 events after it: load it in a fresh process; then snapshot it again."""
    owner = Owner(stack.bus)
    await owner.start()
    await owner.fill(WARM_UP)
    await owner.snapshot()
    before = owner.runner.replica.folded.events
    while owner.runner.replica.folded.events - before < EVENTS:
        await owner.fill(min(10_000, EVENTS - (owner.runner.replica.folded.events - before)))
    command = [sys.executable, "-m", "bench.cold_start", stack.server.url]
    answer = await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE, check=True)
    loaded = json.loads(answer.stdout)
    say(f"cold start {loaded['seconds']:.2f} s, {loaded['per_second']:.0f} events/s")
    answers = len(owner.runner.replica.folded.answers)
    gc.collect()
    gc.freeze()
    stall = await owner.snapshot()
    say(f"longest stall while {answers} answers were snapshotted: {stall:.1f} ms")
    await owner.runner.stop()
    return {
        "cold_start_200k_s": loaded["seconds"],
        "cold_start_events": loaded["events"],
        "replay_events_per_s": loaded["per_second"],
        "snapshot_answers": answers,
        "snapshot_stall_ms": stall,
    }


async def measure(quick: bool) -> dict[str, Any]:
    rounds, seconds = (3, 0.6) if quick else (5, 3.0)
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as directory:
        async with Stack(Path(directory)) as stack:
            figures = await throughput(stack.server.url, rounds, seconds)
            figures |= await takeovers(stack, 5 if quick else 20)
            if not quick:  # a beat is written every ten seconds: less than a few of them says nothing
                figures |= await idle_writing(stack, 40.0)
            figures |= await journal(stack)
    return {**figures, "mode": "quick" if quick else "full"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s: shorter rounds, five take-overs")
    parser.add_argument("--json", type=Path, default=Path("bench/out/kernel.json"), help="where the figures go")
    arguments = parser.parse_args()
    write(arguments.json, asyncio.run(measure(arguments.quick)))


if __name__ == "__main__":
    main()
