"""What `bursar top` shows: one table per section, and how each number and state is written.

Colour says what needs a person: red is wrong, yellow is near it or old, dim is beside the point. Nothing rests on
colour alone: states are words, shares are bars and numbers, ages are numbers. `top_layout` fits it into a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rich.text import Text

from bursar.cli.top_frame import Row

FRESH_MS: Final = 4_000
OLD_MS: Final = 15_000
"""Numbers older than the first are shown as old, older than the second as wrong."""

BAR: Final = 8
NOTHING: Final = "–"
WRONG: Final = "red not dim"
NEAR: Final = "yellow not dim"
"""What needs a person is not dimmed with its row."""
MONEY: Final = "usd_micros"


class Column(NamedTuple):
    """One column: its head, what it shows of a row, and how. ``spare``: left out where there is no room, the highest
    first; 0: never."""

    head: str
    cell: Callable[[Row], str | Text]
    right: bool = True
    spare: int = 0


def _nothing(_: Row) -> float:
    return 0.0


def _never(_: Row) -> bool:
    return False


class Section(NamedTuple):
    """One section of the screen. ``group``: the field that is written once for rows that share it. ``wide``: its
    second column takes the room that is left. ``weight``: of the rows of a section that is cut, the heaviest stay.
    ``is_idle``: nothing is going on there, so that it is dimmed."""

    section: str
    title: str
    columns: tuple[Column, ...]
    service: str = ""
    group: str = ""
    wide: bool = False
    weight: Callable[[Row], float] = _nothing
    is_idle: Callable[[Row], bool] = _never


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


def _share(used: Any, total: Any) -> float:
    return 0.0 if used is None or not total else used / total


def _disk(row: Row) -> str:
    used, total = row["disk_used_bytes"], row["disk_total_bytes"]
    return NOTHING if used is None or not total else f"{used / total:.0%}"


def _incident(row: Row) -> Text:
    found = word(row["severity"], red=("critical",), yellow=("warning",), cyan=("info",))
    return Text.assemble(found, (f" ({row['firing']} alerts)", "dim"))


def _objective(row: Row) -> str:
    return f"{row['slo']} {row['subject']}".strip()


def _budget_left(row: Row) -> Text:
    """Of the error budget of a month."""
    left = row["left_permille"]
    return Text(
        permille(left),
        style=WRONG if left is not None and left < 0 else NEAR if left is not None and left < 250 else "",
    )


def _burn(field: str) -> Callable[[Row], str]:
    """How many times as fast as a month's budget lasts a month."""
    return lambda row: NOTHING if row[field] is None else f"{row[field] / 1000:.1f}x"


def _waiting(row: Row) -> Text:
    return Text(count(row["waiting"]), style="yellow" if row["waiting"] else "dim")


def _budget_is_idle(row: Row) -> bool:
    return not (row["used"] or row["in_flight"] or row["waiting"])


