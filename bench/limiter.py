"""The limiter's figures, each beside its peer in the same run, and all histories judged by an oracle.

    python -m bench.limiter --peers .venv/peers/bin/python [--quick] [--json FILE]

* local: a permit from a lease in the agent's own process, and ``with`` reserve-and-settle, beside one acquire of the
  `limits` package on a Redis server of this run, in turn;
* durable: reserve and settle through a path of four levels with four dimensions at each, beside the raw echo
  (`bench.load.in_turn`, as `bench.kernel` does it);
* freeze: from one agent's 429 to a thousand connections that know it, beside a bare broadcast (`bench.limiter_freeze`);
* saturated, shift: what is really used and how it is shared, while owners are killed (`bench.limiter_runs`);
* peers: what others admit under one load that comes and goes, and how fast they are; `limits` alone in the quick mode.

``oracle_violations`` are those of this limiter in all of these runs (`tests.oracle`). Redis is installed from the
system's packages when that can be done, otherwise the run ends with what to do about it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nats

from bench import limiter_budgets as budgets
from bench import limiter_freeze, limiter_local, limiter_memory, limiter_runs
from bench.figures import median, say, write
from bench.load import Decisions, in_turn, quiet_collector
from bench.peers.adapters import PEERS
from bench.peers.runner import Missing, Peers, Redis
from bench.stack import Stack
from tests.oracle.history import Charge, Limit
from tests.oracle.judge import excess, judge
from tests.simulation.limiter_fleet import played
from tests.simulation.limiter_shapes import LARGE, SHAPES

REPLAYED = 2_000_000
"""Seeds of simulated histories begin here: others than those of the tests."""


async def local(stack: Stack, peers: Peers, rounds: int, seconds: float) -> dict[str, Any]:
    """The permit from a lease, and `limits` on Redis, in turn."""
    lease = await limiter_local.as_leased(stack)
    permits, pairs, ours, theirs = [], [], [], []
    for _ in range(rounds):
        permits.append(limiter_local.permits(lease))
        pairs.append(limiter_local.pairs(lease))
        ours.append(limiter_local.pairs_per_s(lease, seconds))
        theirs.append(await asyncio.to_thread(peers.speed, "limits", seconds))
        say(f"local {ours[-1]:.0f} pairs/s, p50 {permits[-1].p50:.2f} µs; limits {theirs[-1]['per_s']:.0f}/s")
    return {
        "local_dimensions": lease.book.limited.bit_count(),
        "local_permit_p50_us": median([latency.p50 for latency in permits]),
        "local_permit_p99_us": median([latency.p99 for latency in permits]),
        "local_pair_p50_us": median([latency.p50 for latency in pairs]),
        "local_pair_p99_us": median([latency.p99 for latency in pairs]),
        "local_pairs_per_s": median(ours),
        "local_over_limits_redis": median([a / b["per_s"] for a, b in zip(ours, theirs, strict=True)]),
        "limits_redis_per_s": median([speed["per_s"] for speed in theirs]),
        "limits_redis_p50_us": median([speed["p50_us"] for speed in theirs]),
        "limits_redis_p99_us": median([speed["p99_us"] for speed in theirs]),
    }


async def durable(stack: Stack, rounds: int, seconds: float) -> dict[str, Any]:
    """Through the authority, on the path of four levels, in turn with the echo."""
    client = await nats.connect(stack.server.url, inbox_prefix="_R.bench")
    quiet_collector()
    figures: dict[str, Any] = {}
    for level in (256, 400):
        figures |= await in_turn(
            client, level, rounds, seconds, lambda session: Decisions(client, session, budgets.LEAF)
        )
    await client.close()
    return {
        **figures,
        "durable_over_echo": figures["durable_over_echo_256"],
        "durable_p99_over_echo_400": figures["p99_over_echo_400"],
        "durable_levels": len(budgets.PATH),
        "durable_dimensions": len(budgets.TREE[0].limits),
    }


# ---- the others


def judged(limit: Limit, admitted: list[tuple[int, int]]) -> dict[str, Any]:
    """What three providers say of what was admitted. ``excess``: the fullest rolling window, as a part of the limit."""
    charges = [Charge(at, (limit.scope,), {limit.dimension: amount}) for at, amount in admitted]
    verdict = judge([limit], charges)
    return {"violations": verdict.violations, "excess": excess(limit, charges), "admitted": len(charges)}


async def compared(stack: Stack, peers: Peers, names: list[str], seconds: float) -> dict[str, Any]:
    """What each admits under the same load, judged alike; the peers one after the other."""
    limit = budgets.PEER_LIMIT
    ours = asyncio.create_task(limiter_runs.as_a_peer(stack, seconds, 1))
    found: dict[str, Any] = {}
    for name in names:
        why = peers.cannot_run(name)
        if why is not None:
            found[name] = {"not_measured": why}
            continue
        admitted = await asyncio.to_thread(peers.judged, name, seconds, budgets.PEER_TOKENS, budgets.PEER_WINDOW_S, 1)
        found[name] = judged(limit, admitted)
    found["bursar"] = judged(limit, await ours)
    for name, row in found.items():
        say(f"{name}: {row}")
    return found


async def speeds(peers: Peers, names: list[str], seconds: float) -> dict[str, Any]:
    """Acquires per second of one process, and their latency."""
    found = {}
    for name in names:
        if peers.cannot_run(name) is None:
            found[name] = await asyncio.to_thread(peers.speed, name, seconds)
    return found


def simulated(seeds: int) -> dict[str, Any]:
    """Histories of `tests.simulation.limiter_fleet`: a thousand agents once, and as many smaller fleets as told."""
    logging.disable(logging.ERROR)  # what clients log about messages that are lost on purpose
    worlds = [played(REPLAYED, LARGE), *(played(REPLAYED + seed, SHAPES[seed % len(SHAPES)]) for seed in range(seeds))]
    logging.disable(logging.NOTSET)
    found = {
        "simulated_violations": sum(world.verdict().violations for world in worlds),
        "simulated_shut_out": sum(len(world.shut_out()) for world in worlds),
        "simulated_histories": len(worlds),
        "simulated_calls": sum(len(world.history.charges) for world in worlds),
    }
    say(f"simulated: {found}")
    return found


async def measure(quick: bool, python: Path) -> dict[str, Any]:
    began = time.monotonic()
    names = ["limits"] if quick else list(PEERS)
    with Redis() as redis, tempfile.TemporaryDirectory(prefix="bursar-bench-") as directory:
        peers = Peers(python, redis)
        async with Stack(Path(directory)) as stack:
            await stack.reload(budgets.ALL)
            figures = await local(stack, peers, 3 if quick else 7, 0.3 if quick else 1.0)
            figures |= await durable(stack, 3 if quick else 5, 0.5 if quick else 3.0)
            figures |= await _judged_runs(stack, peers, names, quick)
        if not quick:
            figures["peers_speed"] = await speeds(peers, names, 3.0)
    violations = ("saturated_violations", "reconverge_violations", "simulated_violations")
    figures["oracle_violations"] = sum(figures[name] for name in violations) + figures["peers"]["bursar"]["violations"]
    figures["never_fit_refusals"] += figures["simulated_shut_out"]
    figures |= limiter_memory.memory()
    return {**figures, "mode": "quick" if quick else "full", "wall_s": time.monotonic() - began}


def _simulation(quick: bool) -> list[str]:
    """In a process of its own: it has a loop of its own, and no collector that was told to be quiet."""
    return [sys.executable, "-m", "bench.limiter", "--simulate", "4" if quick else "150"]


async def _judged_runs(stack: Stack, peers: Peers, names: list[str], quick: bool) -> dict[str, Any]:
    """Saturation, and while it goes on: freezes and the shift of demand before an owner is killed, then the peers,
    which have another server, and simulated histories."""
    async with limiter_runs.Saturation(stack) as saturation:
        figures = await limiter_freeze.freezes(stack, 1_000, 20 if quick else 60)
        figures |= await limiter_runs.reconvergence(stack, 1.5, 3.0)
        simulation = asyncio.create_task(
            asyncio.to_thread(subprocess.run, _simulation(quick), stdout=subprocess.PIPE, check=True)
        )
        rows = asyncio.create_task(compared(stack, peers, names, 7.0 if quick else 20.0))
        for _ in range(1 if quick else 5):
            await saturation.replace_owner()
            await asyncio.sleep(0.0 if quick else 12.0)
        figures["peers"] = await rows
        figures |= json.loads((await simulation).stdout)
    return {**figures, **saturation.figures()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s: shorter rounds, one peer")
    parser.add_argument("--peers", type=Path, default=Path(".venv/peers/bin/python"), help="the peers' interpreter")
    parser.add_argument("--json", type=Path, default=Path("bench/out/limiter.json"), help="where the figures go")
    parser.add_argument("--simulate", type=int, help="only the simulated histories, so many; prints their figures")
    arguments = parser.parse_args()
    if arguments.simulate is not None:
        print(json.dumps(simulated(arguments.simulate)))
        return 0
    try:
        figures = asyncio.run(measure(arguments.quick, arguments.peers))
    except Missing as missing:
        print(f"bench-limiter: {missing}", file=sys.stderr)
        return 1
    write(arguments.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
