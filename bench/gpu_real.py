"""What a real card does, against what the manager takes it to do. Needs an NVIDIA card and its driver; without one it
says so and ends with status 3, and measures nothing.

    python -m bench.gpu_real --json bench/out/gpu_real.json --trace trace.jsonl

| step | question |
|---|---|
| accounting | does ``used`` count what the driver keeps? (total = reserved + used + free, or not) |
| allocation | how long until an allocation is seen, and how much more than it a process takes |
| kill | how long after kill -9 until 95 % of the memory is back |
| bandwidth | activity of the memory by counters, idle and under copies; ``utilization.memory`` beside it |
| over-ask | with the card really full: the manager refuses what the driver would have failed |
| restart | the manager forgets all but its ledger: leases are unknown, then found again by pid and start |

The manager here is its decider with reports of the real card; what makes it durable is measured elsewhere. Nothing of
the card's settings is touched. All looks at the card are recorded as a trace that the replayed adapter plays.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

import msgpack  # type: ignore[import-untyped]

from bench.figures import say, write
from bursar.bus.codec import decode
from bursar.contracts import gpu as wire
from bursar.kernel.decider import Accept, Command, Outcome, Refuse
from bursar_gpu_manager.core import GpuDecider
from bursar_gpu_manager.nvml import SLACK, Nvml, started_at
from bursar_gpu_manager.port import DevicePort, NoDevices
from bursar_gpu_manager.replayed import header, sample_of
from bursar_gpu_manager.reporting import report

GIB = 1 << 30
MIB = 1 << 20
NO_CARD = 3
POLL_S = 0.005
PATIENCE_S = 30.0
HOST = "real"


class Child(Protocol):
    """A process that uses the card."""

    pid: int
    started: int

    def allocate(self, size: int) -> bool:
        """Whether the driver gave it."""
        ...

    def copy(self, seconds: float) -> int:
        """Bytes moved within the card's memory."""
        ...

    def kill(self) -> None: ...