TABLES: Final[tuple[Section, ...]] = (
    Section("alerts", "Alerts", (
        Column("severity", _severity, False),
        Column("what", _get("text"), False),
        Column("for", _get("for_ms", span)),
    ), "monitor", wide=True),
    Section("incidents", "Incidents", (
        Column("severity", _incident, False),
        Column("cause", _get("text"), False),
        Column("for", _get("for_ms", span)),
    ), "monitor", wide=True),
    Section("services", "Services", (
        Column("instance", _get("instance"), False),
        Column("role", _role, False),
        Column("requests", _get("requests", count), spare=2),
        Column("errors", lambda row: Text(count(row["errors"]), style="yellow" if row["errors"] else "dim")),
        Column("open", _get("open", count), spare=5),
        Column("p50", _get("p50_us", latency), spare=4),
        Column("p99", _get("p99_us", latency), spare=1),
        Column("memory", _get("rss_bytes", size), spare=3),
    ), weight=lambda row: 2.0 - row["is_here"] - (not row["owner"]) * 0.5,
       is_idle=lambda row: row["is_here"] and not row["owner"]),
    Section("budgets", "Budgets", (
        Column("budget", _get("budget"), False),
        Column("of", _budget_unit, False),
        Column("used", lambda row: bar(row["used"], row["limit"], 0.955, 0.99), False),
        Column("now", _amount("used"), spare=3),
        Column("limit", _amount("limit"), spare=2),
        Column("in flight", _amount("in_flight"), spare=4),
        Column("waiting", _waiting, spare=1),
    ), "limiter", "budget", weight=lambda row: _share(row["used"], row["limit"]) + bool(row["waiting"]),
       is_idle=_budget_is_idle),
    Section("circuits", "Circuits", (
        Column("target", _get("target"), False),
        Column("state", lambda row: word(row["state"], red=("open", "forced_open"), yellow=("half_open", "ramping"),
                                         green=("closed",), cyan=("forced_closed", "disabled", "metrics_only")), False),
        Column("why", _get("cause"), False, 4),
        Column("calls", _get("calls", count), spare=3),
        Column("failures", _get("failures_permille", permille), spare=2),
        Column("next try", _get("retry_in_ms", span), spare=1),
    ), "breaker"),
    Section("devices", "GPUs", (
        Column("device", _device, False),
        Column("state", lambda row: word(row["state"], red=("lost",), yellow=("silent", "cordoned"),
                                         green=("ready", "ok")), False),
        Column("granted", lambda row: bar(row["granted_bytes"], row["total_bytes"], 0.95, 1.0001), False),
        Column("granted / total", lambda row: _used(row, "granted_bytes", "total_bytes"), spare=1),
        Column("in use", _get("observed_bytes", size), spare=2),
        Column("leases", _get("leases", count), spare=4),
        Column("busy", _get("busy_permille", permille), spare=3),
        Column("°C", _get("temperature_c", count), spare=5),
    ), "gpu-manager", weight=lambda row: (row["state"] not in {"ready", "ok"}) * 2
       + _share(row["granted_bytes"], row["total_bytes"])),
    Section("queues", "Queue", (
        Column("band", _get("queue"), False),
        Column("waiting", _get("waiting", count)),
        Column("running", _get("running", count)),
    ), "scheduler", weight=lambda row: float(bool(row["waiting"])) + bool(row["running"]),
       is_idle=lambda row: not (row["waiting"] or row["running"])),
    Section("workers", "Workers", (
        Column("worker", _get("worker"), False),
        Column("kind", _get("kind"), False, 3),
        Column("state", lambda row: word(row["state"], green=("up",), yellow=("draining",)), False),
        Column("slots", lambda row: bar(row["running"], row["slots"], 1.01, 1.02), False),
        Column("running", lambda row: f"{count(row['running'])} / {count(row['slots'])}", spare=2),
        Column("heard", _get("heard_ms", span), spare=1),
    ), "scheduler", weight=lambda row: row["heard_ms"] or 0.0),
    Section("scaling", "Scaling", (
        Column("pool", _get("pool"), False),
        Column("workers", _get("current", count)),
        Column("wanted", _get("desired", count)),
        Column("bounds", lambda row: f"{row['least']}-{row['most']}", spare=2),
        Column("forecast", _get("forecast", count), spare=3),
        Column("why", _get("why"), False, 4),
    ), "monitor", is_idle=lambda row: row["desired"] in {None, row["current"]}),
    Section("slos", "Objectives", (
        Column("objective", _objective, False),
        Column("p95", lambda row: NOTHING if row["p95_ms"] is None else latency(row["p95_ms"] * 1_000)),
        Column("budget left", _budget_left),
        Column("burn 1h", _burn("burn_1h"), spare=1),
        Column("burn 6h", _burn("burn_6h"), spare=2),
        Column("burn 3d", _burn("burn_3d"), spare=3),
        Column("bad", _get("bad", count), spare=4),
    ), "monitor", weight=lambda row: -float(row["left_permille"] or 0),
       is_idle=lambda row: (row["left_permille"] or 0) >= 1000 and row["p95_ms"] is None),
    Section("hosts", "Hosts", (
        Column("host", _get("host"), False),
        Column("cpu", lambda row: bar(row["cpu_permille"], 1000, 0.85, 0.95), False),
        Column("memory", lambda row: bar(row["memory_used_bytes"], row["memory_total_bytes"], 0.8, 0.92), False),
        Column("disk", _disk, spare=1),
        Column("disk/s", _get("disk_bytes_per_s", size), spare=2),
        Column("in/s", _get("received_bytes_per_s", size), spare=3),
        Column("out/s", _get("sent_bytes_per_s", size), spare=3),
    ), "monitor", weight=lambda row: row["silent"] * 2 + _share(row["cpu_permille"], 1000)),
)  # fmt: skip
