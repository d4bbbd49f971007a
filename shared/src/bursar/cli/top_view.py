"""How `bursar top` looks: one table per section, the age of its numbers at the right edge.

Colour says what needs a person: red is wrong, yellow is near it or old, dim is beside the point. Nothing rests on
colour alone: states are words, shares are bars and numbers, ages are numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bursar.cli.top_frame import Frame, Row
from bursar.contracts.monitor import FLEET

FRESH_MS: Final = 4_000
OLD_MS: Final = 15_000
"""Numbers older than the first are shown as old, older than the second as wrong."""

BAR: Final = 8
FIRST: Final = 22
"""Least width of a first column, so that the tables line up."""
NOTHING: Final = "–"
WRONG: Final = "red not dim"
NEAR: Final = "yellow not dim"
"""What needs a person is not dimmed with its row."""
MONEY: Final = "usd_micros"


class Column(NamedTuple):
    """One column: its head, what it shows of a row, and how."""

    head: str
    cell: Callable[[Row], str | Text]
    right: bool = True
    ratio: int = 0


class Section(NamedTuple):
    """One section of the screen."""

    section: str
    title: str
    columns: tuple[Column, ...]
    service: str = ""
    group: str = ""
    """The field that is written once for rows that share it."""


# ---- numbers as people read them


def count(value: Any) -> str:
    """1234567 as 1.23M; None as a dash."""
    if value is None:
        return NOTHING
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if abs(value) >= 10 * size or (abs(value) >= size and unit != "k"):
            return f"{value / size:.3g}{unit}"
    return f"{value}"


def size(value: Any) -> str:
    """Bytes, in powers of 1024."""
    if value is None:
        return NOTHING
    for unit, one in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= one:
            return f"{value / one:.1f} {unit}" if abs(value) < 10 * one else f"{value / one:.0f} {unit}"
    return f"{value} B"


def latency(us: Any) -> str:
    if us is None:
        return NOTHING
    return f"{us / 1000:.3g} ms" if us < 1_000_000 else f"{us / 1_000_000:.3g} s"


def span(ms: Any) -> str:
    """A time, as short as it can be said."""
    if ms is None:
        return NOTHING
    seconds = ms / 1000
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 120:
        return f"{seconds:.0f}s"
    return f"{seconds / 60:.0f}m" if seconds < 7_200 else f"{seconds / 3_600:.0f}h"


def bar(used: Any, limit: Any, good: float, bad: float) -> Text:
    """A share as a bar and a percentage; a dash when it is not known."""
    if used is None or not limit:
        return Text(NOTHING.rjust(BAR + 5), style="dim")
    share = used / limit
    colour = "red" if share >= bad else "yellow" if share >= good else "green"
    eighths = round(min(1.0, max(0.0, share)) * BAR * 8)
    whole, part = divmod(eighths, 8)
    drawn = "█" * whole + (" ▏▎▍▌▋▊▉"[part] if part else "")
    return Text.assemble((drawn.ljust(BAR), colour), (f"{share:5.0%}", colour if share >= good else ""))


def permille(value: Any) -> str:
    return NOTHING if value is None else f"{value / 10:.0f}%"


def word(text: str, **colours: tuple[str, ...]) -> Text:
    """A state, in the colour that it is listed under."""
    colour = next((name for name, words in colours.items() if text in words), "")
    return Text(text, style=f"{colour} not dim" if colour else "")


def age(row: Row) -> Text:
    ms = row.get("age_ms")
    if ms is None:
        return Text("never", style=WRONG)
    return Text(span(ms), style=WRONG if ms >= OLD_MS else NEAR if ms >= FRESH_MS else "dim")


def is_old(row: Row) -> bool:
    ms = row.get("age_ms")
    return ms is None or ms >= FRESH_MS


def _get(name: str, shown: Callable[[Any], str | Text] = str) -> Callable[[Row], str | Text]:
    return lambda row: shown(row.get(name))


def _used(row: Row, used: str, limit: str) -> str:
    return f"{size(row.get(used))} / {size(row.get(limit))}"


def _role(row: Row) -> Text:
    if not row["is_here"]:
        return Text("gone", style=WRONG)
    return Text("owner", style="green") if row["owner"] else Text("standby", style="dim")


def _severity(row: Row) -> Text:
    muted = " (silenced)" if row["silenced"] else f" (ack {row['acknowledged_by']})" if row["acknowledged_by"] else ""
    found = word(row["severity"], red=("critical",), yellow=("warning",), cyan=("info",))
    return Text.assemble(found, (muted, "dim"))


def _budget_unit(row: Row) -> str:
    """The dimension, per its window."""
    name = "dollars" if row["dimension"] == MONEY else row["dimension"].replace("_", " ")
    return f"{name}/{_window(row['window_ms'])}" if row["window_ms"] else name


def _window(ms: int) -> str:
    for unit, one in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        if ms % one == 0:
            return f"{ms // one}{unit}"
    return f"{ms}ms"


def _amount(field: str) -> Callable[[Row], str]:
    """A count in the budget's own unit; money in dollars."""

    def shown(row: Row) -> str:
        value = row[field]
        return f"${value / 1e6:,.2f}" if row["dimension"] == MONEY and value is not None else count(value)

    return shown


