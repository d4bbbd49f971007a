"""``bursar cost`` and ``bursar advise``: the bill, what was saved, and what should be asked for instead.

Both show what the monitor has, which reads the books of the limiter and the scheduler: sums since those began.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bursar.bus.base import Bus, BusError
from bursar.bus.codec import decode_reply, encode
from bursar.bus.connection import connect
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.client.errors import NoCredentials
from bursar.client.target import Target, resolve
from bursar.contracts.base import request_subject
from bursar.contracts.monitor import SERVICE
from bursar.contracts.monitor_costs import AdviceRow, CostRow, SavingRow
from bursar.contracts.monitor_picture import Section, Status, StatusReply
from bursar.errors import BursarError

OPERATOR: Final = "ops"
ASK_S: Final = 5.0
WAYS: Final[dict[str, Callable[[CostRow], str]]] = {
    "agent": lambda row: row.agent,
    "team": lambda row: row.team or "(no team)",
    "model": lambda row: row.model or "(own slots)",
    "class": lambda row: row.task_class or "(called directly)",
}
UNKNOWN: Final = "?"
NUMBER: Final = frozenset("0123456789$-?")
"""How a cell begins that stands at the right of its column."""

UrlOption = Annotated[str | None, typer.Option(help="NATS server; that of the running `bursar up` unless given.")]
CredsOption = Annotated[Path | None, typer.Option(help="Credentials of an operator; those in the home unless given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON, all rows as the monitor has them.")]


def cost(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
    by: Annotated[str, typer.Option(help=f"What to add up by: {', '.join(WAYS)}.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show what was spent, by agent, team, model and class of tasks; and what was saved, with what is assumed.

    \b
    Money is what calls were settled with, else tokens at the prices of the file of rules ([costs]); slots of workers
    cost what the worker or the file says. Each charge counts once. Sums since the services' ledgers began.

    \b
    Examples:
      bursar cost
      bursar cost --by team
      bursar cost --json | jq '.costs[] | select(.agent == "alice")'
    """
    if by and by not in WAYS:
        fail(f"--by is one of {', '.join(WAYS)}")
    costs, savings = _asked(_target(home, url, creds), ("costs", "savings"))
    if as_json:
        _print_json(costs=costs, savings=savings)
        return
    for way in [by] if by else WAYS:
        _print(["by " + way, "money", "calls", "tokens in", "tokens out", "slot time"], totals(costs, WAYS[way]))
    _print(["saved against", "saved", "spent", "otherwise", "assumed"], (_saving(row) for row in savings))


def advise(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: UrlOption = None,
    creds: CredsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what should be asked for instead, from what was really used, and what that saves in an hour.

    \b
    Memory of GPU leases, CPU and memory of hosts, slots of pools, and how many workers of a pool may run on hosts that
    may be taken away (spot). Prices stand in the file of rules ([costs]).

    \b
    Example:
      bursar advise
    """
    (advice,) = _asked(_target(home, url, creds), ("advice",))
    if as_json:
        _print_json(advice=advice)
        return
    head = ["what", "of", "asked for", "p50", "p95", "most", "advised", "in", "saves/h", "why"]
    _print(head, (_advice(row) for row in advice))


def register(app: typer.Typer) -> None:
    app.command("cost", short_help="What was spent, by whom, and what was saved.")(cost)
    app.command("advise", short_help="What should be asked for, from what is used.")(advise)


# ---- asking


def _target(home: Path, url: str | None, creds: Path | None) -> Target:
    try:
        return resolve(url, creds, home, None if creds else OPERATOR)
    except NoCredentials as error:
        fail(error.text)


def _asked(target: Target, sections: Sequence[Section]) -> list[list[Any]]:
    async def ask() -> list[list[Any]]:
        bus = await connect(target.url.split(","), target.creds, principal=target.principal, timeout=ASK_S)
        try:
            return [await rows_of(bus, section) for section in sections]
        finally:
            await bus.close()

    try:
        return asyncio.run(ask())
    except (BusError, BursarError) as error:
        fail(f"the monitor does not answer: {error.text}")


async def rows_of(bus: Bus, section: Section) -> list[Any]:
    """All rows of a section of the picture, page by page."""
    found: list[Any] = []
    subject = request_subject(SERVICE, "status", bus.principal)
    while True:
        asked = encode(Status(only=section, offset=len(found)).model_dump())
        msg = await bus.request(subject, asked, ASK_S)
        reply = decode_reply(StatusReply, msg.data, msg.headers)
        page = getattr(reply, section)
        found.extend(page)
        if not page or not reply.left_out.get(section):
            return found


# ---- showing


def totals(rows: Iterable[CostRow], name: Callable[[CostRow], str]) -> list[list[str]]:
    """One line for each name, the dearest first, and one for all. A sum of which something is not known ends in a
    question mark: it is at least that."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        for key in (name(row), ""):
            entry = sums.setdefault(key, [0, 0, 0, 0, 0, 0])
            entry[0] += row.usd_micros or 0
            entry[1] += row.usd_micros is None
            for index, amount in enumerate((row.calls, row.input_tokens, row.output_tokens, row.slot_ms), 2):
                entry[index] += amount
    order = sorted(sums, key=lambda key: (key == "", -sums[key][0], key))
    return [
        [key or "all", dollars(entry[0]) + UNKNOWN * (entry[1] > 0), *(f"{n:,}" for n in entry[2:5]), hours(entry[5])]
        for key in order
        for entry in [sums[key]]
    ]


def _saving(row: SavingRow) -> list[str]:
    return [row.saving, *(map(dollars, (row.usd_micros, row.actual, row.counterfactual))), row.text]


def _advice(row: AdviceRow) -> list[str]:
    numbers = (row.requested, row.used_p50, row.used_p95, row.used_most, row.advised)
    shown = [UNKNOWN if number is None else f"{number:,}" for number in numbers]
    return [row.kind, row.subject, *shown, row.unit, dollars(row.saving_micros), row.text]


def dollars(micros: int | None) -> str:
    if micros is None:
        return UNKNOWN
    sign, amount = "-" if micros < 0 else "", abs(micros)
    digits = 2 if amount >= 1_000_000 or not amount else 4 if amount >= 100 else 6
    return f"{sign}${amount / 1e6:,.{digits}f}"


def hours(ms: int) -> str:
    return f"{ms / 3_600_000:.1f} h" if ms >= 3_600_000 else f"{ms / 1_000:.0f} s"


def _print_json(**sections: Iterable[Any]) -> None:
    told = {name: [row.model_dump() for row in rows] for name, rows in sections.items()}
    sys.stdout.write(json.dumps(told) + "\n")


def _print(head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """Columns as wide as they have to be: text at the left, numbers at the right."""
    table = [list(head), *map(list, lines)]
    if len(table) == 1:
        sys.stdout.write(f"{head[0]}: nothing is known yet\n\n")
        return
    widths = [max(len(line[index]) for line in table) for index in range(len(head))]
    right = [all(line[index][:1] in NUMBER for line in table[1:]) for index in range(len(head))]
    for line in table:
        cells = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(line, widths, right, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")
    sys.stdout.write("\n")
