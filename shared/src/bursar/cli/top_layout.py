"""How `bursar top` fits into a terminal: what is left out where there is no room, and what never is.

Too narrow: columns go, those of least weight first, and then the names at the left are cut; the age of the numbers, at
the right edge, always stays. Too low: the longest sections are cut first, and of their rows those stay that somebody
should see (gone, full, waited for); the head of a section says how many are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from bursar.cli.top_frame import Frame, Row
from bursar.cli.top_view import TABLES, Section, age, is_old
from bursar.contracts.monitor import FLEET

FIRST: Final = 22
"""Width of a first column where there is room for all, so that the tables line up."""
GAP: Final = 2
AGE: Final = 5
QUIET: Final = frozenset({"alerts", "incidents", "slos", "scaling"})
"""Sections that are not there when they have no rows."""
AIRY: Final = 3
"""With fewer rows than so many per section the empty lines between sections go."""


def screen(frame: Frame, height: int | None = None) -> RenderableType:
    """The whole frame; with a height (lines), cut to it."""
    most, is_airy = fitting(frame, height)
    parts: list[RenderableType] = [header(frame)]
    for table in TABLES:
        shown = section(frame, table, most)
        if shown is not None:
            parts += [Text(""), shown] if is_airy else [shown]
    return Group(*parts)


def fitting(frame: Frame, height: int | None) -> tuple[int, bool]:
    """How many rows a section may have, and whether there is room for empty lines."""
    if height is None:
        return 200, True
    for is_airy, least in ((True, AIRY), (False, 1)):
        for most in range(40, least - 1, -1):
            if lines(frame, most, is_airy=is_airy) <= height:
                return most, is_airy
    return 1, False


def lines(frame: Frame, most: int, *, is_airy: bool) -> int:
    """How many lines the frame takes with at most so many rows per section."""
    total = 1
    for table in TABLES:
        rows = len(frame.sections.get(table.section, []))
        if rows or absent(frame, table):
            total += is_airy + 1 + min(rows, most)
    return total


def header(frame: Frame) -> RenderableType:
    """Who looks at what, and which services do not answer."""
    line = Text.assemble(("bursar top", "bold"), ("  ", ""), (f"{frame.url} as {frame.who}", "dim"), no_wrap=True)
    line.overflow = "ellipsis"
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


def section(frame: Frame, table: Section, most: int) -> RenderableType | None:
    """A section as a table; one line when its service is away and there is nothing to show."""
    rows = frame.sections.get(table.section, [])
    if not rows:
        said = absent(frame, table)
        return Text.assemble((table.title, "bold"), (f"  {said}", "dim")) if said else None
    shown = heaviest(table, rows, most)
    left = len(rows) - len(shown) + frame.left_out.get(table.section, 0)
    return Fitted(table, shown, left)


def heaviest(table: Section, rows: list[Row], most: int) -> list[Row]:
    """At most so many rows, in their own order."""
    by_weight = sorted(range(len(rows)), key=lambda at: -table.weight(rows[at]))
    return [rows[at] for at in sorted(by_weight[:most])]


def absent(frame: Frame, table: Section) -> str:
    """Why a section is empty, where that is worth saying."""
    if not table.service:
        return "nobody answers"
    if not frame.answers.get(table.service):
        return f"the {table.service} does not answer"
    return "" if table.section in QUIET else "none"


@dataclass(frozen=True)
class Fitted:
    """A section with the columns that its terminal has room for. ``left``: how many rows are left out."""

    table: Section
    rows: list[Row]
    left: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        cells = [self._cells(row) for row in self.rows]
        heads = [self._title(), *(Text(column.head) for column in self.table.columns[1:])]
        widths = [max(cell_len(row[at].plain) for row in [heads, *cells]) for at in range(len(heads))]
        kept, first = self._kept(widths, options.max_width)
        yield self._drawn(heads, cells, widths, kept, first)

    def _cells(self, row: Row) -> list[Text]:
        cells = (column.cell(row) for column in self.table.columns)
        return [cell if isinstance(cell, Text) else Text(cell) for cell in cells]

    def _title(self) -> Text:
        title = Text(self.table.title, style="bold not dim")
        return title.append(f" … {self.left} more", style="not bold dim") if self.left else title

    def _kept(self, widths: list[int], room: int) -> tuple[list[int], int]:
        """Which columns, by number, and how wide the first (that which gives way) may be."""
        yielding = 1 if self.table.wide else 0
        kept = list(range(len(widths)))
        spare = sorted(kept, key=lambda at: -self.table.columns[at].spare)
        while True:
            others = sum(widths[at] + GAP for at in kept if at != yielding) + GAP + AGE
            number = spare.pop(0) if spare else yielding
            if others + min(widths[yielding], FIRST) <= room or not self.table.columns[number].spare:
                return kept, max(1, room - others)
            kept.remove(number)

    def _drawn(
        self, heads: list[Text], cells: list[list[Text]], widths: list[int], kept: list[int], room: int
    ) -> RenderableType:
        yielding = 1 if self.table.wide else 0
        made = Table(box=None, expand=True, padding=(0, GAP, 0, 0), header_style="dim", show_edge=False, pad_edge=False)
        for at in kept:
            width = min(room, max(widths[at], FIRST * (at == 0))) if at == yielding else widths[at]
            justify: Literal["left", "right"] = "right" if self.table.columns[at].right else "left"
            if self.table.wide and at == yielding:
                made.add_column(heads[at], ratio=1, no_wrap=True, overflow="ellipsis")
            else:
                made.add_column(heads[at], justify=justify, width=width, no_wrap=True, overflow="ellipsis")
        if not self.table.wide:
            made.add_column("", ratio=1)
        made.add_column("age", justify="right", no_wrap=True, width=AGE)
        before = None
        for row, all_cells in zip(self.rows, cells, strict=True):
            shown = [all_cells[at] for at in kept]
            if self.table.group and row[self.table.group] == before:
                shown[0] = Text("")
            before = row.get(self.table.group)
            style = "dim" if is_old(row) or self.table.is_idle(row) else ""
            made.add_row(*shown, *([] if self.table.wide else [Text("")]), age(row), style=style)
        return made