def _device(row: Row) -> str:
    """Host and the beginning of the device's name: enough to tell two apart."""
    return f"{row['host']}/{row['device'][:12]}"


TABLES: Final[tuple[Section, ...]] = (
    Section("alerts", "Alerts", (
        Column("severity", _severity, False),
        Column("what", _get("text"), False, 2),
        Column("for", _get("for_ms", span)),
    ), "monitor"),
    Section("services", "Services", (
        Column("instance", _get("instance"), False, 1),
        Column("role", _role, False),
        Column("requests", _get("requests", count)),
        Column("errors", lambda row: Text(count(row["errors"]), style="yellow" if row["errors"] else "dim")),
        Column("open", _get("open", count)),
        Column("p50", _get("p50_us", latency)),
        Column("p99", _get("p99_us", latency)),
        Column("memory", _get("rss_bytes", size)),
    )),
    Section("budgets", "Budgets", (
        Column("budget", _get("budget"), False, 1),
        Column("of", _budget_unit, False),
        Column("used", lambda row: bar(row["used"], row["limit"], 0.955, 0.99), False),
        Column("now", _amount("used")),
        Column("limit", _amount("limit")),
        Column("in flight", _amount("in_flight")),
        Column("waiting", lambda row: Text(count(row["waiting"]), style="yellow" if row["waiting"] else "dim")),
    ), "limiter", "budget"),
    Section("circuits", "Circuits", (
        Column("target", _get("target"), False, 1),
        Column("state", lambda row: word(row["state"], red=("open", "forced_open"), yellow=("half_open",),
                                         green=("closed",), cyan=("forced_closed",)), False),
        Column("why", _get("cause"), False),
        Column("calls", _get("calls", count)),
        Column("failures", _get("failures_permille", permille)),
        Column("tries in", _get("retry_in_ms", span)),
    ), "breaker"),
    Section("devices", "GPUs", (
        Column("device", _device, False, 1),
        Column("state", lambda row: word(row["state"], red=("lost",), yellow=("silent", "cordoned"),
                                         green=("ready", "ok")), False),
        Column("granted", lambda row: bar(row["granted_bytes"], row["total_bytes"], 0.95, 1.0001), False),
        Column("granted / total", lambda row: _used(row, "granted_bytes", "total_bytes")),
        Column("in use", _get("observed_bytes", size)),
        Column("leases", _get("leases", count)),
        Column("busy", _get("busy_permille", permille)),
        Column("°C", _get("temperature_c", count)),
    ), "gpu-manager"),
    Section("queues", "Queue", (
        Column("band", _get("queue"), False, 1),
        Column("waiting", _get("waiting", count)),
        Column("running", _get("running", count)),
    ), "scheduler"),
    Section("workers", "Workers", (
        Column("worker", _get("worker"), False, 1),
        Column("kind", _get("kind"), False),
        Column("state", lambda row: word(row["state"], green=("up",), yellow=("draining",)), False),
        Column("slots", lambda row: bar(row["running"], row["slots"], 1.01, 1.02), False),
        Column("running", lambda row: f"{count(row['running'])} / {count(row['slots'])}"),
        Column("heard", _get("heard_ms", span)),
    ), "scheduler"),
    Section("hosts", "Hosts", (
        Column("host", _get("host"), False, 1),
        Column("cpu", lambda row: bar(row["cpu_permille"], 1000, 0.85, 0.95), False),
        Column("memory", lambda row: bar(row["memory_used_bytes"], row["memory_total_bytes"], 0.8, 0.92), False),
        Column("disk", lambda row: permille(_share(row["disk_used_bytes"], row["disk_total_bytes"]))),
        Column("disk/s", _get("disk_bytes_per_s", size)),
        Column("in/s", _get("received_bytes_per_s", size)),
        Column("out/s", _get("sent_bytes_per_s", size)),
        Column("gpus", _get("gpus", count)),
    ), "monitor"),
)  # fmt: skip


