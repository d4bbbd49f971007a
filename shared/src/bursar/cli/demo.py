"""``bursar demo``: a fleet replays real LLM requests, unmanaged and under Bursar, against a strict provider."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from bursar.cli.agent import fail
from bursar.demo.measure import result_of
from bursar.demo.picture import draw, headline, table_rows, write_html
from bursar.demo.plan import Plan, PlanError, Wishes, make_plan
from bursar.demo.result import Result, broken_promises, flat, not_promised, quantile
from bursar.demo.run import Progress, Watcher, run
from bursar.demo.stack import StackError
from bursar.demo.trace import Arrival, BadTrace, generate, read_azure

WindowKind = Literal["rolling", "clock", "bucket"]


def demo(
    trace: Annotated[
        Path | None, typer.Option(help="Azure 2023 CSV (TIMESTAMP,ContextTokens,GeneratedTokens); default: generated.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the picture and the page.")] = Path("demo-out"),
    seconds: Annotated[float, typer.Option(help="About how long the fleet works.")] = Wishes.seconds,
    agents: Annotated[int, typer.Option(min=1, help="Agents in each arm.")] = Wishes.agents,
    processes: Annotated[int, typer.Option(min=1, max=32, help="Processes of each arm.")] = Wishes.processes,
    window: Annotated[str, typer.Option(help="How the provider counts: rolling, clock or bucket.")] = "rolling",
    kills: Annotated[int, typer.Option(min=0, max=3, help="How often each service is killed.")] = Wishes.kills,
    seed: Annotated[int, typer.Option(help="Seed of the generated trace and of the provider.")] = 1,
) -> None:
    """See what Bursar does: the same requests, at the same time, by two fleets on two keys of one strict provider.

    One fleet is unmanaged (the SDK retries as it does by default; GPUs are taken as they look free), the other runs
    under all five services: every request is a task, done by workers that call the provider under limiter and breaker,
    or compute on simulated GPUs under leases. During the run the provider is down once and overloaded once, a GPU is
    lost, and limiter, scheduler, GPU manager, breaker and a worker are killed with kill -9. At the end: a table, a
    picture and a page. The exit status is 1 when a promise was broken.

    \b
    Examples:
      bursar demo
      bursar demo --trace AzureLLMInferenceTrace_2023_code.csv --json figures.json
      bursar demo --window clock --kills 2
    """
    began = time.monotonic()
    console = Console(highlight=False)
    try:
        arrivals, source = _arrivals(trace, seed)
        plan = make_plan(arrivals, source, _wishes(seconds, agents, processes, window, kills, seed))
    except (BadTrace, PlanError) as error:
        fail(str(error))
    _check_places(out, json_file)
    _introduce(console, plan)
    with tempfile.TemporaryDirectory(prefix="bursar-demo-", ignore_cleanup_errors=True) as folder:
        try:
            recording = asyncio.run(run(plan, Path(folder), Teller(console, plan)))
        except StackError as error:
            fail(str(error))
        except asyncio.CancelledError:
            raise typer.Exit(143) from None
    result = result_of(recording, time.monotonic() - began)
    _write(result, out, json_file)
    _tell(console, result, out)
    if note := not_promised(result):
        console.print(f"note: {note}")
    broken = broken_promises(result)
    for text in broken:
        console.print(f"[bold red]promise broken:[/] {text}")
    raise typer.Exit(1 if broken else 0)


def register(app: typer.Typer) -> None:
    app.command("demo")(demo)


class Teller(Watcher):
    """Says what happens: a line an event, and one a second that is written over where there is a terminal."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console, self._plan = console, plan
        self._last = -10.0

    def event(self, text: str) -> None:
        self._clear()
        self._console.print(f"  [bold]{text}[/]")

    def progress(self, progress: Progress) -> None:
        if not self._console.is_terminal and progress.elapsed - self._last < 5:
            return
        self._last = progress.elapsed
        keys = progress.judged.get("keys", {})
        refused = {arm: keys.get(f"sk-{arm}", {}).get("violations", 0) for arm in ("managed", "unmanaged")}
        parts = [f"{max(0.0, progress.elapsed):5.1f} s  {progress.arrived:5,} of {progress.jobs:,} due"]
        for arm, label in (("managed", "Bursar"), ("unmanaged", "unmanaged")):
            done = progress.ended(arm).get("done", 0)
            parts.append(f"{label} {done:5,} done, {progress.open(arm):4,} open, {refused[arm]:5,} refused")
        line = "  |  ".join(parts)
        if self._console.is_terminal:
            sys.stdout.write(f"\r\x1b[K  {line[: self._console.width - 3]}")
            sys.stdout.flush()
        else:
            self._console.print(f"  {line}", soft_wrap=True)

    def _clear(self) -> None:
        if self._console.is_terminal:
            sys.stdout.write("\r\x1b[K")


