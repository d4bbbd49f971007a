"""The picture of a run: use of the limit over time, one panel an arm, on one axis of time; PNG, and HTML around it.

Read top down: the unmanaged fleet, the managed one, and a strip with what was done to both and how soon it was made up
for; its lines go through all panels. Colours are those of Okabe and Ito, told apart by colour-blind readers; every line
is named where it is.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from bursar.demo.result import Arm, Result, flat, quantile

INK: Final = "#1b1f24"
QUIET: Final = "#6b7280"
GRID: Final = "#e5e7eb"
ORANGE: Final = "#D55E00"
BLUE: Final = "#0072B2"
BAND: Final = "#009E73"
COLOURS: Final = {"unmanaged": ORANGE, "managed": BLUE}
CIRCUIT: Final = {"open": ORANGE, "half_open": "#E69F00"}
_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
}


_PLATE: Final[Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}


def draw(result: Result, path: Path) -> None:
    """Write the picture as a PNG, 1600 x 1152 pixels."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(10, 7.2), dpi=160, facecolor="white")
        panels: Any = figure.subplots(3, 1, sharex=True, gridspec_kw={"hspace": 0.44, "height_ratios": (1, 1, 0.62)})
        figure.subplots_adjust(left=0.085, right=0.925, top=0.8, bottom=0.075)
        figure.text(0.02, 0.955, headline(result), fontsize=15, fontweight="bold", color=INK)
        figure.text(0.02, 0.935, subtitle(result), fontsize=9, color=QUIET, va="top", linespacing=1.4)
        for panel, arm in zip(panels, (result.unmanaged, result.managed), strict=False):
            _panel(panel, arm, result)
        _strip(panels[2], result)
        figure.savefig(path, dpi=160)


def headline(result: Result) -> str:
    """The finding in one line."""
    managed, unmanaged = result.managed, result.unmanaged
    refusals = f"{_many(managed.violations, '429')} instead of {unmanaged.violations:,}"
    return f"Under Bursar: {refusals}, {_many(managed.lost, 'request')} lost instead of {unmanaged.lost:,}"


def subtitle(result: Result) -> str:
    """What was run, in two lines."""
    work = f"{result.managed.arrivals:,} requests ({result.trace}) by {result.agents} agents, the same arrivals twice"
    limit = f"{result.limit:,} input tokens per {result.window_s:g} s ({result.window} window) on each of two keys"
    return f"{work}.\nA strict provider: {limit}. Shown: tokens in its window, as a share of the limit."


def _many(count: int, what: str) -> str:
    return f"{'no' if count == 0 else format(count, ',')} {what}{'' if count == 1 else 's'}"


