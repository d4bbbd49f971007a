"""``bursar logs``: what all services say, in one stream.

The lines themselves come over the network, from each service to whoever listens; what was said before one began to
listen the monitor remembers, and tells over the door of its page (its address in the metadata, its token in the home).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bursar.bus.base import BusError, Msg
from bursar.bus.connection import NatsBus, connect
from bursar.cli.agent import HomeOption, default_home, fail
from bursar.cli.ready import metadata_of
from bursar.client.errors import NoCredentials
from bursar.client.target import Target, resolve

OPERATOR: Final = "ops"
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
SUBJECT: Final = "bursar.line.>"
IDS: Final = (
    "id", "trace", "request", "task", "lease", "correlation_id", "request_id", "trace_id", "span_id", "principal",
)  # fmt: skip
ABOUT: Final = frozenset({"ts", "level", "service", "instance", "event", "number", "age_ms"})
UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
MOST_UNITS: Final = 100_000
COLOURS: Final = {"warning": "33", "error": "31", "critical": "1;31", "debug": "2"}
TOKEN: Final = "services/monitor/page.token"  # noqa: S105 - the file, in the home


def logs(
    home: HomeOption = default_home(),  # noqa: B008 - read once, at start
    url: Annotated[str | None, typer.Option(help="NATS server; that of the running `bursar up` unless given.")] = None,
    creds: Annotated[
        Path | None, typer.Option(help="Credentials of an operator; those in the home unless given.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    level: Annotated[str, typer.Option(help=f"At least this one of {', '.join(LEVELS)}.")] = "info",
    service: Annotated[str, typer.Option(help="Of this service alone.")] = "",
    about: Annotated[str, typer.Option("--id", help="About this request, task, trace or principal alone.")] = "",
    since: Annotated[
        str, typer.Option(help="Of this time, as 90s, 15m, 2h or 3d; else the newest, whenever they were said.")
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=500, help="So many of before.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, one object per line, as it was logged.")] = False,
) -> None:
    """Read the log lines of all services, as one stream. Secrets were taken out where they were written.

    \b
    What was said before comes from the monitor of this machine; what is said now from the services themselves, also
    without a monitor.

    \b
    Examples:
      bursar logs
      bursar logs -f --level warning
      bursar logs -f --service limiter --json | jq .event
      bursar logs --id s4f2-17
      bursar logs --since 2h --level error --lines 500
    """
    if level not in LEVELS:
        fail(f"--level is one of {', '.join(LEVELS)}")
    try:
        target = resolve(url, creds, home, None if creds else OPERATOR)
        wanted = Filter(level, service, about, span_ms(since) if since else 0)
        asyncio.run(run(target, home, wanted, lines, follow=follow, as_json=as_json))
    except (BusError, NoCredentials) as error:
        fail(error.text)


def register(app: typer.Typer) -> None:
    app.command("logs", short_help="Read what all services say.")(logs)


class Filter:
    """Which lines are shown. ``since_ms``: of those that were said before, the last so many ms; 0: all."""

    def __init__(self, level: str, service: str, about: str, since_ms: int = 0) -> None:
        self.since_ms = since_ms
        self.level = level
        self.service = service
        self.about = about

    def lets_through(self, line: Mapping[str, Any]) -> bool:
        level = str(line.get("level", "")).lower()
        is_loud = LEVELS.index(level if level in LEVELS else "info") >= LEVELS.index(self.level)
        is_of = not self.service or line.get("service") == self.service
        return is_loud and is_of and (not self.about or any(str(line.get(name, "")) == self.about for name in IDS))


def span_ms(text: str) -> int:
    """A time as people write it. Ends the program with a sentence when it is none."""
    number, unit = text[:-1], UNITS.get(text[-1:])
    if unit is None or not number.isascii() or not number.isdigit() or not 0 < int(number) <= MOST_UNITS:
        fail("--since is a number with its unit: 90s, 15m, 2h or 3d")
    return int(number) * unit


async def run(target: Target, home: Path, wanted: Filter, lines: int, *, follow: bool, as_json: bool) -> None:
    """Print what was, and with ``follow`` what comes."""
    bus = await connect(target.url.split(","), target.creds, principal=target.principal, timeout=5.0)
    seen: set[str] = set()
    arrived: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue(10_000)
    try:
        if follow:
            await bus.subscribe(SUBJECT, lambda msg: _hear(msg, arrived))
            await bus.flush()
        past = await before(bus, home, wanted, lines)
        if past is None and not follow:
            fail("the monitor of this machine does not tell what was said before; bursar logs -f shows what is said")
        for line in past or ():
            seen.add(key_of(line))
            _print(line, as_json)
        if follow:
            await _follow(arrived, wanted, seen, as_json)
    finally:
        await bus.close()


async def before(bus: NatsBus, home: Path, wanted: Filter, lines: int) -> list[Mapping[str, Any]] | None:
    """What the monitor remembers; None when it tells nothing."""
    try:
        token = (home / TOKEN).read_text(encoding="ascii").strip()
    except OSError:
        return None
    asked = {"level": wanted.level, "service": wanted.service, "id": wanted.about, "most": str(lines)}
    if wanted.since_ms:
        asked["since_ms"] = str(wanted.since_ms)
    for page in await metadata_of(bus, "monitor", "metrics", 1, 1.0):
        place = f"{page.removesuffix('metrics')}lines?{urllib.parse.urlencode(asked)}"
        request = urllib.request.Request(place, headers={"Authorization": f"Bearer {token}"})  # noqa: S310 - our own
        found = await asyncio.to_thread(_fetch, request)
        if found is not None:
            return found
    return None


def _fetch(request: urllib.request.Request) -> list[Mapping[str, Any]] | None:
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310 - an address on this machine
            lines: list[Mapping[str, Any]] = json.load(answer)["lines"]
            return lines
    except (OSError, ValueError, KeyError):
        return None


def _hear(msg: Msg, arrived: asyncio.Queue[Mapping[str, Any]]) -> None:
    with contextlib.suppress(ValueError, RecursionError, asyncio.QueueFull):
        line = json.loads(msg.data)
        if isinstance(line, dict):
            arrived.put_nowait(line)


async def _follow(arrived: asyncio.Queue[Mapping[str, Any]], wanted: Filter, seen: set[str], as_json: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ending = asyncio.create_task(stop.wait())
    while not ending.done():
        coming = asyncio.create_task(arrived.get())
        await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            continue
        line = coming.result()
        if wanted.lets_through(line) and key_of(line) not in seen:
            _print(line, as_json)


def key_of(line: Mapping[str, Any]) -> str:
    """What tells a line from another: the monitor adds a number and an age of its own."""
    own = {name: value for name, value in line.items() if name not in {"number", "age_ms", "level"}}
    return json.dumps(own, sort_keys=True)


def _print(line: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        own = {name: value for name, value in line.items() if name not in {"number", "age_ms"}}
        text = json.dumps(own, separators=(",", ":"))
    else:
        text = written(line, colour=sys.stdout.isatty())
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def written(line: Mapping[str, Any], *, colour: bool = False) -> str:
    """One line for people: time, level, who, what, and its fields."""
    ts, level = line.get("ts"), str(line.get("level", "info")).lower()
    at = time.strftime("%H:%M:%S", time.localtime(ts)) if isinstance(ts, int | float) else "--:--:--"
    who = plain(str(line.get("instance") or line.get("service") or ""))
    head = f"{level:<8}"
    if colour and level in COLOURS:
        head = f"\x1b[{COLOURS[level]}m{head}\x1b[0m"
    said: Iterable[str] = (f"{name}={plain(_value(value))}" for name, value in line.items() if name not in ABOUT)
    return " ".join((at, head, f"{who:<15}", plain(str(line.get("event", ""))), *said))


def plain(text: str) -> str:
    """Without what would move the cursor or colour the terminal: a line may carry any text."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
