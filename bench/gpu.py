"""What the GPU manager does, in figures. ``python -m bench.gpu [--quick]``; every figure is measured in the run.

* `oversubscribed_grants`, `needless_refusals`: the manager's own rule over 2,000 histories of 400 steps of a modelled
  card (`admission_rules`), the five other rules beside it (``rules``), with ``--quick`` over fewer histories.
* `grant_p50_ms`, `grant_p99_ms`: from the request to the fsynced, answered lease, four agents at a time, against a real
  server with the probes of two simulated hosts.
* `place_1000_p99_ms`: choosing from 1,000 cards, one and several at a time, with a changed card before each choice, in
  CPU time of the thread, so that others on the machine do not count; `place_1000_wall_p99_ms` by the clock on the wall.
  `decide_1000_p99_ms`: the manager's whole decision about such a request, ledger and events included, in CPU time.
* `probe_cpu_cores`: CPU time per second of a probe that looks at eight simulated cards with three processes each, once
  a second, as the scheduler counts it.
* `packed_share` and its rivals: requests that find room over synthetic days (`gpu_packing`), with `packed_phi` (of
  what is free) and `packed_stranded` (of all memory) beside them. `packed_share` includes moves of leases;
  ``packed_share_placing`` does not.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import secrets
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from bench.figures import quantile, write
from bench.gpu_deciding import decisions
from bench.gpu_packing import Outcome, compare
from bench.gpu_stack import GIB, LEASE, RELEASE, GpuStack, connected, cpu_seconds, occupied
from bursar.bus.connection import NatsBus, connect
from bursar_gpu_manager.admission_rules import RIGHT, RULES, SEEDS, STEPS, Tally, tally
from bursar_gpu_manager.contention import Load
from bursar_gpu_manager.fleet import Ask, Card, Fleet
from bursar_gpu_manager.thermal import Heat

AGENTS = 4
CARDS = 8
LOAD = 0.9
"""Bytes asked for over bytes of the cards, in the days of the packing."""


class Plan:
    """How much of each; ``quick``: within fifty seconds on two cores."""

    def __init__(self, quick: bool) -> None:
        self.other_seeds = 150 if quick else SEEDS
        self.grants_s = 4.0 if quick else 20.0
        self.choices = 2_000 if quick else 20_000
        self.probe_s = 8.0 if quick else 60.0
        self.days = 2 if quick else 8


def rule_figures(plan: Plan) -> dict[str, Any]:
    rules = {name: tally(RULES[name], SEEDS if name == RIGHT else plan.other_seeds, STEPS) for name in RULES}
    right: Tally = rules[RIGHT]
    return {
        "oversubscribed_grants": right.oversubscribed,
        "needless_refusals": right.needless,
        "model_histories": SEEDS,
        "model_steps": STEPS,
        "model_histories_of_others": plan.other_seeds,
        "rules": {name: told._asdict() for name, told in rules.items()},
    }


def packing_figures(plan: Plan) -> dict[str, Any]:
    told: dict[str, Outcome] = compare(range(plan.days), LOAD)
    return {
        "packed_days": plan.days,
        "packed_load": LOAD,
        "packed_share": told["bursar"].granted,
        "packed_share_placing": told["bursar_placing"].granted,
        "packed_share_first_fit": told["first_fit"].granted,
        "packed_share_best_fit": told["best_fit"].granted,
        "packed_share_fgd": told["fgd"].granted,
        "packed_bytes_share": {name: outcome.bytes_granted for name, outcome in told.items()},
        "packed_phi": {name: outcome.phi for name, outcome in told.items()},
        "packed_stranded": {name: outcome.stranded for name, outcome in told.items()},
        "packed_moves_per_day": told["bursar"].moves,
    }


def a_thousand(rng: random.Random) -> Fleet:
    """125 hosts of eight cards on two nodes; some warm, hot or busy."""
    fleet = Fleet()
    for number in range(1_000):
        host, card = f"h{number // 8:03}", number % 8
        fleet.put(Card(f"{host}/u{card}", host, card, "any", card // 4, card // 4))
        change(fleet, f"{host}/u{card}", rng)
    return fleet


def change(fleet: Fleet, name: str, rng: random.Random) -> None:
    heat, load = rng.choice([Heat.OK] * 8 + [Heat.WARM, Heat.HOT]), rng.choice([Load.CALM, Load.BUSY])
    fleet.change(name, rng.randrange(80 * GIB), True, heat, load)


def placing_figures(plan: Plan) -> dict[str, float]:
    rng = random.Random(1)
    fleet = a_thousand(rng)
    names, took, wall = list(fleet.cards), [], []
    for _ in range(plan.choices):
        change(fleet, rng.choice(names), rng)
        ask = Ask(rng.randrange(1, 60) * GIB, rng.choice([1, 1, 1, 1, 2, 4, 8]))
        began, clock = time.thread_time(), time.perf_counter()
        fleet.choose(ask)
        took.append((time.thread_time() - began) * 1_000)
        wall.append((time.perf_counter() - clock) * 1_000)
    decided = decisions(plan.choices)
    return {
        "place_1000_p50_ms": quantile(took, 0.5),
        "place_1000_p99_ms": quantile(took, 0.99),
        "place_1000_wall_p99_ms": quantile(wall, 0.99),
        "decide_1000_p50_ms": quantile(decided, 0.5),
        "decide_1000_p99_ms": quantile(decided, 0.99),
    }


async def grants(stack: GpuStack, seconds: float) -> list[float]:
    """Milliseconds of each lease, by so many agents that lease and release as fast as they can."""
    took: list[float] = []
    session = secrets.token_hex(4)

    async def agent(number: int, bus: NatsBus) -> None:
        until = time.perf_counter() + seconds
        turn = 0
        while (began := time.perf_counter()) < until:
            turn += 1
            body = {"id": f"{session}{number}-{turn}", "memory": 4 * GIB, "ttl_ms": 10_000}
            answer = msgpack.unpackb((await bus.request(f"{LEASE}.{bus.principal}", msgpack.packb(body), 10.0)).data)
            took.append((time.perf_counter() - began) * 1_000)
            if answer.get("ok") is not True:
                raise RuntimeError(f"not granted: {answer}")
            back = {"id": f"{session}{number}r-{turn}", "lease": answer["lease"], "fence": answer["fence"]}
            await bus.request(f"{RELEASE}.{bus.principal}", msgpack.packb(back), 10.0)

    buses = [await connect(stack.server.url, principal=f"agent-{number}") for number in range(AGENTS)]
    try:
        await asyncio.gather(*(agent(number, bus) for number, bus in enumerate(buses)))
    finally:
        for bus in buses:
            await bus.close()
    return took


async def real_figures(plan: Plan) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        async with GpuStack(Path(name)) as stack:
            for host in ("sim-1", "sim-2"):
                stack.probe(host, f"{CARDS}x80GiB", 0.5)
            await stack.until_fresh(2 * CARDS)
            await grants(stack, 0.5)
            took = await grants(stack, plan.grants_s)
            return {"grants": len(took), "grant_p50_ms": quantile(took, 0.5), "grant_p99_ms": quantile(took, 0.99),
                    **await probe_figures(stack, plan, Path(name) / "control")}  # fmt: skip


async def probe_figures(stack: GpuStack, plan: Plan, control: Path) -> dict[str, float]:
    probe = stack.probe("sim-3", f"{CARDS}x80GiB", 1.0, str(control))
    users = [await connected(str(control))]
    try:
        await occupied(str(control), "sim-3", CARDS, 3, users)
        await stack.until_fresh(3 * CARDS)
        before, began = cpu_seconds(probe.pid), time.monotonic()
        await asyncio.sleep(plan.probe_s)
        cores = (cpu_seconds(probe.pid) - before) / (time.monotonic() - began)
    finally:
        for user in users:
            await user.close()
    return {"probe_cards": CARDS, "probe_measured_s": plan.probe_s, "probe_cpu_cores": cores}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer histories, days and seconds: under 50 s")
    parser.add_argument("--json", type=Path, default=Path("bench/out/gpu.json"), help="where the figures go")
    options = parser.parse_args()
    plan, began = Plan(options.quick), time.monotonic()
    figures: dict[str, Any] = {"quick": options.quick, **placing_figures(plan), **asyncio.run(real_figures(plan))}
    with ProcessPoolExecutor(2) as pool:  # after what is measured by the clock
        for part in [pool.submit(rule_figures, plan), pool.submit(packing_figures, plan)]:
            figures.update(part.result())
    figures["took_s"] = time.monotonic() - began
    write(options.json, figures)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