def _panel(panel: Any, arm: Arm, result: Result) -> None:
    colour = COLOURS[arm.name]
    times = [at for at, _ in arm.used]
    shares = [100 * share for _, share in arm.used]
    end = max(result.unmanaged.finished_at, result.managed.finished_at)
    panel.set_xlim(0, end)
    panel.set_ylim(0, 108)
    panel.set_yticks([0, 50, 100], ["0", "50", "100 %"])
    panel.grid(axis="y", color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.axhspan(85, 95, color=BAND, alpha=0.16, linewidth=0)
    panel.axhline(100, color=INK, linewidth=1.1)
    for start, stop in arm.backlog:
        panel.plot([start, stop], [2.2, 2.2], color=QUIET, linewidth=3.5, alpha=0.45, solid_capstyle="butt")
    panel.fill_between(times, shares, color=colour, alpha=0.13, linewidth=0)
    panel.plot(times, shares, color=colour, linewidth=1.9)
    _happenings(panel, result)
    panel.set_title(f"{arm.label}   ", loc="left", fontsize=11, fontweight="bold", color=colour, pad=20)
    panel.text(0, 1.06, summary(arm), transform=panel.transAxes, fontsize=9, color=INK)
    panel.text(end * 1.008, 101, "limit", va="center", fontsize=8, color=INK)
    panel.text(end * 1.008, 89, "85-95 %", va="center", fontsize=8, color=BAND)
    panel.text(end * 1.008, 2.5, "work waits", va="center", fontsize=8, color=QUIET)


def _happenings(panel: Any, result: Result) -> None:
    for happening in result.happenings:
        if happening.seconds > 0:
            panel.axvspan(happening.at, happening.at + happening.seconds, color=QUIET, alpha=0.16, linewidth=0)
        else:
            panel.axvline(happening.at, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.7)


def _strip(panel: Any, result: Result) -> None:
    """Below the panels: the circuit; what was killed, with the time until it was made up for; what else befell."""
    panel.set_ylim(0, 4)
    panel.set_yticks([3.5, 2.0, 0.5], ["circuit", "kill -9:\nback after", "provider,\ncards"], fontsize=8)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.set_xlabel("seconds")
    _happenings(panel, result)
    end = max(result.unmanaged.finished_at, result.managed.finished_at)
    panel.barh(3.5, end, height=0.34, color=GRID)
    for start, stop, state in result.circuit:
        panel.barh(3.5, stop - start, left=start, height=0.34, color=CIRCUIT.get(state, QUIET))
    for place, state in ((0.97, "open"), (0.8, "half_open")):
        words = state.replace("_", "-")
        panel.text(1.008, place, words, va="top", transform=panel.transAxes, fontsize=8, color=CIRCUIT[state])
    for number, recovery in enumerate(result.recoveries):
        words = f"{recovery.what} {recovery.seconds:.1f} s"
        panel.text(recovery.at, 2.45 - 0.9 * (number % 2), words, ha="center", va="center", fontsize=8, bbox=_PLATE)
    for happening in result.happenings:
        if happening.kind != "kill":
            middle = happening.at + happening.seconds / 2
            panel.text(middle, 0.5, happening.label, ha="center", va="center", fontsize=8, bbox=_PLATE)


def summary(arm: Arm) -> str:
    """The arm's figures in one line."""
    parts = (
        f"{arm.completed:,} of {arm.arrivals:,} completed",
        f"{arm.violations:,} over the limit",
        *([f"{arm.utilisation:.0%} of the limit used while work waited"] if arm.measured_s else []),
        f"p95 {quantile(arm.completion_s, 0.95):.1f} s",
        f"{arm.wasted_tokens:,} tokens wasted",
    )
    return "   ·   ".join(parts)


def write_html(result: Result, picture: Path, path: Path) -> None:
    """One file with the picture and all figures, that needs nothing else."""
    image = base64.b64encode(picture.read_bytes()).decode()
    rows = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{html.escape(_shown(value))}</td></tr>"
        for name, value in flat(result).items()
    )
    path.write_text(
        f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Bursar: {html.escape(headline(result))}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: {INK}; background: white; margin: 2rem auto; max-width: 62rem; padding: 0 1rem }}
img {{ width: 100%; height: auto }}
h1 {{ font-size: 1.5rem; margin-bottom: .25rem }}
p {{ color: {QUIET}; margin-top: 0 }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin-top: 1.5rem }}
th, td {{ border-bottom: 1px solid {GRID}; padding: .3rem 1.5rem .3rem 0; font-weight: normal; text-align: left }}
td {{ text-align: right; padding-right: 0 }}
</style>
<h1>{html.escape(headline(result))}</h1>
<p>{html.escape(subtitle(result))}</p>
<img alt="Use of the limit over time: the unmanaged fleet above, the managed one below." src="data:image/png;base64,{image}">
<table>{rows}</table>
</html>
""",  # noqa: E501 - the page's own lines
        encoding="utf-8",
    )


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def table_rows(result: Result) -> Sequence[tuple[str, str, str]]:
    """The end table: what, unmanaged, under Bursar."""
    unmanaged, managed = result.unmanaged, result.managed

    def both(name: str, show: Any) -> tuple[str, str, str]:
        return (name, show(unmanaged), show(managed))

    return [
        both("requests completed", lambda a: f"{a.completed:,} of {a.arrivals:,}"),
        both("requests lost", lambda a: f"{a.lost:,}"),
        both("requests done twice", lambda a: f"{a.completed_twice:,}"),
        both("calls over the limit (429)", lambda a: f"{a.violations:,}"),
        both("calls made", lambda a: f"{a.calls:,}"),
        both("limit used while work waited", lambda a: f"{a.utilisation:.1%}" if a.measured_s else "-"),
        both("completion p50", lambda a: f"{quantile(a.completion_s, 0.50):.2f} s"),
        both("completion p95", lambda a: f"{quantile(a.completion_s, 0.95):.2f} s"),
        both("completion p99", lambda a: f"{quantile(a.completion_s, 0.99):.2f} s"),
        both("tokens wasted", lambda a: f"{a.wasted_tokens:,} (${a.wasted_usd:,.2f})"),
        ("GPU allocations that failed", f"{result.gpu.unmanaged_failed:,} of {_tries(result):,}",
         f"{result.gpu.oversubscribed:,} of {result.gpu.allocations:,}"),
        ("accepted tasks lost", "-", f"{result.tasks.accepted - result.tasks.done:,} of {result.tasks.accepted:,}"),
        ("tasks with a second accepted end", "-", f"{result.tasks.ended_twice:,}"),
    ]  # fmt: skip


def _tries(result: Result) -> int:
    return result.gpu.unmanaged_allocations + result.gpu.unmanaged_failed
