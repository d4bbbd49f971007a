"""What the scheduler does, in figures. ``python -m bench.scheduler [--quick]``; every figure is measured in the run.

* `decide_p50_us`, `decide_p99_us`: one whole decision that assigns a task (ordered, placed, its events applied) with
  1,000 workers, in this process; `place_p50_us`, `place_p99_us`: the placement score with its record alone.
* `lifecycles_per_s`: submit, assignment, start and finish, each durable (fsynced), through a real server and a real
  scheduler with 100 workers. `durable_assignments_per_s`: a backlog is worked off by slots whose ends bring their next
  attempts: an end, an assignment and a start at a time, journaled together.
* `submit_to_assigned_p99_ms`: from the submission to the worker's notice at 2,000 submissions a second, or at 70 % of
  `lifecycles_per_s` where that is less; `submit_rate_per_s` says which.
* `recover_100k_s`: from the start of a process to its first answer with 100,000 live tasks in the journal.
* `failover_s`: from a kill -9 of the owner to the first durable answer of the standby, in the midst of lifecycles; of
  the tasks of that time `lost` have no accepted end and `completed_twice` have two, though ends are sent twice.
* `jain_index`: how evenly agents that want more get slots (`scheduler_sim.fairness`), at load 0.9 on the Azure trace
  (``--trace``, otherwise arrivals with its statistics), and all ``trace_*`` figures beside first come, first served.
* ``peer_*`` (not with ``--quick``): tasks per second of other schedulers for empty tasks, and how many of those that
  they have accepted are lost by kill -9 (`scheduler_peers`).
* ``sweep_*`` (not with ``--quick``): growth of the backlog at loads under and over capacity (`scheduler_stability`).
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import scheduler_peers
from bench.figures import quantile, say, write
from bench.load import quiet_collector
from bench.scheduler_deciding import decisions, placements
from bench.scheduler_load import Crew, backlog, chains, failover, lifecycles, steadily
from bench.scheduler_sim import compare
from bench.scheduler_stability import sweep
from bench.scheduler_stack import SchedulerStack, Wire
from bursar.bus.server import NatsServer
from bursar.demo.trace import generate, read_azure

LIVE = 100_000
LOADS = (0.7, 0.9)


class Plan:
    """How much of each; ``quick``: within fifty seconds on two cores."""

    def __init__(self, quick: bool) -> None:
        self.rounds = 4_000 if quick else 30_000
        self.lives_s = 2.5 if quick else 15.0
        self.rate = 2_000
        self.steady_s = 2.0 if quick else 15.0
        self.chains_s = 2.5 if quick else 15.0
        self.failover_s = 3.0 if quick else 10.0
        self.failovers = 1 if quick else 5
        self.arrivals = 2_500 if quick else 100_000


async def served(plan: Plan, directory: Path) -> dict[str, Any]:
    """Everything that needs the server."""
    async with SchedulerStack(directory) as stack:
        stack.start("a")
        wire = await Wire.open(stack.server.url)
        await wire.until_answered("req", "status", "ops", {})
        figures = await paced(plan, wire)
        figures |= await killed(plan, stack, wire)
        figures |= await restarted(plan, stack, wire)
        wire.close()
    return figures


async def paced(plan: Plan, wire: Wire) -> dict[str, Any]:
    crew = Crew(wire, "empty")
    await crew.register()
    beating = asyncio.ensure_future(crew.beat())
    quiet_collector()
    await lifecycles(crew, 64, 0.5)
    one = await lifecycles(crew, 1, plan.lives_s / 4)
    many = await lifecycles(crew, 256, plan.lives_s)
    say(f"{many.per_s:.0f} lifecycles/s")
    rate = min(plan.rate, many.per_s * 0.7)
    steady = await steadily(crew, rate, plan.steady_s)
    say(f"submit to assigned p99 {quantile(steady, 0.99) * 1e3:.1f} ms at {rate:.0f}/s")
    beating.cancel()
    return {
        "lifecycles_per_s": many.per_s,
        "submit_to_assigned_idle_p50_ms": quantile(one.assigned, 0.5) * 1e3,
        "submit_to_assigned_p50_ms": quantile(steady, 0.5) * 1e3,
        "submit_to_assigned_p99_ms": quantile(steady, 0.99) * 1e3,
        "submit_rate_per_s": rate,
    }


async def killed(plan: Plan, stack: SchedulerStack, wire: Wire) -> dict[str, Any]:
    """The owner is killed, again and again; a standby is always there."""
    crew = Crew(wire, "killed", workers=16)
    await crew.register()
    beating = asyncio.ensure_future(crew.beat())
    owner, standby = "a", "b"
    stack.start(standby)
    runs = []
    for _ in range(plan.failovers):
        await stack.until_standby(standby)
        runs.append(await failover(stack, crew, wire, plan.failover_s, owner))
        say(f"failover in {runs[-1].seconds:.2f} s")
        stack.start(owner)
        owner, standby = standby, owner
    beating.cancel()
    for name in list(stack.instances):
        stack.kill(name)
    return {
        "failover_s": max(run.seconds for run in runs),
        "failovers": len(runs),
        "failover_tasks": sum(run.accepted for run in runs),
        "lost": sum(run.lost for run in runs),
        "completed_twice": sum(run.twice for run in runs),
    }


async def restarted(plan: Plan, stack: SchedulerStack, wire: Wire) -> dict[str, Any]:
    """A backlog, a cold start with it, and its being worked off."""
    crew = Crew(wire, "deep", workers=32)
    crew.to_queue = True
    stack.start("c")
    await wire.until_answered("req", "status", "ops", {})
    accepted = await backlog(crew, wire, LIVE)
    stack.kill("c")
    began = time.perf_counter()
    stack.start("d")
    status = await wire.until_answered("req", "status", "ops", {})
    recovered = time.perf_counter() - began
    if status["waiting"] < LIVE:
        raise RuntimeError(f"only {status['waiting']} tasks were there again")
    say(f"{LIVE} live tasks recovered in {recovered:.2f} s")
    await crew.register()
    beating = asyncio.ensure_future(crew.beat())
    per_s = await chains(crew, plan.chains_s)
    beating.cancel()
    say(f"{per_s:.0f} durable assignments/s")
    return {
        "accepted_in_graphs_per_s": accepted,
        "recover_100k_s": recovered,
        "recovered_tasks": status["waiting"],
        "durable_assignments_per_s": per_s,
    }


def simulated(plan: Plan, trace: Path | None) -> dict[str, Any]:
    arrivals = (read_azure(trace) if trace else generate(1))[: plan.arrivals]
    figures = compare(arrivals, LOADS)
    figures |= {"trace_calls": len(arrivals), "trace": trace.stem if trace else "generated"}
    return {**figures, "jain_index": figures["trace_ours_90_jain"], "jain_index_fcfs": figures["trace_fcfs_90_jain"]}


async def others(python: Path, directory: Path) -> dict[str, Any]:
    """What the peers do, with a NATS server of this run for those that want one."""
    async with NatsServer.plain(directory / "nats") as server:
        return await asyncio.to_thread(scheduler_peers.measure, python, directory / "peers", server.url)


def measure(quick: bool, trace: Path | None, peers: Path) -> dict[str, Any]:
    plan = Plan(quick)
    figures: dict[str, Any] = {"mode": "quick" if quick else "full"}
    figures |= decisions(plan.rounds) | placements(plan.rounds)
    say(f"decide p50 {figures['decide_p50_us']:.1f} us, placement p50 {figures['place_p50_us']:.1f} us")
    figures |= simulated(plan, trace)
    if not quick:
        figures |= sweep(1.0)
    with tempfile.TemporaryDirectory(prefix="bursar-bench-") as directory:
        figures |= asyncio.run(served(plan, Path(directory)))
    if not quick:
        with tempfile.TemporaryDirectory(prefix="bursar-peers-") as directory:
            figures |= asyncio.run(others(peers, Path(directory)))
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s: shorter, one failover, a part of the trace")
    parser.add_argument("--trace", type=Path, help="the CSV of the Azure LLM inference trace 2023 (code)")
    parser.add_argument("--json", type=Path, default=Path("bench/out/scheduler.json"), help="where the figures go")
    parser.add_argument("--peers", type=Path, default=Path(".venv/peers-scheduler/bin/python"), help="their Python")
    chosen = parser.parse_args()
    write(chosen.json, measure(chosen.quick, chosen.trace, chosen.peers))


if __name__ == "__main__":
    main()