def _arrivals(trace: Path | None, seed: int) -> tuple[list[Arrival], str]:
    if trace is None:
        return generate(seed), "generated with the statistics of the Azure LLM trace 2023"
    return read_azure(trace), f"trace {trace.stem}"


def _wishes(seconds: float, agents: int, processes: int, window: str, kills: int, seed: int) -> Wishes:
    kinds: dict[str, WindowKind] = {"rolling": "rolling", "clock": "clock", "bucket": "bucket"}
    if window not in kinds:
        raise PlanError(f"--window {window}: choose rolling, clock or bucket")
    return Wishes(
        seconds=seconds, agents=agents, processes=processes, window=kinds[window], kills=kills, seed=seed
    )  # fmt: skip


def _check_places(out: Path, json_file: Path | None) -> None:
    """Make the folders now and end when nothing can be written there: nobody wants to learn that after the run."""
    try:
        for folder in (out, *([json_file.parent] if json_file else [])):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        if json_file is not None and json_file.is_dir():
            raise IsADirectoryError(f"{json_file} is a directory")
        if json_file is not None and json_file.exists() and not os.access(json_file, os.W_OK):
            raise PermissionError(f"{json_file} cannot be written")
    except OSError as error:
        fail(f"the results could not be written: {error}")


def _introduce(console: Console, plan: Plan) -> None:
    quota = plan.quota
    console.print(
        f"[bold]{len(plan.jobs):,} requests[/] ({plan.source}), {plan.agents} agents in {plan.processes} processes, "
        f"twice. The provider allows {quota.input_tokens:,} input tokens in {plan.window_s:g} s ({plan.window}) a key. "
        f"Takes about {plan.seconds + 15:.0f} s."
    )


def _write(result: Result, out: Path, json_file: Path | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    draw(result, out / "demo.png")
    write_html(result, out / "demo.png", out / "demo.html")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(flat(result), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _tell(console: Console, result: Result, out: Path) -> None:
    table = Table(title=headline(result), title_justify="left", title_style="bold", show_edge=False, pad_edge=False)
    table.add_column("")
    table.add_column("unmanaged", justify="right")
    table.add_column("under Bursar", justify="right", style="bold")
    for row in table_rows(result):
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print()
    console.print(_services(result))
    everywhere = [ms for values in result.coordination_ms.values() for ms in values]
    console.print(f"\ncoordination (separate probe, all services): {_quantiles(everywhere)} ms; "
                  f"inside the agents: {_quantiles(result.inside_agents_ms)} ms")  # fmt: skip
    trips = f"{quantile(result.trips_ms, 0.99):.0f} ms after the first failed call, at the latest"
    states = ", ".join(f"{state.replace('_', '-')} {start:.1f}-{end:.1f} s" for start, end, state in result.circuit)
    console.print(f"circuit of the provider: {states or 'always closed'}")
    console.print(f"every worker knew that it was open {trips if result.trips_ms else 'never'}")
    console.print(f"picture: {out / 'demo.png'}, page: {out / 'demo.html'}")


def _services(result: Result) -> Table:
    """Each service: what its kill did, how fast it answers, what it uses when idle."""
    table = Table(show_edge=False, pad_edge=False)
    for name in ("", "kill -9: back after", "answers p50 / p95 / p99", "idle CPU", "memory"):
        table.add_column(name, justify="left" if not name else "right")
    for service in sorted({*result.footprint, *(recovery.what for recovery in result.recoveries)}):
        back = [f"{recovery.seconds:.2f} s" for recovery in result.recoveries if recovery.what == service]
        latencies = result.coordination_ms.get(service, ())
        spans = " / ".join(f"{quantile(latencies, q):.1f}" for q in (0.5, 0.95, 0.99)) + " ms" if latencies else ""
        used = result.footprint.get(service)
        footprint = (f"{used.idle_cores:.1%} of a core", f"{used.rss / 1e6:.0f} MB") if used else ("", "")
        table.add_row(service, ", ".join(back), spans, *footprint)
    return table


def _quantiles(values: Sequence[float]) -> str:
    return ", ".join(f"p{int(q * 100)} {quantile(values, q):.1f}" for q in (0.5, 0.95, 0.99))