def _share(used: Any, total: Any) -> int | None:
    return None if used is None or not total else used * 1000 // total


# ---- the screen


def screen(frame: Frame, height: int | None = None) -> RenderableType:
    """The whole frame; with a height (lines), cut to it: the longest sections first."""
    most = 200 if height is None else 40
    while height is not None and most > 1 and lines(frame, most) > height:
        most -= 1
    return Group(header(frame), *(part for table in TABLES for part in section(frame, table, most)))


def lines(frame: Frame, most: int) -> int:
    """How many lines the frame takes with at most so many rows per section."""
    total = 2
    for table in TABLES:
        rows = len(_rows(frame, table))
        if rows:
            total += 2 + min(rows, most) + (1 if rows > most else 0)
        elif absent(frame, table):
            total += 2
    return total


def header(frame: Frame) -> RenderableType:
    """Who looks at what, and which services do not answer."""
    line = Text.assemble(("bursar top", "bold"), ("  ", ""), (f"{frame.url} as {frame.who}", "dim"))
    if not frame.is_connected:
        line.append("   not connected", style="bold red")
    away = [name for name in FLEET if not frame.answers.get(name)]
    if len(away) == len(FLEET):
        line.append("   no service answers", style="red")
    elif away:
        line.append(f"   no answer from {', '.join(away)}", style="yellow")
    else:
        line.append("   all services answer", style="green")
    return line


def section(frame: Frame, table: Section, most: int) -> Sequence[RenderableType]:
    """A section as a table; one line when its service is away and there is nothing to show."""
    rows = _rows(frame, table)
    if not rows:
        said = absent(frame, table)
        return [Text(""), Text.assemble((table.title, "bold"), (f"  {said}", "dim"))] if said else []
    made = _table(table)
    before = None
    for row in rows[:most]:
        cells = [column.cell(row) for column in table.columns]
        if table.group and row[table.group] == before:
            cells[0] = ""
        before = row.get(table.group)
        made.add_row(*cells, "", age(row), style="dim" if is_old(row) else "")
    parts: list[RenderableType] = [Text(""), made]
    left = len(rows) - min(len(rows), most) + frame.left_out.get(table.section, 0) * (table.service == "monitor")
    if left:
        parts.append(Text(f"… {left} more", style="dim"))
    return parts


def _table(table: Section) -> Table:
    """The columns, an empty one that takes the room that is left, and the ages at the right edge."""
    made = Table(box=None, expand=True, padding=(0, 2, 0, 0), header_style="dim", show_edge=False, pad_edge=False)
    is_wide = any(column.ratio > 1 for column in table.columns)
    for number, column in enumerate(table.columns):
        made.add_column(
            Text(column.head) if number else Text(table.title, style="bold not dim"),
            justify="right" if column.right else "left",
            ratio=1 if column.ratio > 1 else None,
            min_width=FIRST if number == 0 and not is_wide else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    made.add_column("", ratio=None if is_wide else 1)
    made.add_column("age", justify="right", no_wrap=True, min_width=5)
    return made


def _rows(frame: Frame, table: Section) -> list[Row]:
    return frame.sections.get(table.section, [])


def absent(frame: Frame, table: Section) -> str:
    """Why a section is empty, where that is worth saying."""
    if not table.service:
        return "nobody answers"
    if not frame.answers.get(table.service):
        return f"the {table.service} does not answer"
    return "" if table.section in {"alerts", "circuits"} else "none"