class RealChild:
    """`bench.gpu_child` as a process."""

    def __init__(self, number: int) -> None:
        command = [sys.executable, "-m", "bench.gpu_child", str(number)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._read() != "ready":
            self.kill()
            raise RuntimeError("a process cannot use the card")
        self.pid = self._process.pid
        self.started = started_at(self.pid) or 0

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def allocate(self, size: int) -> bool:
        return self._ask(f"alloc {size}") == "ok"

    def copy(self, seconds: float) -> int:
        return int(self._ask(f"copy {seconds}"))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


class Manager:
    """The decider and its ledger; time is the machine's, in ms."""

    def __init__(self) -> None:
        self.decider = GpuDecider()
        self.state = self.decider.initial()
        self.number = 0

    def now(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def ask(self, body: Any, principal: str = "bench") -> Outcome:
        outcome = self._decide(Command(principal, getattr(body, "id", ""), body))
        while (command := self.decider.due(self.state, self.now())) is not None:
            self._decide(command)
        return outcome

    def _decide(self, command: Command) -> Outcome:
        self.number += 1
        outcome = self.decider.decide(self.state, command, self.now(), (1, 1, self.number))
        if isinstance(outcome, Accept):
            for event in outcome.events:
                self.decider.evolve(self.state, event)
        return outcome

    def lease(self, memory: int, child: Child) -> Outcome:
        named = (wire.Process(pid=child.pid, started=child.started),)
        return self.ask(wire.Lease(id=f"r-{self.number}", memory=memory, ttl_ms=60_000, processes=named))

    def release(self, granted: Outcome) -> None:
        if isinstance(granted, Accept):
            key = granted.reply["lease"]
            self.ask(wire.Release(id=f"r-{self.number}", lease=key, fence=f"{key}.{'0' * 16}"))

    def phases(self) -> dict[str, str]:
        told = self.ask(wire.Status())
        assert isinstance(told, Refuse)
        return {row["lease"]: row["phase"] for row in told.reply["leases"]}

    def forget(self) -> None:
        """What a kill leaves: the ledger, and nothing that was seen."""
        self.state = self.decider.load(msgpack.unpackb(msgpack.packb(self.decider.dump(self.state)), use_list=False))


class Bench:
    """The steps, on one card of a port; ``spawn`` starts a process that uses it."""

    def __init__(self, port: DevicePort, uuid: str, spawn: Callable[[], Child], trace: TextIO | None = None) -> None:
        self.port = port
        self.uuid = uuid
        self.spawn = spawn
        self.manager = Manager()
        self._trace = trace
        self._began = time.perf_counter()
        self._seq = 0
        self._traced_ms = -500
        self._totals: dict[str, int] = {}

    # ---- looking

    def look(self) -> wire.Report:
        """One look at the card: told to the manager, and recorded twice a second."""
        self._seq += 1
        said, _ = decode(wire.Report, msgpack.packb(report(self.port, "b0", self._seq, self._totals, {})))
        self.manager.ask(said, HOST)
        at = int((time.perf_counter() - self._began) * 1_000)
        if self._trace is not None and at >= self._traced_ms + 500:
            self._traced_ms = at
            self._trace.write(sample_of(self.port, at) + "\n")
        return said

    def used(self) -> int:
        return self.port.memory(self.uuid).used or 0

    def total(self) -> int:
        return self.port.memory(self.uuid).total or 0

    def of(self, child: Child) -> int:
        """Bytes of one process, as the driver says."""
        return sum(row.memory or 0 for row in self.port.processes(self.uuid) or () if row.pid == child.pid)

    def until(self, check: Callable[[], bool]) -> float | None:
        """Milliseconds until it was so; None when it was not within `PATIENCE_S`."""
        began = time.perf_counter()
        while time.perf_counter() - began < PATIENCE_S:
            if check():
                return (time.perf_counter() - began) * 1_000
            time.sleep(POLL_S)
            self.port.advance(int(POLL_S * 1_000))
        return None

    # ---- steps

    def accounting(self) -> dict[str, Any]:
        memory = self.port.memory(self.uuid)
        total = self.total()
        parts = (memory.used or 0) + (memory.reserved or 0) + (memory.free or 0)
        return {
            "total": memory.total,
            "reserved": memory.reserved,
            "parts_miss_total_by": total - parts,
            "adds_up": abs(total - parts) <= SLACK,
        }

    def allocation(self, sizes: tuple[int, ...] = (256 * MIB, GIB, 4 * GIB)) -> dict[str, Any]:
        rows = []
        for size in sizes:
            child, before = self.spawn(), self.used()
            context = self.of(child)
            given = child.allocate(size)
            delay = self.until(lambda child=child, size=size: self.of(child) >= size)  # type: ignore[misc]
            self.look()
            rows.append({"bytes": size, "given": given, "seen_after_ms": delay, "context": context,
                         "beyond": self.of(child) - size, "used_grew_by": self.used() - before})  # fmt: skip
            child.kill()
            self.until(lambda before=before: self.used() <= before + SLACK)  # type: ignore[misc]
        return {"allocations": rows}

    def kill(self, size: int = 8 * GIB) -> dict[str, Any]:
        before, child = self.used(), self.spawn()
        child.allocate(size)
        self.until(lambda: self.of(child) >= size)
        held = self.used() - before
        child.kill()
        back = self.until(lambda: self.used() - before <= held // 20)
        self.look()
        return {"bytes": held, "back_after_ms": back, "pid_gone_first": self.of(child) == 0}

    def bandwidth(self, seconds: float = 4.0) -> dict[str, Any]:
        idle = self._activity(1.0)
        child = self.spawn()
        began = time.perf_counter()
        copier = _InBackground(child, seconds)
        busy = self._activity(seconds)
        moved = copier.wait()
        spent = time.perf_counter() - began
        child.kill()
        return {"idle": idle, "copying": busy, "moved_gb_per_s": round(moved / spent / 1e9, 1)}

    def _activity(self, seconds: float) -> dict[str, int | None]:
        """The highest figures of the time."""
        told: dict[str, int | None] = {}
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self.port.advance(250)
            sensors = self.port.sensors(self.uuid)
            self.look()
            for name in ("dram_activity", "sm_activity", "memory_utilisation", "temperature", "margin", "power_mw"):
                value = getattr(sensors, name)
                told[name] = value if told.get(name) is None else max(told[name] or 0, value or 0)
            time.sleep(0.25)
        return told

    def over_ask(self) -> dict[str, Any]:
        """The first takes nearly all; what the second wants is refused, and the driver would have failed it."""
        self.look()
        first, second = self.spawn(), self.spawn()
        self.look()
        total, kept = self.total(), self.port.memory(self.uuid).reserved or 0
        most = total - kept - self.used() - wire.DEFAULT_RESERVE - GIB
        granted = self.manager.lease(most, first)
        given = first.allocate(most)
        self.until(lambda: self.of(first) >= most)
        self.look()
        refused = self.manager.lease(2 * GIB, second)
        failed = not second.allocate(2 * GIB)
        first.kill()
        second.kill()
        self.until(lambda: self.used() <= total // 20)
        self.manager.release(granted)
        self.look()
        reason = refused.reply.get("reason") if isinstance(refused, Refuse) else None
        return {"bytes": most, "granted": isinstance(granted, Accept), "given": given, "refused": reason,
                "driver_would_have_failed": failed}  # fmt: skip

    def restart(self, size: int = 2 * GIB) -> dict[str, Any]:
        child, gone = self.spawn(), self.spawn()
        self.look()
        leases = [self.manager.lease(size, one) for one in (child, gone)]
        keys = [one.reply["lease"] for one in leases if isinstance(one, Accept)]
        for one in (child, gone):
            one.allocate(size)
        self.until(lambda: self.of(child) >= size and self.of(gone) >= size)
        self.look()
        before = [self.manager.phases().get(key) for key in keys]
        self.manager.forget()
        after = [self.manager.phases().get(key) for key in keys]
        blind = self.manager.lease(GIB, child)
        gone.kill()
        self.until(lambda: self.of(gone) == 0)
        self.look()
        found = [self.manager.phases().get(key) for key in keys]
        child.kill()
        return {"before": before, "after_restart": after, "granted_blind": isinstance(blind, Accept),
                "reconciled": found}  # fmt: skip

    def run(self) -> dict[str, Any]:
        figures: dict[str, Any] = {"card": self.port.cards()[0].model, "ran_on_a_card": True}
        steps = (self.accounting, self.allocation, self.kill, self.bandwidth, self.over_ask, self.restart)
        for step in steps:
            say(step.__name__)
            figures[step.__name__] = step()
        figures["sensors"] = self.port.sensors(self.uuid)._asdict()
        figures["topology"] = self.port.topology(self.uuid)._asdict()
        return figures


class _InBackground:
    """A child's copies, while somebody else looks at the card."""

    def __init__(self, child: Child, seconds: float) -> None:
        self._moved = 0
        self._thread = threading.Thread(target=self._copy, args=(child, seconds))
        self._thread.start()

    def _copy(self, child: Child, seconds: float) -> None:
        self._moved = child.copy(seconds)

    def wait(self) -> int:
        self._thread.join()
        return self._moved


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.gpu_real", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, default=Path("bench/out/gpu_real.json"))
    parser.add_argument("--trace", type=Path, default=Path("bench/out/gpu_real_trace.jsonl"))
    parser.add_argument("--card", type=int, default=0, help="its number on this machine")
    chosen = parser.parse_args(arguments)
    try:
        port = Nvml()
        cards = port.cards()
    except NoDevices as error:
        say(f"no card was measured: {error.text}")
        return NO_CARD
    if chosen.card >= len(cards):
        say(f"no card was measured: the driver shows {len(cards)}")
        return NO_CARD
    chosen.trace.parent.mkdir(parents=True, exist_ok=True)
    with chosen.trace.open("w", encoding="ascii") as trace:
        trace.write(header(note="bench.gpu_real", card=cards[chosen.card].model) + "\n")
        bench = Bench(port, cards[chosen.card].uuid, lambda: RealChild(chosen.card), trace)
        write(chosen.json, bench.run())
    port.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
